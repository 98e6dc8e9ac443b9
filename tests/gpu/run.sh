#!/usr/bin/env bash
# All that needs a GPU, in one call of ten minutes at most, on a machine without a network:
#
#     tests/gpu/run.sh WHEELS
#
# WHEELS is a folder with the wheel of onnxruntime-gpu and of what cloakify's extra "test" needs that
# is not installed (on a machine with a network: pip download -d WHEELS "cloakify[test]"). Needed
# there besides: NVIDIA's driver, Python 3.12, torch for CUDA 13 with torchvision, or their wheels;
# torch's libraries of CUDA serve both.
# Without WHEELS, what is installed for PYTHON is used as it is.
#
# Prints the devices, pass or fail of the GPU tests, and the table of tests/gpu/table.py; exits with
# 0 where all tests pass. Only the device is another one in a trial without a GPU:
#
#     DEVICE=cpu tests/gpu/run.sh WHEELS --size 64 --batches 2 4 --steps 2
#
# What follows WHEELS goes to the table. PYTHON is the interpreter (python3.12), TABLE_SECONDS what the
# table may take (420), TESTS_SECONDS what the tests may (150).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
wheels=${1:-}
[ $# -gt 0 ] && shift
python=${PYTHON:-python3.12}
export DEVICE=${DEVICE:-cuda}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$wheels" ]; then
  "$python" -m venv --system-site-packages "$work/venv"
  python=$work/venv/bin/python
  install() { "$python" -m pip install -q --disable-pip-version-check --no-index -f "$wheels" "$@"; }
  install "$root[test]"
  "$python" -c "import torch, torchvision" 2> "$work/torch" || install torch torchvision
fi
if [ "$DEVICE" != cpu ]; then
  # onnxruntime looks for NVIDIA's libraries beside itself; torch's may lie in another folder.
  libraries=$("$python" - <<'PY'
import importlib.util, pathlib
found = importlib.util.find_spec("nvidia")
places = [pathlib.Path(place) for place in (found.submodule_search_locations if found else ())]
print(":".join(str(path) for place in places for path in sorted(place.glob("*/lib"))))
PY
)
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

cd "$root"
date -u +"%Y-%m-%d %H:%M UTC"
"$python" -m platform
"$python" -c "from cloakify.cli.main import run; raise SystemExit(run(['devices']))"
echo
status=0
timeout "${TESTS_SECONDS:-150}" "$python" -m pytest -q -p no:cacheprovider -m gpu -rfEs tests/gpu || status=$?
case $status in
  0) echo "GPU tests: PASS" ;;
  124) echo "GPU tests: FAIL (not done in time)" ;;
  *) echo "GPU tests: FAIL" ;;
esac
echo
"$python" tests/gpu/table.py --device "$DEVICE" --time "${TABLE_SECONDS:-420}" "$@"
exit "$status"
