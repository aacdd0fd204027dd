"""The eps of a card against the eps of the net that it names.

A norm divides by sqrt(variance + eps), so the same tensors under another eps are another function.
Files do not contain it; a card does, and `nets.build` decides it: ours have 1e-5, a net of timm or
of the user has its own.

Not for: what a card may hold (`cards`).
"""

from __future__ import annotations

import torch

from resdet import nets
from resdet.errors import WeightsError
from resdet.weights.cards import Card, norm_of_net


def refuse_other_eps(card: Card, where: str) -> None:
    """Raises WeightsError where the card states an eps that its net would not have (F21)."""
    stated = card.norm.get("eps")
    if stated is None:
        return
    try:
        built = _built(card)
    except (ValueError, TypeError, ImportError):
        return  # whoever builds it says why not
    eps = norm_of_net(built).get("eps")
    if eps is None or stated == eps:
        return
    raise WeightsError(
        f"{where}: its card has norms with eps {stated!r}, and {card.net} is built with {eps:g}: "
        "the same tensors would be another function. Use it as a net of your own that is built "
        "with this eps (docs/own_net.md); where the card is wrong, correct it."
    )


def _built(card: Card) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            net: torch.nn.Module = nets.build(card.net, **card.net_options)
    except (RuntimeError, NotImplementedError):
        # A net of the user's may look at values while it is built.
        net = nets.build(card.net, **card.net_options)
    return net
