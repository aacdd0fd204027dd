"""What several tests of readers do: load a tree, ask for sets, read a picture with its counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resdet.data import catalog
from resdet.data.images.reader import ImageReader
from resdet.data.options import DataOptions
from resdet.data.readers.voc_reader import load_voc
from resdet.data.records import DetectionSet
from resdet.errors import DataError

HTML = b"<!DOCTYPE html>\n<html><body>Not found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102530333\n"


def load(tree, split: str = "train", **options) -> DetectionSet:
    """A tree in VOC's layout as a set named "mine"."""
    return load_voc(tree.root, split, name="mine", options=DataOptions(**options))


def boxes(data: DetectionSet, record: int = 0) -> list[list[float]]:
    return [a["bbox"] for a in data.records[record]["annotations"]]


def page(*names: str, root: Path | None = None, **more) -> str:
    """What is reported of sets that are not there."""
    with pytest.raises(DataError) as caught:
        catalog.require(names, root=root, **more)
    assert caught.value.exit_code == 2
    return str(caught.value)


def counted(path: Path, **options) -> tuple[np.ndarray, dict[str, int]]:
    """A picture, and how often what was fixed."""
    reader = ImageReader(DataOptions(**options))
    return reader.read(path), dict(reader.counts)
