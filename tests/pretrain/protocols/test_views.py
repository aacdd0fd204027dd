"""The views of each protocol, against torchvision's crops, and protocols with their options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")
from torchvision.transforms import functional

from resdet.errors import ConfigError
from resdet.pretrain.protocols.view_protocol import make_protocol
from resdet.pretrain.protocols.views import views_of


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_ten_crops_are_torchvisions() -> None:
    """Its five_crop of the resized picture: top left, top right, bottom left, bottom right, centre;
    180 x 240 becomes 24 x 32 in both, without rounding."""
    image = noise(180, 240)
    (found,) = views_of(image, make_protocol("10-crop", crop=18, side=24))
    resized = functional.resize(Image.fromarray(image), 24)
    assert resized.size == (32, 24)
    expected = np.stack([np.asarray(c) for c in functional.five_crop(resized, 18)])
    assert np.array_equal(found, expected)


def test_a_whole_image_is_padded_for_ten_crops() -> None:
    """CIFAR: 32 x 32 with four black pixels around, so 40 x 40; the centre is the image itself."""
    image = noise(32, 32)
    protocol = make_protocol("10-crop", crop=32, side=32)
    assert protocol.pad == 4
    (found,) = views_of(image, protocol)
    assert found.shape == (5, 32, 32, 3)
    assert np.array_equal(found[4], image)
    assert np.array_equal(found[0][4:, 4:], image[:28, :28])
    assert not found[0][:4].any() and not found[0][:, :4].any()
    assert np.array_equal(found[3][:28, :28], image[4:, 4:])
    assert make_protocol("10-crop", crop=32, side=32, pad=0).pad == 0
    assert make_protocol("10-crop", crop=224, side=256).pad == 0


def test_dense_views_are_whole_images() -> None:
    """The shorter side is the size, the ratio stays: 30 x 40 to 15 x 20 and 60 x 80."""
    found = views_of(noise(30, 40), make_protocol("dense", crop=15, side=18, sizes=[15, 60]))
    assert [v.shape for v in found] == [(1, 15, 20, 3), (1, 60, 80, 3)]


def test_the_papers_sizes_are_the_default() -> None:
    """He et al. 2015, section 3.4; in proportion for a net of 299: 299 x 256 / 224 = 341.7."""
    protocol = make_protocol("dense", crop=224, side=256)
    assert protocol.sizes == (224, 256, 384, 480, 640)
    assert protocol.flip and protocol.average == "logits"
    assert make_protocol("dense", crop=299, side=342).sizes == (299, 342, 513, 641, 854)


def test_the_filter_is_an_option() -> None:
    """Pillow's own bicubic."""
    image = noise(64, 64)
    (found,) = views_of(image, make_protocol("centre", crop=20, side=20, resize="bicubic"))
    expected = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("centre", {"sizes": [224]}, "--sizes is for --protocol dense"),
        ("centre", {"average": "logits"}, "--average is for --protocol 10-crop or dense"),
        ("centre", {"pad": 4}, "--pad is for --protocol 10-crop"),
        ("10-crop", {"flip": False}, "--no-flip is for --protocol dense"),
        ("dense", {"stated_side": 256}, "--side is for --protocol centre or 10-crop"),
        ("dense", {"sizes": [224, 224]}, "--sizes are 224 224: give each once"),
        ("dense", {"sizes": [0]}, "above 0"),
        ("centre", {"stated_side": 100}, "a crop of 224 pixels does not fit into .* of 100"),
        ("10-crop", {"stated_side": 200, "pad": 4}, "200 padded by 4"),
        ("centre", {"stated_side": 0}, "does not fit into a shorter side of 0"),
    ],
)
def test_an_option_is_read_or_refused(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_protocol(kind, crop=224, side=256, **options)


def test_each_protocol_has_a_name_of_its_own() -> None:
    """Names are parts of file names: whatever changes a number changes the name."""
    made = [
        make_protocol("centre", crop=224, side=256),
        make_protocol("centre", crop=224, side=232),
        make_protocol("centre", crop=192, side=256),
        make_protocol("centre", crop=224, side=256, resize="bicubic"),
        make_protocol("10-crop", crop=224, side=256),
        make_protocol("10-crop", crop=224, side=256, pad=8),
        make_protocol("10-crop", crop=224, side=256, average="logits"),
        make_protocol("dense", crop=224, side=256),
        make_protocol("dense", crop=224, side=256, sizes=[224]),
        make_protocol("dense", crop=224, side=256, flip=False),
        make_protocol("dense", crop=224, side=256, average="probabilities"),
        make_protocol("dense", crop=192, side=256, sizes=[224]),
    ]
    assert len({p.tag for p in made}) == len(made)
    assert all("/" not in p.tag and " " not in p.tag for p in made)
