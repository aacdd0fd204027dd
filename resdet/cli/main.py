"""The command line: one parser, one page per error, one exit code per kind (`docs/commands.md`).

Not for: what a command does; each lives beside the code that it calls.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence

from resdet import __version__
from resdet.compat import quiet_known_noise
from resdet.errors import ResdetError

# name: (module with add_arguments and run, one line of help). Imported only when called, so that
# evaluation and reports work where Detectron2 and torch are absent.
COMMANDS = {
    "demo": ("resdet.cli.demo", "the whole story on the embedded data, in minutes"),
    "doctor": ("resdet.cli.doctor", "what is installed, found and missing, and what to type"),
    "pretrain_cls": ("resdet.cli.pretrain_cls", "train or score a classifier"),
    "train_det": ("resdet.cli.train_det", "train or score a detector"),
    "evaluate": ("resdet.cli.evaluate", "score result files: VOC or COCO"),
    "compare": ("resdet.cli.compare", "a report that sets runs side by side"),
    "convert_weights": (
        "resdet.cli.convert_weights",
        "what a weight file is and would load into; conversion with parity",
    ),
    "submit": ("resdet.cli.submit", "server-ready files: made, checked, never uploaded"),
}
BUG = (
    "This is a bug in resdet, not yours. Report it with the lines above and the output of "
    "`resdet doctor`: see CONTRIBUTING.md."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="resdet", description="Which backbone transfers better?")
    parser.add_argument("--version", action="version", version=f"resdet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, line) in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    if not argv or argv[0] not in COMMANDS:
        parser.parse_args(argv)
        parser.print_help()
        return 2
    return run_command(argv[0], argv[1:])


def run_command(name: str, argv: Sequence[str]) -> int:
    """`resdet NAME ...`, also for tools/NAME.py."""
    quiet_known_noise()
    module_name, line = COMMANDS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "resdet":
            raise
        sys.stderr.write(
            f"{name} needs the package {error.name}, which is not installed here. "
            "Run: bash tools/setup.sh (or: resdet doctor)\n"
        )
        return 2
    parser = argparse.ArgumentParser(prog=f"resdet {name}", description=line, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="traceback for every error")
    module.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return int(module.run(args))
    except ResdetError as error:
        if args.debug:
            traceback.print_exc()
        sys.stderr.write(f"\n{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped before anything was to be saved\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except Exception:
        traceback.print_exc()
        sys.stderr.write(f"\n{BUG}\n")
        return 70


if __name__ == "__main__":
    sys.exit(main())
