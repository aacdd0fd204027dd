"""A list of results in COCO's format as arrays, with everything named that is not in the format.

Numbers written as text are never converted in silence, a category given by name is not looked
up, true is not 1 (`faults.md` F87, F81). Ids written as floats of whole value are taken.

Not for: whether the boxes make sense (`validate`), or scores (`coco`, `voc`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import CheckFailed
from resdet.evaluation.arrays import (
    MISSING,
    FloatArray,
    IntArray,
    as_text,
    entries_without,
    is_id,
    not_numbers,
    places,
    read_json,
    to_floats,
)
from resdet.evaluation.findings import REFUSE, Finding, finding, share
from resdet.evaluation.ground_truth import SetIndex
from resdet.evaluation.masks import mask_box, mask_fault

TASKS = ("bbox", "segm")


@dataclass(frozen=True)
class Columns:
    """Detections as arrays, whatever they were read from; faulty entries are left out."""

    image: IntArray  # place in the set's image_ids
    category: IntArray  # place in the set's category_ids
    boxes: FloatArray  # (detections, 4): x, y, width, height
    scores: FloatArray
    name: Callable[[int], str]  # how messages call row i
    segmentations: list[Any] | None = None
    # What VOC's files add to x and y (1), so that boxes can be judged as they were written.
    origin: float = 0.0

    def __len__(self) -> int:
        return len(self.scores)


def read_results(source: Any) -> tuple[Sequence[Any], str]:
    """The list of results in a file, or the one given, and what messages call it.

    Raises:
        DataError: no such file.
        CheckFailed: it is not JSON, or not a list (F87).
    """
    title = "the results"
    if isinstance(source, str | Path):
        title = Path(source).name
        source = read_json(source, CheckFailed)
    if not isinstance(source, list | tuple):
        raise CheckFailed(
            f"{title} holds {_kind(source)}, not a list of detections. Write the bare list: "
            '[{"image_id": …, "category_id": …, "bbox": [x, y, width, height], "score": …}, …].'
        )
    return source, title


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"an object with the keys {', '.join([str(key) for key in value][:5])}"
    return as_text(value)


def read_columns(
    results: Sequence[Any], index: SetIndex, task: str = "bbox"
) -> tuple[Columns, list[Finding]]:
    """Results as arrays, and what was wrong with the form of those left out.

    Args:
        results: dicts with image_id, category_id, score and bbox (segm: segmentation as RLE).
        index: the set that they are about.
        task: "bbox" or "segm".
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, expected one of {TASKS}")
    return _Former(results, index, task).columns()


