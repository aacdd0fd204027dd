"""The data sets of a detector's training or test: read, in one order of classes, without a leak.

Not for: what a set is (`resdet.data`), or what becomes of one that is only looked at
(`train_det --explain`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from resdet.data import DataOptions, DetectionSet, catalog
from resdet.data.serialized import SerializedList
from resdet.engine import processes
from resdet.errors import ConfigError

logger = logging.getLogger("resdet.detect")


@dataclasses.dataclass(frozen=True)
class DetectionSets:
    """The sets of one command, all with the same classes in the same order.

    Attributes:
        train: empty where nothing trains.
        leak: how training and test images overlap, where EVAL.ALLOW_LEAK accepts it; "": not.
    """

    train: list[DetectionSet]
    test: list[DetectionSet]
    leak: str = ""


def require_sets(cfg: Any, *, eval_only: bool) -> None:
    """Raises DataError where a set is not there, or has no annotations to train or measure with.

    With --eval-only no training set is read, and the annotations may be a server's alone.
    """
    if not eval_only:
        catalog.require(list(cfg.DATASETS.TRAIN), annotated=True)
    catalog.require(list(cfg.DATASETS.TEST), annotated=not eval_only)


def load_sets(
    cfg: Any, options: DataOptions, *, trains: bool, classes: tuple[str, ...], detector: str
) -> DetectionSets:
    """Reads the sets that `cfg` names.

    Args:
        trains: False where a detector is scored only: no training set is read.
        classes, detector: of the detector that is scored, and its file; () and "" otherwise.

    Raises:
        ConfigError: sets of other classes. DataError: a damaged set, or a leak.
    """
    train = [load_set(n, options) for n in cfg.DATASETS.TRAIN] if trains else []
    train = _in_one_order(train)
    expected = train[0].classes if train else classes
    test = sets_to_score(cfg.DATASETS.TEST, options, expected, detector if classes else "")
    return DetectionSets(train, test, refuse_leak(cfg, train, test))


def sets_to_score(
    names: Sequence[str], options: DataOptions, classes: tuple[str, ...], detector: str = ""
) -> list[DetectionSet]:
    """Reads the test sets of a detector, its classes in its order.

    Args:
        detector: its file, for the message; "" where sets of other classes are not refused here.

    Raises:
        ConfigError: a set of other classes. DataError: a damaged set.
    """
    # A test set is whole or it is no test set (F1).
    whole = dataclasses.replace(options, allow_missing=0)
    sets = _in_one_order([load_set(name, whole) for name in names], classes)
    if detector:
        _refuse_other_classes(sets, classes, detector)
    return sets


def load_set(name: str, options: DataOptions) -> DetectionSet:
    data = processes.one_first(lambda: catalog.load_detection(name, options=options))
    logger.info("%s: %s", name, ", ".join(f"{k} {v}" for k, v in data.counts.items()))
    for note in data.notes:
        logger.warning("%s: %s", name, note)
    if isinstance(data.records, SerializedList):
        return data
    return dataclasses.replace(data, records=SerializedList(data.records))


def _in_one_order(
    sets: list[DetectionSet], classes: tuple[str, ...] | None = None
) -> list[DetectionSet]:
    """Sets with the same class names in another order are mapped by name (F4)."""
    expected = classes or next((s.classes for s in sets), ())
    return [
        catalog.with_classes(s, expected)
        if s.classes != expected and set(s.classes) == set(expected)
        else s
        for s in sets
    ]


def _refuse_other_classes(
    sets: list[DetectionSet], classes: tuple[str, ...], detector: str
) -> None:
    """A detector is scored on the classes that it was trained for (F22)."""
    for data in sets:
        if data.classes != classes:
            odd = sorted(set(data.classes) ^ set(classes))
            raise ConfigError(
                f"{detector} was trained for {len(classes)} classes, {data.name} has "
                f"{len(data.classes)}; not in both: {', '.join(odd[:6])}"
                f"{', …' if len(odd) > 6 else ''}. Score it on a set with its own classes."
            )


def refuse_leak(cfg: Any, train: list[DetectionSet], test: list[DetectionSet]) -> str:
    """Training images among the test images are refused, unless EVAL.ALLOW_LEAK (F6).

    The run and its report then contain the returned sentence. Raises DataError otherwise.
    """
    if not train or not test:
        return ""
    if not cfg.EVAL.ALLOW_LEAK:
        catalog.overlap(train, test)
        return ""
    same = sorted({s.name for s in train} & {s.name for s in test})
    if same:
        sentence = (
            f"trained and tested on the same images ({', '.join(same)}): the AP means nothing"
        )
        logger.warning(sentence)
        return sentence
    return "test images may be training images (EVAL.ALLOW_LEAK)"
