#!/usr/bin/env bash
# Everything that is measured on a GPU, under five minutes on an H100: figures and profiles, then the tests on CUDA.
# Results go to the folder OUT (default ./gpu_results); rows that are there already are not measured again.
#
# A machine without network needs, besides PyTorch, what `pip install kronos_nb` installs, and the reference. Fetch them where
# there is a network, for the other machine's Python, and install them there into a folder of their own:
#
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 -d .whl \
#       kronos-model-arch fastcore pydantic pydantic-core annotated-types typing-inspection scoringrules pytz
#   pip install --no-index --no-deps --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site
set -u
cd "$(dirname "$0")/.."
export OUT=${OUT:-$PWD/gpu_results} PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
mkdir -p "$OUT"
python3 benchmarks/gpu.py "$@"
if [ ! -e "$OUT/pytest.txt" ]; then
    timeout 120 python3 -m pytest -q -p no:cacheprovider tests/test_cuda.py > "$OUT/pytest.unfinished" 2>&1
    echo "exit code $?" >> "$OUT/pytest.unfinished"
    mv "$OUT/pytest.unfinished" "$OUT/pytest.txt"
fi
tail -5 "$OUT/pytest.txt"
