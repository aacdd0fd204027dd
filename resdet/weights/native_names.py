"""Files whose tensors are called as in the net itself: timm's, and a user's own.

No table is needed, only the net's name: timm's `config.json` beside the file has it, or the card
beside it (`convert_weights card FILE --net timm:convnext_tiny`). Names and shapes must then be
the net's, every one.

Not for: nets of ours, which other origins call otherwise (`origins`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from resdet import nets
from resdet.errors import WeightsError, first_few
from resdet.weights.cards import Card, card_of_timm, path_beside, timm_input, timm_record
from resdet.weights.formats.contents import Contents, Tensors
from resdet.weights.origins.origin import COUNTER
from resdet.weights.transfer import grouped

TIMM = "timm:"


def known(path: Path, contents: Contents, digest: str) -> tuple[Tensors, Card] | None:
    """The tensors as they are, and their card; None where nothing names such a net.

    Args:
        digest: SHA-256 over the tensors.

    Raises:
        WeightsError: the net is named, and the file does not hold it; or its library is missing.
    """
    beside = path_beside(path)
    if beside.exists():
        card = Card.read(beside)
        if not has_own_names(card.net):
            return None
        if card.tensors_sha256 != digest:
            raise WeightsError(
                f"{beside} is the card of other tensors than those in {path.name}. Make it anew: "
                f"python tools/convert_weights.py card {path} --net {card.net}"
            )
        return check(contents, card.net, card.net_options, path), card
    record = timm_record(path)
    name = f"{TIMM}{record.get('architecture')}" if record else ""
    if not record or record.get("architecture") in nets.names() or "/" in name:
        return None
    net = _built(name, {}, contents.tensors, path)
    tensors = check(contents, name, {}, path)
    input_ = timm_input(path, record)
    return tensors, replace(card_of_timm(net), input=input_, verified=True)


def has_own_names(net: str) -> bool:
    """A net of timm, or one that the user registered: no table of ours knows its tensors."""
    return net.startswith(TIMM) or net in nets.registered()


def card_for(path: Path, contents: Contents, net: str) -> Card | None:
    """A card for a net that the user names: timm's own record; None for a net of the user's own.

    Raises:
        WeightsError: there is no such net, or the file does not hold it.
    """
    built = _built(net, {}, contents.tensors, path)
    check(contents, net, {}, path)
    return card_of_timm(built) if net.startswith(TIMM) else None


def check(contents: Contents, net: str, options: dict[str, Any], path: Path) -> Tensors:
    """The tensors under the net's own names, with prefixes that were taken off where it has them.

    Raises:
        WeightsError: names, shapes or types are not the net's, batch counters aside.
    """
    tensors = contents.tensors
    expected = _built(net, options, tensors, path).state_dict()
    full = contents.full_names()
    if not set(tensors) & set(expected) and set(full) & set(expected):
        tensors = full
        expected = _built(net, options, tensors, path).state_dict()
    missing = [n for n in expected if n not in tensors and not n.endswith(COUNTER)]
    strangers = [n for n in tensors if n not in expected]
    odd = [
        f"{n}: {t.dtype} {tuple(t.shape)} in the file, {tuple(expected[n].shape)} in the net"
        for n, t in tensors.items()
        if n in expected
        and (
            t.shape != expected[n].shape or t.is_floating_point() != expected[n].is_floating_point()
        )
    ]
    if not (missing or strangers or odd):
        return tensors
    lines = [f"{path} does not hold a {net}:"]
    for what, found in (
        ("missing in the file", grouped(missing)),
        ("in the file, but not in the net", grouped(strangers)),
        ("of another shape or type", odd),
    ):
        if found:
            lines += [f"{what} ({len(found)}):", first_few(found, 5)]
    raise WeightsError("\n".join(lines))


def _built(net: str, options: dict[str, Any], tensors: Tensors, path: Path) -> Any:
    """The net on no device, with as many classes as the file's last layer has outputs."""
    try:
        number = nets.classes_in(tensors, net, **options)
        with torch.device("meta"):
            return nets.build(net, number or 1000, **options)
    except (ValueError, ModuleNotFoundError, ImportError) as error:
        raise WeightsError(f"{path}: {error}") from None
