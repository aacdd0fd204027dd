"""The ladder: the rows of the paper's table 9 on one detector, each on top of the one above.

    baseline                  the detector with all improvements off
    + box refinement          TEST.BOX_REFINEMENT
    + context                 its twin that was trained with MODEL.REGION_HEADS.CONTEXT
    + multi-scale testing     TEST.SCALES
    each further member       on its own, tested as the row above
    ensemble                  TEST.ENSEMBLE

A row is a run folder of its own below the run's (`resdet.run.layout`): what `train_det --eval-only`
with the row's keys would leave, with the same detections to the bit on one machine. The rows are
filled in one pass (`ladder_pass`).

Not for: the table of the rows (`resdet.report.ladder`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resdet.config import data_options
from resdet.config.config import text_of_run
from resdet.config.key_checks.ranges import RANGES
from resdet.data.records import DetectionSet
from resdet.detect.from_run import BuiltDetector
from resdet.detect.paper.members import order_of_classes, record_of_ensemble
from resdet.detect.paper.tester import Improvements
from resdet.detect.testing.partial_results import OF_SET, fingerprint_of
from resdet.errors import ConfigError
from resdet.run import layout
from resdet.run.folder import Run, write_text

# The paper's pyramid, as shares of its test's shorter side, 600.
SCALES_OF_600 = (200, 400, 600, 800, 1000)
TITLES = {
    "baseline": "baseline",
    "refinement": "+ box refinement",
    "context": "+ context",
    "scales": "+ multi-scale testing",
    "ensemble": "ensemble",
}


@dataclass(frozen=True)
class LadderRow:
    """One row: a detector, further members, and the config that states its improvements.

    Attributes:
        name: of its folder: of `TITLES`, or member_2 and so on.
        above: name of the row that it is a step from; "" for the first.
    """

    name: str
    title: str
    detector: BuiltDetector
    cfg: Any
    members: tuple[BuiltDetector, ...] = ()
    above: str = ""

    @property
    def every(self) -> tuple[BuiltDetector, ...]:
        return (self.detector, *self.members)

    @property
    def improvements(self) -> Improvements:
        return Improvements.of_config(self.cfg)


def plan(
    detector: BuiltDetector,
    *,
    context: BuiltDetector | None = None,
    others: Mapping[str, BuiltDetector] | None = None,
    scales: Sequence[int] = (),
) -> tuple[list[LadderRow], dict[str, str]]:
    """The rows that these detectors have, in order, and why each other one is absent, by title.

    Args:
        detector: of the run.
        context: its twin with global context; rows from there on are the twin's.
        others: the further members of an ensemble, by what each is read from.
        scales: the pyramid; () takes the paper's in proportion to INPUT.MIN_SIZE_TEST. A detector
            whose images are not resized has none.

    Raises:
        ConfigError: the twin has no context, scales do not rise, or they are given where images are
            not resized; one was trained for other classes.
    """
    others = others or {}
    for further in (context, *others.values()):
        if further is not None:
            order_of_classes(further, detector.classes)
    rows = [_row("baseline", detector), _row("refinement", detector, refinement=True)]
    absent = {}
    has_context = detector.cfg.MODEL.REGION_HEADS.CONTEXT
    if context is not None and not context.cfg.MODEL.REGION_HEADS.CONTEXT:
        raise ConfigError(
            f"--context {context.file.parent} was trained without global context. Name the run of "
            "the same detector with MODEL.REGION_HEADS.CONTEXT True."
        )
    if context is not None and has_context:
        raise ConfigError(
            f"{detector.file.parent} has MODEL.REGION_HEADS.CONTEXT itself, in all of its rows: "
            "leave --context out, or give the run without it as --ladder."
        )
    if context is not None:
        rows.append(_row("context", context, refinement=True))
    elif has_context:
        absent[TITLES["context"]] = "the run has it in every row"
    else:
        absent[TITLES["context"]] = (
            "it is trained: train the same with MODEL.REGION_HEADS.CONTEXT True, and name that run "
            "with --context"
        )
    best = context or detector
    sides = _scales_of(best.cfg.INPUT.MIN_SIZE_TEST, tuple(scales))
    if sides:
        rows.append(_row("scales", best, refinement=True, scales=sides))
    else:
        absent[TITLES["scales"]] = "images are not resized (INPUT.MIN_SIZE_TEST is 0)"
    last = rows[-1].name
    rows = [replace(row, above=above) for row, above in zip(rows, _names_before(rows), strict=True)]
    for number, (path, other) in enumerate(others.items(), 2):
        own = sides if other.cfg.INPUT.MIN_SIZE_TEST else ()
        row = _row(f"member_{number}", other, refinement=True, scales=own, title=f"{path} alone")
        rows.append(replace(row, above=last))
    if others:
        row = _row("ensemble", best, refinement=True, scales=sides, members=others)
        rows.append(replace(row, above=last))
    else:
        absent[TITLES["ensemble"]] = "it has further detectors: name their runs with --with"
    return [replace(row, cfg=_read_as(detector.cfg, row.cfg)) for row in rows], absent


def _read_as(source: Any, cfg: Any) -> Any:
    """A row's config with the run's keys of how images are read: they are read once for all."""
    cfg = cfg.clone()
    for key in map(str.upper, data_options(cfg)):
        section = "INPUT" if key in cfg.INPUT else "DATASETS"
        cfg[section][key] = source[section][key]
    return cfg


def _names_before(rows: Sequence[LadderRow]) -> list[str]:
    return ["", *(row.name for row in rows[:-1])]


def _scales_of(min_size: int, given: tuple[int, ...]) -> tuple[int, ...]:
    if given and not min_size:
        raise ConfigError(
            "INPUT.MIN_SIZE_TEST of the run is 0: its images are not resized, so no longest side "
            "of a pyramid is known. Leave --scales out; the ladder then has no such row."
        )
    is_allowed, expected = RANGES["TEST.SCALES"]
    if not is_allowed(given):
        raise ConfigError(f"--scales is {' '.join(map(str, given))}, expected {expected}.")
    if given or not min_size:
        return given
    return tuple(sorted({max(1, round(side * min_size / 600)) for side in SCALES_OF_600}))


def _row(
    name: str,
    detector: BuiltDetector,
    *,
    refinement: bool = False,
    scales: tuple[int, ...] = (),
    members: Mapping[str, BuiltDetector] | None = None,
    title: str = "",
) -> LadderRow:
    cfg = detector.cfg.clone()
    cfg.defrost()
    cfg.TEST.BOX_REFINEMENT = "on" if refinement else "off"
    cfg.TEST.SCALES = scales
    if not scales:
        cfg.TEST.SCALES_MAX_SIZE = 0
    members = members or {}
    cfg.TEST.ENSEMBLE = tuple(members)
    cfg.TEST.IMS_PER_BATCH = 1
    title = title or TITLES[name]
    if members:
        title += f" ({len(members) + 1} networks)"
    return LadderRow(name, title, detector, cfg, tuple(members.values()))


def row_run(folder: Path, row: LadderRow) -> Run:
    """The run folder of a row, new or as it was left."""
    path = folder / layout.LADDER / row.name
    if (path / layout.RUN).exists():
        return Run.open(path)
    source = _source(row)
    return Run.create(
        path,
        kind="detection",
        config_text=_config_text(row, path),
        command=sys.argv,
        seed=source.info.get("seed", 0),
    )


def describe_row(run: Run, row: LadderRow, mark: Mapping[str, Any]) -> None:
    """States in the folder what the row is now; just before its results of a set are written.

    Until then it states what the results that are there are of. Those of another detector or of
    other keys go; finished images of the set stay until its results are written.
    """
    source, filled_by, (of_set, _) = _source(row), _short(mark, without=OF_SET), OF_SET
    if run.info.get("filled_by") != filled_by:
        for name in run.detected_sets():
            if name == mark[of_set]:
                (run.results(name) / layout.IMAGES).unlink()
            else:
                shutil.rmtree(run.results(name))
    write_text(run.path / layout.CONFIG, _config_text(row, run.path))
    for name in (layout.CARD, layout.TRANSFER):
        if (known := source.read(name)) is not None:
            run.write(name, known)
        else:
            (run.path / name).unlink(missing_ok=True)
    run.take_facts_of_training(source)
    run.note_scored_file(row.detector.file)
    weights = str(mark["weights"]).split("+")
    ensemble = record_of_ensemble(run, row.cfg, row.members, weights) if row.members else []
    run.update(filled_by=filled_by, ensemble=ensemble)


def _source(row: LadderRow) -> Run:
    source = row.detector.run
    assert source is not None
    return source


def _config_text(row: LadderRow, path: Path) -> str:
    cfg = row.cfg.clone()
    cfg.OUTPUT_DIR = str(path)
    return text_of_run(cfg)


def mark_of(row: LadderRow, digests: Mapping[int, str], data: DetectionSet) -> dict[str, Any]:
    """All that decides what a row detects on a set, as `partial_results` marks its parts with.

    Args:
        digests: of weights, by `id` of the detector's model.
    """
    weights = "+".join(digests[id(one.model)] for one in row.every)
    mark = fingerprint_of(row.cfg, weights, data)
    orders = [list(one.classes) for one in row.every]
    is_own = all(order == list(data.classes) for order in orders)
    return mark if is_own else {**mark, "classes": orders}


def is_filled(run: Run, data: DetectionSet, mark: Mapping[str, Any]) -> bool:
    """Whether the row's results on this set are there, and of this mark."""
    filled = run.info.get("filled") or {}
    has_results = (run.results(data.name) / layout.IMAGES).exists()
    return has_results and filled.get(data.name) == _short(mark)


def note_filled(run: Run, data: DetectionSet, mark: Mapping[str, Any]) -> None:
    """Once the files of a set are there and whole."""
    filled = {**(run.info.get("filled") or {}), data.name: _short(mark)}
    run.update(state="finished", filled=filled)


def _short(mark: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    kept = {key: value for key, value in mark.items() if key not in without}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
