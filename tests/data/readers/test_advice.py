"""What a page of a data set says to type is typed, as the words of a command, and leads on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resdet.config import data_options, resolve
from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.errors import DataError

KEY_AND_VALUE = re.compile(
    r"((?:DATASETS|INPUT)\.[A-Z_]+) (\"[^\"]+\"|'[^']+'(?:\S*'[^']*')*|[\w=.:/#?\\-]+)"
)


def missing(tree: Any) -> None:
    tree.image(2)
    (tree.images / "2.jpg").unlink()


def orphan(tree: Any) -> None:
    tree.annotation(image_id=77)


def without_area(tree: Any) -> None:
    tree.annotation(bbox=[10, 10, 0, 5])


def without_box(tree: Any) -> None:
    tree.annotation(bbox=[])


def outside(tree: Any) -> None:
    tree.annotation(bbox=[90, 10, 11.5, 5])


def deep(tree: Any) -> None:
    tree.image(2)["file_name"] = "2.png"
    ramp = np.arange(8000, dtype=np.uint16).reshape(80, 100)
    Image.fromarray(ramp).save(tree.images / "2.png")
    (tree.images / "2.jpg").unlink()


def several(tree: Any) -> None:
    missing(tree)
    orphan(tree)
    without_area(tree)
    without_box(tree)


FAULTS = (missing, orphan, without_area, without_box, outside, deep, several)


def options(words: list[str]) -> DataOptions:
    """As `train_det WORDS` has them."""
    return DataOptions(**data_options(resolve(None, words).cfg))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_keys_on_a_page_are_typed_and_the_set_loads(one: Any, fault: Callable[[Any], None]) -> None:
    """Each kind of fault that a key passes over; several at once, too."""
    one.annotation()
    fault(one)
    file, images = one.write()
    name = f"coco:{file}:{images}"
    with pytest.raises(DataError) as refusal:
        catalog.load_detection(name)
    typed = KEY_AND_VALUE.findall(str(refusal.value))
    assert typed, str(refusal.value)
    words = [word for key, value in dict(typed).items() for word in (key, *shlex.split(value))]
    data = catalog.load_detection(name, options=options(words))
    assert data.counts["objects"] >= 1
