"""Mixup and CutMix: pairs of images of a batch become one, with both labels by their shares.

Torchvision's transforms do it, as its references use them: one of both in each step where both are
on, mixing each image with the one before it in the batch. They draw from torch's global generator,
which the loop seeds by (seed, step, process), so a step is the same after a resume. A process mixes
within its own share of a batch (and of a part of it, with ENGINE.IMAGES_PER_PASS).

Zhang et al. 2017 (arXiv:1710.09412); Yun et al. 2019 (arXiv:1905.04899).

Not for: label smoothing, which is an argument of the loss.
"""

from __future__ import annotations

import torch
from torchvision.transforms import v2


class LabelMixing:
    """Prepared images (N, 3, H, W) and labels (N,) to mixed images and shares (N, num_classes).

    Args:
        mixup, cutmix: alpha of each; 0 = off.
    """

    def __init__(self, mixup: float, cutmix: float, num_classes: int):
        both: list[torch.nn.Module] = []
        if mixup > 0:
            both.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
        if cutmix > 0:
            both.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
        self._transform = v2.RandomChoice(both) if both else None

    @property
    def is_off(self) -> bool:
        return self._transform is None

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._transform is not None
        mixed, shares = self._transform(images, labels)
        return mixed, shares
