"""A list of results in COCO's format as arrays, with everything named that is not in the format.

Results are read in pieces, from a file or a list, so that only columns are ever whole. A piece
in which everything is as it should be becomes arrays at once; any other is checked entry by
entry (`malformed_entries`), and faults are counted over all pieces.

Not for: whether the boxes make sense (`validation`), or scores (`coco_evaluation`,
`voc_evaluation`).
"""

from __future__ import annotations

import functools
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from resdet import profile
from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.inputs.arrays import (
    FloatArray,
    IntArray,
    as_text,
    places,
    read_json,
    shorten,
)
from resdet.evaluation.inputs.fault_counts import Tally
from resdet.evaluation.inputs.findings import Finding
from resdet.evaluation.inputs.ground_truth import SetIndex
from resdet.evaluation.inputs.image_ids import EXACT
from resdet.evaluation.inputs.json_stream import NotAnArray, Quick, array_pieces
from resdet.evaluation.inputs.malformed_entries import Former, Part
from resdet.evaluation.inputs.masks import mask_boxes
from resdet.formats.coco_masks import are_whole
from resdet.formats.json_decoding import msgspec_module
from resdet.printable import counted

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
    name: Callable[[int], str]  # of row i in messages
    segmentations: list[Any] | None = None
    # Where masks are not kept: a number for each, equal for equal ones.
    mask_keys: IntArray | None = None
    # What VOC's files add to x and y (1), so that boxes can be judged as they were written.
    origin: float = 0.0
    # Place of each row in the list that was read, and entries of it that are no row.
    entries: Sequence[int] | IntArray = ()
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.scores)


def read_results(source: Any) -> tuple[Sequence[Any], str]:
    """The list of results in a file, or the one given, and its name in messages.

    Raises:
        DataError: no such file.
        CheckFailed: it is not JSON, or not a list (F87).
    """
    title, path = "the results", None
    if isinstance(source, str | Path):
        path, title = Path(source), Path(source).name
        source = read_json(source, CheckFailed)
    if path is not None and isinstance(source, Mapping) and (key := _list_within(source)):
        target = path.with_name(f"{path.stem}.list.json")
        code = f"import json, sys; json.dump(json.load(sys.stdin)['{key}'], sys.stdout)"
        raise CheckFailed(
            f'{title} holds an object, and the detections under "{key}". Make the bare list:\n'
            f'  python -c "{code}" < {shlex.quote(str(path))} > {shlex.quote(str(target))}'
        )
    if not isinstance(source, list | tuple):
        raise CheckFailed(
            f"{title} holds {_kind(source)}, not a list of detections. Write the bare list: "
            '[{"image_id": …, "category_id": …, "bbox": [x, y, width, height], "score": …}, …].'
        )
    return source, title


# Where tools put the list of detections in an object.
_WITHIN = ("annotations", "predictions", "detections", "results", "bbox")


def _list_within(content: Mapping[str, Any]) -> str | None:
    """The key under which an object has a list of detections."""
    for key in _WITHIN:
        entries = content.get(key)
        first = entries[0] if isinstance(entries, list) and entries else None
        if isinstance(first, Mapping) and {"image_id", "score"} <= set(first):
            return key
    return None


def _named(names: Mapping[str, Any], value: object) -> Any:
    """What a table of names has for an id; the id itself where it has none."""
    return names.get(str(value), value)


def _places_by_file(index: SetIndex, names: Iterable[Any]) -> dict[str, int]:
    """The place in the set of each of these file names: of the same with its folders, else of the
    one that is called so, where on neither side another folder has a file of that name."""
    places: dict[str, int] = {}
    own = {name: name.replace("\\", "/") for name in map(str, names)}
    given = Counter(path.rpartition("/")[2] for path in set(own.values()))
    there: dict[str, list[int]] = {}
    whole: dict[str, int] = {}
    for place, name in enumerate(index.file_names):
        path = (name or "").replace("\\", "/")
        whole[path] = place
        there.setdefault(path.rpartition("/")[2], []).append(place)
    for name, path in own.items():
        base = path.rpartition("/")[2]
        if path and path in whole:
            places[name] = whole[path]
        elif given[base] == len(there.get(base, ())) == 1:
            places[name] = there[base][0]
    return places


