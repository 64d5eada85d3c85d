#!/usr/bin/env bash
# Make an environment of pinned packages. Compiles nothing, does nothing where that is done already.
#
# PYTHON  which Python, a command or a version such as 3.10; by default the newest of 3.10 to 3.13 that runs.
#         Ends with status 3 if there is none.
# STACK   distribution of the frameworks: openmmlab (default, in .venv) or onedl (in .venv-onedl).
# VENV    another folder for the environment.
# MMCV    lite (default): mmcv without operators, which spm_mm brings;
#         compiled: mmcv's own operators, built here beside torch, on Python 3.11 by default;
#         present: mmcv, torch and torchvision as PYTHON has them already.
# SPM_MM_CACHE  where a built mmcv is kept for the next checkout (default ~/.cache/spm_mm).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STACK=${STACK:-openmmlab}
UV=0.13.9
PINS=requirements/$STACK.txt

say() { echo "--- $*"; }
fail() {
    echo "error: $*" >&2
    exit "${status:-1}"
}
case $STACK in
openmmlab) VENV=${VENV:-.venv} LITE=mmcv-lite COMPILED=mmcv==2.1.0 ;;
onedl) VENV=${VENV:-.venv-onedl} LITE=onedl-mmcv COMPILED=onedl-mmcv==2.3.6 ;;
*) fail "STACK must be openmmlab or onedl, got $STACK" ;;
esac
python=$VENV/bin/python
STAMP=$VENV/spm_mm-ready
version() {
    if [[ $1 =~ ^3\.[0-9]+$ ]]; then echo "$1"; else
        "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
    fi
}

# A finished environment stays as it is, unless another Python or mmcv is asked for.
have=$(sed -n 2p "$STAMP" 2>/dev/null || true)
MMCV=${MMCV:-${have:-lite}}
[[ $MMCV =~ ^(lite|compiled|present)$ ]] || fail "MMCV must be lite, compiled or present, got $MMCV"
wanted=$(cat "$PINS" setup.py spm_mm/mmcv_ops/hook.py tools/setup.sh | cksum; echo "$MMCV"; pwd)
same=$([ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version "$python")" ] && echo yes || true)
if [ "$same" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
started=$SECONDS

# A version counts if it starts, as a shim on the PATH may not, and can make environments.
usable() {
    "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] not in '$2'.split())" \
        2>/dev/null
}
find_python() {
    local minor candidate
    for minor in "$@"; do
        for candidate in "python3.$minor" python3 python \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python \
            "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-3."$minor".*/bin/python; do
            if usable "$candidate" "3.$minor"; then
                echo "$candidate"
                return
            fi
        done
    done
}
if [[ ${PYTHON:-} =~ ^3\.1[0-3]$ ]]; then
    wanted_minor=${PYTHON#3.}
    PYTHON=$(find_python "$wanted_minor")
elif [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" "3.10 3.11 3.12 3.13" ||
        fail "PYTHON=$PYTHON is no Python 3.10 to 3.13 that can make environments (on Debian: python3-venv)"
elif [ "$have" = "$MMCV" ] && usable "$python" "3.10 3.11 3.12 3.13"; then
    PYTHON=$python
elif [ "$MMCV" = compiled ]; then
    wanted_minor=11
    PYTHON=$(find_python 11)
elif [ "$MMCV" = present ]; then
    PYTHON=$(find_python 13 12 11 10)
    for candidate in python python3; do
        if "$candidate" -c 'import mmcv' 2>/dev/null; then PYTHON=$candidate && break; fi
    done
else
    PYTHON=$(find_python 13 12 11 10)
fi
[ -n "$PYTHON" ] || status=3 fail "no Python ${wanted_minor:+3.$wanted_minor }that runs was found: name one of 3.10 to 3.13 by PYTHON="

if [ "$have" != "$MMCV" ] || [ "$(version "$python")" != "$(version "$PYTHON")" ]; then
    say "making $VENV with $("$PYTHON" --version)"
    present=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$PYTHON" -m venv --clear "$VENV"
    if [ "$MMCV" = present ]; then # which may itself be in an environment
        echo "$present" >"$($python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/present.pth"
    fi
fi
rm -f "$STAMP"

build_mmcv() {
    local cache=${SPM_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spm_mm} key wheels building
    key=$($python - <<'PY'
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
    wheels=$cache/${COMPILED/==/-}-$key
    if ! compgen -G "$wheels/*.whl" >/dev/null; then
        command -v c++ >/dev/null || fail "a C++ compiler is needed to build mmcv, and there is no c++"
        $python -c 'import sysconfig, pathlib, sys; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
            fail "Python's C headers are needed to build mmcv (on Debian: apt-get install python3-dev)"
        if [[ $key != *-cpu-* ]]; then
            $python -c 'import sys; from torch.utils.cpp_extension import CUDA_HOME; sys.exit(not CUDA_HOME)' 2>/dev/null ||
                fail "there is a GPU but no CUDA toolkit: install that of torch ($key) and set CUDA_HOME, or hide the GPU by CUDA_VISIBLE_DEVICES=-1"
        fi
        say "building $COMPILED for $key: about 10 minutes on 2 cores, kept in $wheels"
        mkdir -p "$cache"
        building=$(mktemp -d "$cache/building.XXXXXX")
        trap 'rm -rf "$building"' EXIT
        install ninja wheel
        MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} $python -m pip wheel --quiet --no-build-isolation \
            --no-deps --no-binary "${COMPILED%%==*}" --no-cache-dir --wheel-dir "$building" "$COMPILED" >"$cache/build.log" 2>&1 ||
            fail "mmcv did not build; the end of $cache/build.log: $(tail -n 5 "$cache/build.log")"
        # The finished wheel appears under its name at once: a build that was cut off leaves nothing.
        rm -rf "$wheels"
        mv "$building" "$wheels"
        trap - EXIT
    fi
    say "installing mmcv from $wheels"
    install --reinstall --no-deps "$wheels"/*.whl
}

if [ "$MMCV" = present ]; then
    say "installing what $PYTHON does not have yet of [frameworks,dev]"
    $python -m pip install --quiet --disable-pip-version-check --editable '.[frameworks,dev]'
else
    $python -m pip install --quiet --disable-pip-version-check "uv==$UV"
    install() { "$VENV/bin/uv" pip install --quiet --python "$python" "$@"; }
    say "installing the pinned packages: 3 GB to download the first time"
    # The pins are complete, and OpenCV is the headless one, which needs no graphics libraries. onedl's mmcv
    # comes as source: nothing of it is compiled.
    pins=$PINS
    if [ "$MMCV" = compiled ]; then
        pins=$VENV/pins.txt
        grep -v "^$LITE==" "$PINS" >"$pins"
    fi
    MMCV_WITH_OPS=0 install --no-deps --no-binary onedl-mmcv --requirement "$pins"
    [ "$MMCV" != compiled ] || build_mmcv
    install --no-deps --no-build-isolation --editable .
fi

$python - <<'PY' || fail "the environment does not work, see above; tools/doctor.py may say why"
import sys, mmcv._ext, mmdet, mmpretrain, mmseg, torch, torchvision
operators = 'spm_mm' if mmcv._ext.__file__.endswith('.py') else 'mmcv, compiled'
print(f'--- Python {sys.version.split()[0]}, torch {torch.__version__}, torchvision {torchvision.__version__},'
      f' mmcv {mmcv.__version__} with the operators of {operators}, GPU: {torch.cuda.is_available()}')
PY
echo "$wanted" >"$STAMP"
say "set up in $((SECONDS - started)) s"
