"""Features of objects from kept maps."""

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.structures import Boxes, Instances

from resdet.detect.frozen.trunk_maps import MAPS
from resdet.evaluation.transferability.evidence import logme
from resdet.rank.object_scores import deepest, score


@pytest.mark.parametrize(
    ("strides", "expected"),
    [({"a": 4, "b": 16, "c": 32}, "b"), ({"a": 4, "b": 8}, "b"), ({"a": 32}, "a")],
)
def test_the_map_of_stride_sixteen_is_taken_or_the_deepest_before(strides, expected):
    assert deepest(strides) == expected


def test_constant_regions_are_the_features_by_hand():
    """Each image's map has one value in each channel, so each object's feature is that value."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(30, 3))
    boxes = generator.uniform(8, 56, size=(30, 2, 2))
    corners = np.concatenate([boxes.min(1) - 4, boxes.max(1) + 4], axis=1)
    labels = generator.integers(0, 2, size=30)

    def mapper(record):
        n = record["n"]
        objects = Instances((64, 64))
        objects.gt_boxes = Boxes(torch.tensor(corners[n : n + 1]).float())
        objects.gt_classes = torch.tensor([int(labels[n])])
        level = torch.tensor(values[n]).float()[:, None, None].expand(3, 4, 4)
        return {"instances": objects, MAPS: {"res4": level}}

    found = score([{"n": n} for n in range(30)], mapper, {"res4": 16})
    expected = logme(values, labels, corners / 64)
    assert found.objects == 30
    assert found.labels == pytest.approx(expected.labels, abs=1e-5)
    assert found.boxes == pytest.approx(expected.boxes, abs=1e-5)
