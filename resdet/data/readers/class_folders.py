"""Folders of classes to a classification set: ImageNet's layout, and users' own.

    <root>/<class>/<image>    classes in the order of their sorted names

The order is that of text, as everywhere: folders named 0 to 10 come as 0, 1, 10, 2, …, which is
reported, since class numbers from elsewhere then mean other folders. Within resdet classes are
matched by name (`docs/faults.md` F4).

Not for: where sets lie (`catalog`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resdet.data.checks.faults import Faults
from resdet.data.checks.odd_images import ODD_FILES, odd_files_note, places_of_odd
from resdet.data.images.reader import IMAGE_SUFFIXES, ImageReader, inspect
from resdet.data.images.scan import Progress, read_headers
from resdet.data.options import DataOptions
from resdet.data.readers.folder_index import FolderIndex, Indexed
from resdet.data.readers.listed_files import native, portable
from resdet.data.records import ClassificationSet
from resdet.data.serialized import TextList
from resdet.errors import DataError

logger = logging.getLogger(__name__)

# Pictures of formats that are not read here, which are not to be taken for notes beside images.
OTHER_PICTURES = (
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jxl",
    ".nef", ".orf", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga",
)  # fmt: skip
# The headers of larger sets (ImageNet) are not read before the start; empty files are found always.
MAX_HEADERS = 60_000


@dataclass
class _Listing:
    """What lies in the class folders."""

    files: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    other_pictures: Counter[str] = field(default_factory=Counter)  # by suffix


def load_folder(
    root: Path,
    *,
    name: str,
    options: DataOptions | None = None,
    sources: str = "",
) -> ClassificationSet:
    """The images under `root`, labelled by their folder.

    Hidden folders and files that are no images are left out and counted.

    Raises:
        DataError: no such folder, no class folder in it, a class without images, or files that
            are no images; one page with all of it.
    """
    options = options or DataOptions()
    root = root.absolute()
    index = FolderIndex(root, options)
    found = index.read()
    if found is None:
        found = _scanned(root, name, options)
        index.write(found)
    return ClassificationSet(
        name=name,
        labels=found.labels,
        classes=found.classes,
        files=found.files,
        hash=found.hash,
        counts=found.counts,
        sources=sources,
        reader=ImageReader(options),
        notes=found.notes,
    )


def _scanned(root: Path, name: str, options: DataOptions) -> Indexed:
    """What lies in the folders, all files looked at; raises as `load_folder`."""
    faults = Faults(name, str(root))
    classes, hidden = _classes(root, name)
    listing = _list_images(root, classes, faults)
    listing.left_out["hidden folders ignored"] = hidden
    _check_files(listing, faults, options)
    counts = {"images": len(listing.files), "classes": len(classes), **listing.left_out}
    return Indexed(
        classes=tuple(classes),
        files=TextList(listing.files),
        labels=np.array(listing.labels, dtype=np.int64),
        hash=_hash(root, classes, listing),
        counts={k: v for k, v in counts.items() if v},
        notes=(
            *_notes(classes),
            *_notes_on_others(listing.other_pictures),
            *(_note_on_odd(root, listing, options) if options.check_images else ()),
        ),
    )


def load_flat_folder(
    root: Path, *, name: str, options: DataOptions | None = None
) -> ClassificationSet:
    """The images in a folder without class folders, by name: all labels are -1, `classes` is ().

    Hidden files, other files and folders in it are left out and counted.

    Raises:
        DataError: no such folder, no image in it, or files that are no images; one page.
    """
    options = options or DataOptions()
    root = root.absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. Give a folder of images.")
    faults = Faults(name, str(root))
    listing = _Listing()
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if entry.name.startswith("."):
            listing.left_out["hidden files ignored"] += 1
        elif entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
            listing.files.append(entry.path)
            listing.sizes.append(entry.stat().st_size)
        else:
            listing.left_out["files and folders that are no images ignored"] += 1
    if not listing.files:
        raise DataError(f"{name}: {root} holds no image. Give a folder of images.")
    _check_files(listing, faults, options)
    counts = {"images": len(listing.files), **listing.left_out}
    return ClassificationSet(
        name=name,
        labels=np.full(len(listing.files), -1, dtype=np.int64),
        classes=(),
        files=TextList(listing.files),
        hash=_hash(root, [], listing),
        counts={k: v for k, v in counts.items() if v},
        reader=ImageReader(options),
    )


def _check_files(listing: _Listing, faults: Faults, options: DataOptions) -> None:
    """Raises DataError for empty files, and for headers that cannot be read where they are."""
    for file, size in zip(listing.files, listing.sizes, strict=True):
        if size == 0:
            faults.add("images", f"{file} is empty (0 bytes)", fix="Fetch these files again.")
    if options.check_images and len(listing.files) <= MAX_HEADERS:
        _check_headers(listing, faults, options)
    faults.stop()


def _classes(root: Path, name: str) -> tuple[list[str], int]:
    """Names of the class folders, sorted as UTF-8, and how many hidden folders there are."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. Give a folder with one folder per class.")
    entries = list(os.scandir(root))
    folders = sorted(portable(e.name) for e in entries if e.is_dir())
    classes = [c for c in folders if not c.startswith(".")]
    if classes:
        return classes, len(folders) - len(classes)
    images = sum(e.name.lower().endswith(IMAGE_SUFFIXES) for e in entries)
    if images:
        raise DataError(
            f"{name}: {root} holds {images:,} images and no class folders. Sort them into "
            f"{root.name}/<class>/<image>; ImageNet's val comes flat, datasets/README.md shows how "
            "to sort it."
        )
    raise DataError(f"{name}: {root} has no class folders. Expected {root.name}/<class>/<image>.")


