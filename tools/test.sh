#!/usr/bin/env bash
# Runs the tests, as many at a time as there are cores.
#
#   bash tools/test.sh [ARGUMENTS OF pytest]     such as: tests/nets -k counts, -m "not slow", -n 0
#
# Sets up first if needed (tools/setup.sh; RESDET_PYTHON names an environment to use). Paths are
# relative to the checkout, wherever this is called from. The end lists what was skipped and why.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
python="$(bash "$root/tools/setup.sh" --print-python)"
cd "$root"
export PYTHONPATH="$root${RESDET_PYTHON:+${PYTHONPATH:+:$PYTHONPATH}}"
# One thread per process: with several processes more threads than cores only wait for each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}"
exec "$python" -m pytest -n auto --maxprocesses=8 -rs "$@"
