#!/usr/bin/env bash
# Builds the documentation's site into build/site/html; any warning stops it.
#
#   bash tools/docs.sh [ARGUMENTS OF mkdocs build]
#
# Sets up first if needed (tools/setup.sh --docs; RESDET_PYTHON names an environment to use).
# Needs no network after that. To read it, search included:
#
#   python -m http.server --directory build/site/html --bind 127.0.0.1
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
python="$(bash "$root/tools/setup.sh" --docs --print-python)"
# Its notice that Material reaches its end of life; docs/site.yml has the date.
export NO_MKDOCS_2_WARNING=1
"$python" "$root/tools/docs_site.py"
"$python" -m mkdocs build --strict --quiet --config-file "$root/build/site/mkdocs.yml" "$@"
"$python" "$root/tools/docs_site.py" --check
printf 'The site is in %s.\n' "$root/build/site/html"
