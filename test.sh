#!/usr/bin/env bash
# Lints, type-checks and tests:  bash test.sh [--slow] [arguments of pytest]
#
# Uses the active virtual environment, or makes one in .venv. --slow adds the long tests: full-size
# parity at every bandwidth against both reference implementations.
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
# Meta's encodec asks for torchaudio, which has no build for a CPU torch; the tests do without.
$pip install --no-deps encodec==0.1.1

ruff format --check .
ruff check .
mypy
# One process per core, each with one thread: so they do not wait for each other.
export OMP_NUM_THREADS=1
# A file stays with one process, which compiles what its tests share; tests/conftest.py says which
# files are first.
python -m pytest -n "${PYTEST_WORKERS:-auto}" --dist loadfile --no-loadscope-reorder \
  --durations=25 "${selection[@]}" "$@"
