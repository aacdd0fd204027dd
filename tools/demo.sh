#!/usr/bin/env bash
# The whole story on the embedded data: pretrain, hand over, detect, measure, compare.
#
#   bash tools/demo.sh [ARGUMENTS OF resdet demo]      (--help lists them)
#
# Sets up first if needed (tools/setup.sh; RESDET_PYTHON names an environment to use). A second
# call goes on where an interrupted one stopped.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
python="$(bash "$root/tools/setup.sh" --print-python)"
# This checkout's resdet, also where the environment holds another one.
export PYTHONPATH="$root${RESDET_PYTHON:+${PYTHONPATH:+:$PYTHONPATH}}"
exec "$python" -m resdet demo "$@"