def _by_names(source: Any, index: SetIndex, title: str) -> list[Any] | None:
    """The list in a file of COCO's layout with scores, as `resdet detect --output` writes it, with
    the set's ids for its own, by file names and class names; None where it is not so.

    Raises:
        CheckFailed: boxes on images, or of classes, that the set does not have.
    """
    parts = [source.get(k) for k in ("images", "categories")] if isinstance(source, Mapping) else []
    if not parts or _list_within(source) != "annotations" or not any(index.file_names):
        return None
    tables = [
        {str(e["id"]): e[key] for e in entries if {"id", key} <= set(e)}
        for entries, key in zip(parts, ("file_name", "name"), strict=True)
        if isinstance(entries, list) and all(isinstance(e, Mapping) for e in entries)
    ]
    if len(tables) < 2:
        return None
    files, classes = tables
    images = _places_by_file(index, files.values())
    categories = dict(zip(index.category_names, index.category_ids, strict=True))
    found: list[Any] = []
    strange: dict[str, dict[str, None]] = {"image": {}, "class": {}}
    for entry in source["annotations"]:
        if not isinstance(entry, Mapping):
            return None
        file = str(_named(files, entry.get("image_id")))
        place = images.get(file)
        name = str(_named(classes, entry.get("category_id")))
        if place is None:
            strange["image"][file] = None
        elif name not in categories:
            strange["class"][name] = None
        else:
            ids = {"image_id": index.image_ids[place], "category_id": categories[name]}
            found.append({**entry, **ids})
    for kind, names in strange.items():
        if names:
            raise CheckFailed(
                f"{title} names its images and classes, and {counted(len(names), kind)} of it "
                f"{'is' if len(names) == 1 else 'are'} not in {index.title}:\n"
                f"{first_few(list(names), 5)}\nGive the ground truth of these images with --gt, "
                "or leave them out."
            )
    return found


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        keys = [shorten(str(key), 20) for key in list(value)[:5]]
        return f"an object with the keys {', '.join(keys)}"
    return as_text(value)


def read_columns(
    results: Sequence[Any], index: SetIndex, task: str = "bbox", image_ids: str = EXACT
) -> tuple[Columns, list[Finding]]:
    """Results as arrays, and what was wrong with the form of those left out.

    Args:
        results: dicts with image_id, category_id, score and bbox (segm: segmentation as RLE).
        index: the set that they are about.
        task: "bbox" or "segm".
        image_ids: how they name images, one of `image_ids.WAYS`.
    """
    return _columns(_slices(results), Tally(index, image_ids), task)


