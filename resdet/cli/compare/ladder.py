"""`compare --ladder RUN`: the rows of table 9 on one run, filled and set one above the other.

Not for: what the rows are (`resdet.detect.paper.ladder`), or their table (`resdet.report.ladder`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from resdet.cli.training.detection_sets import sets_to_score
from resdet.config import data_options
from resdet.data import DataOptions, DetectionSet, catalog
from resdet.detect.from_run import BuiltDetector
from resdet.detect.paper import ladder, ladder_pass
from resdet.detect.paper.members import member
from resdet.errors import ConfigError
from resdet.printable import show, show_json
from resdet.report.ladder import RowFolder, read_ladder, to_json, to_text, write_ladder
from resdet.report.runs import net_title
from resdet.run import layout
from resdet.run.folder import Run


def run(args: argparse.Namespace) -> int:
    """Fills what is missing, writes the page and prints the table; 0."""
    folder = Path(args.ladder)
    run = Run.open(folder)
    detector = member(folder, "auto")
    device = detector.cfg.MODEL.DEVICE
    context = member(args.context, device) if args.context else None
    others = {path: member(path, device) for path in vars(args)["with"]}
    rows, absent = ladder.plan(detector, context=context, others=others, scales=args.scales)
    sets = _sets(detector, args.set)
    with run.lock():
        folders = ladder_pass.fill(
            rows, folder, sets, detector.reader, lambda text: show(text, error=True)
        )
    names = [row.name for row in rows]
    report = read_ladder(
        [
            RowFolder(path, row.title, names.index(row.above) if row.above else None)
            for path, row in zip(folders, rows, strict=True)
        ],
        absent,
        f"{net_title(detector.cfg.MODEL.NET.NAME, detector.cfg.MODEL.NET.WIDTH)}, {folder}",
        [data.name for data in sets],
        by=args.by,
    )
    json_path, page = write_ladder(report, Path(args.output or folder / layout.LADDER))
    if args.json:
        show_json({**to_json(report), "files": {"json": str(json_path), "html": str(page)}})
    else:
        show(f"{to_text(report)}\n\nReport: {page}")
    return 0


def _sets(detector: BuiltDetector, names: Sequence[str]) -> list[DetectionSet]:
    """The sets that are asked for, else those of the run's config, with its classes in its order.

    Raises:
        DataError: one is not there or has no annotations. ConfigError: there is none, or one has
            other classes.
    """
    chosen = list(names or detector.cfg.DATASETS.TEST)
    if not chosen:
        raise ConfigError("DATASETS.TEST of the run is empty: name a set with --set.")
    catalog.require(chosen, annotated=True)
    masks = detector.cfg.MODEL.MASK_ON
    options = DataOptions(**data_options(detector.cfg), masks=masks, needs_masks=masks)
    return sets_to_score(chosen, options, detector.classes, str(detector.file))
