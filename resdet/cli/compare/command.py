"""`compare RUN_A RUN_B ...`: the report of two or more runs, and on the terminal its core.

`compare --results NAME=FILE ... --gt JSON` does the same for results files of any tool.

`compare --ladder RUN` fills the rows of table 9 (`ladder`).

Exit codes: 0 when only the backbone differs, or as the stamp says what trainings start from, or
with --across-recipes the recipe; 1 when more does (the report is written all the same, stamped NOT
COMPARABLE); 2 when there is nothing to report from.

Not for: making the report (`document`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from resdet.cli.arguments import IMAGE_IDS, accept
from resdet.cli.output_paths import output_folder
from resdet.errors import UserError
from resdet.printable import show, show_json
from resdet.report.document import compare
from resdet.report.foreign_results import as_runs, read_stated, split_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders, the one to compare with first"
    )
    parser.add_argument(
        "--results",
        nargs="+",
        metavar="NAME=FILE",
        help="instead of runs: COCO-format results of any tool; needs --gt; files of one NAME are "
        "trainings of one detector",
    )
    parser.add_argument("--gt", metavar="INSTANCES.json", type=Path, help="ground truth of them")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="with --results: the image files, for pictures"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=output_folder,
        help="where report.html, report.md and report.json go (default: reports/RUN_A-RUN_B)",
    )
    parser.add_argument(
        "--by",
        choices=("set", "coco"),
        default="set",
        help="what ranks the runs: the protocol of each set (VOC's AP50 on VOC sets), or COCO's AP "
        "at .50 to .95 on every set (default: set)",
    )
    parser.add_argument(
        "--across-recipes",
        action="store_true",
        help="also runs under two recipes (TRANSFER.RECIPE, docs/recipes.md); the verdict is then "
        "that the backbone and its recipe differ",
    )
    accept(
        parser,
        "[NAME:]RULE=COUNT",
        "; with NAME: of the files of one name (or of one FILE) alone, else of every file that has "
        "such faults",
    )
    parser.add_argument(
        "--image-ids", action="append", default=[], metavar="[NAME:]WAY",
        help="with --results: what image_id is in the files, or in those of a NAME: "
        f"{', '.join(IMAGE_IDS)} (exact), as for evaluate coco",
    )  # fmt: skip
    _add_ladder(parser)
    parser.add_argument("--json", action="store_true", help="print report.json and nothing else")


def _add_ladder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ladder",
        metavar="RUN",
        help="instead of runs: the rows of the paper's table 9 on this run's detector, filled one "
        "after another into RUN/ladder; what was filled before stays",
    )
    parser.add_argument(
        "--context",
        metavar="RUN",
        help="with --ladder: the run of the same detector with MODEL.REGION_HEADS.CONTEXT",
    )
    parser.add_argument(
        "--with",
        nargs="+",
        default=[],
        metavar="RUN",
        help="with --ladder: runs of further detectors, for the ensemble",
    )
    parser.add_argument(
        "--scales",
        nargs="+",
        type=int,
        default=[],
        metavar="PIXELS",
        help="with --ladder: shorter sides of the pyramid, rising (default: the paper's 200 400 "
        "600 800 1000, in proportion where the test's is not 600)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME",
        help="with --ladder: the sets to detect on (default: the run's DATASETS.TEST)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the report, prints its summary; 0, or 1 for NOT COMPARABLE."""
    if args.ladder:
        of_others = (args.runs, args.results, args.gt, args.accept, args.image_ids, args.images)
        if any(of_others) or args.across_recipes:
            raise UserError(
                "--ladder takes one run, and neither others to compare with nor the options of "
                "--results. Its own are --context, --with, --scales and --set."
            )
        from resdet.cli.compare import ladder  # torch, which comparing needs not

        return ladder.run(args)
    if args.context or vars(args)["with"] or args.scales or args.set:
        raise UserError("--context, --with, --scales and --set belong to --ladder RUN.")
    if not args.results:
        if args.gt or args.images or args.accept or args.image_ids:
            raise UserError(
                "--gt, --images, --accept and --image-ids belong to --results; run folders hold "
                "their ground truth and know their images."
            )
        return _report(args, args.runs, args.runs)
    if args.across_recipes:
        raise UserError(
            "--across-recipes belongs to run folders: how the detectors of --results were trained "
            "is not known. Leave it out."
        )
    if args.runs or not args.gt:
        raise UserError(
            "--results takes files of any tool in place of run folders, with their --gt: "
            "compare --results a=a.json b=b.json --gt instances.json."
        )
    named = [split_name(text) for text in args.results]
    with tempfile.TemporaryDirectory() as folder:
        stated = read_stated(args.accept, args.image_ids, named)
        runs = as_runs(named, args.gt, Path(folder), images=args.images, stated=stated)
        return _report(args, runs, list(dict.fromkeys(name for name, _ in named)))


def _report(args: argparse.Namespace, runs: Sequence[Path | str], names: Sequence[str]) -> int:
    output = Path(args.output) if args.output else default_output(names)
    paths = compare(
        runs,
        output,
        progress=lambda text: show(text, error=True),
        by=args.by,
        across_recipes=args.across_recipes,
    )
    if args.json:
        report = json.loads(paths.json.read_text(encoding="utf-8"))
        files = {"html": str(paths.html), "markdown": str(paths.markdown), "json": str(paths.json)}
        show_json({**report, "files": files})
    else:
        show(f"{paths.text}\n\nReport: {paths.html}")
    return 0 if paths.verdict.comparable else 1


def default_output(runs: Sequence[str]) -> Path:
    """reports/ and the names of the runs, so that two comparisons are not in one folder."""
    names = [Path(os.path.realpath(name)).name for name in runs]
    return Path("reports") / "-".join(names)[:100]
