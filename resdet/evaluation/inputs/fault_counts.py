"""Faults of form in a list of results, counted over its pieces.

Each piece adds its faults; the wording and the share of the whole are known at the end.

Not for: looking for faults (`detections`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from resdet.evaluation.inputs.findings import REFUSE, SHOWN, Finding, share
from resdet.evaluation.inputs.ground_truth import SetIndex
from resdet.evaluation.inputs.image_ids import EXACT, WORDS, Suggestion, image_places


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
        return Finding(self.rule, self.count, self.first, self.fix, REFUSE, what, True, total)


class Tally:
    """What was found so far.

    total: entries before the piece at hand. images, categories: places in the set, by id.
    used_categories: by place, whether an entry of a plain piece has it.

    Args:
        image_ids: how results name images, one of `image_ids.WAYS`.
    """

    def __init__(self, index: SetIndex, image_ids: str = EXACT):
        self.index = index
        self.total = 0
        self.images = image_places(index.image_ids, index.file_names, image_ids, index.title)
        self.categories = {value: i for i, value in enumerate(index.category_ids)}
        self.used_categories = np.zeros(len(index.category_ids), dtype=np.bool_)
        self._counts: dict[FaultKind, _FaultCount] = {}
        self._unknown_images: Suggestion | None = None
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
        """Ids that the set does not have: may they be its own in another form?"""
        if self._unknown_images is None:
            self._unknown_images = Suggestion(self.index.image_ids, self.index.file_names)
        self._unknown_images.add(values)

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
        way = self._unknown_images.way if self._unknown_images else None
        if way is not None:
            fault.fix = (
                f"All of these are {WORDS[way]}: add --image-ids {way} to evaluate coco, evaluate "
                f"explain or compare --results, or write {self._own_form()}."
            )

    def _own_form(self) -> str:
        kinds = {type(value) for value in self.index.image_ids}
        own = {frozenset({int}): "numbers", frozenset({str}): "text"}.get(frozenset(kinds))
        return f"the set's image ids, which are {own}" if own else "the set's own image ids"

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
            names = self.index.category_names
            first = 0 if low == 0 else 1
            few = [f"{first + k} is {ids[k]} ({names[k]})" for k in range(min(SHOWN, len(ids)))]
            fault.fix = (
                "Write category ids; resdet's own results do. In the order of the set, "
                f"{', '.join(few)}{', …' if len(ids) > len(few) else ''}. Numbers that are ids of "
                "the set by chance mean another class, too. This maps all, with your files in "
                f"place of the two names:\n  python -c {shlex.quote(_MAPPING.format(first=first))} "
                "INSTANCES.json RESULTS.json > MAPPED.json"
            )
        else:
            fault.what = f"Categories that the set does not have ({_id_range(ids)}):"


_MAPPING = (
    "import json, sys; truth, found = (json.load(open(name)) for name in sys.argv[1:]); "
    'ids = sorted(c["id"] for c in truth["categories"]); '
    '[r.update(category_id=ids[r["category_id"] - {first}]) for r in found]; '
    "json.dump(found, sys.stdout)"
)


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
