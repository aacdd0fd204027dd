"""Painted digits as the files that users have: class folders, VOC's XML, COCO's JSON.

    crops/<split>/<digit>/00001.png          classification
    voc/JPEGImages/000001.jpg                every scene, once; ids run on from split to split
    voc/Annotations/000001.xml               counted from 1, both ends included, as VOC does
    voc/ImageSets/Main/<split>.txt, trainval.txt, <digit>_<split>.txt
    coco/annotations/instances_<split>.json  `file_name` is relative to voc/JPEGImages

Boxes are the same integers in both formats. They differ in one thing: the tiny digits of a crowd
are single `difficult` objects in the XML, and one region with `iscrowd` 1 in the JSON.

Scenes are JPEG because VOC readers append ".jpg", at quality 95 without chroma subsampling.
What is hashed for "the same on every machine" are the pixels before encoding: another libjpeg
may decode to values that are off by a level.

Not for: which digits there are (`painter`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resdet.data.digits.painting.glyphs import tight_box
from resdet.data.digits.painting.painter import SCENE_SIZE, Digit, Scene
from resdet.data.digits.splits import SPLITS

CLASSES = tuple("0123456789")
JPEG_QUALITY = 95
# The XML has `occluded` 1 from this hidden share on.
OCCLUDED_FROM = 0.05

Facts = dict[str, Any]


def scene_facts(scene: Scene, image_id: str) -> Facts:
    """What is known about a scene, as plain values: the one source of both formats."""
    return {
        "id": image_id,
        "background": scene.background,
        "objects": [_object_facts(digit) for digit in scene.digits],
        "crowd": _crowd_facts([digit for digit in scene.digits if digit.in_crowd]),
    }


def _object_facts(digit: Digit) -> Facts:
    return {
        "name": CLASSES[digit.label],
        "box": list(digit.box),
        "difficult": int(digit.is_difficult),
        "truncated": int(digit.is_truncated),
        "occluded": int(digit.hidden >= OCCLUDED_FROM),
        "in_crowd": int(digit.in_crowd),
        "area": int(digit.visible.sum()),
        "counts": run_lengths(digit.visible),
    }


def _crowd_facts(digits: Sequence[Digit]) -> Facts | None:
    """The region of a crowd: the union of the boxes of its digits."""
    if not digits:
        return None
    region = np.zeros((SCENE_SIZE, SCENE_SIZE), bool)
    for digit in digits:
        x0, y0, x1, y1 = digit.box
        region[y0:y1, x0:x1] = True
    return {
        "name": CLASSES[digits[0].label],
        "box": list(tight_box(region)),
        "area": int(region.sum()),
        "counts": run_lengths(region),
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: columns first, starting with a run of zeros.

    >>> run_lengths(np.array([[True, False], [True, True]]))
    [0, 2, 1, 1]
    """
    changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False))
    return np.diff(changes, prepend=0, append=mask.size).tolist()


def write_crop(root: Path, split: str, index: int, image: np.ndarray, label: int) -> Path:
    path = root / "crops" / split / CLASSES[label] / f"{index + 1:05d}.png"
    # Noise leaves no repetitions to find: Huffman coding alone is smaller here, and faster.
    Image.fromarray(image).save(path, compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY)
    return path


def write_scene(root: Path, image: np.ndarray, facts: Facts) -> tuple[Path, Path]:
    """The JPEG and the XML of one scene."""
    picture = root / "voc" / "JPEGImages" / f"{facts['id']}.jpg"
    Image.fromarray(image).save(picture, quality=JPEG_QUALITY, subsampling=0)
    annotation = root / "voc" / "Annotations" / f"{facts['id']}.xml"
    annotation.write_text(voc_xml(facts), encoding="utf-8")
    return picture, annotation


def voc_xml(facts: Facts) -> str:
    objects = "".join(_voc_object(o) for o in facts["objects"])
    return f"""<annotation>
  <folder>digits</folder>
  <filename>{facts["id"]}.jpg</filename>
  <source>
    <database>resdet digits</database>
    <annotation>painted</annotation>
    <image>{facts["background"]}</image>
  </source>
  <size>
    <width>{SCENE_SIZE}</width>
    <height>{SCENE_SIZE}</height>
    <depth>3</depth>
  </size>
  <segmented>0</segmented>
{objects}</annotation>
"""


def _voc_object(facts: Facts) -> str:
    x0, y0, x1, y1 = facts["box"]
    return f"""  <object>
    <name>{facts["name"]}</name>
    <pose>Unspecified</pose>
    <truncated>{facts["truncated"]}</truncated>
    <occluded>{facts["occluded"]}</occluded>
    <difficult>{facts["difficult"]}</difficult>
    <bndbox>
      <xmin>{x0 + 1}</xmin>
      <ymin>{y0 + 1}</ymin>
      <xmax>{x1}</xmax>
      <ymax>{y1}</ymax>
    </bndbox>
  </object>
"""


def write_image_sets(root: Path, scenes: Mapping[str, Sequence[Facts]]) -> list[Path]:
    """VOC's lists: ids per split, and per class and split with 1, 0 (difficult only) or -1."""
    folder = root / "voc" / "ImageSets" / "Main"
    written = []
    for split in (*SPLITS, "trainval"):
        parts = ("train", "val") if split == "trainval" else (split,)
        facts = [f for part in parts for f in scenes[part]]
        texts = {split: "".join(f"{f['id']}\n" for f in facts)}
        for name in CLASSES:
            lines = (f"{f['id']} {_presence(f, name):2d}\n" for f in facts)
            texts[f"{name}_{split}"] = "".join(lines)
        for stem, text in texts.items():
            written.append(folder / f"{stem}.txt")
            written[-1].write_text(text, encoding="utf-8")
    return written


def _presence(facts: Facts, name: str) -> int:
    difficult = [o["difficult"] for o in facts["objects"] if o["name"] == name]
    if not difficult:
        return -1
    return 0 if all(difficult) else 1


def write_coco(root: Path, split: str, scenes: Iterable[Facts]) -> Path:
    """COCO's instances JSON; its extra keys are "difficult" and "truncated" of an annotation."""
    images: list[Facts] = []
    annotations: list[Facts] = []
    for facts in scenes:
        image_id = int(facts["id"])
        images.append(
            {
                "id": image_id,
                "file_name": f"{facts['id']}.jpg",
                "width": SCENE_SIZE,
                "height": SCENE_SIZE,
                "background": facts["background"],
            }
        )
        for value in _coco_objects(facts):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **value})
    content = {
        "info": {"description": f"resdet digits, {split}", "url": "", "contributor": "resdet"},
        "licenses": [{"id": 1, "name": "see SOURCES.md", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": i, "name": name, "supercategory": "digit"} for i, name in enumerate(CLASSES, 1)
        ],
    }
    path = root / "coco" / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def _coco_objects(facts: Facts) -> list[Facts]:
    single = [_coco_object(o, iscrowd=0) for o in facts["objects"] if not o["in_crowd"]]
    crowd = facts["crowd"]
    if crowd is not None:
        single.append(_coco_object({**crowd, "difficult": 1, "truncated": 0}, iscrowd=1))
    return single


def _coco_object(facts: Facts, *, iscrowd: int) -> Facts:
    x0, y0, x1, y1 = facts["box"]
    return {
        "category_id": 1 + CLASSES.index(facts["name"]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": facts["area"],
        "iscrowd": iscrowd,
        "segmentation": {"size": [SCENE_SIZE, SCENE_SIZE], "counts": facts["counts"]},
        "difficult": facts["difficult"],
        "truncated": facts["truncated"],
    }
