"""Which known data sets are there, and how many of their images: a look of a second.

Not for: reading them, which checks everything (`catalog`), or a page on one that is missing
(`not_found`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from resdet.data.names import (
    COCO,
    DIGITS,
    DIGITS_CROPS,
    ILSVRC,
    ILSVRC_FOLDER,
    IMAGENET,
    VOC,
    IlsvrcSet,
    LabelledSet,
    known,
    needs,
    root_folder,
    voc_folder,
)
from resdet.data.readers.cifar import load_cifar
from resdet.errors import DataError
from resdet.formats.ilsvrc_tree import DET, DET_CLASSES, IlsvrcTree, read_images
from resdet.formats.voc_list import read_list

# Class folders of ImageNet whose files are counted.
LOOKED_AT = 20


def status(root: Path | str | None = None) -> list[dict[str, Any]]:
    """Per known set: name, state "whole", "incomplete" (fewer images than were published),
    "missing" or "broken", images found, and a hint.

    Looks at folders and lists alone, so it takes a second; `catalog` checks everything.
    """
    base = root_folder(root)[0]
    return [{"name": name, **_state(name, base)} for name in known()]


def _state(name: str, base: Path) -> dict[str, Any]:
    if name in (*DIGITS, *DIGITS_CROPS):
        return _digits_state(name)
    paths = needs(name, base)
    absent = [path for path in paths if not path.exists()]
    if len(absent) == len(paths):
        return {"state": "missing", "images": 0, "hint": f"no {absent[0]}"}
    if absent:
        return {"state": "broken", "images": 0, "hint": f"no {absent[0]}"}
    try:
        return _images_there(name, base)
    except (DataError, OSError) as error:
        return {"state": "broken", "images": 0, "hint": str(error)}


def _digits_state(name: str) -> dict[str, Any]:
    from resdet.data import digits

    unit = name.removeprefix("digits_") if "crops" in name else name.replace("digits", "scenes")
    if digits.what_is_wrong(digits.cache_folder() / f"digits-{digits.VERSION}") is None:
        return {"state": "whole", "images": digits.SIZES[unit], "hint": ""}
    return {"state": "missing", "images": 0, "hint": "made on first use"}


def _images_there(name: str, base: Path) -> dict[str, Any]:
    if name in VOC:
        folder = voc_folder(base, VOC[name].year)
        ids = read_list(folder, VOC[name].split)
        there = {os.path.splitext(e)[0] for e in os.listdir(folder / "JPEGImages")}
        return _compared(sum(i in there for i in ids), len(ids), VOC[name].size)
    if name in COCO:
        folder = base / COCO[name].images
        number = len(os.listdir(folder))
        if number == 0:
            return {"state": "broken", "images": 0, "hint": f"{folder} is empty"}
        return _compared(number, number, COCO[name].size)
    if name in ILSVRC:
        return _ilsvrc_state(base / ILSVRC_FOLDER, ILSVRC[name])
    if name in IMAGENET:
        return _imagenet_state(base / "imagenet" / name[len("imagenet_") :], IMAGENET[name])
    data = load_cifar(base, *name.split("_"))
    return {"state": "whole", "images": len(data), "hint": "; ".join(data.notes)}


def _ilsvrc_state(root: Path, split: IlsvrcSet) -> dict[str, Any]:
    """By its list; the images of a list of half a million are looked at when they are loaded."""
    tree = IlsvrcTree(root, split.track)
    if (split.track, split.split) == (DET, "train"):
        listed = len(tree.class_lists())
        hint = "" if listed == DET_CLASSES else f"{listed:,} class lists; DET has {DET_CLASSES:,}"
        return {"state": "incomplete" if hint else "whole", "images": 0, "hint": hint}
    number = len(read_images(tree.list_file(split.split)))
    return _compared(number, number, split.size)


def _imagenet_state(folder: Path, published: LabelledSet) -> dict[str, Any]:
    """By the number of class folders and of files in a few of them: all have 1.3 million."""
    classes = sorted(e.name for e in os.scandir(folder) if e.is_dir())
    hint = "" if len(classes) == 1000 else f"{len(classes):,} class folders; ImageNet has 1,000"
    fewest = published.fewest_in_class
    for name in classes[:: max(1, len(classes) // LOOKED_AT)]:
        number = len(os.listdir(folder / name))
        if number < fewest and not hint:
            hint = f"{name} has {number:,} files; a class of ImageNet has {fewest:,} or more there"
    state = "broken" if not classes else "incomplete" if hint else "whole"
    return {"state": state, "images": 0, "hint": hint}


def _compared(there: int, listed: int, published: int) -> dict[str, Any]:
    if there < listed:
        hint = f"{listed - there:,} of {listed:,} listed images are missing"
        return {"state": "broken", "images": there, "hint": hint}
    hint = "" if there >= published else f"{there:,} images; the published set has {published:,}"
    return {"state": "incomplete" if hint else "whole", "images": there, "hint": hint}
