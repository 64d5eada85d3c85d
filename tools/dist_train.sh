#!/usr/bin/env bash
# Train with several processes, one for each GPU; without a GPU, on the CPU.
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT, and call it on each.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [ARGUMENTS OF train.py]" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
launch_torchrun "$2" "$TOOLS/train.py" "$1" "${@:3}"
