"""Small sets made on the spot: pictures, a VOC tree, a COCO file, each in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.support.voc_xml import annotation, tags, voc_object


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test alone."""
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    return tmp_path / "cache"


def picture(size: tuple[int, int] = (60, 40), seed: int = 0) -> Image.Image:
    """A smooth random RGB picture, (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))


def rotated_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


class VocTree:
    """A tree in VOC's layout, written piece by piece."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / folder).mkdir(parents=True)

    def image(self, name: str, size: tuple[int, int] = (100, 80), **save: Any) -> Path:
        path = self.root / "JPEGImages" / name
        picture(size, seed=sum(name.encode())).save(path, **save)
        return path

    def xml(self, image_id: str, objects: str = "", size: str = "100 80") -> Path:
        """An annotation of objects as `object` writes them; size "" leaves <size> out."""
        path = self.root / "Annotations" / f"{image_id}.xml"
        text = annotation(objects, size=size.split() or None)
        path.write_text(text, encoding="utf-8")
        return path

    def list(self, split: str, *ids: str) -> Path:
        path = self.root / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
        return path

    def add(self, image_id: str, *objects: str) -> None:
        """One image of 100 x 80 with its annotation."""
        self.image(f"{image_id}.jpg")
        self.xml(image_id, "".join(objects))

    @staticmethod
    def object(
        name: str = "dog", box: Sequence[object] = (11, 11, 50, 40), more: str | None = None
    ) -> str:
        """An <object>; `more` replaces pose, truncated and difficult."""
        if more is None:
            more = tags(pose="Left", truncated=0, difficult=0)
        return voc_object(name, box, more)


@pytest.fixture
def voc_tree(tmp_path: Path, private_cache: Path) -> VocTree:
    """An empty tree in a folder whose name has everything that paths get wrong (F70)."""
    return VocTree(tmp_path / "mes données #1?x=1" / "VOC2007")


class CocoTree:
    """A COCO file and its pictures; `content` is what will be written."""

    def __init__(self, root: Path):
        self.json = root / "annotations" / "instances_val.json"
        self.images = root / "val"
        self.json.parent.mkdir(parents=True)
        self.images.mkdir()
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "dog"}, {"id": 4, "name": "cat"}],
        }

    def image(self, image_id: Any, name: str | None = None, **more: Any) -> dict[str, Any]:
        """An entry and its picture of 100 x 80; `more` overrides the entry."""
        name = name or f"{image_id}.jpg"
        picture((100, 80), seed=sum(name.encode())).save(self.images / name)
        entry = {"id": image_id, "file_name": name, "width": 100, "height": 80, **more}
        self.content["images"].append(entry)
        return entry

    def annotation(self, **more: Any) -> dict[str, Any]:
        """An entry with a box of 30 x 20 in image 1; `more` overrides it, None takes a key out."""
        entry = {
            "id": len(self.content["annotations"]) + 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 10, 30, 20],
            "area": 500,
            "iscrowd": 0,
            **more,
        }
        entry = {k: v for k, v in entry.items() if v is not None}
        self.content["annotations"].append(entry)
        return entry

    def write(self) -> tuple[Path, Path]:
        self.json.write_text(json.dumps(self.content), encoding="utf-8")
        return self.json, self.images


@pytest.fixture
def coco_tree(tmp_path: Path, private_cache: Path) -> CocoTree:
    """A COCO file with two categories, ids 1 (dog) and 4 (cat), and nothing else yet."""
    return CocoTree(tmp_path / "mes données #1?x=1" / "coco")


@pytest.fixture
def make_picture() -> Any:
    return picture


@pytest.fixture
def make_exif() -> Any:
    return rotated_exif
