"""What trainings start from, where that differs in more than the backbone: whole detectors.

Not for: the backbone's own weights, which are what a comparison is about (`config_differences`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from resdet.report.comparison.config_differences import ConfigDifference
from resdet.report.comparison.per_run import differ, per_run
from resdet.report.runs import Column

# A bin of `config_differences`: what a whole detector brings along, and others have nothing of.
START = "start"
_OF_DETECTOR_STARTS = ("TRANSFER.HEADS", "TRANSFER.HEAD_CLASSES", "TRANSFER.HEAD_NAMES")


def starts(columns: Sequence[Column]) -> str:
    """What each started from, for people; "" where none did from a whole detector, or where the
    nets alone tell their detectors apart."""
    makes: dict[str, set[str]] = {}
    for column in columns:
        makes.setdefault(column.net, set()).add(column.detector.make if column.detector else "")
    several = any(len(found - {""}) > 1 for found in makes.values())
    if not several and not differ([c.from_detector for c in columns]):
        return ""
    texts = [_start(c, with_file=several) for c in columns]
    return per_run(columns, texts)


def _start(column: Column, *, with_file: bool) -> str:
    if column.detector:
        return f"the detector {column.detector.file}" if with_file else "a whole detector"
    return "the backbone" if column.pretrained else "nothing"


def with_starts(
    columns: Sequence[Column], differences: Sequence[ConfigDifference]
) -> list[ConfigDifference]:
    """How a whole detector's heads arrive is part of its start, and one for all that have one."""
    of_detector = [c.from_detector for c in columns]
    if not differ(of_detector):
        return list(differences)

    def is_of_start(d: ConfigDifference) -> bool:
        brought = [v for v, is_one in zip(d.values, of_detector, strict=True) if is_one]
        return d.key in _OF_DETECTOR_STARTS and not differ(brought)

    return [dataclasses.replace(d, kind=START) if is_of_start(d) else d for d in differences]


def whole_start(column: Column) -> str:
    """Of a run from a whole detector what that adds to a gap."""
    if not (start := column.detector):
        return ""
    known = f", trained on {start.data}" if start.data else ", whose training is not known here"
    mine = {s.get("hash") for s in column.run.info.get("train_sets") or []} - {None}
    if mine & set(start.hash.split("+")):
        seen = "" if start.samples is None else f" ({start.samples:,} images before)"
        known += f", which is trained on here, too{seen}"
    heads = f" ({start.heads})" if start.heads else ""
    return f"{known}{heads}: its training, too, is in a gap to what started otherwise."
