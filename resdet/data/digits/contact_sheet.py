"""A contact sheet of scenes with their boxes, to look at.

Not for: pictures of detections, which are the report's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from resdet.data.digits.build import make

PLAIN, DIFFICULT, CROWD = (70, 220, 90), (255, 70, 60), (70, 150, 255)
GAP = 3


def preview(
    path: Path | str,
    folder: Path | None = None,
    *,
    split: str = "train",
    first: int = 0,
    columns: int = 6,
    rows: int = 4,
    zoom: int = 2,
) -> Path:
    """Writes a PNG of `columns` x `rows` scenes, boxes green, difficult red, crowds blue.

    The set is made first if `folder` (or the cache) does not hold it.
    """
    root = make(folder)
    file = root / "coco" / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    objects: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    images = content["images"][first : first + columns * rows]
    if not images:
        raise ValueError(f"first is {first}, but {split} holds {len(content['images'])} scenes")
    cell = images[0]["width"] * zoom + GAP
    sheet = Image.new("RGB", (columns * cell + GAP, rows * cell + GAP), "white")
    for i, info in enumerate(images):
        with Image.open(root / "voc" / "JPEGImages" / info["file_name"]) as image:
            scene = image.convert("RGB").resize((cell - GAP, cell - GAP), Image.Resampling.BICUBIC)
        _draw_boxes(scene, objects.get(info["id"], []), zoom)
        sheet.paste(scene, (GAP + i % columns * cell, GAP + i // columns * cell))
    path = Path(path)
    sheet.save(path)
    return path


def _draw_boxes(scene: Image.Image, annotations: list[dict[str, Any]], zoom: int) -> None:
    draw = ImageDraw.Draw(scene)
    for annotation in annotations:
        x, y, width, height = (v * zoom for v in annotation["bbox"])
        colour = CROWD if annotation["iscrowd"] else PLAIN
        if annotation["difficult"] and not annotation["iscrowd"]:
            colour = DIFFICULT
        draw.rectangle((x, y, x + width - 1, y + height - 1), outline=colour)
        name = str(annotation["category_id"] - 1)
        below = y < 12
        draw.text((x + 1, y + height if below else y - 12), name, fill=colour)
