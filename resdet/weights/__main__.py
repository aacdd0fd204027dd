"""`python -m resdet.weights`: the weight doctor alone; needs torch, numpy and safetensors."""

import argparse
import sys

from resdet.errors import ResdetError
from resdet.weights import commands


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resdet.weights", allow_abbrev=False)
    commands.add_arguments(parser)
    try:
        return commands.run(parser.parse_args())
    except ResdetError as error:
        sys.stderr.write(f"\n{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
