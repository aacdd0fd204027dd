"""A list of results in COCO's format as arrays, with everything named that is not in the format.

Numbers written as text are never converted in silence, a category given by name is not looked
up, true is not 1 (`faults.md` F87, F81). Ids written as floats of whole value are taken.

Results are read in pieces, from a file or a list, so that only columns are ever whole. A piece
in which everything is as it should be becomes arrays at once; any other is gone through entry by
entry, and what is found is counted over all pieces.

Not for: whether the boxes make sense (`validate`), or scores (`coco`, `voc`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter, itemgetter
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
    msgspec_module,
    not_numbers,
    places,
    read_json,
    to_floats,
)
from resdet.evaluation.findings import Finding
from resdet.evaluation.ground_truth import SetIndex
from resdet.evaluation.json_stream import NotAnArray, Quick, array_pieces
from resdet.evaluation.masks import mask_box, mask_fault
from resdet.evaluation.tally import Tally

TASKS = ("bbox", "segm")
# Entries of a list that are looked at together.
PIECE = 20_000


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
    slices = (results[i : i + PIECE] for i in range(0, len(results), PIECE))
    return _columns(slices, Tally(index), task)


def load_columns(
    source: Any, index: SetIndex, task: str = "bbox"
) -> tuple[Columns, list[Finding], str]:
    """`read_columns` of a file or a list, and what messages call it; a file is never whole.

    Raises:
        DataError: no such file.
        CheckFailed: it is not JSON, or not a list (F87).
    """
    if isinstance(source, str | Path):
        tally = Tally(index)
        try:
            pieces = array_pieces(source, CheckFailed, _quick(tally) if task == "bbox" else None)
            return *_columns(pieces, tally, task), Path(source).name
        except NotAnArray:
            pass
    results, title = read_results(source)
    return *read_columns(results, index, task), title


def _columns(pieces: Iterable[Any], tally: Tally, task: str) -> tuple[Columns, list[Finding]]:
    """From pieces that are columns already, or lists."""
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, expected one of {TASKS}")
    parts: list[_Part] = []
    for piece in pieces:
        part = piece if isinstance(piece, _Part) else None
        if part is None and task == "bbox":
            part = _plain_part(_values(piece), tally)
        if part is None:
            part = _Former(piece, tally, task).part()
        parts.append(part)
        tally.total += len(piece)
    return _join(parts, tally, task), tally.findings()


def _quick(tally: Tally) -> Quick | None:
    """Makes columns of JSON in which every detection has exactly the expected form; None without
    msgspec."""
    decode = _typed_decoder()
    if decode is None:
        return None

    def columns(text: bytes) -> _Part:
        entries = decode(text)
        part = _plain_part([list(map(attrgetter(key), entries)) for key in _KEYS], tally)
        if part is None:
            raise ValueError("something has to be said of an entry")
        return part

    return columns


@functools.cache
def _typed_decoder() -> Callable[[bytes], list[Any]] | None:
    msgspec = msgspec_module()
    if msgspec is None:
        return None
    box = tuple[float, float, float, float]
    fields = [("image_id", int | str), ("category_id", int), ("bbox", box), ("score", float)]
    detection = msgspec.defstruct("Detection", fields, gc=False)
    decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[detection]).decode  # type: ignore[valid-type]
    return decode


@dataclass(frozen=True)
class _Part:
    """Columns of one piece. entries: where each row stood in the whole list."""

    image: IntArray
    category: IntArray
    boxes: FloatArray
    scores: FloatArray
    entries: Sequence[int] | IntArray
    masks: list[Any]

    def __len__(self) -> int:
        return len(self.scores)


def _join(parts: Sequence[_Part], tally: Tally, task: str) -> Columns:
    index = tally.index
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        parts = [_Part(none, none, np.zeros((0, 4)), np.zeros(0), none, [])]
    image = np.concatenate([p.image for p in parts])
    entries: Sequence[int] | IntArray = range(tally.total)
    if len(image) < tally.total:
        entries = np.concatenate([p.entries for p in parts])
    return Columns(
        image,
        np.concatenate([p.category for p in parts]),
        np.concatenate([p.boxes for p in parts]),
        np.concatenate([p.scores for p in parts]),
        lambda row: f"entry {entries[row]} (image {index.image_ids[image[row]]})",
        [mask for p in parts for mask in p.masks] if task == "segm" else None,
    )


def _plain_part(values: Sequence[list[Any]] | None, tally: Tally) -> _Part | None:
    """The columns of boxes of which nothing has to be said; else None."""
    if values is None:
        return None
    images, categories, boxes, scores = values
    count = len(scores)
    image = np.fromiter(map(tally.images.get, images, repeat(-1)), np.int64, count)
    category = np.fromiter(map(tally.categories.get, categories, repeat(-1)), np.int64, count)
    try:
        flat = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * count)
        score = np.fromiter(scores, np.float64, count)
    except OverflowError:
        return None
    whole = np.isfinite(flat).all() and np.isfinite(score).all()
    if not whole or image.min(initial=0) < 0 or category.min(initial=0) < 0:
        return None
    tally.used_categories[category] = True
    rows = range(tally.total, tally.total + count)
    return _Part(image, category, flat.reshape(-1, 4), score, rows, [])


_KEYS = ("image_id", "category_id", "bbox", "score")


def _values(entries: Sequence[Any]) -> list[list[Any]] | None:
    """The columns of dicts in which every value has the expected type; else None."""
    if set(map(type, entries)) - {dict}:
        return None
    try:
        values = [list(map(itemgetter(key), entries)) for key in _KEYS]
    except KeyError:
        return None
    images, categories, boxes, scores = values
    fits = (
        set(map(type, images)) <= {int, str}
        and set(map(type, categories)) <= {int}
        and set(map(type, scores)) <= {int, float}
        and set(map(type, boxes)) <= {list, tuple}
        and set(map(len, boxes)) <= {4}
        and set(map(type, chain.from_iterable(boxes))) <= {int, float}
    )
    return values if fits else None


class _Former:
    """Checks a piece column by column; `bad` collects the entries that cannot be counted with."""

    def __init__(self, results: Sequence[Any], tally: Tally, task: str):
        self.results = results
        self.tally = tally
        self.index = tally.index
        self.task = task
        self.total = len(results)
        self.bad: set[int] = set()
        self.steps = 0
        self.objects: list[Mapping[str, Any]] = []  # the results, {} for what is not an object

    def part(self) -> _Part:
        self._objects()
        image = self._image_ids()
        category = self._category_ids()
        scores = self._scores()
        masks = self._masks(image) if self.task == "segm" else None
        boxes = self._boxes(masks)
        keep = np.array([i not in self.bad for i in range(self.total)], dtype=np.bool_)
        rows = np.flatnonzero(keep)
        return _Part(
            image[keep], category[keep], boxes[keep], scores[keep], self.tally.total + rows,
            [] if masks is None else [masks[i] for i in rows],
        )  # fmt: skip

    def name(self, row: int) -> str:
        item, entry = self.results[row], self.tally.total + row
        if isinstance(item, Mapping) and is_id(item.get("image_id")):
            return f"entry {entry} (image {item['image_id']})"
        return f"entry {entry}"

    def _add(
        self, rule: str, rows: Sequence[int], say: Callable[[int], str], what: str, mend: str
    ) -> None:
        """A refusal on `rows`, which are left out of the columns; none when there is no row.

        Called for every kind in every piece, so that the number of the call tells the kind.
        """
        self.steps += 1
        if len(rows):
            self.bad.update(map(int, rows))
            named = lambda r: f"{self.name(r)}: {say(r)}"  # noqa: E731
            self.tally.add(self.steps, rule, rows, named, what, mend)

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

    def _image_ids(self) -> IntArray:
        values = self._column("image_id")
        self._refuse_other_ids("image_id", values)
        found, rows = self._places(values, self.tally.images)
        known = self.index.image_ids
        self.tally.add_unknown_images(values[r] for r in rows)
        self._add(
            "unknown-image", rows,
            lambda r: f"image_id {_shown_image(values[r], known)} is not among the "
            f"{len(known):,} images of {self.index.title}",
            "Images that the set does not have:",
            "Is it the right --gt? Results of another set or split cannot be scored with it.",
        )  # fmt: skip
        return found

    def _category_ids(self) -> IntArray:
        values = self._column("category_id")
        texts = [i for i in self._present(values) if isinstance(values[i], str)]
        self._add(
            "category-name", [i for i in texts if self._category_name(i) is not None],
            self._use_id, "Categories given by name:",
            "Write category_id, the number that the set gives the category.",
        )  # fmt: skip
        self._add(
            "text-for-number", [i for i in texts if i not in self.bad],
            lambda r: f"category_id is {as_text(values[r])}",
            "Category ids written as text:", "Write numbers without quotes.",
        )  # fmt: skip
        self._refuse_other_ids("category_id", values)
        found, rows = self._places(values, self.tally.categories)
        self.tally.add_categories(int(values[i]) for i in self._present(values))
        self._add(
            "unknown-category", rows,
            lambda r: f"category_id {as_text(values[r])} is not a category of {self.index.title}",
            "Categories that the set does not have:", "Write the set's category ids.",
        )  # fmt: skip
        return found

    def _refuse_other_ids(self, key: str, values: Sequence[Any]) -> None:
        unusual = entries_without(values, lambda kind: kind in (int, str))
        rows = [i for i in unusual if i not in self.bad and not is_id(values[i])]
        self._add(
            "id-type", rows, lambda r: f"{key} is {as_text(values[r])}",
            f"{key} is neither a whole number nor text:", f"Write the set's own {key}.",
        )  # fmt: skip

    def _places(self, values: Sequence[Any], index: dict[Any, int]) -> tuple[IntArray, list[int]]:
        """Where each id stands in the set, and the rows whose id it does not have."""
        found = places((None if i in self.bad else v for i, v in enumerate(values)), index)
        return found, [int(i) for i in np.flatnonzero(found < 0) if int(i) not in self.bad]

    def _present(self, values: Sequence[Any]) -> list[int]:
        return [i for i, v in enumerate(values) if v is not MISSING and i not in self.bad]

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
