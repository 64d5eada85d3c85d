#!/usr/bin/env bash
# Make an environment: pinned packages, and mmcv with its compiled operators built beside the torch that
# will run them. Does nothing where that is done already.
#
# STACK chooses the distribution of the hosts: openmmlab (default, in .venv) or onedl (in .venv-onedl).
# SPM_MM_CACHE (default ~/.cache/spm_mm) keeps the built mmcv for the next checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STACK=${STACK:-openmmlab}
UV=0.13.9
PINS=requirements/$STACK.txt
CACHE=${SPM_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spm_mm}

say() { echo "--- $*"; }
fail() {
    echo "error: $*" >&2
    exit 1
}
case $STACK in
openmmlab) VENV=.venv MMCV=mmcv==2.1.0 ;;
onedl) VENV=.venv-onedl MMCV=onedl-mmcv==2.3.6 ;;
*) fail "STACK must be openmmlab or onedl, got $STACK" ;;
esac
STAMP=$VENV/spm_mm-ready

wanted=$(cat "$PINS" setup.py tools/setup.sh | cksum; pwd)
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ]; then
    exit 0
fi
started=$SECONDS

base=
for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        base=$candidate
        break
    fi
done
[ -n "$base" ] || fail "Python 3.11 is needed, and none of python3.11, python3, python is one"

rm -f "$STAMP"
PYTHON=$VENV/bin/python
if ! $PYTHON -c 'import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    say "making $VENV with $("$base" --version)"
    "$base" -m venv --clear $VENV
fi
$PYTHON -m pip install --quiet --disable-pip-version-check "uv==$UV"
install() { $VENV/bin/uv pip install --quiet --python $PYTHON "$@"; }

say "installing the pinned packages: 1 to 5 minutes, 3 GB to download the first time"
# The pins are complete, and OpenCV is the headless one, which needs no graphics libraries.
install --no-deps --requirement "$PINS"

key=$($PYTHON - <<'PY'
import os, platform, re, sys, torch
device = 'cpu'
if torch.cuda.is_available():
    gpus = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    wanted = [f'{major}.{minor}' for major, minor in sorted(gpus)]
    archs = os.environ.get('TORCH_CUDA_ARCH_LIST', '+'.join(wanted))
    device = f'cu{torch.version.cuda}-sm{re.sub("[^0-9.a-zA-Z]+", "+", archs)}'
print(f'torch{torch.__version__}-{device}-cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}')
PY
)
wheels=$CACHE/${MMCV/==/-}-$key
if ! compgen -G "$wheels/*.whl" >/dev/null; then
    command -v c++ >/dev/null || fail "a C++ compiler is needed to build mmcv, and there is no c++"
    $PYTHON -c 'import sysconfig, pathlib, sys; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
        fail "Python's C headers are needed to build mmcv (on Debian: apt-get install python3.11-dev)"
    if [[ $key != *-cpu-* ]]; then
        $PYTHON -c 'import sys; from torch.utils.cpp_extension import CUDA_HOME; sys.exit(not CUDA_HOME)' 2>/dev/null ||
            fail "there is a GPU but no CUDA toolkit: install that of torch ($key) and set CUDA_HOME, or hide the GPU by CUDA_VISIBLE_DEVICES=-1"
    fi
    say "building $MMCV for $key: about 10 minutes on 2 cores, kept in $wheels"
    mkdir -p "$CACHE"
    building=$(mktemp -d "$CACHE/building.XXXXXX")
    trap 'rm -rf "$building"' EXIT
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} $PYTHON -m pip wheel --quiet --no-build-isolation \
        --no-deps --no-binary "${MMCV%%==*}" --no-cache-dir --wheel-dir "$building" "$MMCV" >"$CACHE/build.log" 2>&1 ||
        fail "mmcv did not build; the end of $CACHE/build.log: $(tail -n 5 "$CACHE/build.log")"
    # The finished wheel appears under its name at once: a build that was cut off leaves nothing.
    rm -rf "$wheels"
    mv "$building" "$wheels"
    trap - EXIT
fi
say "installing mmcv from $wheels"
install --reinstall --no-deps "$wheels"/*.whl
install --no-deps --no-build-isolation --editable .

$PYTHON - <<'PY' || fail "the environment does not work, see above"
import mmcv._ext, mmdet, mmpretrain, mmseg, torch, torchvision
print(f'--- torch {torch.__version__}, torchvision {torchvision.__version__}, mmcv {mmcv.__version__} with'
      f' operators, GPU: {torch.cuda.is_available()}')
PY
echo "$wanted" >"$STAMP"
say "set up in $((SECONDS - started)) s"
