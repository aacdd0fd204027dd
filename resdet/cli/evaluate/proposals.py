"""`resdet evaluate proposals`: a file of proposals, or a run of an RPN alone, to its recall.

Not for: computing it (`resdet.evaluation.proposals`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from resdet.atomic import write_text
from resdet.cli.output_paths import output_folder_path
from resdet.errors import ConfigError, DataError, first_few
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.proposals.recall import COUNTS, ProposalRecall, recall_of
from resdet.formats.proposal_file import ProposalFile
from resdet.printable import counted, show, show_json
from resdet.report.render.charts import Look, standalone
from resdet.report.render.plot import PlotAxis, PlotLine, plot
from resdet.run import layout
from resdet.text_table import ruled


def add_arguments(metrics: Any) -> None:
    """`proposals` among the metrics; docs/commands.md promises it."""
    parser = metrics.add_parser(
        "proposals", help="recall of proposals, classes aside", allow_abbrev=False
    )
    add = parser.add_argument
    add("proposals", type=Path, metavar="FILE|FOLDER",
        help="a file of proposals, or an RPN's run folder, or RUN/results/SET of one")  # fmt: skip
    add(
        "--gt",
        type=Path,
        metavar="INSTANCES.json",
        help="annotations of the set; a folder has its own",
    )
    add("--output", "-o", type=output_folder_path, metavar="DIR",
        help="write recall.json and recall.svg there")  # fmt: skip
    add("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Scores, prints, returns 0; errors are raised for the caller's page."""
    path, truth = args.proposals, args.gt
    if path.is_dir():
        folder = _results_in(path)
        path, truth = folder / layout.PROPOSALS, truth or folder / layout.GROUND_TRUTH
    proposals = ProposalFile(path)
    if truth is None:
        raise ConfigError(f"{path} is a file of proposals: give the set's annotations with --gt.")
    result = recall_of(read_ground_truth(truth), proposals)
    if args.output:
        numbers = json.dumps(result.to_json(), indent=1, allow_nan=False) + "\n"
        write_text(args.output / layout.RECALL, numbers)
        write_text(args.output / layout.RECALL_PICTURE, recall_picture(result))
    if args.json:
        show_json(result.to_json())
    else:
        show(recall_table(result))
    return 0


def _results_in(folder: Path) -> Path:
    """RUN/results/SET: the folder itself, or the only one of a run that has proposals.

    Raises:
        DataError: there is none, or there are several; lists them.
    """
    if (folder / layout.PROPOSALS).exists():
        return folder
    there = sorted(p.parent for p in folder.glob(f"{layout.RESULTS}/*/{layout.PROPOSALS}"))
    if len(there) == 1:
        return there[0]
    if there:
        raise DataError(
            f"{folder} has proposals of several sets. Name one:\n{first_few(list(there))}"
        )
    raise DataError(
        f"{folder} has no {layout.PROPOSALS}. Give the run of an RPN alone "
        "(MODEL.META_ARCHITECTURE ProposalNetwork), or a file of proposals."
    )


def recall_table(result: ProposalRecall) -> str:
    """Recall at each number of proposals, in percent, for people."""
    rows = []
    for count in COUNTS:
        at = result.at(count)
        cells = [_percent(result.average(count)), *(_percent(at[i]) for i in (0, 5))]
        rows.append([f"{count:,}", *cells])
    images = f"{result.images['evaluated']:,} of {counted(result.images['expected'], 'image')}"
    return "\n".join(
        [
            f"Recall of proposals, classes aside, on {images}: {result.objects:,} objects "
            f"({result.ignored:,} crowds and difficult ones need not be found), "
            f"{result.proposals:,} proposals",
            "",
            *ruled(("proposals", "AR", "at IoU 0.50", "at IoU 0.75"), rows),
        ]
    )


def recall_picture(result: ProposalRecall) -> str:
    """Recall over the number of proposals, as an SVG file's text."""
    curve = result.to_json()["curve"]
    counts = curve["proposals"]
    x_axis = PlotAxis("proposals of an image", 1, max([*counts, 2]), is_log=True)
    y_axis = PlotAxis("recall, %", 0, 100)
    lines = [
        PlotLine(Look(name, number), counts, [100 * v for v in curve[key]])
        for number, (name, key) in enumerate(
            (("IoU 0.50", "R50"), ("IoU 0.70", "R70"), ("mean of 0.50 to 0.95", "AR"))
        )
    ]
    drawing = plot(lines, x_axis, y_axis, label=f"Recall of proposals on {result.data_set}")
    return standalone(drawing)


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.1f}"
