"""`resdet rank` from a checkout; see docs/commands.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from resdet.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("rank", sys.argv[1:]))
