"""`resdet analyze curves`: errors of trainings against steps, figures 4 and 6 of He et al. 2015.

Not for: reading and drawing them (`resdet.report.classifiers`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.atomic import write_text
from resdet.errors import ConfigError
from resdet.file_names import file_name
from resdet.printable import show, show_json
from resdet.report.classifiers.curve_picture import curve_picture
from resdet.report.classifiers.degradation import HEAD, Degradation, degradation_of
from resdet.report.classifiers.training_curves import TrainingCurves, read_curves
from resdet.report.render.charts import standalone
from resdet.run.folder import write_json
from resdet.text_table import ruled

FILES = ("curves.json", "curves.svg")


def run(args: argparse.Namespace) -> int:
    """Reads, prints, writes two files; returns 0."""
    if args.y_max is not None and not 0 < args.y_max <= 100:
        raise ConfigError(f"--y-max is {args.y_max:g}: give a percentage above 0, 100 at most.")
    runs = read_curves(args.runs, args.set)
    found = degradation_of(runs)
    values = values_of(runs, found)
    more = f"+{len(runs) - 1}" if len(runs) > 1 else ""
    default = Path("reports") / file_name(f"curves_{runs[0].path.resolve().name}{more}")
    folder = Path(args.output) if args.output else default
    drawing = curve_picture(runs, log_x=args.x == "log", log_y=args.y == "log", most=args.y_max)
    write_json(folder / FILES[0], values)
    write_text(folder / FILES[1], standalone(drawing))
    if args.json:
        show_json(values)
        return 0
    show("\n".join(tables(runs, found)))
    show(f"files: {', '.join(str(folder / name) for name in FILES)}")
    return 0


def values_of(runs: Sequence[TrainingCurves], found: Degradation) -> dict[str, Any]:
    """All numbers of the picture and the tables."""
    return {"runs": [run.to_json() for run in runs], "degradation": found.to_json()}


def tables(runs: Sequence[TrainingCurves], found: Degradation) -> list[str]:
    """The state of each run, errors per net, and what depth does, for people."""
    rows = []
    for run in runs:
        test = f"{run.test.errors[-1]:.2f}" if run.test.errors else "-"
        train = run.train.mean_before(run.steps)
        drops = ", ".join(
            f"{d.step:,}" + ("" if d.why == "schedule" else f" ({d.why})") for d in run.drops
        )
        rows.append([run.title, run.state, f"{run.steps:,} of {run.max_steps or run.steps:,}",
                     "-" if train is None else f"{train:.2f}", test, drops or "-"])  # fmt: skip
    head = ("run", "state", "steps", "training error", "test error", "rate changes at")
    lines = [*ruled(head, rows, left=(0, 1)), "", *ruled(HEAD, [r.cells() for r in found.rows])]
    lines += [found.caption, ""]
    lines += [step.sentence() for step in (*found.by_depth, *found.by_family)]
    lines += [f"Caution: {text}" for text in found.cautions]
    return [*lines, ""]
