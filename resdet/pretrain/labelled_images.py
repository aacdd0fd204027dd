"""Labelled images for the weight doctor, from class folders or CIFAR's files.

Not for: training or scoring a classifier (`trainer`, `scoring`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resdet import bounded_files
from resdet.data.readers.cifar import LAYOUTS, cifar_folder, load_cifar
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import ClassificationSet
from resdet.errors import DataError
from resdet.pretrain.augment import centre_crop

# Shorter side before the centre crop, over the crop: 256 for 224, as in the usual 1-crop test.
MARGIN = 256 / 224


def read_images(
    root: Path, size: int, num_outputs: int, classes: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled images as (N, size, size, 3) uint8 RGB, and the output each belongs to.

    Args:
        root: class folders, or CIFAR's binary files (its test images are read).
        num_outputs: K of the classifier.
        classes: a line per output, in order; None: `root`/synsets.txt, or one output per folder.

    Raises:
        DataError: nothing is there, or the folders cannot be matched to the outputs.
    """
    kind = next((k for k in LAYOUTS if cifar_folder(root, k).is_dir()), None)
    if kind is None and root.name in {layout.folder for layout in LAYOUTS.values()}:
        root, kind = root.parent, next(k for k in LAYOUTS if LAYOUTS[k].folder == root.name)
    if kind is not None:
        data = load_cifar(root, kind, "test")
    else:
        data = load_folder(root, name=root.name)
    places = _places(data, root, num_outputs, classes)
    side = round(size * MARGIN)
    images = [
        image if image.shape[:2] == (size, size) else centre_crop(image, side, size)
        for image in map(data.read, range(len(data)))
    ]
    return np.stack(images), places[data.labels]


def _places(
    data: ClassificationSet, root: Path, num_outputs: int, classes: Path | None
) -> np.ndarray:
    """(number of folders,) the output of each."""
    if classes is None and (root / "synsets.txt").exists():
        classes = root / "synsets.txt"
    if classes is None:
        if len(data.classes) != num_outputs:
            raise DataError(
                f"{root} has {len(data.classes)} classes, the classifier {num_outputs} outputs: "
                "which is which is not known. Give --classes FILE, a line per output with the "
                "name of its folder."
            )
        return np.arange(num_outputs)
    listed = listed_classes(classes)
    if len(listed) != num_outputs:
        raise DataError(
            f"{classes} has {len(listed)} lines, the classifier {num_outputs} outputs: expected a "
            "line per output."
        )
    unknown = [name for name in data.classes if name not in listed]
    if unknown:
        raise DataError(
            f"{classes} has no line for {len(unknown)} of the folders in {root} "
            f"(first: {unknown[0]})."
        )
    return np.array([listed.index(name) for name in data.classes])


def listed_classes(path: Path) -> list[str]:
    """The names in a file with a line per output: "0 n01440764 tench", "n01440764 tench", "tench".

    Raises:
        DataError: it cannot be read.
    """
    try:
        lines = bounded_files.read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    words = [line.split() for line in lines if line.strip()]
    return [w[1] if len(w) > 1 and w[0].isdigit() else w[0] for w in words]
