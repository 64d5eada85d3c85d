# What the dist_*.sh and slurm_*.sh share; sourced by them.
TOOLS=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HAS_PACKAGES='import sys; from importlib.util import find_spec as find
sys.exit(not (find("torch") and find("mmengine") and find("mmcv")))'

# The Python that has the packages: the active one, else that of the checkout's .venv.
find_python() {
    local python
    for python in python "$TOOLS/../.venv/bin/python"; do
        if "$python" -c "$HAS_PACKAGES" 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "error: neither the active python nor .venv has torch, mmengine and mmcv: run make setup" >&2
    return 2
}

# launch_torchrun PROCESSES SCRIPT ARGUMENTS...: torchrun, one process for each GPU.
launch_torchrun() {
    local processes=$1 python
    shift
    python=$(find_python) || exit
    PYTHONPATH=$TOOLS/..${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$TOOLS/torchrun.py" \
        --nnodes="${NNODES:-1}" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="${PORT:-29500}" \
        --nproc_per_node="$processes" \
        "$@" --launcher pytorch
}

# launch_slurm PARTITION JOB SCRIPT ARGUMENTS...: srun, one task for each GPU.
launch_slurm() {
    local partition=$1 job=$2 python gpus=${GPUS:-8} extra
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    shift 2
    python=$(find_python) || exit
    read -r -a extra <<<"${SRUN_ARGS:-}"
    PYTHONPATH=$TOOLS/..${PYTHONPATH:+:$PYTHONPATH} exec srun \
        --partition="$partition" \
        --job-name="$job" \
        --gres="gpu:$per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${extra[@]+"${extra[@]}"} \
        "$python" -u "$@" --launcher slurm
}
