"""Crops whose boxes are where the pixels are, views that lead back, regions as squares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from resdet.data.images.reader import ImageReader
from resdet.detect.localization.loc_images import (
    CropMapper,
    RegionMapper,
    centre_view,
    warped,
    whole_views,
)

BOX = (30, 20, 90, 80)  # of a red rectangle in a picture 150 wide and 100 high


def picture() -> np.ndarray:
    image = np.zeros((100, 150, 3), dtype=np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2], 0] = 255
    return image


def box_of_red(image: torch.Tensor) -> list[int]:
    """The box of the pixels that are red in a (3, H, W) image in RGB."""
    rows, columns = np.nonzero(image[0].numpy() > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.fixture
def record(tmp_path: Path) -> dict[str, object]:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    objects = [{"bbox": [*map(float, BOX)], "category_id": 4},
               {"bbox": [0.0, 0, 9, 9], "category_id": 2}]  # fmt: skip
    return {"file_name": str(tmp_path / "a.png"), "annotations": objects, "label": 4, "image_id": 1}


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "mirrored"])
def test_boxes_of_a_crop_are_where_its_pixels_are(record: dict[str, object], flip: bool) -> None:
    """Of the image's class alone; found again by colour, within a pixel of resizing."""
    mapper = CropMapper(ImageReader(), "RGB", 64, (80, 120), flip)
    seen = set()
    for seed in range(12):
        np.random.seed(seed)  # noqa: NPY002 it is the global one that they draw from
        item = mapper(record)
        assert item["image"].shape == (3, 64, 64)
        if not len(item["boxes"]):  # the crop has four pixels of it at most
            rows, columns = np.nonzero(item["image"][0].numpy() > 127)
            assert min(len(set(rows)), len(set(columns))) <= 5
            continue
        assert len(item["boxes"]) == 1
        off = np.abs(np.array(box_of_red(item["image"])) - item["boxes"][0].numpy())
        assert off.max() <= 1.0
        seen.add(tuple(item["boxes"][0].tolist()))
    assert len(seen) > 4


def test_a_view_leads_back_to_the_image() -> None:
    """The red rectangle's box in the view, brought back, is its box in the image."""
    views = [centre_view(picture(), 120, 110, "RGB"), *whole_views(picture(), (60, 200), "RGB")]
    assert [tuple(v.image.shape[1:]) for v in views] == [(110, 110), (60, 90), (200, 300)]
    for view in views:
        back = view.to_image(torch.tensor([box_of_red(view.image)], dtype=torch.float32))
        # What the centre crop cuts off is not found.
        expected = list(BOX) if view.corner == (0, 0) else [max(BOX[0], 29.17), *BOX[1:]]
        assert np.abs(back[0].numpy() - expected).max() <= 1.3


def test_colours_in_the_order_of_the_net() -> None:
    view = whole_views(picture(), (100,), "BGR")[0]
    assert view.image[2].max() == 255 and view.image[0].max() == 0


def test_a_region_of_its_own_size_is_the_pixels_themselves() -> None:
    """60 x 60 warped to 60 x 60; a region outside is moved in and has a pixel at least."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    expected = noise[BOX[1] : BOX[3], BOX[0] : BOX[2]].transpose(2, 0, 1)
    assert np.array_equal(warped(image, BOX, 60, "RGB").numpy(), expected)
    corner = warped(image, (200.0, -50.0, 300.0, 0.4), 8, "RGB").numpy()
    assert np.array_equal(corner, np.broadcast_to(noise[0, 149][:, None, None], (3, 8, 8)))


def test_a_drawn_region_has_the_object_that_it_overlaps_most(record: dict[str, object]) -> None:
    """By hand: the object itself (1), its left half (0.5), a part of a third (1/3), mirrored or
    not: the box and its object are mirrored with the pixels."""
    proposals = np.array([BOX, (30, 20, 60, 80), (30, 20, 50, 80)], dtype=np.float32)
    positive = {tuple(map(float, BOX)): True, (30.0, 20.0, 60.0, 80.0): True,
                (30.0, 20.0, 50.0, 80.0): False}  # fmt: skip
    mapper = RegionMapper(ImageReader(), "RGB", 16, True, overlap=0.5, share=0.5)
    mirrored = 0
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002 it is the global one that they draw from
        item = mapper({**record, "proposals": proposals})
        box, gt = item["box"].tolist(), item["gt_box"].tolist()
        if gt[0] != BOX[0]:
            mirrored += 1
            box, gt = ([150 - b[2], b[1], 150 - b[0], b[3]] for b in (box, gt))
        assert gt == list(map(float, BOX))
        assert item["positive"] == positive[tuple(box)]
        assert item["image"][0].min() > 200  # red all over
    assert 0 < mirrored < 20


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 250), (1.0, 1000)])
def test_a_share_of_the_samples_is_drawn_from_the_positive_proposals(
    record: dict[str, object], share: float, expected: int
) -> None:
    """One of 50 proposals is the object; of 1,000 samples 250 at a share of 0.25, within four
    standard deviations (13.7) of the binomial."""
    outside = np.tile(np.array([[100, 10, 140, 90]], dtype=np.float32), (49, 1))
    proposals = np.concatenate([outside, np.array([BOX], dtype=np.float32)])
    mapper = RegionMapper(ImageReader(), "RGB", 4, False, overlap=0.5, share=share)
    np.random.seed(0)  # noqa: NPY002 it is the global one that they draw from
    drawn = sum(mapper({**record, "proposals": proposals})["positive"] for _ in range(1000))
    assert abs(drawn - expected) <= (55 if 0 < share < 1 else 0)


def test_without_a_proposal_of_one_side_the_other_is_drawn(record: dict[str, object]) -> None:
    inside, outside = np.array([BOX], np.float32), np.array([[100, 10, 140, 90]], np.float32)
    for proposals, share in ((outside, 1.0), (inside, 0.0)):
        mapper = RegionMapper(ImageReader(), "RGB", 4, False, overlap=0.5, share=share)
        item = mapper({**record, "proposals": proposals})
        assert item["box"].tolist() == proposals[0].tolist()
