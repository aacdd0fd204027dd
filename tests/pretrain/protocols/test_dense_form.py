"""Nets over larger images: equal to the crop at their own size, to single windows elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from resdet import nets
from resdet.errors import ConfigError
from resdet.pretrain.protocols.dense_form import DenseForm
from resdet.pretrain.protocols.scoring import Scorer
from resdet.pretrain.protocols.view_protocol import make_protocol
from resdet.pretrain.protocols.views import views_of
from tests.support.foreign_nets import randomised

# Narrow, so that each runs in a moment; conv and pooling are those of the full nets.
NETS = {
    "resnet18": {"width": 0.25},
    "resnet50": {"width": 0.125},
    "plain18": {"width": 0.25},
    "vgg11": {"width": 0.125, "fc_channels": 64},
    "vgg16_bn": {"width": 0.125, "fc_channels": 64},
}


def built(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomised(nets.build(name, 7, **NETS[name]))


def prepare(images: torch.Tensor) -> torch.Tensor:
    return images.float().div(255).sub(0.5)


def scored(net: torch.nn.Module, image: np.ndarray, kind: str, **options: object) -> np.ndarray:
    protocol = make_protocol(kind, crop=224, side=options.pop("side", 256), **options)  # type: ignore[arg-type]
    with torch.no_grad():
        return Scorer(net, protocol, prepare)([(0, views_of(image, protocol))])[0]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth, as photographs are, 224 x 224."""
    small = np.random.default_rng(0).random((1, 3, 9, 9)).astype(np.float32)
    wide = F.interpolate(torch.from_numpy(small), (224, 224), mode="bicubic").clamp(0, 1)
    return wide[0].permute(1, 2, 0).mul(255).byte().numpy()


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("name", NETS)
def test_dense_at_224_is_the_centre_crop(name: str, average: str, photo: np.ndarray) -> None:
    """A square image of the net's own size has one position."""
    net = built(name)
    dense = scored(net, photo, "dense", sizes=[224], flip=False, average=average)
    centre = scored(net, photo, "centre", stated_side=224)
    np.testing.assert_allclose(dense, centre, atol=2e-4, rtol=1e-4)
    assert np.ptp(centre) > 0.1


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_the_mean_over_image_and_mirror_image(name: str, photo: np.ndarray) -> None:
    """By hand, from two calls of the net."""
    net = built(name)
    dense = scored(net, photo, "dense", sizes=[224])
    x = prepare(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])
    with torch.no_grad():
        expected = (net(x).double().softmax(1) + net(x.flip(3)).double().softmax(1)) / 2
    np.testing.assert_allclose(np.exp(dense), expected[0].numpy(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vgg16_bn"])
def test_every_position_is_the_net_on_its_window(name: str) -> None:
    """The class scores at a position are those of the classifier on that window of the map."""
    net = built(name)
    form = DenseForm(net, 224, "probabilities")
    x = torch.randn(2, 3, 288, 320, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cells = form._map(x)
        found = form.score_map(x)
        assert found.shape[-2:] == (cells.shape[-2] - 6, cells.shape[-1] - 6)
        for top in range(found.shape[-2]):
            for left in range(found.shape[-1]):
                window = cells[:, :, top : top + 7, left : left + 7]
                if name.startswith("vgg"):
                    expected = net.linear(net.fc7(net.fc6(window)))
                else:
                    expected = net.linear(window.mean((2, 3)))
                torch.testing.assert_close(found[:, :, top, left], expected, atol=1e-4, rtol=1e-3)
        logs = torch.log_softmax(found.flatten(2).double(), 1).exp().mean(2).log()
        torch.testing.assert_close(form(x), logs)


def test_the_last_layer_as_a_convolution_is_global_pooling() -> None:
    """A 1x1 convolution at every cell of the larger map, then the mean: what the net gives."""
    net = built("resnet18")
    x = torch.randn(1, 3, 288, 320, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        form = DenseForm(net, 224, "logits")
        every_cell = F.conv2d(form._map(x), net.linear.weight[..., None, None], net.linear.bias)
        expected = torch.log_softmax(every_cell.double().mean((2, 3)), 1)
        torch.testing.assert_close(form(x), expected, atol=1e-5, rtol=1e-4)


def test_sizes_are_averaged_as_probabilities(photo: np.ndarray) -> None:
    net = built("resnet18")
    sizes = [scored(net, photo, "dense", sizes=[s]) for s in (224, 256)]
    both = scored(net, photo, "dense", sizes=[224, 256])
    np.testing.assert_allclose(np.exp(both), np.exp(sizes).mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_ten_crops_of_a_constant_image_are_its_centre_crop(name: str) -> None:
    """All ten are the same picture, so is their mean, whatever is averaged."""
    net = built(name)
    image = np.full((300, 400, 3), (200, 30, 90), dtype=np.uint8)
    centre = scored(net, image, "centre")
    for average in ("probabilities", "logits"):
        ten = scored(net, image, "10-crop", average=average)
        np.testing.assert_allclose(ten, centre, atol=1e-5, rtol=1e-5)


def test_ten_crops_are_the_mean_of_ten_forward_passes() -> None:
    """torchvision's ten_crop, one by one; softmax, or logits first."""
    from PIL import Image
    from torchvision.transforms import functional

    net = built("resnet18")
    image = np.random.default_rng(0).integers(0, 256, (320, 384, 3), dtype=np.uint8)
    crops = functional.ten_crop(functional.resize(Image.fromarray(image), 240), 224)
    with torch.no_grad():
        logits = torch.cat(
            [net(prepare(functional.pil_to_tensor(c)[None])).double() for c in crops]
        )
    found = scored(net, image, "10-crop", stated_side=240)
    np.testing.assert_allclose(np.exp(found), logits.softmax(1).mean(0), atol=1e-5, rtol=1e-3)
    found = scored(net, image, "10-crop", stated_side=240, average="logits")
    np.testing.assert_allclose(np.exp(found), logits.mean(0).softmax(0), atol=1e-5, rtol=1e-3)


def test_what_cannot_be_dense_is_refused() -> None:
    net = built("vgg11")
    with pytest.raises(ConfigError, match="a map of 6 x 6 cells, and the net needs 7 x 7"):
        DenseForm(net, 224, "logits")(torch.zeros(1, 3, 192, 200))
    with pytest.raises(ConfigError, match="has 5 x 5 cells, and its fc6 takes 7 x 7"):
        DenseForm(net, 160, "logits")
    fixed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with pytest.raises(ConfigError, match="takes no image of 4 x 4 pixels"):
        DenseForm(fixed, 2, "logits")(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ConfigError, match="known of resdet's own nets alone, not of a Sequential"):
        DenseForm(fixed, 2, "probabilities")
