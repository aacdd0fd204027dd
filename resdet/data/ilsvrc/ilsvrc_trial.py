"""A small tree in ILSVRC's layout, made of the embedded digits: to try every step on.

DET has whole scenes with all their digits; LOC has windows cut out of scenes around one digit, with
the boxes of all digits of that class in the window. Ten classes with wnids of their own, in another
order of ids in each track, neither of them that of the sorted wnids. Train, val and test come from
the digits' own splits, so no digit and no pixel is in two of them.

Not for: numbers about anything but resdet itself.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resdet import bounded_files
from resdet.atomic import atomic_path, write_text
from resdet.data.images.reader import ImageReader
from resdet.errors import DataError
from resdet.formats.ilsvrc_tree import DET, LOC, IlsvrcTree
from resdet.formats.voc_list import read_list
from resdet.formats.voc_xml import MOST_BYTES, VocObject, parse_voc

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Digits in the order of their ids, 1 to 10.
DET_ORDER = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
LOC_ORDER = (2, 7, 1, 8, 0, 4, 5, 9, 3, 6)
# A window is so many times the digit's longer side, within these.
WINDOW, SMALLEST, LARGEST = 2.2, 48, 112
# Every third training image of LOC has no boxes, as ImageNet's that are not annotated.
UNBOXED = 3
QUALITY = 95


def wnid(digit: int) -> str:
    """The made-up wnid of a digit.

    >>> wnid(7)
    'n90000007'
    """
    return f"n9{digit:07d}"


@dataclass(frozen=True)
class _Scene:
    image: np.ndarray
    objects: tuple[VocObject, ...]


def make_trial(
    root: Path | str, digits: Path, *, scenes: int = 200, windows: int = 400
) -> IlsvrcTree:
    """Writes the tree; gives that of DET.

    Args:
        root: a folder that is empty or not there.
        digits: as `resdet.data.digits.make` gives it.
        scenes: training images of DET, at most; val and test have half as many.
        windows: training images of LOC, at most; val and test have half as many.

    Raises:
        DataError: the folder holds something.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} holds something. Name a folder that is not there.")
    det, loc = IlsvrcTree(root, DET), IlsvrcTree(root, LOC)
    for tree, order in ((det, DET_ORDER), (loc, LOC_ORDER)):
        lines = (f"{wnid(digit)} {i} {NAMES[digit]}\n" for i, digit in enumerate(order, 1))
        _add_text(tree.map_file, "".join(lines))
    for split in ("train", "val", "test"):
        share = 1 if split == "train" else 2
        ids = read_list(digits / "voc", split)
        drawn = [_scene(digits, image_id) for image_id in ids[: scenes // share]]
        if all(scene.objects for scene in drawn):
            # ILSVRC has images without objects, so one is here, too.
            later = (_scene(digits, image_id) for image_id in ids[scenes // share :])
            drawn[-1] = next((scene for scene in later if not scene.objects), drawn[-1])
        _write_scenes(det, split, drawn)
        _write_windows(loc, split, drawn, windows // share)
    return det


def _scene(digits: Path, image_id: str) -> _Scene:
    path = digits / "voc" / "Annotations" / f"{image_id}.xml"
    parsed = parse_voc(bounded_files.read_bytes(path, MOST_BYTES), path.name)
    image = ImageReader().read(str(digits / "voc" / "JPEGImages" / f"{image_id}.jpg"))
    return _Scene(image, tuple(parsed.objects))


# -- DET ---------------------------------------------------------------------------------------


def _write_scenes(tree: IlsvrcTree, split: str, scenes: list[_Scene]) -> None:
    ids = []
    for number, scene in enumerate(scenes, 1):
        stem = f"ILSVRC2012_{split}_{number:08d}"
        if split == "train":
            stem = f"ILSVRC2014_train_0000/ILSVRC2014_train_{number:08d}"
        ids.append(stem)
        _add_image(tree.images(split) / f"{stem}.JPEG", scene.image)
        # A training image without objects has no annotation, as in ILSVRC.
        if split == "val" or (split == "train" and scene.objects):
            _add_xml(tree.annotations(split) / f"{stem}.xml", scene.image, scene.objects)
    if split == "train":
        _write_class_lists(tree, ids, scenes)
        return
    _add_text(tree.list_file(split), "".join(f"{stem} {n}\n" for n, stem in enumerate(ids, 1)))
    if split == "val":
        first = next(n for n, s in enumerate(scenes, 1) if s.objects)
        name = wnid(int(scenes[first - 1].objects[0].name))
        _add_text(tree.kit / "ILSVRC2015_det_validation_blacklist.txt", f"{first} {name}\n")


def _write_class_lists(tree: IlsvrcTree, ids: list[str], scenes: list[_Scene]) -> None:
    """1 for a class that is in the image, 0 where one of its digits is marked difficult, -1 for
    images without objects, and for every tenth that has other classes."""
    lines: dict[int, list[str]] = defaultdict(list)
    for number, (stem, scene) in enumerate(zip(ids, scenes, strict=True)):
        there = {int(item.name) for item in scene.objects}
        partial = {int(item.name) for item in scene.objects if item.difficult}
        for place, digit in enumerate(DET_ORDER, 1):
            if digit in there:
                lines[place].append(f"{stem} {0 if digit in partial else 1}\n")
            elif not there or number % 10 == 0:
                lines[place].append(f"{stem} -1\n")
    for place in range(1, len(DET_ORDER) + 1):
        _add_text(tree.list_file(f"train_{place}"), "".join(lines[place]))


# -- LOC ---------------------------------------------------------------------------------------


def _write_windows(tree: IlsvrcTree, split: str, scenes: list[_Scene], most: int) -> None:
    found = [window for scene in scenes for window in _windows(scene)][:most]
    ids, boxed, labels = [], [], []
    count: dict[int, int] = defaultdict(int)
    for number, (digit, image, objects) in enumerate(found, 1):
        count[digit] += 1
        stem = f"ILSVRC2012_{split}_{number:08d}"
        if split == "train":
            stem = f"{wnid(digit)}/{wnid(digit)}_{count[digit]}"
        ids.append(stem)
        labels.append(LOC_ORDER.index(digit) + 1)
        _add_image(tree.images(split) / f"{stem}.JPEG", image)
        if split == "val" or (split == "train" and number % UNBOXED):
            boxed.append(stem)
            _add_xml(tree.annotations(split) / f"{stem}.xml", image, objects)
    for name, listed in (("train_cls", sorted(ids)), ("train_loc", sorted(boxed))):
        if split == "train":
            text = "".join(f"{stem} {n}\n" for n, stem in enumerate(listed, 1))
            _add_text(tree.list_file(name), text)
    if split != "train":
        _add_text(tree.list_file(split), "".join(f"{stem} {n}\n" for n, stem in enumerate(ids, 1)))
    if split == "val":
        kit = tree.kit / "ILSVRC2015_clsloc_validation_ground_truth.txt"
        _add_text(kit, "".join(f"{label}\n" for label in labels))
        _add_text(tree.kit / "ILSVRC2015_clsloc_validation_blacklist.txt", f"{len(ids)}\n")


def _windows(scene: _Scene) -> list[tuple[int, np.ndarray, tuple[VocObject, ...]]]:
    """(digit, window, its digits of that class with their boxes in it), one for each digit that is
    easy to see."""
    height, width = scene.image.shape[:2]
    windows = []
    for number, item in enumerate(scene.objects):
        xmin, ymin, xmax, ymax = item.box
        if item.difficult or item.truncated:
            continue
        side = round(min(max(WINDOW * max(xmax - xmin, ymax - ymin), SMALLEST), LARGEST))
        # Off the middle, in another direction for each: a box in the middle needs no detector.
        shift = (side // 6) * np.array([(-1, 0, 1)[number % 3], (1, 0, -1)[(number // 2) % 3]])
        centre = np.array([xmin + xmax, ymin + ymax]) / 2 + shift
        left = int(np.clip(centre[0] - side / 2, 0, width - side))
        top = int(np.clip(centre[1] - side / 2, 0, height - side))
        inside = tuple(
            VocObject(o.number, o.name, _moved(o.box, left, top), 0, 0)
            for o in scene.objects
            if o.name == item.name and _lies_in(o.box, left, top, side)
        )
        image = scene.image[top : top + side, left : left + side]
        windows.append((int(item.name), image, inside))
    return [window for window in windows if window[2]]


def _moved(
    box: tuple[float, float, float, float], left: int, top: int
) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = box
    return xmin - left, ymin - top, xmax - left, ymax - top


def _lies_in(box: tuple[float, float, float, float], left: int, top: int, side: int) -> bool:
    xmin, ymin, xmax, ymax = _moved(box, left, top)
    return min(xmin, ymin) >= 1 and max(xmax, ymax) <= side


# -- files -------------------------------------------------------------------------------------


def _add_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def _add_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, "JPEG", quality=QUALITY, subsampling=0)


def _add_xml(path: Path, image: np.ndarray, objects: tuple[VocObject, ...]) -> None:
    height, width = image.shape[:2]
    items = "".join(
        f"<object><name>{wnid(int(o.name))}</name><bndbox>"
        + "".join(
            f"<{tag}>{value:g}</{tag}>"
            for tag, value in zip(("xmin", "xmax", "ymin", "ymax"),
                                  (o.box[0], o.box[2], o.box[1], o.box[3]), strict=True)
        )
        + "</bndbox></object>"
        for o in objects
    )  # fmt: skip
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    _add_text(path, f"<annotation>{size}{items}</annotation>\n")
