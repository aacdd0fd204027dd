"""MODEL.WEIGHTS into the net of a classification training, with the same input and norms.

Not for: counting tensors (`resdet.weights.transfer`), or scoring a file (`file_scores`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from resdet import nets, weights
from resdet.errors import ConfigError
from resdet.run import layout
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.pretrain")


def start_from_weights(training: Any) -> str | None:
    """Puts MODEL.WEIGHTS into the net, every tensor counted; gives their SHA-256.

    The last layer starts fresh where the classes are others.

    Args:
        training: a `trainer.Pretraining`, not begun.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape. ConfigError: their
            input differs from the config's.
    """
    where = training.cfg.MODEL.WEIGHTS
    if not where:
        return None
    file = WeightFile(where, training.cfg.MODEL.WEIGHTS_PART or None)
    tensors, card = file.load()
    if aside := file.left_aside():
        logger.info("%s: %s", where, aside)
    stated, theirs = (
        (i.color_order, tuple(i.mean), tuple(i.std)) for i in (training.input, card.input)
    )
    if training.input.mean_image != card.input.mean_image:
        raise ConfigError(
            f"PRETRAIN.MEAN_IMAGE is {training.cfg.PRETRAIN.MEAN_IMAGE}, and {where} was trained "
            f"{'with another' if card.input.mean_image else 'without a'} mean image. Start "
            "from weights with the same input, or from none."
        )
    if stated != theirs:
        raise ConfigError(
            f"INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD are {stated}, but the card of "
            f"{where} has {theirs}. Use the card's."
        )
    if card.norm.get("folded"):
        raise ConfigError(
            f"The norms of {where} are folded into its convolutions: they can only stay "
            "frozen, and a classifier trains them. Use weights with their statistics."
        )
    _refuse_other_arithmetic(training.net_options, card, where)
    new = list(training.cfg.TRANSFER.NEW)
    if card.classes != training.train_set.classes:
        new += nets.last_layer(training.cfg.MODEL.NET.NAME, **training.net_options)
    received = weights.transfer(training.net, tensors, where=where, declared_new=tuple(new))
    logger.info("%s: %s\n%s", where, received, received.table())
    training.run.write(layout.TRANSFER, {"file": where, **received.to_dict()})
    training.run.note_weights_source(file.source)
    return card.tensors_sha256 or None


def _refuse_other_arithmetic(options: Mapping[str, Any], card: weights.Card, where: str) -> None:
    """Options that change what the same tensors compute, and no shape (F20, F21)."""
    for option, key in (("stride_in_1x1", "STRIDE_IN_1X1"), ("norm_eps", "NORM_EPS")):
        theirs, ours = card.net_options.get(option), options.get(option)
        is_told = option == "norm_eps" or None not in (theirs, ours)
        if is_told and theirs != ours:
            own = "0.0" if option == "norm_eps" else "the family's"
            raise ConfigError(
                f"MODEL.NET.{key} is {own if ours is None else ours}, but the card of {where} "
                f"has {own if theirs is None else theirs}. Use the card's."
            )
