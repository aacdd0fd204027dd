"""Faults of form in a list of results, counted over its pieces.

A piece says what it sees; which words fit, and the share of the whole, is known in the end.

Not for: looking for faults (`detections`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resdet.evaluation.inputs.findings import REFUSE, SHOWN, Finding, share
from resdet.evaluation.inputs.ground_truth import SetIndex


@dataclass
class _Kind:
    """One kind of fault so far; its share of the whole goes behind `what`."""

    rule: str
    what: str
    mend: str
    count: int = 0
    first: list[str] = field(default_factory=list)

    def finding(self, total: int) -> Finding:
        what = f"{self.what} {share(self.count, total)}."
        return Finding(self.rule, self.count, self.first, self.mend, REFUSE, what)


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
        self._kinds: dict[int, _Kind] = {}
        self._image_texts: set[str] = set()
        self._unknown_images: list[Any] = []  # the first one
        self._only_of_other_type = True
        self._category_range: list[int] = []  # the lowest and the highest

    def add(
        self, step: int, rule: str, rows: Sequence[int], say: Callable[[int], str], what: str,
        mend: str,
    ) -> None:  # fmt: skip
        """More of one kind: the same `step` in every piece; findings are in the order of steps."""
        kind = self._kinds.setdefault(step, _Kind(rule, what, mend))
        kind.count += len(rows)
        kind.first += [say(int(row)) for row in rows[: SHOWN - len(kind.first)]]

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
        """One for each kind."""
        for kind in self._kinds.values():
            if kind.rule == "unknown-image":
                self._word_images(kind)
            if kind.rule == "unknown-category":
                self._word_categories(kind)
        return [self._kinds[step].finding(self.total) for step in sorted(self._kinds)]

    def _word_images(self, kind: _Kind) -> None:
        if self._only_of_other_type:
            right = "numbers" if isinstance(self._unknown_images[0], str) else "text"
            kind.mend = f"The set's image ids are {right}: write {right}."

    def _word_categories(self, kind: _Kind) -> None:
        ids = self.index.category_ids
        self.add_categories(ids[k] for k in np.flatnonzero(self.used_categories))
        low, high = self._category_range
        if (low >= 0 and high < len(ids)) or (low >= 1 and high <= len(ids)):
            kind.rule = "contiguous-categories"
            kind.what = (
                f"category ids {low} to {high} in the file, {_id_range(ids)}. "
                "These are contiguous class numbers."
            )
            kind.mend = "Write category ids; resdet's own results do."
        else:
            kind.what = f"Categories that the set does not have ({_id_range(ids)}):"


def _id_range(known: tuple[Any, ...]) -> str:
    """As a message says it: "the set has 80 ids between 1 and 90 (12, 26 are unused)"."""
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