class _Former:
    """Checks column by column; `bad` collects the entries that cannot be counted with."""

    def __init__(self, results: Sequence[Any], index: SetIndex, task: str):
        self.results = results
        self.index = index
        self.task = task
        self.total = len(results)
        self.bad: set[int] = set()
        self.findings: list[Finding] = []
        self.objects: list[Mapping[str, Any]] = []  # the results, {} for what is not an object

    def columns(self) -> tuple[Columns, list[Finding]]:
        self._objects()
        image = self._ids("image_id", self.index.image_ids)
        category = self._ids("category_id", self.index.category_ids)
        scores = self._scores()
        masks = self._masks(image) if self.task == "segm" else None
        boxes = self._boxes(masks)
        keep = np.array([i not in self.bad for i in range(self.total)], dtype=np.bool_)
        entries = np.flatnonzero(keep)
        kept_masks = None if masks is None else [masks[i] for i in entries]
        return (
            Columns(
                image[keep], category[keep], boxes[keep], scores[keep],
                lambda row: self.name(int(entries[row])), kept_masks,
            ),
            self.findings,
        )  # fmt: skip

    def name(self, entry: int) -> str:
        item = self.results[entry]
        if isinstance(item, Mapping) and is_id(item.get("image_id")):
            return f"entry {entry} (image {item['image_id']})"
        return f"entry {entry}"

    def _add(
        self, rule: str, rows: Sequence[int], say: Callable[[int], str], what: str, mend: str
    ) -> None:
        """A refusal on `rows`, which are left out of the columns; none when there is no row."""
        if len(rows):
            self.bad.update(map(int, rows))
            what = f"{what} {share(len(rows), self.total)}."
            self.findings.append(
                finding(rule, rows, lambda r: f"{self.name(r)}: {say(r)}", what, mend, REFUSE)
            )

    def _objects(self) -> None:
        rows = entries_without(self.results, lambda kind: issubclass(kind, Mapping))
        self._add(
            "structure", rows, lambda r: f"it is {as_text(self.results[r])}",
            "Not objects:", "Every entry is an object with image_id, category_id, bbox, score.",
        )  # fmt: skip
        self.objects = [{} if i in self.bad else r for i, r in enumerate(self.results)]

    def _column(self, key: str) -> list[Any]:
        """The values under a key; missing ones are named here, and are `MISSING`."""
        values = [r.get(key, MISSING) for r in self.objects]
        rows = [i for i, v in enumerate(values) if v is MISSING and i not in self.bad]
        named = [r for r in rows if key == "category_id" and self._category_name(r) is not None]
        self._add(
            "category-name", named, self._use_id, "Categories given by name:",
            "Write category_id, the number that the set gives the category.",
        )  # fmt: skip
        self._add(
            "missing-key", [r for r in rows if r not in self.bad], lambda r: f"{key} is missing",
            f"Entries without {key}:", f"Write {key} in every entry.",
        )  # fmt: skip
        return values

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

    def _ids(self, key: str, known: tuple[Any, ...]) -> IntArray:
        values = self._column(key)
        if key == "category_id":
            rows = [i for i in self._present(values) if isinstance(values[i], str)]
            named = [i for i in rows if self._category_name(i) is not None]
            self._add(
                "category-name", named, self._use_id, "Categories given by name:",
                "Write category_id, the number that the set gives the category.",
            )  # fmt: skip
            rows = [i for i in rows if i not in self.bad]
            self._add(
                "text-for-number", rows, lambda r: f"category_id is {as_text(values[r])}",
                "Category ids written as text:", "Write numbers without quotes.",
            )  # fmt: skip
        unusual = entries_without(values, lambda kind: kind in (int, str))
        rows = [i for i in unusual if i not in self.bad and not is_id(values[i])]
        self._add(
            "id-type", rows, lambda r: f"{key} is {as_text(values[r])}",
            f"{key} is neither a whole number nor text:", f"Write the set's own {key}.",
        )  # fmt: skip
        index = {value: i for i, value in enumerate(known)}
        found = places((None if i in self.bad else v for i, v in enumerate(values)), index)
        rows = [int(i) for i in np.flatnonzero(found < 0) if int(i) not in self.bad]
        if rows and key == "image_id":
            self._unknown_images(rows, values, known)
        elif rows:
            self._unknown_categories(rows, values, known)
        return found

    def _present(self, values: Sequence[Any]) -> list[int]:
        return [i for i, v in enumerate(values) if v is not MISSING and i not in self.bad]

    def _unknown_images(self, rows: list[int], values: list[Any], known: tuple[Any, ...]) -> None:
        as_texts = {str(i) for i in known}
        mend = "Is it the right --gt? Results of another set or split cannot be scored with it."
        if all(str(values[r]) in as_texts for r in rows):
            kind = "numbers" if isinstance(values[rows[0]], str) else "text"
            mend = f"The set's image ids are {kind}: write {kind}."
        self._add(
            "unknown-image", rows,
            lambda r: f"image_id {_shown_image(values[r], known)} is not among the "
            f"{len(known):,} images of {self.index.title}",
            "Images that the set does not have:", mend,
        )  # fmt: skip

    def _unknown_categories(
        self, rows: list[int], values: list[Any], known: tuple[Any, ...]
    ) -> None:
        unknown = set(rows)
        used = {int(v) for i, v in enumerate(values) if i in unknown or i not in self.bad}
        say = lambda r: f"category_id {as_text(values[r])} is not a category of {self.index.title}"  # noqa: E731
        if used <= set(range(len(known))) or used <= set(range(1, len(known) + 1)):
            self._add(
                "contiguous-categories", rows, say,
                f"category ids {min(used)} to {max(used)} in the file, {_id_range(known)}. "
                "These are contiguous class numbers.",
                "Write category ids; resdet's own results do.",
            )  # fmt: skip
        else:
            self._add(
                "unknown-category", rows, say,
                f"Categories that the set does not have ({_id_range(known)}):",
                "Write the set's category ids.",
            )  # fmt: skip

    def _scores(self) -> FloatArray:
        values = self._numbers("score", self._column("score"), "write the number")
        scores = np.full(self.total, np.nan)
        rows = [i for i in range(self.total) if i not in self.bad]
        scores[rows] = to_floats(values[i] for i in rows)
        self._finite("score", rows, scores[rows, None], values)
        return scores

    def _boxes(self, masks: list[Any] | None) -> FloatArray:
        boxes = np.full((self.total, 4), np.nan)
        if masks is not None:
            for i in range(self.total):
                if i not in self.bad:
                    boxes[i] = mask_box(masks[i])
            return boxes
        values = self._column("bbox")
        lists = {kind: issubclass(kind, list | tuple | np.ndarray) for kind in map(type, values)}
        rows = [
            i for i in self._present(values) if not lists[type(values[i])] or len(values[i]) != 4
        ]
        self._add(
            "box-form", rows, lambda r: f"bbox is {as_text(values[r])}",
            "Boxes that are not four numbers:", "Write [x, y, width, height].",
        )  # fmt: skip
        rows = [i for i in range(self.total) if i not in self.bad]
        flat = [v for i in rows for v in values[i]]
        wrong = sorted({rows[i // 4] for i in not_numbers(flat)})
        self._add(
            "text-for-number", wrong, lambda r: f"bbox is {as_text(list(values[r]))}",
            "Boxes with something else than numbers:", "Write four numbers without quotes.",
        )  # fmt: skip
        rows = [i for i in rows if i not in self.bad]
        boxes[rows] = to_floats(v for i in rows for v in values[i]).reshape(-1, 4)
        self._finite("bbox", rows, boxes[rows], values)
        return boxes

    def _numbers(self, key: str, values: list[Any], write: str) -> list[Any]:
        rows = [i for i in not_numbers(values) if i not in self.bad]
        self._add(
            "text-for-number", rows,
            lambda r: f"{key} is {as_text(values[r])}; {write}"
            + (f" {values[r]}" if isinstance(values[r], str) else ""),
            f"{key} is not a number:", "Write numbers without quotes.",
        )  # fmt: skip
        return values

    def _finite(
        self, key: str, rows: Sequence[int], numbers: FloatArray, values: list[Any]
    ) -> None:
        finite = np.isfinite(numbers).all(axis=1)
        wrong = [rows[i] for i in np.flatnonzero(~finite).tolist()]
        self._add(
            "not-finite", wrong, lambda r: f"{key} is {_not_finite_text(values[r])}",
            f"{key} is NaN or infinite:",
            "It comes from the model: look for a loss that was not finite in its log, or for "
            "weights in half precision.",
        )  # fmt: skip

    def _masks(self, image: IntArray) -> list[Any]:
        values = self._column("segmentation")
        faults = {}
        for i in self._present(values):
            fault = mask_fault(values[i], self.index.sizes[image[i]])
            if fault:
                faults[i] = fault
        self._add(
            "mask", list(faults), lambda r: faults[r], "Masks that cannot be read:",
            'Write COCO\'s RLE: {"size": [height, width], "counts": "…"}, of the image\'s size.',
        )  # fmt: skip
        return values


def _shown_image(image_id: Any, known: tuple[Any, ...]) -> str:
    """Plainly, but as text or number where that may be the fault."""
    same_kind = any(isinstance(i, str) for i in known) == isinstance(image_id, str)
    return str(image_id) if same_kind and isinstance(image_id, str) else as_text(image_id)


def _not_finite_text(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return "[" + ", ".join(_not_finite_text(v) for v in value) + "]"
    return as_text(value)


def _id_range(known: tuple[Any, ...]) -> str:
    """As a message says it: "the set has 80 ids between 1 and 90 (12, 26 are unused)"."""
    low, high = min(known), max(known)
    if high - low > 10_000:
        return f"the set has {len(known)} ids between {low} and {high}"
    unused = [str(i) for i in range(low, high) if i not in set(known)]
    text = f"the set has {len(known)} {'id' if len(known) == 1 else 'ids'} between {low} and {high}"
    if unused:
        more = ", …" if len(unused) > 12 else ""
        text += f" ({', '.join(unused[:12])}{more} {'is' if len(unused) == 1 else 'are'} unused)"
    return text
