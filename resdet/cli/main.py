"""The command line: one parser, one page per error, one exit code per kind (`docs/commands.md`).

Not for: what a command does; each has a file of its own here.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, cast

from resdet import __version__
from resdet.cli import arguments
from resdet.cli.help_pages import epilog
from resdet.cli.pictures.config_keys import with_keys_marked
from resdet.compat import quiet_known_noise
from resdet.errors import ResdetError
from resdet.printable import printable, show

# name: (module with run, one line of help). Imported only when called, so that evaluation and
# reports work where Detectron2 and torch are absent. Its add_arguments is there, too, or in
# `arguments` where the module imports torch.
COMMANDS = {
    "demo": ("resdet.cli.demo", "the whole story on the embedded data, in minutes"),
    "doctor": ("resdet.cli.doctor", "what is installed, found and missing, and what to type"),
    "pretrain_cls": ("resdet.cli.training.pretrain_cls", "train or score a classifier"),
    "train_det": ("resdet.cli.training.train_det", "train or score a detector"),
    "detect": ("resdet.cli.pictures.detect", "boxes on pictures: files, folders, patterns"),
    "train_loc": ("resdet.cli.localization", "train or test ImageNet's localisation (LOC)"),
    "evaluate": ("resdet.cli.evaluate", "score result files, VOC or COCO, and classifiers"),
    "compare": ("resdet.cli.compare", "a report that sets runs side by side"),
    "rank": (
        "resdet.cli.rank.command",
        "backbones ranked on your data, in minutes, with intervals",
    ),
    "export_predictions": (
        "resdet.cli.pictures.export_predictions",
        "a run's objects and boxes as files that FiftyOne and others read",
    ),
    "visualize": (
        "resdet.cli.pictures.visualize",
        "objects, proposals and boxes of one run or two on chosen images",
    ),
    "analyze": ("resdet.cli.analyze", "counts, layer responses and curves of classifiers"),
    "convert_weights": (
        "resdet.cli.convert_weights",
        "what a weight file is and would load into; conversion with parity",
    ),
    "make_shards": ("resdet.cli.make_shards", "tar shards from class folders, each compared"),
    "submit": ("resdet.cli.submit", "server-ready files: made, checked, never uploaded"),
}
BUG = (
    "This is a bug in resdet, not yours. Report it with the lines above and the output of "
    "`resdet doctor`: see CONTRIBUTING.md."
)

# What the system answers to a path that no code of ours can make usable.
_UNUSABLE = (
    errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST,
)  # fmt: skip


class PageParser(argparse.ArgumentParser):
    """Its errors show what was typed, which may be a name from elsewhere.

    Attributes:
        keys_behind_files: KEY VALUE pairs stand behind a list of files.
    """

    keys_behind_files = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.keys_behind_files and args is not None:
            args = with_keys_marked(args)
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message), file)


# What runs a command in a process of its own: resdet, or the script that called `main`, whose nets
# are registered there alone.
program = ["-m", "resdet"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives its exit code.

    A script of yours that registers nets and ends with `sys.exit(main())` is every command of
    resdet with these nets. Commands that run others (`rank`, `demo`) run this script again.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    caller = sys._getframe(1).f_globals
    # A script that runs one command of its own would run it again for every step.
    if caller.get("__name__") == "__main__" and argv == sys.argv[1:]:
        program[:] = _program_of(caller) or program
    parser = PageParser(prog="resdet", description="Which backbone transfers better?")
    parser.add_argument("--version", action="version", version=f"resdet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, line) in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    if not argv or argv[0] not in COMMANDS:
        parser.parse_args(argv)
        parser.print_help()
        return 2
    return run_command(argv[0], argv[1:])


def _program_of(main_module: Mapping[str, Any]) -> list[str]:
    """What Python was started with to run this module; [] where that is no file."""
    if spec := main_module.get("__spec__"):
        return ["-m", spec.name]
    script = main_module.get("__file__")
    return [os.path.abspath(script)] if script else []


def run_command(name: str, argv: Sequence[str]) -> int:
    """`resdet NAME ...`, also for tools/NAME.py."""
    quiet_known_noise()
    try:
        args = _parser_of(name).parse_args(arguments.with_bare_resume(argv))
        module = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "resdet":
            raise
        show(
            f"{name} needs the package {error.name}, which is not installed here. "
            "Run: bash tools/setup.sh (or: resdet doctor)",
            error=True,
        )
        return 2
    except OSError as error:  # an argument that is a path is looked at while it is parsed
        return _exit_code_of(error)
    try:
        return int(module.run(args))
    except ResdetError as error:
        if args.debug:
            show(traceback.format_exc(), error=True)
        show(f"\n{error}", error=True)
        return error.exit_code
    except KeyboardInterrupt as error:
        show("\nstopped before anything was to be saved", error=True)
        return 128 + int(getattr(error, "number", 2))
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        if args.debug:
            show(traceback.format_exc(), error=True)
        return _exit_code_of(error)
    except Exception:
        return _bug()


def _exit_code_of(error: OSError) -> int:
    """Prints the page of an error that nobody caught.

    2 where its path is to blame, 3 where a disk is full (the standard output's, too), else 70.
    """
    if error.errno == errno.ENOSPC:
        where = error.filename or "what is written to"
        show(
            f"\nNo space is left on {where}. Free some, and type the same command again.",
            error=True,
        )
        return 3
    if error.errno not in _UNUSABLE or error.filename is None:
        return _bug()
    paths = [str(n) for n in (error.filename, error.filename2) if n is not None]
    show(
        f"\n{' or '.join(paths)}: {error.strerror}. Name another path, or repair this one.",
        error=True,
    )
    return 2


def _bug() -> int:
    show(f"{traceback.format_exc()}\n{BUG}", error=True)
    return 70


def _parser_of(name: str, commands: Any = None) -> argparse.ArgumentParser:
    """The parser of one command, on its own or among `commands`; imports no torch."""
    page: dict[str, Any] = {
        "prog": f"resdet {name}",
        "description": COMMANDS[name][1],
        "epilog": epilog(name),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser: Any = PageParser(**page) if commands is None else commands.add_parser(name, **page)
    parser.keys_behind_files = name in arguments.FILES_BEFORE_KEYS
    parser.add_argument("--debug", action="store_true", help="traceback for every error")
    if name in arguments.BY_COMMAND:
        arguments.BY_COMMAND[name](parser)
    else:
        importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
    return cast(argparse.ArgumentParser, parser)


def _complete() -> None:
    """Answers the shell that asks for completions, and ends; does nothing without argcomplete."""
    try:
        import argcomplete
    except ImportError:
        return
    parser = argparse.ArgumentParser(prog="resdet")
    commands = parser.add_subparsers(dest="command")
    typed = os.environ.get("COMP_LINE", "").split()
    for name, (_, line) in COMMANDS.items():
        # Only the command that is typed is read in full: a Tab must be quick.
        if name in typed[1:2]:
            _parser_of(name, commands)
        else:
            commands.add_parser(name, help=line)
    argcomplete.autocomplete(parser)


if __name__ == "__main__":
    sys.exit(main())
