"""Stand-ins for ImageNet's and COCO's trees: their layout, counts and quirks, by hard links.

A few dozen JPEGs are made from scikit-image's photographs, and each image of a tree is one more
name of one of these (ext4 allows 65,000 names a file), so that a tree of 1.28 million costs folders
alone. The inode of an image is therefore always warm: times of a real, cold disk are longer for
every reader alike.

    imagenet/train/    1,000 folders n10000000 … of about equal size, <folder>_<number>.JPEG
    shards/            train-000000.tar …, 1,000 images each (small ones of 1 kB: what a start reads
                       are headers), with .cls beside each, and classes.txt
    coco/              annotations/instances_train2017.json, train2017/000000000009.jpg …

Quirks of the real files that readers meet: grey and CMYK JPEGs; in the JSON polygons of several
parts, crowds as run lengths, images without objects, and from 100,000 objects on a box of height 0
and boxes that overhang by 0.01 px.

Not for: measuring (`measure`).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 1000
IMAGENET_TRAIN, COCO_TRAIN = 1_281_167, 118_287
# Of train2017: objects an image, crowds among them, images without any, vertices of a polygon.
OBJECTS, CROWD_SHARE, EMPTY_SHARE, VERTICES = 860_001 / COCO_TRAIN, 0.0118, 0.0086, 22.0
# Below the root that DETECTRON2_DATASETS names.
JSON, IMAGES = "coco/annotations/instances_train2017.json", "coco/train2017"
FOLDERS = "imagenet/train"
SHARDS, IMAGES_OF_SHARD = "shards", 1000
# ext4's limit is 65,000.
MOST_LINKS = 60_000
SIZES = ((640, 480), (640, 427), (480, 640), (500, 375), (640, 360), (333, 500))
COPIES = 6  # originals of each size, so that 1.28 million links have room


def make_originals(folder: Path) -> list[tuple[Path, tuple[int, int]]]:
    """JPEGs of about COCO's sizes in bytes, and their (width, height)."""
    from skimage import data

    folder.mkdir(parents=True)
    photographs = [Image.fromarray(getattr(data, n)()) for n in ("astronaut", "chelsea", "coffee")]
    originals = []
    for number in range(COPIES * len(SIZES)):
        size = SIZES[number % len(SIZES)]
        picture = photographs[number % len(photographs)].resize(size)
        path = folder / f"{number}.jpg"
        # One in 36 grey, one CMYK, as in both sets.
        mode = {7: "L", 20: "CMYK"}.get(number, "RGB")
        picture.convert(mode).save(path, "JPEG", quality=80 + number % 12)
        originals.append((path, size))
    return originals


def make_class_folders(folder: Path, images: int) -> Path:
    """The root of so many images in 1,000 class folders."""
    originals = make_originals(folder / "originals")
    images = min(images, MOST_LINKS * len(originals))
    root = folder / FOLDERS
    for label in range(CLASSES):
        name = f"n{10_000_000 + 9_301 * label:08d}"
        (root / name).mkdir(parents=True)
        for number in range(label, images, CLASSES):
            os.link(originals[number % len(originals)][0], root / name / f"{name}_{number}.JPEG")
    return root


def make_shards(folder: Path, images: int) -> Path:
    """The folder of so many images in tar shards; classes follow each other, as when shuffled."""
    originals = [_small_jpeg(number) for number in range(36)]
    root = folder / SHARDS
    root.mkdir(parents=True)
    classes = [f"n{10_000_000 + 9_301 * label:08d}" for label in range(CLASSES)]
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    for shard, start in enumerate(range(0, images, IMAGES_OF_SHARD)):
        with tarfile.open(root / f"train-{shard:06d}.tar", "w") as tar:
            for number in range(start, min(images, start + IMAGES_OF_SHARD)):
                label = number * 7 % CLASSES
                key = f"{classes[label]}_{number}"
                contents = (("jpg", originals[number % 36]), ("cls", str(label).encode()))
                for suffix, content in contents:
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return root


