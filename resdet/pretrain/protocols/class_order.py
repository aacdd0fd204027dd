"""Which class each output of a net is, and the set's labels as places among the outputs.

Asked in this order: --classes FILE, the card, the set where it has as many classes, synsets.txt in
the set's folder, lists that are known (ImageNet's).

Not for: reading sets (`resdet.data`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resdet.data.records import ClassificationSet, with_labels_of
from resdet.errors import ConfigError
from resdet.pretrain.labelled_images import listed_classes
from resdet.weights import Card

logger = logging.getLogger("resdet.pretrain")

SYNSETS = "synsets.txt"


def with_outputs(
    data: ClassificationSet,
    card: Card,
    outputs: int,
    *,
    where: str,
    classes: Path | None = None,
    known: Mapping[str, Sequence[str]] | None = None,
) -> ClassificationSet:
    """The set with one class per output, labels are places among them; -1 where not known.

    Args:
        outputs: K of the net.
        where: the net's file, for messages.
        classes: a line per output, as `listed_classes` reads it.
        known: lists of classes by name, for files that name none.

    Raises:
        ConfigError: the classes of the outputs are not known. DataError: the set has a class that
            is not among them, or `classes` cannot be read.
    """
    names, source = _names(data, card, outputs, classes, known or {})
    if names is None:
        raise ConfigError(
            f"{where} has {outputs} outputs and names no classes, and {data.name} has "
            f"{len(data.classes)} classes: which is which is not known. Give --classes FILE, a "
            "line per output with the name of its class."
        )
    if len(names) != outputs:
        raise ConfigError(
            f"{where} has {outputs} outputs, and {source} has {len(names)} classes. Correct it."
        )
    if source:
        logger.info("%s: its outputs are the classes of %s, in their order", where, source)
    if not data.classes:
        return replace(data, classes=tuple(names), labels=np.full(len(data), -1, dtype=np.int64))
    return with_labels_of(data, tuple(names))


def _names(
    data: ClassificationSet,
    card: Card,
    outputs: int,
    classes: Path | None,
    known: Mapping[str, Sequence[str]],
) -> tuple[Sequence[str] | None, str]:
    """The classes, and where they come from; "" for the card, which needs no mention."""
    if classes is not None:
        return listed_classes(classes), str(classes)
    if card.classes:
        return card.classes, "its card" if len(card.classes) != outputs else ""
    if len(data.classes) == outputs:
        return data.classes, data.name
    beside = Path(data.name) / SYNSETS
    if beside.is_file() and len(names := listed_classes(beside)) == outputs:
        return names, str(beside)
    for title, listed in known.items():
        if len(listed) == outputs and set(data.classes) <= set(listed):
            return listed, title
    return None, ""
