"""Shards from any set of labelled images: the bytes of its files, in a fixed order, checked.

    FOLDER/train-000000.tar …   <key>.<suffix> (the image), <key>.cls (its label), <key>.json
    FOLDER/classes.txt          names of the classes, a line each, in the order of the labels
    FOLDER/making.json          what the shards are made of; the same command goes on by it

The same images, size of shards and seed give the same bytes, on any machine. Each shard is written
under a temporary name, read again and compared with its source, and renamed.

Not for: reading shards (`shard_set`).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resdet import bounded_files
from resdet.atomic import atomic_path, write_text
from resdet.data.images.header import read_header
from resdet.data.images.reader import IMAGE_SUFFIXES, SUFFIXES
from resdet.data.images.scan import Progress
from resdet.data.options import DataOptions
from resdet.data.records import ClassificationSet
from resdet.data.shards import shard_classes
from resdet.data.shards.samples import FACTS_FIELD, LABEL_FIELD
from resdet.data.shards.shard_set import load_shards
from resdet.data.shards.tar_headers import BLOCK, TarFault, Window, members
from resdet.errors import DataError

logger = logging.getLogger(__name__)

PLAN = "making.json"
# Three headers, the label's block and that of the facts; the end of an archive is 20 blocks.
_BLOCKS_OF_SAMPLE, _BLOCKS_OF_END = 5, 20
_KEY = re.compile(r"(?!__)[A-Za-z0-9_-]{1,80}")
_STEM = re.compile(r"[A-Za-z0-9._-]{1,60}")


@dataclass(frozen=True)
class MadeShards:
    """What was made.

    Attributes:
        name: of the set that the shards are, "wds:…".
        shards: their number; `written` of them by this call, the others before.
        images: their number.
        size: of all shards, in bytes.
        hash: of the set.
    """

    name: str
    shards: int
    written: int
    images: int
    size: int
    hash: str


def make_shards(
    data: ClassificationSet,
    folder: Path,
    *,
    stem: str = "train",
    shard_mb: float = 256.0,
    seed: int | None = None,
    options: DataOptions | None = None,
) -> MadeShards:
    """Writes the images of a set to shards in `folder`, or goes on with those that are there.

    Args:
        stem: of the shards' names.
        shard_mb: a shard is closed before it has more; one image always has room.
        seed: images are shuffled by it; None keeps their order, by class and name.
        options: for reading the shards at the end.

    Raises:
        DataError: the folder has shards of something else, no room is left, or an image cannot be
            read. Nothing there is written over.
        ValueError: a size, a seed or a stem out of its range.
    """
    if not shard_mb > 0 or (seed is not None and seed < 0) or not _STEM.fullmatch(stem):
        raise ValueError(f"shard_mb {shard_mb}, seed {seed}, stem {stem!r}")
    if not data.classes or (data.labels < 0).any():
        raise DataError(f"{data.name} has images without classes: shards need a label for each.")
    source = _Source(data)
    plan = _planned(source, stem, shard_mb, seed)
    text = _list_of_classes(data.classes)
    folder.mkdir(parents=True, exist_ok=True)
    _begin(folder, plan, text, data.name)
    written = _write_all(source, folder, plan)
    last = len(plan.ends) - 1
    braces = f"{{{0:06d}..{last:06d}}}" if last else f"{0:06d}"
    name = f"wds:{folder.absolute()}/{stem}-{braces}.tar"
    made = load_shards(name.removeprefix("wds:"), name=name, options=options)
    if made.hash != plan.facts["hash"] or len(made) != len(data):
        raise DataError(
            f"{name} was written and is not {data.name}: {len(made):,} images with hash "
            f"{made.hash[:12]}, not {len(data):,} with {plan.facts['hash'][:12]}. The source "
            f"changed meanwhile: remove {folder} and make them again."
        )
    size = sum((folder / plan.file(number)).stat().st_size for number in range(len(plan.ends)))
    return MadeShards(name, len(plan.ends), written, len(data), size, made.hash)


class _Source:
    """The images of a set as bytes, with the names that they get."""

    def __init__(self, data: ClassificationSet):
        self.data = data
        self.names = [self._name(i) for i in range(len(data))]
        stems = [name.partition(".")[0] for name in self.names]
        is_plain = all(
            n.count(".") == 1 and _KEY.fullmatch(s) for n, s in zip(self.names, stems, strict=True)
        )
        # The names of the files, where they can be keys; else numbers, in the order of the set.
        self.keys: Sequence[str] = stems
        if not is_plain or len(set(stems)) < len(stems):
            digits = max(8, len(str(len(stems))))
            self.keys = [f"{i:0{digits}d}" for i in range(len(stems))]

    def _name(self, index: int) -> str:
        data = self.data
        if data.images is not None:
            return f"{index:08d}.png"
        name = data.encoded.name(index) if data.encoded else os.path.basename(data.files[index])
        if name.lower().endswith(IMAGE_SUFFIXES):
            return name
        facts = read_header(io.BytesIO(self.read(index)), data.name_of(index))[1]
        return f"{name or f'{index:08d}'}{SUFFIXES[facts.format][0]}"

    def size(self, index: int) -> int:
        if self.data.images is not None:
            return len(self.read(index))
        if self.data.encoded is not None:
            return self.data.encoded.size(index)
        return os.stat(self.data.files[index]).st_size

    def read(self, index: int) -> bytes:
        if self.data.images is not None:
            stream = io.BytesIO()
            Image.fromarray(self.data.images[index]).save(stream, "PNG")
            return stream.getvalue()
        if self.data.encoded is not None:
            return self.data.encoded.read(index)
        try:
            return bounded_files.read_bytes(self.data.files[index])
        except OSError as error:
            raise DataError(f"{self.data.files[index]} cannot be read: {error.strerror}.") from None

    def members(self, index: int, label: int, class_name: str) -> list[tuple[str, bytes]]:
        """Names and contents of the three members of one sample."""
        key, name = self.keys[index], self.names[index]
        suffix = os.path.splitext(name)[1]
        facts = {"filename": name, "label": label, "class": class_name}
        return [
            (f"{key}{suffix}", self.read(index)),
            (f"{key}.{LABEL_FIELD}", str(label).encode()),
            (f"{key}.{FACTS_FIELD}", json.dumps(facts).encode()),
        ]


@dataclass(frozen=True)
class _Plan:
    """Which image goes where.

    Attributes:
        order: (N,) numbers of images. ends: where each shard ends in it.
        facts: what making.json has.
    """

    order: np.ndarray
    ends: list[int]
    facts: dict[str, Any]

    def file(self, shard: int) -> str:
        return f"{self.facts['stem']}-{shard:06d}.tar"

    def images(self, shard: int) -> list[int]:
        begin = self.ends[shard - 1] if shard else 0
        found: list[int] = self.order[begin : self.ends[shard]].tolist()
        return found


def _planned(source: _Source, stem: str, shard_mb: float, seed: int | None) -> _Plan:
    number = len(source.data)
    order = np.arange(number)
    if seed is not None:
        order = np.random.Generator(np.random.PCG64(seed)).permutation(number)
    sizes = [source.size(i) for i in range(number)]
    ends: list[int] = []
    room = int(shard_mb * 2**20) - _BLOCKS_OF_END * BLOCK
    total = filled = 0
    for place, index in enumerate(order.tolist()):
        taken = (-(-sizes[index] // BLOCK) + _BLOCKS_OF_SAMPLE) * BLOCK
        if filled and filled + taken > room:
            ends.append(place)
            filled = 0
        filled += taken
        total += taken
    ends.append(number)
    data = source.data
    digest = hashlib.sha256(json.dumps(list(data.classes)).encode())
    labels = data.labels.tolist()
    for index in sorted(range(number), key=lambda i: (labels[i], source.names[i])):
        line = f"{data.classes[labels[index]]}/{source.names[index]} {sizes[index]}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    facts = {
        "images": number,
        "classes": len(data.classes),
        "hash": digest.hexdigest(),
        "stem": stem,
        "shard_mb": shard_mb,
        "seed": seed,
        "shards": len(ends),
        "bytes": total + len(ends) * _BLOCKS_OF_END * BLOCK,
    }
    return _Plan(order, ends, facts)


def _list_of_classes(classes: Sequence[str]) -> str:
    text = "".join(f"{name}\n" for name in classes)
    try:
        is_same = shard_classes.listed_names(text) == tuple(classes)
        text.encode("utf-8")
    except UnicodeEncodeError:
        is_same = False
    if not is_same:
        raise DataError(
            "names of classes cannot be lines of a text: they begin or end with blanks, hold line "
            "ends, or are no UTF-8. Rename them."
        )
    return text


def _begin(folder: Path, plan: _Plan, classes: str, name: str) -> None:
    """Writes the plan and the classes; refuses a folder that has something else."""
    path, listed = folder / PLAN, folder / shard_classes.LIST
    wanted = {**plan.facts, "source": name}
    if path.exists():
        try:
            there = json.loads(bounded_files.read_bytes(path))
        except (OSError, ValueError):
            there = None
        if there != wanted:
            differ = sorted(k for k in wanted if (there or {}).get(k) != wanted[k])
            raise DataError(
                f"{folder} has shards that are made of something else ({', '.join(differ)} differ "
                f"from {PLAN}). Nothing is written over: name another folder, or remove this one."
            )
    elif taken := sorted(p.name for p in folder.iterdir() if not p.name.endswith(".tmp")):
        raise DataError(
            f"{folder} is not empty ({taken[0]}), and has no {PLAN} of an earlier start. Nothing "
            "is written over: name another folder."
        )
    free = shutil.disk_usage(folder).free
    there_already = sum(p.stat().st_size for p in folder.glob("*.tar"))
    if plan.facts["bytes"] - there_already > free:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB of room, and the shards need "
            f"{(plan.facts['bytes'] - there_already) / 1e9:.1f}. Free some, or name another folder."
        )
    if not path.exists():
        write_text(path, json.dumps(wanted, indent=1) + "\n")
    if not listed.exists() or bounded_files.read_bytes(listed) != classes.encode():
        write_text(listed, classes)


def _write_all(source: _Source, folder: Path, plan: _Plan) -> int:
    """Writes the shards that are not there; how many."""
    progress = Progress("images in shards", len(source.data), logger)
    done = written = 0
    for shard in range(len(plan.ends)):
        images = plan.images(shard)
        path = folder / plan.file(shard)
        if path.exists():
            _compare(path, source, images)
        else:
            with atomic_path(path) as temporary:
                _write(temporary, source, images)
                _compare(temporary, source, images)
            written += 1
        done += len(images)
        progress.show(done)
    return written


def _write(path: Path, source: _Source, images: Sequence[int]) -> None:
    data = source.data
    with tarfile.TarFile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in images:
            label = int(data.labels[index])
            for name, content in source.members(index, label, data.classes[label]):
                # No owner and no time: the same images give the same bytes.
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _compare(path: Path, source: _Source, images: Sequence[int]) -> None:
    """Raises DataError unless a shard has these images, byte for byte, and nothing else."""
    data = source.data
    with bounded_files.open_file(path) as file:

        def read(start: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, start)

        found = members(Window(read, os.fstat(file.fileno()).st_size, BLOCK))
        try:
            for index in images:
                label = int(data.labels[index])
                for name, content in source.members(index, label, data.classes[label]):
                    member = next(found, None)
                    if (
                        member is None
                        or member.name != name
                        or (read(member.offset, member.size) != content)
                    ):
                        raise _not_the_same(path, data.name_of(index))
            if next(found, None) is not None:
                raise _not_the_same(path, "more than its images")
        except TarFault as fault:
            raise _not_the_same(path, fault.what) from None


def _not_the_same(path: Path, where: str) -> DataError:
    shown = path.name.partition(".tar")[0] + ".tar"
    return DataError(
        f"{path.parent / shown} does not hold what its source has ({where}): it was changed, or "
        "the source was. Remove that shard and type the same command again."
    )
