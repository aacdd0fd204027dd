"""Tiny data sets in the layouts that users have."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.voc_xml import annotation, voc_object


def picture(number: int, label: int, width: int, height: int) -> np.ndarray:
    """Noise with a bright square whose colour tells the class."""
    generator = np.random.default_rng(number)
    image = generator.integers(0, 90, (height, width, 3), dtype=np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, label] = 250
    return image


def class_folders(root: Path, per_class: int = 6) -> Path:
    for split, start in (("train", 0), ("val", 1000)):
        for label, name in enumerate(("blue", "green", "red")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                image = picture(start + 10 * i + label, label, 24, 20)
                Image.fromarray(image).save(folder / f"{i}.png")
    return root


def voc_tree(root: Path, images: int = 6) -> Path:
    """Scenes of 96 x 72 and 72 x 96 with one object each, so that grouping by shape has work."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    ids = []
    for i in range(images):
        width, height = (96, 72) if i % 3 else (72, 96)
        label = i % 2
        image_id = f"{i:06d}"
        Image.fromarray(picture(i, label, width, height)).save(
            root / "JPEGImages" / f"{image_id}.jpg", quality=95
        )
        box = (width // 4 + 1, height // 4 + 1, 3 * width // 4, 3 * height // 4)
        (root / "Annotations" / f"{image_id}.xml").write_text(
            annotation(voc_object(("ape", "bee")[label], box, difficult=0), size=(width, height)),
            encoding="utf-8",
        )
        ids.append(image_id)
    half = images // 2
    for split, part in (("train", ids[:half]), ("test", ids[half:])):
        path = root / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("\n".join(part) + "\n", encoding="utf-8")
    return root
