"""A classifier in its parts from the images on: what has rates, or is computed again, by itself.

Not for: what the parts are (`resdet.nets.chain`), or those of a detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from resdet import nets
from resdet.errors import ConfigError
from resdet.nets.chain import Chain, stages_and_rest
from resdet.nets.timm import TimmNet


def stages_of(cfg: Any, net: nets.Net) -> Sequence[torch.nn.Module]:
    """The net's own, from the images on, and each layer behind them, where rates differ.

    Of a net of timm that does not run layer by layer, or has no tail, timm's groups, but for the
    classifier.

    Raises:
        ConfigError: SOLVER.LAYER_DECAY is set, and the net has no such parts.
    """
    decay = cfg.SOLVER.LAYER_DECAY
    if decay == 1:
        return []
    if isinstance(net, TimmNet) and (net.not_split or not net.runs_layer_by_layer):
        parameters = dict(net.model.named_parameters())
        try:
            groups = net.groups()
        except ValueError as error:
            page = f"SOLVER.LAYER_DECAY is {decay}, and {error}. Leave it out for this net."
            raise ConfigError(page) from None
        return [torch.nn.ParameterList(parameters[n] for n in names) for names in groups]
    why = f"SOLVER.LAYER_DECAY is {decay}"
    trunk, tail = chain_of(net, "trunk", why), chain_of(net, "tail", why)
    names = [stage.name for stage in net.stages()]
    # The tail of a detector, which begins behind the shared stage.
    behind = [name for name in tail.names if name not in trunk.names]
    return [*stages_and_rest(trunk, trunk.names, names), *stages_and_rest(tail, behind, ())]


def chain_of(net: nets.Net, part: Literal["trunk", "tail"], why: str) -> Chain:
    """All stages one after the other, or what is behind the shared one but for the last layer.

    Raises:
        ConfigError: the net does not run so; begins with `why`.
    """
    last = next((stage.name for stage in reversed(net.stages())), None)
    try:
        return Chain.of(net.trunk(last) if part == "trunk" else net.tail())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{why}, and {error}. Leave it out for this net.") from None
