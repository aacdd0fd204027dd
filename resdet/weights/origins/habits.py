"""The card of a foreign file: the one beside it, or its origin's habits, or a refusal.

Habits are the usual conventions of an origin's files, marked as not verified. What neither states
is asked for once (`docs/faults.md` F19, F20).

Not for: what can be measured on a file (`doctor`).
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from resdet.errors import WeightsError
from resdet.weights.cards import Card, path_beside
from resdet.weights.doctor.first_layer import clashes
from resdet.weights.formats.contents import Contents
from resdet.weights.origins.identify import Identified
from resdet.weights.origins.origin import EPS, Habits
from resdet.weights.tensor_checks import is_folded


def card_of(path: Path, contents: Contents, identified: Identified, digest: str) -> Card:
    """The card of a foreign file.

    Args:
        digest: SHA-256 over the tensors under the names of the file.

    Raises:
        WeightsError: the card beside it is of other tensors or of another net, or the input
            format is not known.
    """
    beside = path_beside(path)
    if beside.exists():
        return _checked(Card.read(beside), path, identified, digest)
    habits = by_habit(path, contents, identified)
    lacking = unknown_of(habits)
    if lacking:
        raise WeightsError(
            f"{path} has no card, and {identified.origin.name}'s files do not tell "
            f"{' and '.join(lacking)}. State it once: python tools/convert_weights.py card "
            f"{shlex.quote(str(path))} "
            f"{' '.join(flag for name, flag in _FLAGS.items() if name in lacking)}"
            f"{identified.origin.hint}"
        )
    if habits.input is None:  # for mypy: it is among what would be lacking
        raise WeightsError(f"{path} has no card.")
    odd = [] if habits.verified else clashes(habits.input, identified.tensors)
    if odd:
        raise WeightsError(
            f"{path} has the names of {habits.origin}'s files; {'; '.join(odd)}. State once which "
            f"holds: python tools/convert_weights.py card {shlex.quote(str(path))} {_FLAGS[INPUT]}"
        )
    return Card(
        net=identified.net,
        net_options=habits.options,
        input=habits.input,
        norm=norm_of(identified),
        origin=habits.origin,
        verified=habits.verified,
    )


INPUT = "how its input must look"
STRIDE = "its stride rule"
_FLAGS = {
    INPUT: "--color RGB|BGR --mean M M M --std S S S",
    STRIDE: "--stride 1x1|3x3",
}


def unknown_of(habits: Habits) -> list[str]:
    """What must be asked for, in words."""
    lacking = []
    if habits.input is None:
        lacking.append(INPUT)
    if needs_stride_rule(habits.net) and "stride_in_1x1" not in habits.options:
        lacking.append(STRIDE)
    return lacking


def needs_stride_rule(net: str) -> bool:
    """Bottlenecks have a choice: the stride in the first 1x1 or in the 3x3 (F20)."""
    return net in {f"{family}{depth}" for family in ("resnet", "plain") for depth in (50, 101, 152)}


def by_habit(path: Path, contents: Contents, identified: Identified) -> Habits:
    """Conventions by the file's origin and by the records beside it."""
    options = dict(identified.options)
    if identified.net.startswith(("resnet", "plain")) and not needs_stride_rule(identified.net):
        # Basic blocks have no choice; the option is there all the same.
        options["stride_in_1x1"] = False
    habits = Habits(identified.origin.name, identified.net, identified.origin.input, options)
    return identified.origin.habits(path, contents, habits)


def norm_of(identified: Identified) -> dict[str, Any]:
    """The card's entry on norms."""
    has_norm = any(".norm." in name for name in identified.tensors)
    return {
        "kind": "BN" if has_norm else "none",
        "eps": EPS,
        "folded": identified.origin.folded or is_folded(identified.tensors),
    }


def _checked(card: Card, path: Path, identified: Identified, digest: str) -> Card:
    where = path_beside(path)
    if card.tensors_sha256 and card.tensors_sha256 != digest:
        raise WeightsError(
            f"{where} is the card of other tensors than those in {path.name} (SHA-256 "
            f"{card.tensors_sha256[:12]}, the file has {digest[:12]}). Make it anew: "
            f"python tools/convert_weights.py card {path}"
        )
    if card.net != identified.net:
        raise WeightsError(
            f"{where} has net={card.net}, but {path.name} holds a {identified.net}. Delete the "
            "card, or put it beside the file that it belongs to."
        )
    stated = card.net_options.get("stride_in_1x1")
    known = identified.options.get("stride_in_1x1")
    if known is not None and stated is not None and stated != known and needs_stride_rule(card.net):
        raise WeightsError(
            f"{where} has stride_in_1x1={stated}, but {identified.origin.name}'s files have "
            f"{known}. Delete the card, or fix it."
        )
    return card