def _slices(results: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (results[i : i + PIECE] for i in range(0, len(results), PIECE))


@profile.timed("read results")
def load_columns(
    source: Any,
    index: SetIndex,
    task: str = "bbox",
    *,
    keep_masks: bool = True,
    image_ids: str = EXACT,
    by_names: bool = False,
) -> tuple[Columns, list[Finding], str]:
    """`read_columns` of a file or a list, and its name in messages; a file is read in pieces.

    Args:
        keep_masks: False to check masks and let them go: then only `mask_keys` tell them apart,
            and memory does not grow with them.
        image_ids: how the results name images, one of `image_ids.WAYS`.
        by_names: a file of COCO's layout with scores is read too, by the names that it has.

    Raises:
        DataError: no such file; `image_ids` is not for this set.
        CheckFailed: it is not JSON, or not a list (F87).
    """
    if isinstance(source, str | Path):
        tally = Tally(index, image_ids)
        try:
            pieces = array_pieces(source, CheckFailed, _quick(tally) if task == "bbox" else None)
            return *_columns(pieces, tally, task, keep_masks), Path(source).name
        except NotAnArray:
            pass
        if by_names:
            title = f"{Path(source).name} (by its file names and class names)"
            if (named := _by_names(read_json(source, CheckFailed), index, title)) is not None:
                if image_ids != EXACT:
                    raise DataError(
                        f"--image-ids {image_ids}: {Path(source).name} names the file of each "
                        "image, and is read by that. Leave it out."
                    )
                return *_columns(_slices(named), Tally(index), task, keep_masks), title
    results, title = read_results(source)
    return *_columns(_slices(results), Tally(index, image_ids), task, keep_masks), title


def _columns(
    pieces: Iterable[Any], tally: Tally, task: str, keep_masks: bool = True
) -> tuple[Columns, list[Finding]]:
    """From pieces that are columns already, or lists."""
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, expected one of {TASKS}")
    parts: list[Part] = []
    for piece in pieces:
        part = piece if isinstance(piece, Part) else None
        if part is None and task == "bbox":
            part = _plain_part(_values(piece), tally)
        elif part is None:
            part = _plain_masks(piece, tally)
        if part is None:
            part = Former(piece, tally, task).part()
        if not keep_masks:
            part = replace(part, keys=_keys_of(part.masks), masks=[])
        parts.append(part)
        tally.total += len(piece)
    return _join(parts, tally, task, keep_masks), tally.findings()


def _quick(tally: Tally) -> Quick | None:
    """Makes columns of JSON in which every detection has exactly the expected form; None without
    msgspec."""
    decode = _typed_decoder()
    if decode is None:
        return None

    def columns(text: bytes) -> Part:
        entries = decode(text)
        part = _plain_part([list(map(attrgetter(key), entries)) for key in _KEYS], tally)
        if part is None:
            raise ValueError("an entry has a fault or needs a repair")
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


def _join(parts: Sequence[Part], tally: Tally, task: str, keep_masks: bool) -> Columns:
    index = tally.index
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        parts = [Part(none, none, np.zeros((0, 4)), np.zeros(0), none, [], none)]
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
        [mask for p in parts for mask in p.masks] if task == "segm" and keep_masks else None,
        _joined_keys(parts) if task == "segm" and not keep_masks else None,
        entries=entries,
        left_out=tally.total - len(image),
    )


def _joined_keys(parts: Sequence[Part]) -> IntArray:
    return np.concatenate([p.keys for p in parts if p.keys is not None])


def _keys_of(masks: Sequence[Any]) -> IntArray:
    return np.fromiter((hash(str(mask["counts"])) for mask in masks), np.int64, len(masks))


def _plain_part(
    values: Sequence[Any] | None, tally: Tally, masks: list[Any] | None = None
) -> Part | None:
    """The columns of boxes where none has a fault; else None."""
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
    return Part(image, category, flat.reshape(-1, 4), score, rows, masks or [])


def _plain_masks(entries: Sequence[Any], tally: Tally) -> Part | None:
    """The columns of masks where none has a fault; else None."""
    if not entries or set(map(type, entries)) - {dict}:
        return None
    try:
        values = [list(map(itemgetter(key), entries)) for key in _MASK_KEYS]
    except KeyError:
        return None
    images, categories, masks, scores = values
    if not (
        set(map(type, images)) <= {int, str}
        and set(map(type, categories)) <= {int}
        and set(map(type, scores)) <= {int, float}
    ):
        return None
    image = places(images, tally.images)
    if image.min(initial=0) < 0 or not are_whole(masks, tally.index.sizes[image]):
        return None
    boxes = mask_boxes(masks)
    return _plain_part((images, categories, boxes, scores), tally, masks)


_KEYS = ("image_id", "category_id", "bbox", "score")
_MASK_KEYS = ("image_id", "category_id", "segmentation", "score")


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
