"""`python -m resdet COMMAND ...`, the same as `resdet COMMAND ...`."""

import sys

from resdet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