def _small_jpeg(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    picture = Image.fromarray(noise).resize((48, 36), Image.Resampling.BICUBIC)
    picture.save(stream, "JPEG", quality=60)
    return stream.getvalue()


def make_coco(folder: Path, images: int) -> tuple[Path, Path]:
    """The JSON file and the folder of so many images, with COCO's number of objects an image."""
    originals = make_originals(folder / "originals")
    root = folder / IMAGES
    root.mkdir(parents=True)
    (folder / JSON).parent.mkdir()
    generator = np.random.default_rng(0)
    ids = np.sort(generator.choice(5 * images + 600, images, replace=False)) + 1
    entries = []
    for number, image_id in enumerate(ids.tolist()):
        path, (width, height) = originals[number % len(originals)]
        name = f"{image_id:012d}.jpg"
        os.link(path, root / name)
        entries.append(
            {
                "license": 1 + number % 8,
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                "height": height,
                "width": width,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.staticflickr.com/8186/{image_id}_z.jpg",
                "id": image_id,
            }
        )
    generator.shuffle(entries)
    with (folder / JSON).open("w", encoding="ascii") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": ')
        json.dump(entries, file)
        file.write(', "annotations": [')
        for number, text in enumerate(_annotations(entries, round(OBJECTS * images), generator)):
            file.write(", " * (number > 0) + text)
        categories = [{"supercategory": "thing", "id": i, "name": n} for i, n in _categories()]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return folder / JSON, root


def _categories() -> list[tuple[int, str]]:
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    return [(c["id"], c["name"]) for c in COCO_CATEGORIES if c["isthing"]]


def _annotations(
    entries: list[dict[str, object]], count: int, generator: np.random.Generator
) -> Iterator[str]:
    """So many annotations as text, objects of an image scattered over the file as in COCO's."""
    shares = 0.4 + generator.gamma(1.1, size=len(entries))
    shares[: round(EMPTY_SHARE * len(entries))] = 0
    owner = generator.choice(len(entries), count, p=shares / shares.sum()).tolist()
    category = generator.choice([i for i, _ in _categories()], count).tolist()
    vertices = np.maximum(3, generator.gamma(2.0, VERTICES / 2, count)).astype(int).tolist()
    crowd = (generator.random(count) < CROWD_SHARE).tolist()
    fractions = generator.random((count, 4)).tolist()
    # Shapes are drawn from a few thousand, scaled to each box.
    angles = [np.sort(generator.random(v)) * 2 * np.pi for v in vertices[:4000]]
    outlines = [np.stack([np.cos(a), np.sin(a)], 1) / 2 + 0.5 for a in angles]
    for row in range(count):
        entry = entries[owner[row]]
        limit = (int(str(entry["width"])), int(str(entry["height"])))
        box = _box(limit, fractions[row])
        area = round(0.6 * box[2] * box[3], 4)
        if row == 99_990:
            box[3] = area = 0.0
        if row in (99_991, 99_992):
            box[0] = round(limit[0] - box[2] + 0.01, 2)
        if crowd[row]:
            shape = _run_lengths(limit, box)
        else:
            shape = _polygon(box, outlines[row % len(outlines)])
        yield (
            f'{{"segmentation": {shape}, "area": {area}, "iscrowd": {int(crowd[row])}, '
            f'"image_id": {entry["id"]}, "bbox": {box}, "category_id": {category[row]}, '
            f'"id": {1000 + 7 * row}}}'
        )


def _box(limit: tuple[int, int], fractions: list[float]) -> list[float]:
    """x, y, width, height in hundredths of a pixel, inside the image."""
    sides = [max(2.0, round(limit[k] * fractions[k] ** 2, 2)) for k in (0, 1)]
    corner = [int((limit[k] - sides[k]) * fractions[2 + k]) for k in (0, 1)]
    return [*map(float, corner), *sides]


def _polygon(box: list[float], outline: np.ndarray) -> str:
    """One part, or two where there are many vertices."""
    numbers = (outline * box[2:] + box[:2]).round(2).ravel().tolist()
    parts = [numbers] if len(numbers) < 80 else [numbers[:30], numbers[30:]]
    return str(parts)


def _run_lengths(limit: tuple[int, int], box: list[float]) -> str:
    """The box as COCO's uncompressed run lengths, column by column."""
    width, height = limit
    x, y, w, h = (int(v) for v in box)
    w, h = max(1, w), max(1, h)
    counts, before = [], x * height + y
    for _ in range(w):
        counts += [before, h]
        before = height - h
    rest = width * height - sum(counts)
    if rest:
        counts.append(rest)
    return str({"counts": counts, "size": [height, width]}).replace("'", '"')
