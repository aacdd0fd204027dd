"""A COCO tree to begin with."""

from __future__ import annotations

import pytest


@pytest.fixture
def one(coco_tree):
    """A tree with one image of 100 x 80, id 1, and no annotation yet."""
    coco_tree.image(1)
    return coco_tree
