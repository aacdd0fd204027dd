"""Proposals of a data set in one file: boxes with objectness, image by image, never a pickle.

A safetensors file, so that its own library opens it anywhere; nothing in it can be run:

    proposals   (N, 5) float32: x0, y0, x1, y1 in pixels of the original image, and objectness (a
                logit); the rows of an image follow each other, the best first
    offsets     (images + 1,) int64: image i has the rows offsets[i] to offsets[i + 1]
    checksums   (images,) uint32: CRC-32 of each image's rows
    image_ids   JSON, a list of numbers or text, as bytes
    metadata    format, data_set and its hash, the weights that made it, checksum of the three lists

Rows are read one image at a time, so that COCO's 118,287 images with 2,000 boxes (4.7 GB) take no
memory, and are checked as they are read. float32 is what a net computes in:
float16 would round a side of 500 pixels by up to a quarter of a pixel, and one above 1,024 by half.

Not for: what a proposal is worth (`resdet.evaluation.proposals`), or making them (`resdet.detect`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resdet import bounded_files
from resdet.atomic import atomic_path
from resdet.errors import DataError
from resdet.formats import foreign
from resdet.formats.coco_masks import LARGEST_SIDE

FORMAT = "resdet proposals 1"
SUFFIX = ".safetensors"
ImageId = int | str
# Of the header; this format's has a thousandth.
_MOST_HEADER = 1 << 20
# Room for the header, which is written when everything else is known.
HEADER_BYTES = 4096
# Bytes of one proposal, and about as many of each image in the lists.
ROW_BYTES, IMAGE_BYTES = 20, 32
_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
}
_TENSORS = {"proposals": "F32", "offsets": "I64", "checksums": "U32", "image_ids": "U8"}
_NEEDED = ("format", "data_set", "data_set_hash", "weights", "lists_checksum")
# First bytes of pickles: protocol 2 and later, and of 0 and 1 with a dict, list or tuple.
_PICKLES = (b"\x80", b"(d", b"(l", b"(t", b"}q", b"]q", b"cnumpy", b"ccopy_reg")


class ProposalFile:
    """The proposals of one set, read from its file as they are asked for.

    Holds no open file: workers of a loader may have copies.

    Attributes:
        path: of the file.
        image_ids: in the file's order.
        data_set, data_set_hash: what they were made on, as `DetectionSet` has both.
        weights: digest of the model that made them.
        metadata: all that the header states, as text.
    """

    def __init__(self, path: Path | str):
        """Opens and checks a file.

        Raises:
            DataError: there is none, it is of another kind (a pickle above all), cut off, or
                contradicts itself; states what to do.
        """
        self.path = Path(path)
        header, start, size = _read_header(self.path)
        self.metadata: Mapping[str, str] = header["__metadata__"]
        self._places = {name: _place(header, name, self.path) for name in _TENSORS}
        end = start + max(stop for _, stop, _ in self._places.values())
        if end != size:
            raise DataError(_damaged(self.path, f"it has {size:,} bytes, its header {end:,}"))
        self._start = start
        places = [self._places[name] for name in ("offsets", "checksums", "image_ids")]
        lists = [self._read(begin, stop - begin) for begin, stop, _ in places]
        if _checksum(lists) != self.metadata["lists_checksum"]:
            raise DataError(_damaged(self.path, "its lists do not have their checksum"))
        self._offsets, self._checksums = (
            np.frombuffer(raw, _TYPES[_TENSORS[name]])
            for name, raw in zip(("offsets", "checksums"), lists, strict=False)
        )
        self.image_ids = _ids_in(lists[2], self.path)
        self._check_lists()
        self._index = {image_id: i for i, image_id in enumerate(self.image_ids)}
        self.data_set = self.metadata["data_set"]
        self.data_set_hash = self.metadata["data_set_hash"]
        self.weights = self.metadata["weights"]

    def __len__(self) -> int:
        """Images."""
        return len(self.image_ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index

    @property
    def counts(self) -> np.ndarray:
        """(images,) proposals of each, in the file's order."""
        return np.diff(self._offsets)

    @property
    def total(self) -> int:
        """Proposals of all images."""
        return int(self._offsets[-1])

    def of(self, image_id: ImageId) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (P, 4) and objectness (P,) of an image, float32, the best first.

        Raises:
            DataError: the file has not this image, or its rows are damaged.
        """
        if image_id not in self._index:
            raise DataError(
                f"{self.path} has no proposals of image {image_id!r}: it was made on "
                f"{self.data_set} ({len(self):,} images). Make proposals of this set."
            )
        place = self._index[image_id]
        begin, end = (ROW_BYTES * int(row) for row in self._offsets[place : place + 2])
        raw = self._read(self._places["proposals"][0] + begin, end - begin)
        if len(raw) != end - begin or zlib.crc32(raw) != self._checksums[place]:
            raise DataError(_damaged(self.path, f"the rows of image {image_id!r} changed"))
        rows = np.frombuffer(raw, _TYPES["F32"]).reshape(-1, 5)
        boxes, objectness = rows[:, :4], rows[:, 4]
        if fault := fault_of(boxes, objectness):
            raise DataError(_damaged(self.path, f"image {image_id!r}: {fault}"))
        return np.array(boxes), np.array(objectness)

    def require_whole(self) -> None:
        """Reads every row; raises DataError for the first image whose rows are damaged."""
        for image_id in self.image_ids:
            self.of(image_id)

    def require_set(self, name: str, set_hash: str, where: str) -> None:
        """Raises DataError where these are proposals of another set.

        Args:
            where: the key or option that named the file, for the message.
        """
        if self.data_set_hash != set_hash:
            same = "another version of it" if self.data_set == name else "another set"
            raise DataError(
                f"{where}: {self.path} has proposals of {self.data_set} (hash "
                f"{self.data_set_hash[:12]}), and the set here is {name} ({set_hash[:12]}), "
                f"{same}. Make the file again on this set."
            )

    def _read(self, begin: int, size: int) -> bytes:
        """Bytes of the data, from the file as it is now: a map of one that shrank would crash."""
        try:
            with bounded_files.open_file(self.path) as file:
                file.seek(self._start + begin)
                return file.read(size)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read any more: {error.strerror}. Bring it back."
            ) from None

    def _check_lists(self) -> None:
        images, offsets = len(self.image_ids), self._offsets
        rows = self._places["proposals"][2][0]
        # Each compared by itself: a difference of two of them may not fit into 64 bits.
        fits = (
            len(offsets) == images + 1
            and len(self._checksums) == images
            and offsets[0] == 0
            and offsets[-1] == rows
            and bool((offsets[1:] >= offsets[:-1]).all())
        )
        if not fits:
            raise DataError(_damaged(self.path, "its lists are of other images"))


def write_proposals(
    path: Path | str,
    entries: Iterable[tuple[ImageId, np.ndarray, np.ndarray]],
    *,
    data_set: str,
    data_set_hash: str,
    weights: str,
    **more: str,
) -> None:
    """Writes a file, whole or not at all; one image at a time is in memory.

    Args:
        entries: of each image its id, boxes (P, 4) x0, y0, x1, y1 in pixels of the original image,
            and objectness (P,), in any order of rows; equal objectness keeps its order.
        data_set, data_set_hash: what they were made on.
        weights: digest of the model that made them; "" where that is not known.
        more: further metadata.

    Raises:
        ValueError: an id stands twice, or boxes and objectness are not such arrays.
    """
    offsets, checksums, ids = [0], [], []
    known: set[ImageId] = set()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.seek(HEADER_BYTES)
        for image_id, boxes, objectness in entries:
            if image_id in known:
                raise ValueError(f"image {image_id!r} stands twice")
            known.add(image_id)
            rows = _rows_of(image_id, boxes, objectness)
            file.write(rows.tobytes())
            ids.append(image_id)
            offsets.append(offsets[-1] + len(rows))
            checksums.append(zlib.crc32(rows.tobytes()))
        lists = [np.array(offsets, "<i8").tobytes(), np.array(checksums, "<u4").tobytes(),
                 json.dumps(ids).encode()]  # fmt: skip
        for raw in lists:
            file.write(raw)
        metadata = {"format": FORMAT, "data_set": data_set, "data_set_hash": data_set_hash,
                    "weights": weights, "lists_checksum": _checksum(lists), **more}  # fmt: skip
        file.seek(0)
        file.write(_header(metadata, offsets[-1], len(ids), lists))


def fault_of(boxes: np.ndarray, objectness: np.ndarray) -> str:
    """What is wrong with the proposals of an image, in words; "" where nothing is."""
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or objectness.shape != boxes.shape[:1]:
        return f"boxes {boxes.shape} and objectness {objectness.shape}, expected (P, 4) and (P,)"
    if not (np.isfinite(boxes).all() and np.isfinite(objectness).all()):
        return "a coordinate or an objectness is not finite"
    if (np.abs(boxes) > LARGEST_SIDE).any():
        # A larger one may not be finite any more where its image is resized.
        return f"a coordinate is beyond {LARGEST_SIDE:,.0f} pixels"
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return "a box ends before it begins"
    if (np.diff(objectness) > 0).any():
        return "objectness rises"
    return ""


def _rows_of(image_id: ImageId, boxes: np.ndarray, objectness: np.ndarray) -> np.ndarray:
    boxes, objectness = np.asarray(boxes, "<f4"), np.asarray(objectness, "<f4")
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim == 2 and objectness.ndim == 1 and len(boxes) == len(objectness):
        order = np.argsort(-objectness, kind="stable")
        boxes, objectness = boxes[order], objectness[order]
    if fault := fault_of(boxes, objectness):
        raise ValueError(f"image {image_id!r}: {fault}")
    return np.concatenate([boxes, objectness[:, None]], axis=1, dtype="<f4")


def _header(metadata: Mapping[str, str], rows: int, images: int, lists: list[bytes]) -> bytes:
    """Filled with blanks to `HEADER_BYTES`, its length before it."""
    shapes = {"proposals": [rows, 5], "offsets": [images + 1], "checksums": [images],
              "image_ids": [len(lists[2])]}  # fmt: skip
    sizes = [rows * ROW_BYTES, *map(len, lists)]
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    begin = 0
    for (name, kind), size in zip(_TENSORS.items(), sizes, strict=True):
        entry = {"dtype": kind, "shape": shapes[name], "data_offsets": [begin, begin + size]}
        header[name] = entry
        begin += size
    text = json.dumps(header).encode()
    length = HEADER_BYTES - 8
    if len(text) > length:
        raise ValueError(f"metadata of {len(text):,} bytes, at most {length:,} fit")
    return length.to_bytes(8, "little") + text.ljust(length)


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, where the data begin, and the file's size in bytes."""
    try:
        with bounded_files.open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(foreign.HEAD_BYTES)
            _refuse_others(path, head, size)
            length = int.from_bytes(head[:8], "little")
            file.seek(8)
            text = file.read(length)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read: {why}. Give a file of proposals.") from None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(_damaged(path, "its header is not whole")) from None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        what = metadata.get("format") if isinstance(metadata, dict) else None
        kind = f"has the format {what!r}" if what else "has no format of proposals"
        raise DataError(
            f"{path} is a safetensors file, but {kind}; {FORMAT!r} is read. Give a file that "
            "train_det wrote for an RPN, such as RUN/results/SET/proposals.safetensors."
        )
    if not all(isinstance(value, str) for value in metadata.values()):
        raise DataError(_damaged(path, "its metadata are not text"))
    if lacking := [n for n in _NEEDED if n not in metadata]:
        raise DataError(_damaged(path, f"its header lacks {', '.join(lacking)}"))
    return header, 8 + length, size


