"""Multi-scale testing: which two scales, what is merged, one scale as the detector itself."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from resdet.config import get_cfg
from resdet.data import DataOptions
from resdet.data.images.reader import ImageReader
from resdet.detect.detecting_form import check_form
from resdet.detect.loading import Mapper
from resdet.detect.paper.image_views import PYRAMID, VIEWS, MemberView, PyramidMapper, longest_side
from resdet.detect.paper.scales import lower_of_two, on_size, pooled_features
from resdet.detect.paper.tester import ImprovedDetector, Improvements
from resdet.errors import ConfigError
from tests.support import improved

# The paper's pyramid of an image of 600 x 900 at the test's size.
SIZES = [(200, 300), (400, 600), (600, 900), (800, 1200), (1000, 1500)]


def square(side):
    return [10.0, 20.0, 10.0 + side, 20.0 + side]


@pytest.mark.parametrize(
    ("side", "lower"),
    [
        (300, 400),  # 200 pixels at 400, 300 at 600
        (224, 600),  # 224 x 224 exactly
        (100, 800),  # below 224 on all five: 167 at 1000
        (580, 200),  # 193 at 200, 387 at 400
        (700, 200),  # above 224 on all five: 233 at 200
    ],
)
def test_the_two_scales_are_those_around_224_pixels(side, lower):
    """By the square root of the region's area; at the ends of the pyramid its last two."""
    expected = {200: 0, 400: 1, 600: 2, 800: 3}[lower]
    places = lower_of_two(torch.tensor([square(side)]), (600, 900), SIZES)
    assert places.tolist() == [expected]


def test_an_oblong_region_counts_by_its_area():
    """448 x 112 has 224 x 224 pixels."""
    boxes = torch.tensor([[0.0, 0, 448, 112], [0, 0, 112, 448]])
    assert lower_of_two(boxes, (600, 900), SIZES).tolist() == [2, 2]


def test_the_larger_value_of_the_two_scales_is_kept():
    """Levels whose feature is known: the sides of the region there, and a number of the level."""
    signs = {200: 5.0, 400: -1.0, 600: 3.0, 800: 7.0, 1000: 2.0}
    seen = []

    def region_features(level, boxes):
        seen.append((level.size[0], len(boxes)))
        sides = boxes[:, 2] - boxes[:, 0]
        return torch.stack([sides, torch.full_like(sides, signs[level.size[0]])], dim=1)

    parts = SimpleNamespace(region_features=region_features)
    levels = [SimpleNamespace(size=size) for size in SIZES]
    boxes = torch.tensor([square(300), square(100), square(700)])
    features = pooled_features(parts, boxes, (600, 900), levels)
    # 300 on 400 and 600: 200 and 300 wide; 100 on 800 and 1000; 700 on 200 and 400.
    expected = torch.tensor([[300, 3], [100 * 1000 / 600, 7], [700 * 400 / 600, 5]])
    torch.testing.assert_close(features, expected)
    assert seen == [(200, 1), (400, 2), (600, 1), (800, 1), (1000, 1)]


def test_boxes_go_with_the_size_of_the_image():
    boxes = torch.tensor([[10.0, 20, 30, 40]])
    assert on_size(boxes, (600, 900), (600, 900)) is boxes
    assert on_size(boxes, (600, 900), (300, 1800)).tolist() == [[20, 10, 60, 20]]


@pytest.fixture
def picture(tmp_path):
    """90 x 131 pixels, in a file."""
    path = tmp_path / "p.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return {"file_name": str(path), "image_id": 1, "height": 90, "width": 131, "annotations": []}


def config_of_test(min_size=96, max_size=160):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = min_size, max_size
    return cfg


