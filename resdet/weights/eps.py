"""The eps of a card, given to the net that it names.

A norm divides by sqrt(variance + eps), so the same tensors under another eps are another function.
Files do not contain it; a card does. `nets.build` gives our nets 1e-5, and a net of timm or of the
user its own; where the card states another one, the net is built with that (`norm_eps`).

Not for: what a card may hold (`cards`).
"""

from __future__ import annotations

import dataclasses

import torch

from resdet import nets
from resdet.errors import WeightsError
from resdet.weights.cards import Card, norm_of_net


def with_its_eps(card: Card, where: str) -> Card:
    """The card, its net options such that the net is built with the eps that it states (F21).

    Raises:
        WeightsError: the card states an eps that is none.
    """
    stated = card.norm.get("eps")
    if stated is None:
        return card
    try:
        eps = norm_of_net(_built(card)).get("eps")
    except (ValueError, TypeError, ImportError):
        return card  # whoever builds it gives the reason
    if eps is None or stated == eps:
        return card
    if not isinstance(stated, float) or not 0 < stated < 1:
        raise WeightsError(
            f"{where}: its card has norms with eps {stated!r}, expected a number above 0 and below "
            "1, such as 1e-05. Correct the card."
        )
    return dataclasses.replace(card, net_options={**card.net_options, "norm_eps": stated})


def _built(card: Card) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            net: torch.nn.Module = nets.build(card.net, **card.net_options)
    except (RuntimeError, NotImplementedError):
        # A net of the user's may look at values while it is built.
        net = nets.build(card.net, **card.net_options)
    return net
