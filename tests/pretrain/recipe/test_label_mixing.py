"""Mixup and CutMix: the formula by hand, torchvision's own reference, and shares that sum to 1."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from resdet.pretrain.recipe.label_mixing import LabelMixing

CLASSES = 5


def batch(size=4, side=8):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, 3, side, side, generator=generator)
    return images, torch.arange(size) % CLASSES


def test_mixup_is_one_share_of_an_image_and_the_rest_of_the_one_before():
    """x = s * x_i + (1 - s) * x_(i-1), the labels likewise (Zhang et al. 2017)."""
    images, labels = batch()
    torch.manual_seed(3)
    mixed, shares = LabelMixing(0.2, 0.0, CLASSES)(images, labels)
    share = shares[0, labels[0]].item()
    assert 0 < share < 1
    before = images.roll(1, 0)
    torch.testing.assert_close(mixed, share * images + (1 - share) * before)
    expected = share * F.one_hot(labels, CLASSES) + (1 - share) * F.one_hot(labels.roll(1), CLASSES)
    torch.testing.assert_close(shares, expected.float())


def test_cutmix_shares_are_the_areas():
    """A rectangle of the image before it, and labels by the cells counted in the result."""
    images, labels = batch()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, shares = LabelMixing(0.0, 1.0, CLASSES)(images, labels)
        own = (mixed == images).all(1).float().mean((1, 2))
        torch.testing.assert_close(shares[torch.arange(4), labels], own)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        assert torch.equal((mixed == images) | (mixed == images.roll(1, 0)), mixed == mixed)


@pytest.mark.parametrize("seed", range(6))
def test_both_are_chosen_as_torchvisions_references_choose(seed):
    """references/classification: RandomChoice of MixUp(alpha) and CutMix(alpha) on a batch."""
    images, labels = batch()
    reference = v2.RandomChoice(
        [v2.MixUp(alpha=0.2, num_classes=CLASSES), v2.CutMix(alpha=1.0, num_classes=CLASSES)]
    )
    torch.manual_seed(seed)
    expected = reference(images, labels)
    torch.manual_seed(seed)
    found = LabelMixing(0.2, 1.0, CLASSES)(images, labels)
    assert all(map(torch.equal, found, expected))


def test_both_occur():
    """A step with both on takes one of them: CutMix leaves every value as it was."""
    images, labels = batch()
    mixing, cut = LabelMixing(1.0, 1.0, CLASSES), 0
    for seed in range(40):
        torch.manual_seed(seed)
        mixed, _ = mixing(images, labels)
        cut += bool(((mixed == images) | (mixed == images.roll(1, 0))).all())
    assert 5 < cut < 35


def test_off_is_off():
    assert LabelMixing(0.0, 0.0, CLASSES).is_off
    assert not LabelMixing(0.1, 0.0, CLASSES).is_off and not LabelMixing(0.0, 1.0, 3).is_off


def test_the_loss_of_shares_is_the_sum_of_the_labels_losses():
    """Cross entropy of mixed labels, with smoothing: worked from two plain losses."""
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(2)).double()
    labels = torch.tensor([0, 1, 2, 3])
    shares = 0.7 * F.one_hot(labels, CLASSES) + 0.3 * F.one_hot(labels.roll(1), CLASSES)
    one, other = (F.cross_entropy(logits, y, label_smoothing=0.1) for y in (labels, labels.roll(1)))
    found = F.cross_entropy(logits, shares.double(), label_smoothing=0.1)
    torch.testing.assert_close(found, 0.7 * one + 0.3 * other)
