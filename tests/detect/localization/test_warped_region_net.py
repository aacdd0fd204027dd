"""R-CNN's outputs against its whole layers, and boxes that its targets bring to the object."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("detectron2")

from resdet.detect.localization.warped_region_net import WarpedRegionNet
from resdet.errors import ConfigError


class SmallNet(nn.Module):
    """Mean colours to features; a last layer to be taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.mean(dim=(2, 3)))


def built() -> WarpedRegionNet:
    torch.manual_seed(0)
    model = WarpedRegionNet(SmallNet(), 4, pixel_mean=(10, 20, 30), pixel_std=(1, 2, 4))
    nn.init.normal_(model.cls.weight)
    nn.init.normal_(model.reg.weight, std=0.1)
    return model


def regions(number: int) -> torch.Tensor:
    return torch.randint(0, 60, (number, 3, 8, 8), dtype=torch.uint8)


def test_outputs_are_those_of_the_class() -> None:
    """The siblings as whole layers on the features, which are mean colours, normalised."""
    model, images = built(), regions(3)
    label = torch.tensor([2, 0, 3])
    features = (images.float().mean(dim=(2, 3)) - torch.tensor([10.0, 20, 30])) / torch.tensor(
        [1.0, 2, 4]
    )
    logits, deltas = model.outputs(images, label)
    rows = torch.arange(3)
    torch.testing.assert_close(logits, model.cls(features)[rows, label])
    torch.testing.assert_close(deltas, model.reg(features).view(3, 4, 4)[rows, label])


def test_losses_by_hand() -> None:
    """Binary cross entropy of the mean; smooth L1 of the positive one over the batch of two."""
    model, images = built(), regions(2)
    box, gt = torch.tensor([0.0, 0, 10, 10]), torch.tensor([1.0, 0, 11, 10])
    batch = [
        {"image": images[0], "label": 1, "box": box, "gt_box": gt, "positive": True},
        {"image": images[1], "label": 2, "box": box, "gt_box": gt, "positive": False},
    ]
    losses = model(batch)
    logits, deltas = model.outputs(images, torch.tensor([1, 2]))
    cls = (F.softplus(-logits[0]) + F.softplus(logits[1])) / 2
    # The box is one of its ten pixels to the left of the object: dx 0.1, times 10.
    off = (deltas[0] - torch.tensor([1.0, 0, 0, 0])).abs()
    reg = torch.where(off < 1, off**2 / 2, off - 0.5).sum() / 2
    torch.testing.assert_close(losses["loss_rcnn_cls"], cls)
    torch.testing.assert_close(losses["loss_rcnn_reg"], reg)
    assert losses["metric/positive_regions"] == 0.5


def test_rescored_regions_are_moved_and_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the deltas of the objects the boxes are the objects, cut to the image, best first."""
    model = built()
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 25, 15]])
    objects = torch.tensor([[2.0, 1, 12, 9], [22, 18, 44, 44], [4, 4, 20, 20]])
    logits = torch.tensor([0.0, 2.0, -1.0])
    deltas = model.transform.get_deltas(boxes, objects)
    chunks = iter([(logits[:2], deltas[:2]), (logits[2:], deltas[2:])])
    monkeypatch.setattr(model, "outputs", lambda images, label: next(chunks))
    found = model.rescored(regions(3), boxes, 1, (42, 60), 2)
    expected = objects[[1, 0, 2]].clone()
    expected[0, 3] = 42
    torch.testing.assert_close(found.boxes, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.scores, logits[[1, 0, 2]].sigmoid())
    assert len(model.rescored(regions(0), boxes[:0], 1, (42, 60), 2).scores) == 0


def test_a_net_without_a_known_last_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"LOC\.RCNN needs a net of resdet's own.*Sequential"):
        WarpedRegionNet(nn.Sequential(), 4, pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