@pytest.mark.parametrize("case", ["basic", "resnet fpn"])
def test_one_scale_that_is_the_tests_is_the_detector_to_the_bit(case, picture):
    model, cfg, reader = improved.detector(case), config_of_test(), ImageReader(DataOptions())
    given = PyramidMapper([MemberView(cfg, (96,))], reader)(picture)
    plain = Mapper.of(cfg, reader, is_train=False)(picture)
    assert torch.equal(given["image"], plain["image"]) and "annotations" not in given
    with torch.no_grad():
        scaled = ImprovedDetector([model], Improvements(scales=(96,)))([given])
        improved.same_to_the_bit(model([plain]), scaled)
        several = ImprovedDetector([model], Improvements(scales=(64, 96, 128)))
        given = PyramidMapper([MemberView(cfg, (64, 96, 128))], reader)(picture)
        other = several([given])[0]["instances"]
    scores = scaled[0]["instances"].scores
    assert len(other) > 3
    assert len(scores) != len(other) or not torch.allclose(scores, other.scores, atol=1e-4)


def test_sizes_of_the_pyramid_are_resized_by_the_tests_rule(picture):
    """90 x 131: shorter sides 48, 96, 192; the longest in proportion to 96 and 120, or 150."""
    reader = ImageReader(DataOptions())
    cfg = config_of_test(96, 120)
    shapes = [tuple(i.shape[1:]) for i in views(cfg, reader, picture)]
    assert shapes == [(41, 60), (82, 120), (165, 240)]
    cfg.TEST.SCALES_MAX_SIZE = 150
    shapes = [tuple(i.shape[1:]) for i in views(cfg, reader, picture)]
    assert shapes == [(48, 70), (96, 140), (103, 150)]


def views(cfg, reader, picture):
    return PyramidMapper([MemberView(cfg, (48, 96, 192))], reader)(picture)[VIEWS][0][PYRAMID]


def test_views_of_one_size_have_one_image(picture):
    """Of two members and a pyramid with the test's size: each size is resized once."""
    cfg, rgb = config_of_test(), config_of_test()
    rgb.INPUT.FORMAT = "RGB"
    mapper = PyramidMapper(
        [MemberView(cfg, (64, 96)), MemberView(cfg), MemberView(rgb, (64,))],
        ImageReader(DataOptions()),
    )
    first, second, third = mapper(picture)[VIEWS]
    assert len(mapper.mappers) == 4
    assert first["image"] is first[PYRAMID][1] is second["image"] and second[PYRAMID] == []
    assert torch.equal(third[PYRAMID][0], first[PYRAMID][0].flip(0))


def test_a_size_that_two_scales_give_is_one_level(picture):
    """The longest side limits both; the pair is then of the two that are left."""
    model, reader, cfg = improved.detector("basic"), ImageReader(DataOptions()), config_of_test()
    cfg.TEST.SCALES_MAX_SIZE = 140
    given = PyramidMapper([MemberView(cfg, (64, 192, 256))], reader)(picture)
    seen, maps = [], model.backbone.forward
    model.backbone.forward = lambda x: seen.append(tuple(x.shape[2:])) or maps(x)
    with torch.no_grad():
        ImprovedDetector([model], Improvements(scales=(64, 192, 256)))([given])
    # The test's size for the proposals, then the two different ones of the pyramid.
    assert seen == [(96, 140), (64, 93)]


def test_what_scales_need_is_refused_where_it_lacks():
    cfg, model = config_of_test(0), improved.detector("basic")
    cfg.TEST.SCALES = (64, 96)
    with pytest.raises(ConfigError, match="INPUT.MIN_SIZE_TEST is 0 .* TEST.SCALES_MAX_SIZE"):
        check_form(model, cfg)
    cfg.TEST.SCALES_MAX_SIZE = 200
    check_form(model, cfg)
    assert longest_side(cfg, 64) == 200
    cfg.TEST.SCALES = ()
    with pytest.raises(ConfigError, match="SCALES_MAX_SIZE is 200, which is read with TEST.SCALES"):
        check_form(model, cfg)
