"""A classifier in its parts from the images on: what has rates, or is computed again, by itself.

Not for: what the parts are (`resdet.nets.chain`), or those of a detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from resdet import nets
from resdet.errors import ConfigError
from resdet.nets.chain import Chain, stages_and_rest
from resdet.nets.timm import TimmNet

# Of a net: its stages, and what is behind them.
PARTS = ("trunk", "tail")


def stages_of(cfg: Any, net: nets.Net) -> Sequence[torch.nn.Module]:
    """The net's own, from the images on, and each layer behind them, where rates differ.

    Of a net of timm that does not run layer by layer timm's groups, but for the classifier.

    Raises:
        ConfigError: SOLVER.LAYER_DECAY is set, and the net has no such parts.
    """
    decay = cfg.SOLVER.LAYER_DECAY
    if decay == 1:
        return []
    if isinstance(net, TimmNet) and not net.runs_layer_by_layer:
        parameters = dict(net.model.named_parameters())
        try:
            groups = net.groups()
        except ValueError as error:
            why = f"SOLVER.LAYER_DECAY is {decay}, and {error}"
            raise ConfigError(f"{why}. Leave it out for this net.") from None
        return [torch.nn.ParameterList(parameters[n] for n in names) for names in groups]
    trunk, tail = (chain_of(net, part, f"SOLVER.LAYER_DECAY is {decay}") for part in PARTS)
    names = [stage.name for stage in net.stages()]
    return [*stages_and_rest(trunk, trunk.names, names), *stages_and_rest(tail, tail.names, ())]


def chain_of(net: nets.Net, part: str, why: str) -> Chain:
    """All stages one after the other, or what is behind them but for the last layer.

    Args:
        part: of `PARTS`.

    Raises:
        ConfigError: the net does not run so; begins with `why`.
    """
    last = next((stage.name for stage in reversed(net.stages())), None)
    try:
        return Chain.of(getattr(net, part)(last))
    except ValueError as error:
        raise ConfigError(f"{why}, and {error}. Leave it out for this net.") from None