def _list_images(root: Path, classes: list[str], faults: Faults) -> _Listing:
    listing = _Listing()
    listing.left_out["files outside class folders ignored"] = sum(
        e.is_file() and not e.name.startswith(".") for e in os.scandir(root)
    )
    progress = Progress("class folders", len(classes), logger)
    for label, class_name in enumerate(classes):
        progress.show(label)
        with os.scandir(root / native(class_name)) as folder:
            entries = sorted(folder, key=lambda e: e.name)
        images = [
            e
            for e in entries
            if e.name.lower().endswith(IMAGE_SUFFIXES) and e.name[0] != "." and e.is_file()
        ]
        visible, others = images, Counter[str]()
        if len(images) < len(entries):
            visible, others = _beside(entries)
            listing.left_out["hidden files ignored"] += len(entries) - len(visible)
            listing.other_pictures.update(others)
            listing.left_out["pictures of other formats ignored"] += others.total()
            left = len(visible) - len(images) - others.total()
            listing.left_out["files that are no images ignored"] += left
        if not images:
            inside = sum(e.is_dir() for e in visible)
            hint = f" (but {inside} folders: is the root one level deeper?)" if inside else ""
            hint = f" that can be read here, but {_by_suffix(others)}" if others else hint
            faults.add(
                "empty classes",
                f"{class_name}/ holds no image{hint}",
                fix="Every class folder needs an image: fill or remove these.",
            )
        listing.files += [e.path for e in images]
        listing.labels += [label] * len(images)
        listing.sizes += [e.stat().st_size for e in images]
    return listing


def _beside(entries: list[os.DirEntry[str]]) -> tuple[list[os.DirEntry[str]], Counter[str]]:
    """The entries that are not hidden, and pictures of other formats among them, by suffix."""
    visible = [e for e in entries if not e.name.startswith(".")]
    suffixes = ((os.path.splitext(e.name)[1].lower(), e) for e in visible)
    return visible, Counter(s for s, e in suffixes if s in OTHER_PICTURES and e.is_file())


def _check_headers(listing: _Listing, faults: Faults, options: DataOptions) -> None:
    filled = [f for f, size in zip(listing.files, listing.sizes, strict=True) if size]
    headers = read_headers(filled, options)
    for line in headers.faults.values():
        faults.add("images", line)
    listing.left_out.update(headers.counts)


def _hash(root: Path, classes: list[str], listing: _Listing) -> str:
    digest = hashlib.sha256(json.dumps(classes).encode())
    # All lie below the root, so that the rest of the path is what os.path.relpath would give.
    start = len(os.path.join(root, ""))
    for file, size in zip(listing.files, listing.sizes, strict=True):
        digest.update(f"{file[start:]} {size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _note_on_odd(root: Path, listing: _Listing, options: DataOptions) -> tuple[str, ...]:
    """On the known odd files of ImageNet; in a large set, train, they are asked for by name."""
    if len(listing.files) > MAX_HEADERS:
        stems = sorted(s for s in ODD_FILES if s.startswith("n"))
        paths = [os.path.join(root, s.partition("_")[0], f"{s}.JPEG") for s in stems]
        files = [path for path in paths if os.path.isfile(path)]
    else:
        names = (os.path.basename(file) for file in listing.files)
        files = [listing.files[place] for place in places_of_odd(names)]
    found = []
    for file in files:
        try:
            found.append((os.path.basename(file), inspect(file)))
        except DataError:
            continue  # in a small set it is a fault already; in a large one it ends the training
    return odd_files_note(found, options)


def _by_suffix(others: Counter[str]) -> str:
    return ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(others.items()))


def _notes_on_others(others: Counter[str]) -> list[str]:
    number = others.total()
    if not number:
        return []
    files = "file is no image" if number == 1 else "files are no images"
    return [
        f"{number:,} {files} that can be read here: {_by_suffix(others)}; convert to JPEG or PNG"
    ]


def _notes(classes: list[str]) -> list[str]:
    if not all(c.isdecimal() for c in classes):
        return []
    numeric = sorted(classes, key=int)
    first = next((i for i, c in enumerate(classes) if c != numeric[i]), None)
    if first is None:
        return []
    return [
        f'class folders are numbers, sorted as text: class {first} is folder "{classes[first]}", '
        f'not "{numeric[first]}"; weights whose classes were counted as numbers do not fit'
    ]
