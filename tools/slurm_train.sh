#!/usr/bin/env bash
# Train as a Slurm job. GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS change its size.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB CONFIG WORK_DIR [ARGUMENTS OF train.py]" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
launch_slurm "$1" "$2" "$TOOLS/train.py" "$3" --work-dir "$4" "${@:5}"
