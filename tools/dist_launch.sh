# What dist_train.sh and dist_test.sh share; sourced by them. Sets TOOLS, and defines `launch`.
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

# launch PROCESSES SCRIPT ARGUMENTS...: torchrun, one process for each GPU.
launch() {
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