def _refuse_others(path: Path, head: bytes, size: int) -> None:
    """Raises DataError for what is no safetensors file."""
    if head.startswith(_PICKLES) and head[8:9] != b"{":
        raise DataError(
            f"{path} is a pickle, as Detectron2 and py-faster-rcnn keep proposals. Whoever loads a "
            "pickle runs what is in it, so it is not read here. Where you made it yourself, load "
            "it in Python and write it again with resdet.formats.proposal_file.write_proposals "
            "(docs/alternating.md has the lines to type)."
        )
    if foreign.is_foreign(head, size):
        raise DataError(f"{path} {foreign.describe(head, size, expected='proposals')}")
    if head[8:9] != b"{" or not 0 < int.from_bytes(head[:8], "little") <= _MOST_HEADER:
        raise DataError(
            f"{path} starts with {head[:8]!r}: it is no safetensors file, as proposals are kept "
            "in. Give a file that train_det wrote for an RPN."
        )


def _place(header: Mapping[str, Any], name: str, path: Path) -> tuple[int, int, tuple[int, ...]]:
    """Begin and end of a tensor among the data, and its shape."""
    entry = header.get(name)
    expected = 2 if name == "proposals" else 1
    try:
        begin, end = map(_whole, entry["data_offsets"])  # type: ignore[index]
        shape = tuple(map(_whole, entry["shape"]))  # type: ignore[index]
        fits = entry["dtype"] == _TENSORS[name] and len(shape) == expected  # type: ignore[index]
        fits &= name != "proposals" or shape[1] == 5
        count = shape[0] * (5 if expected == 2 else 1)
        fits &= end - begin == count * _TYPES[_TENSORS[name]].itemsize
    except (TypeError, KeyError, ValueError, IndexError):
        fits = False
    if not fits:
        raise DataError(_damaged(path, f"its header does not state {name}"))
    return begin, end, shape


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no whole number")
    return value


def _ids_in(raw: bytes, path: Path) -> tuple[ImageId, ...]:
    try:
        ids = json.loads(raw)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(type(i) in (int, str) for i in ids):
        raise DataError(_damaged(path, "its list of images is none"))
    if len(set(ids)) < len(ids):
        raise DataError(_damaged(path, "an image stands twice in it"))
    return tuple(ids)


def _checksum(lists: Iterable[bytes]) -> str:
    value = 0
    for raw in lists:
        value = zlib.crc32(raw, value)
    return f"{value:08x}"


def _damaged(path: Path, why: str) -> str:
    return f"{path} is damaged: {why}. Bring back a copy of it, or make the proposals again."
