#!/usr/bin/env bash
# Sets up what resdet needs; a second call finds it done and ends within a second.
#
#   bash tools/setup.sh [--print-python] [--docs]
#
#   RESDET_PYTHON        the Python of an environment to use as it is; what it lacks is added. A
#                        Detectron2 in it stays, 0.6 or main; without one 0.6 is installed.
#                        Without it everything goes into .venv of this checkout.
#   RESDET_TORCH_INDEX   a package index for torch and torchvision alone, such as PyTorch's own
#                        index of builds without CUDA.
#
# --print-python prints that environment's Python on standard output; --docs adds what builds the
# site (tools/docs.sh), 120 MB. All messages go to standard error. Exit code 2: something is
# missing that you can fix, and it names it.
# This script finds a Python; tools/setup_environment.py does the rest.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
unset PYTHONHOME

# Answers with exit code 0 if $1 is a Python that resdet can use; needs no more than 2.7.
supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

can_make_environments() {
    supported "$1" && "$1" -c 'import ensurepip, ssl, venv' >/dev/null 2>&1
}

refuse() {
    printf 'Set-up stopped: %s\n' "$*" >&2
    exit 2
}

if [ -n "${RESDET_PYTHON:-}" ]; then
    python="$RESDET_PYTHON"
    if [ -d "$python" ]; then python="$python/bin/python"; fi
    python="$(command -v -- "$python")" ||
        refuse "RESDET_PYTHON is $RESDET_PYTHON, and no such program can be run. Name the" \
            "environment's Python, for example RESDET_PYTHON=/path/to/env/bin/python."
    supported "$python" ||
        refuse "RESDET_PYTHON is $RESDET_PYTHON, $("$python" --version 2>&1 | head -n 1)." \
            "resdet needs Python 3.10 to 3.13."
    exec "$python" "$root/tools/setup_environment.py" --named "$@"
fi

# Packages of elsewhere have no place in our own environment.
unset PYTHONPATH

# A .venv that runs is used at once, whatever made it; one that does not is made anew.
if supported "$root/.venv/bin/python"; then
    exec "$root/.venv/bin/python" "$root/tools/setup_environment.py" "$@"
fi

seen=""
# The absolute ones: a version manager's stand-in may hide the system's own Python.
for python in python3.11 python3.12 python3.13 python3.10 python3 python \
    /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13 /usr/bin/python3; do
    if can_make_environments "$python"; then
        exec "$python" "$root/tools/setup_environment.py" "$@"
    elif supported "$python"; then
        refuse "$("$python" --version) ($(command -v "$python")) cannot make environments: it" \
            "lacks venv. Install it (Debian, Ubuntu: apt install python3-venv), or name another" \
            "Python's environment in RESDET_PYTHON."
    elif version="$("$python" --version 2>&1)" && [ "${version#Python }" != "$version" ]; then
        seen="$seen $python is $version."
    fi
done
refuse "no Python from 3.10 to 3.13 was found.$seen Install Python 3.11 (Debian, Ubuntu: apt" \
    "install python3 python3-venv), or name an environment's Python in RESDET_PYTHON."
