"""Results whose form has faults: every entry checked, every fault named and counted.

Numbers written as text are never converted silently, a category given by name is not looked
up, true is not 1 (`docs/faults.md` F87, F81). Ids written as floats of whole value are taken.

Not for: pieces in which everything is as it should be (`detections` makes arrays of those at
once), or whether boxes make sense (`validation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.evaluation.inputs.arrays import (
    MISSING,
    FloatArray,
    IntArray,
    as_text,
    entries_without,
    is_id,
    not_numbers,
    places,
    to_floats,
)
from resdet.evaluation.inputs.fault_counts import FaultKind, Tally
from resdet.evaluation.inputs.masks import mask_box
from resdet.formats.coco_masks import mask_fault
from resdet.printable import one_line

# Integers from here on are beyond every float, and may be too long to be written as text.
HUGE = 1 << 1024


@dataclass(frozen=True)
class Part:
    """Columns of one piece. entries: where each row stood in the whole list. keys: of masks that
    were not kept."""

    image: IntArray
    category: IntArray
    boxes: FloatArray
    scores: FloatArray
    entries: Sequence[int] | IntArray
    masks: list[Any]
    keys: IntArray | None = None

    def __len__(self) -> int:
        return len(self.scores)


class Former:
    """Checks a piece column by column; `bad` collects the entries that cannot be counted with.

    task: "bbox" or "segm".
    """

    def __init__(self, results: Sequence[Any], tally: Tally, task: str):
        self.results = results
        self.tally = tally
        self.index = tally.index
        self.task = task
        self.total = len(results)
        self.bad: set[int] = set()
        self.objects: list[Mapping[str, Any]] = []  # the results, {} for what is not an object

    def part(self) -> Part:
        """The columns of the entries that can be counted with; the tally has what is wrong."""
        self._objects()
        image = self._image_ids()
        category = self._category_ids()
        scores = self._scores()
        masks = self._masks(image) if self.task == "segm" else None
        boxes = self._boxes(masks)
        keep = np.array([i not in self.bad for i in range(self.total)], dtype=np.bool_)
        rows = np.flatnonzero(keep)
        return Part(
            image[keep], category[keep], boxes[keep], scores[keep], self.tally.total + rows,
            [] if masks is None else [masks[i] for i in rows],
        )  # fmt: skip

    def name(self, row: int) -> str:
        """The name of an entry of the piece in messages."""
        item, entry = self.results[row], self.tally.total + row
        if isinstance(item, Mapping) and is_id(item.get("image_id")):
            return f"entry {entry} (image {one_line(item['image_id'])})"
        return f"entry {entry}"

    def _add(
        self, kind: FaultKind, rule: str, rows: Sequence[int], describe: Callable[[int], str],
        what: str, fix: str,
    ) -> None:  # fmt: skip
        """A refusal on `rows`, which are left out of the columns; none when there is no row."""
        if len(rows):
            self.bad.update(map(int, rows))
            named = lambda r: f"{self.name(r)}: {describe(r)}"  # noqa: E731
            self.tally.add(kind, rule, rows, named, what, fix)

    def _objects(self) -> None:
        rows = entries_without(self.results, lambda kind: issubclass(kind, Mapping))
        self._add(
            FaultKind.NO_OBJECT, "structure", rows, lambda r: f"it is {as_text(self.results[r])}",
            "Not objects:", "Every entry is an object with image_id, category_id, bbox, score.",
        )  # fmt: skip
        self.objects = [{} if i in self.bad else r for i, r in enumerate(self.results)]

    def _column(self, key: str, missing: FaultKind) -> list[Any]:
        """The values under a key; missing ones are named here, and are `MISSING`."""
        values = [r.get(key, MISSING) for r in self.objects]
        rows = [i for i, v in enumerate(values) if v is MISSING and i not in self.bad]
        if key == "category_id":
            named = [r for r in rows if self._category_name(r) is not None]
            self._refuse_names(FaultKind.NAME_INSTEAD_OF_CATEGORY_ID, named)
        self._add(
            missing, "missing-key", [r for r in rows if r not in self.bad],
            lambda r: f"{key} is missing",
            f"Entries without {key}:", f"Write {key} in every entry.",
        )  # fmt: skip
        return values

    def _refuse_names(self, kind: FaultKind, rows: Sequence[int]) -> None:
        self._add(
            kind, "category-name", rows, self._use_id, "Categories given by name:",
            "Write category_id, the number that the set gives the category.",
        )  # fmt: skip

    def _category_name(self, entry: int) -> str | None:
        item = self.results[entry]
        for key in ("category_id", "category", "category_name", "class", "label"):
            if isinstance(item.get(key), str) and item[key] in self.index.category_names:
                return str(item[key])
        return None

    def _use_id(self, entry: int) -> str:
        name = self._category_name(entry)
        category_id = self.index.category_ids[self.index.category_names.index(str(name))]
        return f'category "{name}" given by name: use category_id {category_id}'

    def _image_ids(self) -> IntArray:
        values = self._column("image_id", FaultKind.NO_IMAGE_ID)
        self._refuse_other_ids("image_id", values, FaultKind.IMAGE_ID_TYPE)
        positions, rows = self._places(values, self.tally.images)
        known = self.index.image_ids
        self.tally.add_unknown_images(values[r] for r in rows)
        self._add(
            FaultKind.UNKNOWN_IMAGE, "unknown-image", rows,
            lambda r: f"image_id {_shown_image(values[r], known)} is not among the "
            f"{len(known):,} images of {self.index.title}",
            "Images that the set does not have:",
            "Is it the right --gt? Results of another set or split cannot be scored with it.",
        )  # fmt: skip
        return positions

    def _category_ids(self) -> IntArray:
        values = self._column("category_id", FaultKind.NO_CATEGORY_ID)
        texts = [i for i in self._present(values) if isinstance(values[i], str)]
        named = [i for i in texts if self._category_name(i) is not None]
        self._refuse_names(FaultKind.NAME_AS_CATEGORY_ID, named)
        self._add(
            FaultKind.CATEGORY_ID_TEXT, "text-for-number", [i for i in texts if i not in self.bad],
            lambda r: f"category_id is {as_text(values[r])}",
            "Category ids written as text:", "Write numbers without quotes.",
        )  # fmt: skip
        self._refuse_other_ids("category_id", values, FaultKind.CATEGORY_ID_TYPE)
        positions, rows = self._places(values, self.tally.categories)
        self.tally.add_categories(int(values[i]) for i in self._present(values))
        self._add(
            FaultKind.UNKNOWN_CATEGORY, "unknown-category", rows,
            lambda r: f"category_id {as_text(values[r])} is not a category of {self.index.title}",
            "Categories that the set does not have:", "Write the set's category ids.",
        )  # fmt: skip
        return positions

    def _refuse_other_ids(self, key: str, values: Sequence[Any], kind: FaultKind) -> None:
        unusual = entries_without(values, lambda type_: type_ in (int, str))
        unusual += [i for i, v in enumerate(values) if type(v) is int and abs(v) >= HUGE]
        rows = [i for i in sorted(unusual) if i not in self.bad and not is_id(values[i])]
        self._add(
            kind, "id-type", rows, lambda r: f"{key} is {as_text(values[r])}",
            f"{key} is neither a whole number nor text:", f"Write the set's own {key}.",
        )  # fmt: skip

    def _places(self, values: Sequence[Any], index: dict[Any, int]) -> tuple[IntArray, list[int]]:
        """Where each id stands in the set, and the rows whose id it does not have."""
        positions = places((None if i in self.bad else v for i, v in enumerate(values)), index)
        return positions, [int(i) for i in np.flatnonzero(positions < 0) if int(i) not in self.bad]

    def _present(self, values: Sequence[Any]) -> list[int]:
        return [i for i, v in enumerate(values) if v is not MISSING and i not in self.bad]

    def _scores(self) -> FloatArray:
        values = self._column("score", FaultKind.NO_SCORE)
        self._refuse_non_numbers(values)
        scores = np.full(self.total, np.nan)
        rows = [i for i in range(self.total) if i not in self.bad]
        scores[rows] = to_floats(values[i] for i in rows)
        self._finite("score", rows, scores[rows, None], values, FaultKind.SCORE_NOT_FINITE)
        return scores

    def _boxes(self, masks: list[Any] | None) -> FloatArray:
        boxes = np.full((self.total, 4), np.nan)
        if masks is not None:
            for i in range(self.total):
                if i not in self.bad:
                    boxes[i] = mask_box(masks[i])
            return boxes
        values = self._column("bbox", FaultKind.NO_BOX)
        lists = {kind: issubclass(kind, list | tuple | np.ndarray) for kind in map(type, values)}
        rows = [
            i for i in self._present(values) if not lists[type(values[i])] or len(values[i]) != 4
        ]
        self._add(
            FaultKind.BOX_FORM, "box-form", rows, lambda r: f"bbox is {as_text(values[r])}",
            "Boxes that are not four numbers:", "Write [x, y, width, height].",
        )  # fmt: skip
        rows = [i for i in range(self.total) if i not in self.bad]
        flat = [v for i in rows for v in values[i]]
        wrong = sorted({rows[i // 4] for i in not_numbers(flat)})
        self._add(
            FaultKind.BOX_NO_NUMBERS, "text-for-number", wrong,
            lambda r: f"bbox is {as_text(list(values[r]))}",
            "Boxes with something else than numbers:", "Write four numbers without quotes.",
        )  # fmt: skip
        rows = [i for i in rows if i not in self.bad]
        boxes[rows] = to_floats(v for i in rows for v in values[i]).reshape(-1, 4)
        self._finite("bbox", rows, boxes[rows], values, FaultKind.BOX_NOT_FINITE)
        return boxes

    def _refuse_non_numbers(self, scores: list[Any]) -> None:
        rows = [i for i in not_numbers(scores) if i not in self.bad]
        self._add(
            FaultKind.SCORE_NO_NUMBER, "text-for-number", rows,
            lambda r: f"score is {as_text(scores[r])}{_number_to_write(scores[r])}",
            "score is not a number:", "Write numbers without quotes.",
        )  # fmt: skip

    def _finite(
        self, key: str, rows: Sequence[int], numbers: FloatArray, values: list[Any],
        kind: FaultKind,
    ) -> None:  # fmt: skip
        finite = np.isfinite(numbers).all(axis=1)
        wrong = [rows[i] for i in np.flatnonzero(~finite).tolist()]
        self._add(
            kind, "not-finite", wrong, lambda r: f"{key} is {_not_finite_text(values[r])}",
            f"{key} is NaN or infinite:",
            "It comes from the model: look for a loss that was not finite in its log, or for "
            "weights in half precision.",
        )  # fmt: skip

    def _masks(self, image: IntArray) -> list[Any]:
        values = self._column("segmentation", FaultKind.NO_MASK)
        faults = {}
        for i in self._present(values):
            fault = mask_fault(values[i], self.index.sizes[image[i]])
            if fault:
                faults[i] = fault
        self._add(
            FaultKind.UNREADABLE_MASK, "mask", list(faults), lambda r: faults[r],
            "Masks that cannot be read:",
            'Write COCO\'s RLE: {"size": [height, width], "counts": "…"}, of the image\'s size.',
        )  # fmt: skip
        return values


def _shown_image(image_id: Any, known: tuple[Any, ...]) -> str:
    """The value, marked as text or number where that may be the fault."""
    same_kind = any(isinstance(i, str) for i in known) == isinstance(image_id, str)
    return one_line(image_id) if same_kind and isinstance(image_id, str) else as_text(image_id)


def _number_to_write(value: Any) -> str:
    """ "; write the number 0.9" for the text "0.9"; "" for what holds no number."""
    try:
        return f"; write the number {float(value):g}" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _not_finite_text(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return "[" + ", ".join(_not_finite_text(v) for v in value) + "]"
    return as_text(value)
