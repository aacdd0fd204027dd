"""A set of labelled images from tar shards, by an index that is kept and checked.

The index has place and size of every image, made in one pass over the headers. It is used again
while each shard has its size, time and inode, and the same first and last header; then a start
reads two headers a shard. Images come in the order of class folders, by class and then by name,
whatever shard they lie in: so order, augmentation and hash are those of the same images in folders.

Not for: which shards there are (`patterns`), or making them (`making`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.data.array_cache import are_settled, code_version, path_of, read_arrays, write_arrays
from resdet.data.checks.faults import Faults
from resdet.data.images.reader import ImageReader
from resdet.data.images.scan import Progress
from resdet.data.options import DataOptions
from resdet.data.records import ClassificationSet
from resdet.data.serialized import TextList
from resdet.data.shards import shard_classes, storage
from resdet.data.shards.patterns import shards_of
from resdet.data.shards.samples import ShardSamples, ShardScan, split_name
from resdet.data.shards.shard_classes import ClassEvidence
from resdet.data.shards.shard_headers import check_headers, refuse_huge
from resdet.data.shards.tar_headers import BLOCK, Window
from resdet.errors import DataError

logger = logging.getLogger(__name__)

# Read at once in the pass over the headers: a path's small files lie beside their image, and a
# request to a store costs more than some megabytes.
LOCAL_BLOCK, REMOTE_BLOCK = 1 << 13, 1 << 23


@dataclass(frozen=True)
class ShardImages:
    """The images of a set, in its order; as `EncodedImages`.

    Attributes:
        handles: of the shards.
        shards: (N,) int32, places among the shards. offsets, sizes: (N,) int64, in bytes.
        members: names in the tars. names: among class folders.
    """

    handles: storage.Handles
    shards: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    members: TextList
    names: TextList

    def __len__(self) -> int:
        return len(self.shards)

    def read(self, index: int) -> bytes:
        """Raises DataError where the shard is gone, changed, or ends before."""
        size = int(self.sizes[index])
        data = self.handles.read(int(self.shards[index]), int(self.offsets[index]), size)
        if len(data) < size:
            raise DataError(
                f"{self.where(index)} is cut off: {len(data):,} of {size:,} bytes are there. Fetch "
                "the shard again."
            )
        return data

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def name(self, index: int) -> str:
        return str(self.names[index])

    def where(self, index: int) -> str:
        shard = self.handles.addresses[int(self.shards[index])]
        return f"{shard}: {self.members[index]}"

    def chosen(self, places: Sequence[int]) -> ShardImages:
        rows = np.asarray(places, dtype=np.int64)
        return ShardImages(
            self.handles,
            self.shards[rows],
            self.offsets[rows],
            self.sizes[rows],
            TextList(self.members[i] for i in rows.tolist()),
            TextList(self.names[i] for i in rows.tolist()),
        )


def load_shards(
    pattern: str, *, name: str, options: DataOptions | None = None
) -> ClassificationSet:
    """The images in the shards that `pattern` names, with their labels.

    Raises:
        DataError: no shards, or faults in them; one page with all, by shard and key.
    """
    options = options or DataOptions()
    addresses = shards_of(pattern)
    stamps = _stamps(addresses, name)
    handles = storage.Handles(addresses, stamps)
    listed = _listed_classes(addresses)
    index = _ShardIndex(addresses, stamps, listed, options)
    found = index.read(handles)
    if found is None:
        found = _scanned(handles, name, listed, options)
        index.write(found, handles)
    return ClassificationSet(
        name=name,
        labels=found.labels,
        classes=found.classes,
        encoded=found.images,
        hash=found.hash,
        counts=found.counts,
        reader=ImageReader(options),
        notes=found.notes,
    )


@dataclass(frozen=True)
class _Found:
    """What the pass over the headers, or the index, has of a set."""

    images: ShardImages
    labels: np.ndarray
    classes: tuple[str, ...]
    last_headers: np.ndarray
    hash: str
    counts: Mapping[str, int]
    notes: tuple[str, ...]


def _stamps(addresses: Sequence[str], name: str) -> np.ndarray:
    for address in [a for a in addresses if storage.is_remote(a)][:1]:
        storage.file_system(address)  # whatever is not installed is no fault of the shards
    faults, rows = Faults(name, storage.folder_of(addresses[0])), []
    for address in addresses:
        try:
            rows.append(storage.stamps_of([address])[0])
        except (OSError, DataError) as error:
            text = str(error) if isinstance(error, DataError) else f"{address}: {error.strerror}"
            faults.add("missing shards", text, fix="Put them there, or correct the pattern.")
    faults.stop()
    return np.stack(rows)


def _listed_classes(addresses: Sequence[str]) -> tuple[str, ...] | None:
    """The classes of the list beside the shards; of several folders all have the same.

    Raises:
        DataError: lists of folders differ, or one cannot be read.
    """
    lists: dict[str, tuple[str, ...]] = {}
    for folder in dict.fromkeys(map(storage.folder_of, addresses)):
        place = f"{folder}/{shard_classes.LIST}"
        if storage.exists(place):
            try:
                text = storage.read_whole(place).decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{place} cannot be read: {error}.") from None
            lists[place] = shard_classes.listed_names(text)
    if len(set(lists.values())) > 1:
        raise DataError(
            f"{' and '.join([*lists][:2])} differ: shards of one set have one order of classes. "
            "Keep the one that their labels follow."
        )
    return next(iter(lists.values()), None)


def _scanned(
    handles: storage.Handles, name: str, listed: tuple[str, ...] | None, options: DataOptions
) -> _Found:
    """One pass over the headers of all shards; raises as `load_shards`."""
    addresses, sizes = handles.addresses, handles.stamps[:, 0].tolist()
    folder = storage.folder_of(addresses[0])
    faults, evidence, left_out = Faults(name, folder), ClassEvidence(), Counter[str]()
    progress = Progress("MB of shards, headers", sum(sizes) >> 20, logger)
    per_shard: list[ShardSamples] = []
    done = 0
    for number, address in enumerate(addresses):

        def read(start: int, length: int, number: int = number, done: int = done) -> bytes:
            progress.show((done + start) >> 20)
            return handles.read(number, start, length)

        block = REMOTE_BLOCK if storage.is_remote(address) else LOCAL_BLOCK
        scan = ShardScan(address, faults, evidence, left_out)
        per_shard.append(scan.read(Window(read, sizes[number], block)))
        done += sizes[number]
    _refuse_repeated(per_shard, addresses, faults)
    labels = np.array([label for s in per_shard for label in s.labels], dtype=np.int64)
    source = storage.beside(addresses[0], shard_classes.LIST)
    classes = shard_classes.class_names(listed, evidence, labels, faults, source)
    faults.stop()
    images, labels = _in_order(handles, per_shard, labels)
    refuse_huge(images, faults, options)
    faults.stop()
    counts = Counter({"images": len(labels), "classes": len(classes), "shards": len(addresses)})
    notes = [*_notes(labels, classes, listed is None and not evidence.stated)]
    if options.check_images:
        repaired, odd = check_headers(images, faults, options)
        faults.stop()
        counts.update(repaired)
        notes += odd
    counts.update(left_out)
    return _Found(
        images=images,
        labels=labels,
        classes=classes,
        last_headers=np.array([s.last_header for s in per_shard], dtype=np.int64),
        hash=_hash(images, labels, classes),
        counts={k: v for k, v in counts.items() if v},
        notes=tuple(notes),
    )


def _refuse_repeated(
    per_shard: Sequence[ShardSamples], addresses: Sequence[str], faults: Faults
) -> None:
    """Keys that occur in several shards; told by 64 bits each, and only then by the names."""
    hashes = np.array(
        [hash(split_name(m)[0]) for found in per_shard for m in found.members], dtype=np.int64
    )
    if len(np.unique(hashes)) == len(hashes):
        return
    first: dict[str, int] = {}
    for number, found in enumerate(per_shard):
        for member in found.members:
            key = split_name(member)[0]
            if first.setdefault(key, number) != number:
                faults.add(
                    "repeated keys",
                    f"{addresses[number]}: {key}: is in {addresses[first[key]]}, too",
                    fix="Each key must occur once in the whole set, or it is not known which image "
                    "is meant. Take the same shard out, or make them again with keys of their own.",
                )


def _in_order(
    handles: storage.Handles, per_shard: Sequence[ShardSamples], labels: np.ndarray
) -> tuple[ShardImages, np.ndarray]:
    """Images and labels by label, then by name."""
    names = [n for s in per_shard for n in s.names]
    members = [m for s in per_shard for m in s.members]
    order = sorted(range(len(names)), key=lambda i: (labels[i], names[i], members[i]))
    rows = np.array(order, dtype=np.int64)
    shards = np.repeat(np.arange(len(per_shard), dtype=np.int32), [len(s.names) for s in per_shard])
    images = ShardImages(
        handles,
        shards[rows],
        np.array([o for s in per_shard for o in s.offsets], dtype=np.int64)[rows],
        np.array([o for s in per_shard for o in s.sizes], dtype=np.int64)[rows],
        TextList(members[i] for i in order),
        TextList(names[i] for i in order),
    )
    return images, labels[rows]


def _hash(images: ShardImages, labels: np.ndarray, classes: Sequence[str]) -> str:
    """That of the same images in class folders."""
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for name, label, size in zip(images.names, labels.tolist(), images.sizes.tolist(), strict=True):
        digest.update(f"{classes[label]}/{name} {size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _notes(labels: np.ndarray, classes: Sequence[str], is_unnamed: bool) -> list[str]:
    notes = []
    if is_unnamed and classes == tuple(map(str, range(len(classes)))):
        notes.append(
            f"the {len(classes):,} classes have no names, only numbers: put {shard_classes.LIST} "
            "beside the shards, a line per class"
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(empty):
        shown = ", ".join(classes[i] for i in empty[:4].tolist())
        more = ", …" if len(empty) > 4 else ""
        notes.append(f"{len(empty):,} of {len(classes):,} classes have no image: {shown}{more}")
    return notes


class _ShardIndex:
    """What is kept of a set of shards, in the user's cache folder."""

    def __init__(
        self,
        addresses: Sequence[str],
        stamps: np.ndarray,
        listed: tuple[str, ...] | None,
        options: DataOptions,
    ):
        self.is_used = options.cache
        self.stamps = stamps
        self.is_local = not any(map(storage.is_remote, addresses))
        reading = (options.exif, options.sixteen_bit, options.alpha_over, options.max_pixels)
        self.head = {
            "version": code_version(),
            "shards": hashlib.sha256("\n".join(addresses).encode(*_AS_BYTES)).hexdigest(),
            "listed": list(listed) if listed is not None else None,
            "reading": repr((reading, options.check_images)),
        }
        self.began = time.time()
        self.path = path_of("shards", "\n".join(addresses))

    def read(self, handles: storage.Handles) -> _Found | None:
        """What was found the last time; None where something may have changed."""
        kept = read_arrays(self.path, self.head) if self.is_used else None
        if kept is None:
            return None
        head, arrays = kept
        if not np.array_equal(arrays["stamps"], self.stamps):
            changed = (arrays["stamps"] != self.stamps).any(axis=1)
            first = handles.addresses[int(changed.argmax())]
            logger.info("%d shards changed (%s): all are read again", changed.sum(), first)
            return None
        ends = _edges(handles, arrays["last_headers"])
        if not np.array_equal(arrays["edges"], ends):
            logger.info("the headers of shards changed: all are read again")
            return None
        images = ShardImages(
            handles,
            arrays["shard"],
            arrays["offset"],
            arrays["size"],
            TextList.of(arrays["members"], arrays["member_ends"]),
            TextList.of(arrays["names"], arrays["name_ends"]),
        )
        return _Found(
            images,
            arrays["label"],
            tuple(head["classes"]),
            arrays["last_headers"],
            head["hash"],
            head["counts"],
            tuple(head["notes"]),
        )

    def write(self, found: _Found, handles: storage.Handles) -> None:
        if not self.is_used or (self.is_local and not are_settled(self.stamps, self.began)):
            return
        images = found.images
        head = {
            **self.head,
            "classes": list(found.classes),
            "hash": found.hash,
            "counts": dict(found.counts),
            "notes": list(found.notes),
        }
        arrays: dict[str, Any] = {
            "stamps": self.stamps, "edges": _edges(handles, found.last_headers),
            "last_headers": found.last_headers, "label": found.labels, "shard": images.shards,
            "offset": images.offsets, "size": images.sizes,
        }  # fmt: skip
        for name, texts in (("member", images.members), ("name", images.names)):
            arrays[f"{name}s"], arrays[f"{name}_ends"] = texts.parts()
        write_arrays(self.path, head, arrays)


_AS_BYTES = ("utf-8", "surrogateescape")


def _edges(handles: storage.Handles, last_headers: np.ndarray) -> np.ndarray:
    """(S, 32) uint8: a hash of the first and the last member's header of each shard."""
    rows = np.zeros((len(last_headers), 32), dtype=np.uint8)
    for number, last in enumerate(last_headers.tolist()):
        both = handles.read(number, 0, BLOCK) + handles.read(number, last, BLOCK)
        rows[number] = np.frombuffer(hashlib.sha256(both).digest(), dtype=np.uint8)
    return rows
