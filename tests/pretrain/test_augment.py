"""Crops: sizes, ranges and the two recipes, by hand."""

import numpy as np
import pytest

from resdet.pretrain import augment


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def crop(kind, image, seed=0, **options):
    settings = {"crop": 24, "jitter": (32, 48), "flip": False, "color_std": 0.0, **options}
    return augment.TrainCrop(kind=kind, **settings)(image, generator(seed))


@pytest.mark.parametrize("kind", augment.KINDS)
@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (26, 26)])
def test_every_kind_gives_the_square_asked_for(kind, shape):
    image = np.zeros((*shape, 3), dtype=np.uint8)
    result = crop(kind, image)
    assert result.shape == (24, 24, 3) and result.dtype == np.uint8


def test_unknown_kind_lists_the_known():
    with pytest.raises(ValueError, match="'jitter', expected one of paper, area, pad, none"):
        crop("jitter", np.zeros((30, 30, 3), dtype=np.uint8))


def test_the_shorter_side_is_resized_and_the_ratio_kept():
    image = np.zeros((100, 200, 3), dtype=np.uint8)
    assert augment.resize_shorter(image, 50).shape == (50, 100, 3)
    assert augment.resize_shorter(image.transpose(1, 0, 2), 50).shape == (100, 50, 3)


def test_centre_crop_takes_the_middle():
    """224 of 256: 16 pixels on either side (worked by hand)."""
    image = np.zeros((256, 256, 3), dtype=np.uint8)
    image[16:240, 16:240] = 9
    assert (augment.centre_crop(image, 256, 224) == 9).all()


def test_padding_shows_zeros_of_at_most_four_pixels():
    """He et al. 2015, section 4.2: pad 4, crop 32."""
    image = np.full((32, 32, 3), 7, dtype=np.uint8)
    seen = [crop("pad", image, seed, crop=32) for seed in range(200)]
    borders = [int((c[:, 16, 0] == 0).sum()) for c in seen]
    assert max(borders) == 4 and min(borders) == 0


def test_flip_mirrors_half_of_the_time():
    image = np.zeros((24, 24, 3), dtype=np.uint8)
    image[:, 0] = 255
    flipped = [crop("none", image, seed, flip=True)[0, -1, 0] == 255 for seed in range(400)]
    assert 160 < sum(flipped) < 240


def test_colour_shift_is_one_for_all_pixels_along_the_components():
    """AlexNet: the shift is P (alpha * lambda) * 255 (constants of fb.resnet.torch)."""
    image = np.full((4, 4, 3), 128, dtype=np.uint8)
    shifts = [augment.shift_color(image, 0.1, generator(s)).astype(int) - 128 for s in range(500)]
    assert all((s == s[0, 0]).all() for s in shifts)
    spread = np.std([s[0, 0, 0] for s in shifts])
    # dominated by 0.1 * 0.2175 * 0.5675 * 255 = 3.15 grey levels in red
    assert 2.7 < spread < 3.6


def test_the_same_generator_gives_the_same_crop():
    image = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    for kind in ("paper", "area"):
        a, b = (crop(kind, image, 5, flip=True, color_std=0.1) for _ in range(2))
        assert (a == b).all()
