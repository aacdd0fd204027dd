"""A net's 1-crop errors on whole sets, from pixels to percent.

Not for: how errors are counted (`scoring`), or which net (`trainer`, `file_scores`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch import nn

from resdet.engine.data_workers import num_workers
from resdet.engine.speed.precision import Precision
from resdet.pretrain import augment
from resdet.pretrain.image_loading import Crops, test_batches
from resdet.pretrain.recipe.mean_image import MeanImage
from resdet.pretrain.scoring import score

logger = logging.getLogger("resdet.pretrain")


class Preparation:
    """(N, 3, H, W) RGB to the net's input, in the config's colour order, on its device.

    Images are uint8; those of float32 are less a mean image (`recipe.mean_image`).
    """

    def __init__(self, cfg: Any, precision: Precision):
        device = cfg.MODEL.DEVICE
        self.precision = precision
        self.is_bgr = cfg.INPUT.FORMAT == "BGR"
        self.mean = torch.tensor(cfg.MODEL.PIXEL_MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(cfg.MODEL.PIXEL_STD, device=device).view(1, 3, 1, 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self.mean.device, non_blocking=True)
        if self.is_bgr:
            images = images.flip(1)
        if images.is_floating_point():
            return self.precision.input(images / self.std)
        return self.precision.input((images - self.mean).div_(self.std))


def score_sets(
    cfg: Any,
    net: nn.Module,
    prepare: Preparation,
    sets: Mapping[str, Any],
    mean_image: MeanImage | None = None,
) -> dict[str, Any]:
    """1-crop errors on every set, by name; raises CheckFailed as `scoring.score`."""
    scores = {}
    for name, images in sets.items():
        crop = functools.partial(
            _test_crop,
            side=cfg.PRETRAIN.TEST_SIDE,
            crop=cfg.PRETRAIN.CROP,
            mean_image=mean_image,
        )
        batches = test_batches(
            Crops(images, crop),
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            num_workers=num_workers(cfg, images=len(images), in_memory=images.images is not None),
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        # As the net trains: ENGINE.BF16 holds for what is measured, too.
        with prepare.precision.autocast():
            errors = score(net, batches, prepare, len(images), name)
        scores[name] = {**errors, "classes": len(images.classes)}
        logger.info("%s: %s", name, in_words(scores[name]))
    return scores


def in_words(errors: Mapping[str, Any]) -> str:
    """The errors of one set, as a line has them; of five classes or fewer, of which no five guesses
    are wrong, without top-5."""
    fifth = f", top-5 error {errors['top5_error']:.2f} %" if errors["classes"] > 5 else ""
    images = errors["images"]["evaluated"]
    return f"top-1 error {errors['top1_error']:.2f} %{fifth} (1-crop, {images} images)"


def _test_crop(
    image: np.ndarray,
    generator: np.random.Generator | None,
    *,
    side: int,
    crop: int,
    mean_image: MeanImage | None,
) -> np.ndarray:
    return augment.centre_crop(image, side, crop, mean_image)
