"""One pass over a set that fills all rows of a ladder that are not filled yet.

Of each image what several rows need is computed once: maps at each size, proposals, predictions for
the first regions. Nothing of it stays behind the image, as maps of a whole set would take a disk:
what stays is each row's finished images, in parts, so that a stop or a kill loses little and the
same command goes on.

Not for: which rows there are (`ladder`).
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.detecting_form import as_stated
from resdet.detect.from_run import BuiltDetector
from resdet.detect.loading import identity
from resdet.detect.paper.image_views import MemberView, PyramidMapper
from resdet.detect.paper.ladder import (
    LadderRow,
    describe_row,
    is_filled,
    mark_of,
    note_filled,
    row_run,
)
from resdet.detect.paper.members import orders_of_classes
from resdet.detect.paper.tester import ImageResults, ImprovedDetector
from resdet.detect.testing import inference
from resdet.detect.testing.partial_results import Parts, Policy, read_finished, weights_digest
from resdet.engine.data_workers import Loader, num_workers
from resdet.errors import Interrupted
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.run import layout
from resdet.run.folder import Run, write_json
from resdet.stop_signals import StopSignals

# Seconds between two lines of progress.
LINE_SECONDS = 10


class RowParts(Parts):
    """A row's finished images; its seconds are its own, beyond what it shared."""

    COMMAND = "the same command"
    spent = 0.0

    def _write_part(self, path: Path, seconds: float) -> None:
        super()._write_part(path, self.spent)
        self.spent = 0.0


@dataclass
class _Filling:
    row: LadderRow
    run: Run
    parts: RowParts
    mark: dict[str, Any]
    model: ImprovedDetector
    category_ids: list[int]  # by the class indices of the row's own detector


class _Forms:
    """The forms that detectors are tested in; rows share one that they have in common."""

    def __init__(self) -> None:
        self._made: dict[Any, nn.Module] = {}

    def of(self, detector: BuiltDetector, cfg: Any) -> nn.Module:
        """As the row with this config has it (`as_stated`)."""
        key = (id(detector.model), cfg.ENGINE.FAST_INFERENCE, cfg.ENGINE.BF16)
        if key not in self._made:
            self._made[key] = as_stated(detector.model, cfg)
        return self._made[key]


def fill(
    rows: Sequence[LadderRow],
    folder: Path,
    sets: Sequence[DetectionSet],
    reader: ImageReader,
    progress: Callable[[str], None],
) -> list[Path]:
    """Fills what is missing of the rows on the sets; gives the rows' run folders, in order.

    Args:
        folder: of the run; the rows lie below it.

    Raises:
        Interrupted: a signal came; finished images are kept. TrainingStopped: a part could not be
            written.
    """
    every = list({id(one.model): one for row in rows for one in row.every}.values())
    digests = {id(one.model): weights_digest(one.model) for one in every}
    forms = _Forms()
    runs = [row_run(folder, row) for row in rows]
    for data in sets:
        official = dict(zip(data.classes, data.category_ids, strict=True))
        filling: list[_Filling] = []
        views: list[MemberView] = []
        for row, run in zip(rows, runs, strict=True):
            mark = mark_of(row, digests, data)
            if is_filled(run, data, mark):
                progress(f"{data.name}: {row.title} is there")
                continue
            parts = RowParts.open(run.parts(data.name), data, mark, Policy(True, False))
            used = range(len(views), len(views) + len(row.every))
            views += [
                MemberView(one.cfg, row.improvements.scales, rule=row.cfg) for one in row.every
            ]
            model = ImprovedDetector(
                [forms.of(one, row.cfg) for one in row.every],
                row.improvements,
                orders=orders_of_classes(row.members, row.detector.classes),
                views=used,
            )
            ids = [official[name] for name in row.detector.classes]
            filling.append(_Filling(row, run, parts, mark, model.eval(), ids))
        if filling:
            _visit(filling, PyramidMapper(views, reader), data, progress)
        for one in filling:
            _finish(one, data, reader)
    return [run.path for run in runs]


def _visit(
    filling: Sequence[_Filling],
    mapper: PyramidMapper,
    data: DetectionSet,
    progress: Callable[[str], None],
) -> None:
    """Every image that a row lacks, for the rows that lack it."""
    left = [r for r in data.records if any(r["image_id"] not in f.parts.done for f in filling)]
    loader = Loader(
        inference.MappedRecords(left, mapper),
        num_workers(filling[0].row.cfg, images=len(left)),
        1,
        batch_size=1,
        collate_fn=identity,
    )
    signals = StopSignals()
    signals.install()
    began = last = time.monotonic()
    try:
        for number, (given,) in enumerate(loader, 1):
            with torch.no_grad():
                _detect(filling, given)
            if signals.received is not None:
                name = signal.Signals(signals.received).name
                raise Interrupted(
                    f"stopped by {name}: {len(data) - len(left) + number:,} of {len(data):,} "
                    f"images of {data.name} are kept. Go on with the same command.",
                    exit_code=128 + signals.received,
                )
            now = time.monotonic()
            if now - last > LINE_SECONDS or number == len(left):
                last, each = now, (now - began) / number
                progress(
                    f"{data.name}: {number} of {len(left)} images, {each:.2f} s an image for "
                    f"{len(filling)} rows, eta {each * (len(left) - number):.0f} s"
                )
    finally:
        signals.restore()
        for one in filling:
            one.parts.write()


def _detect(filling: Sequence[_Filling], given: dict[str, Any]) -> None:
    shared = ImageResults()
    for one in filling:
        if given["image_id"] in one.parts.done:
            continue
        start = time.monotonic()
        detections = one.model.detect(given, shared).to("cpu")
        one.parts.spent += time.monotonic() - start
        one.parts.add(
            given["image_id"], inference.to_coco(detections, given["image_id"], one.category_ids)
        )


def _finish(one: _Filling, data: DetectionSet, reader: ImageReader) -> None:
    """Result files, numbers and the mark of a row whose images are all there."""
    finished = read_finished(one.parts.folder)
    results, visited = inference.in_order_of(data, finished.results, finished.images)
    folder, cfg = one.run.results(data.name), one.row.cfg
    describe_row(one.run, one.row, one.mark)
    inference.write_results(
        folder,
        data,
        results,
        visited,
        finished.seconds,
        num_samples=cfg.EVAL.SAMPLES,
        reader=reader,
    )
    numbers = evaluate_folder(folder, style=cfg.EVAL.VOC_STYLE, engine=cfg.EVAL.ENGINE)
    for metric, values in numbers.to_json().items():
        if values is not None:
            write_json(folder / layout.SCORES[metric], values)
    note_filled(one.run, data, one.mark)
    shutil.rmtree(one.parts.folder, ignore_errors=True)
