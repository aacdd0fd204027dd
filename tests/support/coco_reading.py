"""A COCO file of the tests, loaded as a set named "mine", or refused."""

from __future__ import annotations

import pytest

from resdet.data.checks.faults import BrokenSet
from resdet.data.options import DataOptions
from resdet.data.readers.coco_reader import load_coco
from resdet.data.records import DetectionSet


def load(tree, *, is_published: bool = False, repeats: bool = False, **options) -> DetectionSet:
    json_file, images = tree.write()
    return load_coco(
        json_file,
        images,
        name="mine",
        options=DataOptions(**options),
        is_published=is_published,
        repeats_objects=repeats,
    )


def refused(tree, **options) -> str:
    with pytest.raises(BrokenSet) as caught:
        load(tree, **options)
    return str(caught.value)
