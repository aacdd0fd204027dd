#!/usr/bin/env python
"""Looks through an ILSVRC tree, makes the lists that are missing, and names what is missing else.

    python datasets/prepare_ilsvrc.py ROOT [--tracks det loc] [--val1 FILE [--val2 FILE] | --halves]
    python datasets/prepare_ilsvrc.py --try DIR

ROOT has Data, Annotations, ImageSets and devkit; below $DETECTRON2_DATASETS it is called ILSVRC.
Nothing that is there is changed or written over. --try makes a small tree of the embedded digits.

Exit codes: 0 nothing that is needed is missing, 1 something is, 2 there is nothing to work on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from resdet.data import digits
from resdet.data.ilsvrc.ilsvrc_preparation import TreePart, prepare, whole
from resdet.data.ilsvrc.ilsvrc_trial import make_trial
from resdet.errors import ResdetError
from resdet.evaluation.ilsvrc.ilsvrc_synsets import wnids_by_id
from resdet.formats.ilsvrc_tree import DET, LOC
from resdet.printable import show
from resdet.text_table import ruled

TRACKS = {"det": DET, "loc": LOC}


def main(argv: Sequence[str]) -> int:
    """Does it, prints a table of all parts; gives the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("root", nargs="?", type=Path, help="the folder that has Data, Annotations and ImageSets")
    add("--tracks", nargs="+", choices=TRACKS, default=list(TRACKS), help="those to look at (both)")
    add("--val1", type=Path, metavar="FILE", help="images of val that train: R-CNN's val1.txt")
    add("--val2", type=Path, metavar="FILE", help="the others of val; without it the rest")
    add("--halves", action="store_true",
        help="make halves of val with about as many objects of each class; not R-CNN's")  # fmt: skip
    add("--try", dest="trial", type=Path, metavar="DIR",
        help="make a small tree of the embedded digits in this new folder")  # fmt: skip
    args = parser.parse_args(argv)
    if (args.root is None) == (args.trial is None):
        parser.error("give ROOT, or --try DIR for a made-up one")
    if args.val2 is not None and args.val1 is None or (args.val1 is not None and args.halves):
        parser.error("--val2 goes with --val1, and --halves with neither")
    try:
        root = args.root
        if args.trial is not None:
            root = args.trial
            make_trial(root, digits.make())
        parts = prepare(
            root,
            tracks=[TRACKS[name] for name in args.tracks],
            loc_wnids=wnids_by_id(),
            val1=args.val1,
            val2=args.val2,
            halves=args.halves or args.trial is not None,
        )
    except ResdetError as error:
        show(f"{error}", error=True)
        return error.exit_code
    except OSError as error:
        show(f"{error.filename}: {error.strerror}. Repair that, and begin anew.", error=True)
        return 2
    show("\n".join(report(parts)))
    return 0 if whole(parts) else 1


def report(parts: Sequence[TreePart]) -> list[str]:
    """A line for each part, and where the missing ones are from."""
    rows = [[part.path.as_posix(), part.state, part.what] for part in parts]
    lines = ruled(("part", "state", ""), rows, left=(0, 1, 2))
    missing = [part for part in parts if part.source]
    if missing:
        lines += ["", "Where missing parts are from:"]
        lines += [f"  {part.path.as_posix()}: {part.source}" for part in missing]
    if not whole(parts):
        lines += ["", "resdet fetches nothing of ImageNet: its images may not be redistributed."]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
