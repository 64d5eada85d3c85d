#!/usr/bin/env bash
# Test with several processes, one for each GPU; without a GPU, on the CPU.
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT, and call it on each.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [ARGUMENTS OF test.py]" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
launch_torchrun "$3" "$TOOLS/test.py" "$1" "$2" "${@:4}"
