"""A set in YOLO's layout, which is not read: what it is, and the command that makes it COCO's.

    data.yaml, images/train, labels/train       Ultralytics
    data.yaml, train/images, train/labels       Roboflow

The conversion is supervision's (MIT); its command was run with 0.31.2.

Not for: reading labels.
"""

from __future__ import annotations

import shlex
from pathlib import Path

_SPLITS = ("train", "val", "valid", "test")


def page_on_yolo(path: Path) -> str:
    """What to type for a data.yaml, or the folder that has one; "" for anything else."""
    root = path.parent if path.suffix in (".yaml", ".yml") else path
    described = [path] if root != path else sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    parts = [(name, *pair) for name in _SPLITS if (pair := _part(root, name))]
    if not described or not described[0].is_file() or not parts:
        return ""
    name, images, labels = parts[0]
    target = f"{name}.json"
    code = (
        "import supervision as sv; sv.DetectionDataset.from_yolo("
        f"{str(images)!r}, {str(labels)!r}, {str(described[0])!r})"
        f".as_coco(annotations_path={target!r})"
    )
    others = ", ".join(other for other, *_ in parts[1:])
    return (
        f"{path} is a set in YOLO's layout, whose labels are not read. Make it COCO's, by "
        "supervision (pip install supervision):\n"
        f"  python -c {shlex.quote(code)}\n"
        f"Then it is coco:{target}:{images}" + (f"; the same for {others}." if others else ".")
    )


def _part(root: Path, name: str) -> tuple[Path, Path] | None:
    """Images and labels of a split."""
    for images, labels in (
        (root / "images" / name, root / "labels" / name),
        (root / name / "images", root / name / "labels"),
    ):
        if images.is_dir() and labels.is_dir():
            return images, labels
    return None
