"""`resdet analyze`: the parser. What an action does is imported when it is called.

Not for: any one action.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from resdet.cli.output_paths import output_folder

SCALES = ("linear", "log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `analyze`; docs/commands.md promises them."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="{counts,responses,curves,classifiers}"
    )
    _counts(actions)
    _responses(actions)
    _curves(actions)
    _classifiers(actions)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes; returns 0; errors are raised for the caller's page."""
    module = importlib.import_module(f"resdet.cli.analyze.{args.action}")
    return int(module.run(args))


def _counts(actions: Any) -> None:
    parser = actions.add_parser(
        "counts", help="parameters and multiply-adds per stage", allow_abbrev=False
    )
    add = parser.add_argument
    add("nets", nargs="+", metavar="NET|FILE|RUN",
        help="a net by name, with options: resnet34,shortcut=A; timm:NAME; a weight file; a run "
        "folder of pretrain_cls")  # fmt: skip
    add("--size", type=int, nargs="+", metavar="PIXELS",
        help="side, or height and width, of the image (the net's own: 224, CIFAR 32)")  # fmt: skip
    add("--classes", type=int, metavar="K",
        help="of nets given by name (1000; 10 for CIFAR's nets)")  # fmt: skip
    add("--layers", action="store_true", help="each layer, too")
    _part(parser)
    _output(parser, "also write counts.json, counts.svg here")
    _json(parser)


def _responses(actions: Any) -> None:
    parser = actions.add_parser(
        "responses", help="standard deviation of each 3x3 layer's output", allow_abbrev=False
    )
    add = parser.add_argument
    add("members", nargs="+", type=Path, metavar="FILE|RUN",
        help="any classifier's weight file, or a run folder of pretrain_cls")  # fmt: skip
    add("--data", metavar="SET", required=True,
        help="name of a set, a folder of class folders, or images:FOLDER")  # fmt: skip
    add("--images", type=int, default=1000, metavar="N",
        help="evenly spread over the set; 0: all (1000)")  # fmt: skip
    add("--y", choices=SCALES, default="linear", help="scale of the standard deviation (linear)")
    add("--device", default="auto", help="cpu, cuda, or a GPU where there is one (auto)")
    add("--batch-size", type=int, default=32, metavar="N", help="images at once (32)")
    add("--workers", type=int, metavar="N", help="processes that read images (by device and cores)")
    _part(parser)
    _output(parser, "for responses.json and the pictures (reports/responses_NAME)")
    _json(parser)


def _curves(actions: Any) -> None:
    parser = actions.add_parser(
        "curves", help="training and test error of runs against steps", allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run folders of pretrain_cls, in any state",
    )
    add("--set", metavar="SET", help="test set (the first that was measured)")
    add("--x", choices=SCALES, default="linear", help="scale of the steps (linear)")
    add("--y", choices=SCALES, default="linear", help="scale of the error (linear)")
    add("--y-max", type=float, metavar="PERCENT", help="end of the error axis")
    _output(parser, "for curves.json and curves.svg (reports/curves_NAME)")
    _json(parser)


def _classifiers(actions: Any) -> None:
    parser = actions.add_parser(
        "classifiers", help="a page that sets classifiers side by side", allow_abbrev=False
    )
    add = parser.add_argument
    add("members", nargs="+", type=Path, metavar="RUN|SCORES.npz",
        help="run folders or files of scores, as evaluate cls keeps them; two or more")  # fmt: skip
    add("--set", metavar="SET", help="which scores of run folders: of this set")
    add("--protocol", metavar="TAG",
        help="which scores of run folders: centre, 10-crop or dense, or a tag in full")  # fmt: skip
    add("--responses", type=Path, metavar="responses.json",
        help="what analyze responses wrote for these classifiers")  # fmt: skip
    _output(parser, "for report.html, report.md and report.json (reports/classifiers_NAME)")
    _json(parser)


def _part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", metavar="PART", help="the net among several in one weight file")


def _output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--output", metavar="DIR", type=output_folder, help=what)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
