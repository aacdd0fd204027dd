"""How much room files of proposals take, before they are made.

Not for: how many proposals are good (`resdet.evaluation.proposals`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from resdet.engine.starts.start_checks import DiskNeed, bytes_in, free_bytes, size_in_words
from resdet.errors import TrainingStopped
from resdet.formats.proposal_file import HEADER_BYTES, IMAGE_BYTES, ROW_BYTES


def most_of_an_image(cfg: Any, model: nn.Module, *, as_in_training: bool) -> int:
    """How many proposals the RPN can keep of one image: no more than there are anchors.

    Args:
        model: with Detectron2's `RPN` as its `proposal_generator`; it may be on "meta".
        as_in_training: as many as for training, of the image as it is tested.
    """
    rpn: Any = model.proposal_generator
    keys = cfg.MODEL.RPN
    before, after = (
        (keys.PRE_NMS_TOPK_TRAIN, keys.POST_NMS_TOPK_TRAIN)
        if as_in_training
        else (keys.PRE_NMS_TOPK_TEST, keys.POST_NMS_TOPK_TEST)
    )
    longest = cfg.INPUT.MAX_SIZE_TEST
    shortest = min(cfg.INPUT.MIN_SIZE_TEST, longest)
    if not shortest:  # images as they are
        return int(after)
    generator = rpn.anchor_generator
    anchors = [
        per_cell * math.ceil(shortest / stride + 1) * math.ceil(longest / stride + 1)
        for stride, per_cell in zip(generator.strides, generator.num_anchors, strict=True)
    ]
    return int(min(after, sum(min(before, number) for number in anchors)))


def proposal_bytes(cfg: Any, model: nn.Module, images: int, *, as_in_training: bool) -> int:
    """Of the file of a set with so many images, at most; arguments as of `most_of_an_image`."""
    return file_bytes(images, most_of_an_image(cfg, model, as_in_training=as_in_training))


def file_bytes(images: int, most: int) -> int:
    """Of a file of proposals of so many images, at most so many of each."""
    return HEADER_BYTES + images * (most * ROW_BYTES + IMAGE_BYTES)


def with_proposals(
    need: DiskNeed, cfg: Any, model: nn.Module, images: Sequence[int], *, as_in_training: bool
) -> DiskNeed:
    """What a training needs that makes proposals of sets with so many images."""
    files = [proposal_bytes(cfg, model, n, as_in_training=as_in_training) for n in images]
    return replace(need, proposals=sum(files), proposal_parts=max(files, default=0))


def require_room(folder: Path, size: int, parts: Path, left: float = 1.0) -> None:
    """Room for a file of proposals, and for the parts that it is joined of.

    Args:
        size: of the file, at most. parts: the folder of those that are there.
        left: the share of the images that these do not have.

    Raises:
        TrainingStopped: the disk of `folder` has less; states both.
    """
    # Of finished images their own size is known, which is as much once more in the file.
    need, free = 2 * round(size * left) + bytes_in(parts), free_bytes(folder)
    if free < need:
        raise TrainingStopped(
            f"the disk of {folder} has {size_in_words(free)} free; proposals may need "
            f"{size_in_words(need)}, as their parts are there until they are joined. Free space, "
            "and run the same command with --resume."
        )
