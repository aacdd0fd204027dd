"""Faults of form in a list of results, counted over its pieces.

Each piece adds its faults; the wording and the share of the whole are known at the end.

Not for: looking for faults (`detections`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from resdet.evaluation.inputs.findings import REFUSE, SHOWN, Finding, share
from resdet.evaluation.inputs.ground_truth import SetIndex


class FaultKind(Enum):
    """The kinds of faults that entries have, in the order in which they are reported."""

    NO_OBJECT = "entry is no object"
    NO_IMAGE_ID = "image_id missing"
    IMAGE_ID_TYPE = "image_id of another type"
    UNKNOWN_IMAGE = "image_id not of the set"
    NAME_INSTEAD_OF_CATEGORY_ID = "category_id missing, a name given"
    NO_CATEGORY_ID = "category_id missing"
    NAME_AS_CATEGORY_ID = "category_id is a name"
    CATEGORY_ID_TEXT = "category_id is text"
    CATEGORY_ID_TYPE = "category_id of another type"
    UNKNOWN_CATEGORY = "category_id not of the set"
    NO_SCORE = "score missing"
    SCORE_NO_NUMBER = "score is no number"
    SCORE_NOT_FINITE = "score not finite"
    NO_MASK = "segmentation missing"
    UNREADABLE_MASK = "segmentation cannot be read"
    NO_BOX = "bbox missing"
    BOX_FORM = "bbox is not four values"
    BOX_NO_NUMBERS = "bbox has no numbers"
    BOX_NOT_FINITE = "bbox not finite"


@dataclass
class _FaultCount:
    """One kind of fault so far; its share of the whole goes behind `what`."""

    rule: str
    what: str
    fix: str
    count: int = 0
    first: list[str] = field(default_factory=list)

    def finding(self, total: int) -> Finding:
        what = f"{self.what} {share(self.count, total)}."
        return Finding(self.rule, self.count, self.first, self.fix, REFUSE, what)


class Tally:
    """What was found so far.

    total: entries before the piece at hand. images, categories: places in the set, by id.
    used_categories: by place, whether an entry of a plain piece has it.
    """

    def __init__(self, index: SetIndex):
        self.index = index
        self.total = 0
        self.images = {value: i for i, value in enumerate(index.image_ids)}
        self.categories = {value: i for i, value in enumerate(index.category_ids)}
        self.used_categories = np.zeros(len(index.category_ids), dtype=np.bool_)
        self._counts: dict[FaultKind, _FaultCount] = {}
        self._image_texts: set[str] = set()
        self._unknown_images: list[Any] = []  # the first one
        self._only_of_other_type = True
        self._category_range: list[int] = []  # the lowest and the highest

    def add(
        self, kind: FaultKind, rule: str, rows: Sequence[int], describe: Callable[[int], str],
        what: str, fix: str,
    ) -> None:  # fmt: skip
        """More faults of one kind, which earlier pieces may have had as well."""
        fault = self._counts.setdefault(kind, _FaultCount(rule, what, fix))
        fault.count += len(rows)
        fault.first += [describe(int(row)) for row in rows[: SHOWN - len(fault.first)]]

    def add_unknown_images(self, values: Iterable[Any]) -> None:
        """Ids that the set does not have: may they be its own as text, or as numbers?"""
        for value in values:
            if not self._unknown_images:
                self._unknown_images = [value]
                self._image_texts = {str(i) for i in self.index.image_ids}
            self._only_of_other_type &= str(value) in self._image_texts

    def add_categories(self, ids: Iterable[int]) -> None:
        """Whole numbers that the file gives as categories, of the set or not."""
        numbers = [*self._category_range, *ids]
        self._category_range = [min(numbers), max(numbers)] if numbers else []

    def findings(self) -> list[Finding]:
        """One for each kind, in the order of `FaultKind`."""
        if FaultKind.UNKNOWN_IMAGE in self._counts:
            self._word_images(self._counts[FaultKind.UNKNOWN_IMAGE])
        if FaultKind.UNKNOWN_CATEGORY in self._counts:
            self._word_categories(self._counts[FaultKind.UNKNOWN_CATEGORY])
        return [
            self._counts[kind].finding(self.total) for kind in FaultKind if kind in self._counts
        ]

    def _word_images(self, fault: _FaultCount) -> None:
        if self._only_of_other_type:
            right = "numbers" if isinstance(self._unknown_images[0], str) else "text"
            fault.fix = f"The set's image ids are {right}: write {right}."

    def _word_categories(self, fault: _FaultCount) -> None:
        ids = self.index.category_ids
        self.add_categories(ids[k] for k in np.flatnonzero(self.used_categories))
        low, high = self._category_range
        if (low >= 0 and high < len(ids)) or (low >= 1 and high <= len(ids)):
            fault.rule = "contiguous-categories"
            fault.what = (
                f"category ids {low} to {high} in the file, {_id_range(ids)}. "
                "These are contiguous class numbers."
            )
            fault.fix = "Write category ids; resdet's own results do."
        else:
            fault.what = f"Categories that the set does not have ({_id_range(ids)}):"


def _id_range(known: tuple[Any, ...]) -> str:
    """As in a message: "the set has 80 ids between 1 and 90 (12, 26 are unused)"."""
    low, high = min(known), max(known)
    if high - low > 10_000:
        return f"the set has {len(known)} ids between {low} and {high}"
    used = set(known)
    unused = [str(i) for i in range(low, high) if i not in used]
    text = f"the set has {len(known)} {'id' if len(known) == 1 else 'ids'} between {low} and {high}"
    if unused:
        more = ", …" if len(unused) > 12 else ""
        text += f" ({', '.join(unused[:12])}{more} {'is' if len(unused) == 1 else 'are'} unused)"
    return text
