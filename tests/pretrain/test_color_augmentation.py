"""AlexNet's colour shift against an eigen-decomposition done by hand: orientation, order, unit."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

from resdet.pretrain.augment import shift_color

# He et al. cite AlexNet; fb.resnet.torch has these numbers, for RGB in [0, 1].
LARGEST = 0.2175


class Alphas:
    """A generator whose normal numbers are given."""

    def __init__(self, *alphas):
        self.alphas = np.array(alphas)

    def normal(self, mean, std, size):
        assert (mean, size) == (0.0, 3)
        return self.alphas * std


def shift_of(*alphas, std=1.0):
    """The shift in levels, read off a grey image that no shift takes out of range."""
    grey = np.full((2, 2, 3), 128, np.uint8)
    found = shift_color(grey, std, Alphas(*alphas)).astype(int) - 128
    assert (found == found[0, 0]).all()
    return found[0, 0]


def components():
    """The three shifts of alpha = 1 over 255: eigenvector times eigenvalue, within half a level."""
    return np.array([shift_of(*row) for row in np.eye(3)]) / 255


def test_the_shift_is_the_eigenvector_times_eigenvalue_times_alpha():
    """First component by hand: 255 * 0.2175 * (-0.5675, -0.5808, -0.5836) = (-31, -32, -32)."""
    assert shift_of(1, 0, 0).tolist() == [-31, -32, -32]
    # 255 * 0.0188 * (0.7192, -0.0045, -0.6948): red against blue.
    assert shift_of(0, 1, 0).tolist() == [3, 0, -3]
    # 255 * 0.0045 * (0.4009, -0.8140, 0.4203), four times: green against both.
    assert shift_of(0, 0, 4).tolist() == [2, -4, 2]
    assert shift_of(1, 0, 0, std=0.1).tolist() == [-3, -3, -3]


def test_the_components_are_those_of_a_covariance_matrix():
    """The matrix that they make, V diag(l) V', has them as eigenvectors by numpy's eigh."""
    scaled = components()
    values = np.linalg.norm(scaled, axis=1)
    assert values[0] == pytest.approx(LARGEST, abs=0.005)
    vectors = (scaled / values[:, None]).T
    covariance = vectors @ np.diag(values) @ vectors.T
    found, directions = np.linalg.eigh(covariance)
    order = np.argsort(found)[::-1]
    for place, other in enumerate(order[:2]):
        cosine = abs(vectors[:, place] @ directions[:, other])
        # A component of 4 levels is rounded to whole ones.
        assert cosine > (0.999, 0.98)[place]


def test_real_photographs_have_the_same_first_component(shared_data):
    """Eigen-decomposition of the pixels of the ImageNet sample: brightness, and its size of 0.2."""
    files = sorted((shared_data / "imagenet_sample").rglob("*.[jJ][pP]*[gG]"))
    assert len(files) >= 50
    pixels = []
    for file in files:
        with Image.open(file) as picture:
            small = picture.convert("RGB").resize((32, 32), Image.Resampling.NEAREST)
        pixels.append(np.asarray(small, np.float64).reshape(-1, 3) / 255)
    values, vectors = np.linalg.eigh(np.cov(np.concatenate(pixels).T))
    first, scaled = vectors[:, -1], components()[0]
    assert abs(first @ scaled) / np.linalg.norm(scaled) > 0.99
    # The unit is that of variances of RGB in [0, 1]: 60 photographs give the size, not the digits.
    assert values[-1] == pytest.approx(LARGEST, rel=0.35)
