#!/usr/bin/env bash
# Compile requirements.txt and requirements-dev.txt from pyproject.toml:  bash lock.sh [--upgrade]
#
# torch is added by hand: its default build for Linux requires several gigabytes of CUDA packages,
# which the lock would list. The version alone leaves the choice of build to pip.
#
# uv ignores the upper bound that a package sets on Python, pip does not: backports-strenum 1.3
# requires a Python below 3.11.
set -euo pipefail
cd "$(dirname "$0")"

torch="torch==2.13.0"
without_torch=$(mktemp) constraints=$(mktemp)
trap 'rm -f "$without_torch" "$constraints"' EXIT
echo "torch ; python_version < '3'" >"$without_torch"
echo "backports-strenum<1.3" >"$constraints"

compile() {
  local output=$1
  shift
  {
    echo "# Made by lock.sh from pyproject.toml ($*). Do not edit."
    uv pip compile pyproject.toml "$@" --quiet --no-header --no-annotate --no-strip-extras \
      --no-emit-index-url --no-emit-find-links --python-version 3.11 \
      --override "$without_torch" --constraint "$constraints" "${upgrade[@]}"
    echo "$torch"
  } >"$output.part"
  mv "$output.part" "$output"
}

upgrade=("$@")
extras=(--extra convert --extra evaluate --extra train --extra tokens --extra onnx)
compile requirements.txt "${extras[@]}"
compile requirements-dev.txt "${extras[@]}" --extra dev
if grep -nEi "nvidia|cuda|://" requirements.txt requirements-dev.txt; then
  echo "lock.sh: the lock names a CUDA package, an index or a path" >&2
  exit 1
fi
