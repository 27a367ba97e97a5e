#!/usr/bin/env bash
# Lint, type-check and test:  bash test.sh [--slow] [arguments of pytest]
#
# Uses the active virtual environment, or makes one in .venv. --slow adds the long tests, such as
# full-size parity with both reference implementations at every bandwidth.
set -euo pipefail
cd "$(dirname "$0")"

selection=(-m "not slow")
if [ "${1:-}" = --slow ]; then
  selection=()
  shift
fi

if [ -z "${VIRTUAL_ENV:-}" ]; then
  [ -x .venv/bin/python ] || "${PYTHON:-python3.11}" -m venv .venv
  . .venv/bin/activate
fi
pip="python -m pip --disable-pip-version-check --quiet"
$pip install --no-compile -r requirements-dev.txt
# Both require torchaudio, which has no build for a CPU torch; tests do not need it.
$pip install --no-deps encodec==0.1.1 vocos==0.1.0

ruff format --check .
ruff check .
mypy
# One process per core with one thread each: they do not compete for cores.
export OMP_NUM_THREADS=1
# All tests of a file run in one process, which compiles what they share; tests/conftest.py orders
# the files.
python -m pytest -n "${PYTEST_WORKERS:-auto}" --dist loadfile --no-loadscope-reorder \
  --durations=25 "${selection[@]}" "$@"
