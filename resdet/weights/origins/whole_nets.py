"""A whole net among other tensors: what trainers save with a projector, a wrapper or a detector.

A net is whole where every tensor but the last layer's is there, under one prefix, with the shape
that the net has. Other tensors are left aside by name:

    outside its prefix   all: they belong to another module (`criterion.`, `neck.`)
    inside its modules   none: `layer1.0.se.fc1` makes it another net (`docs/faults.md` F18)
    beside its modules   those called like a head, a projector or a training's own counts; any
                         other (`attention.`) may be a piece of the net, and is refused

Two whole nets in one file are refused: which one is meant is not guessed.

Not for: files that one table covers (`identify`), or which tensors a part has (`formats`).
"""

from __future__ import annotations

import fnmatch
import functools
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from resdet import nets
from resdet.errors import WeightsError, first_few
from resdet.weights.formats.contents import Contents, Tensors
from resdet.weights.formats.wrappers import TOP, how_to_choose
from resdet.weights.origins.origin import COUNTER, Origin, to_linear
from resdet.weights.origins.registry import ORIGINS, nets_of, tables
from resdet.weights.transfer import grouped

# Words in the names of modules that stand behind a trunk, or count while it trains.
_BESIDE = re.compile(
    r"fc\w*|heads?|lin|linears?|classifiers?|cls|logits?|proj\w*|mlp|predict\w*|prototypes?"
    r"|centers?|centroids?|queue|bank|memory|criterion|loss\w*|acc|accuracy|metrics?|temp|temperature"
    r"|neck|fpn|rpn|roi|bbox|decoder?|aux\w*|[89]|\d\d+"
)


class Candidate(NamedTuple):
    """One naming of one net; `trunk` are its names without the last layer's and counters."""

    origin: Origin
    net: str
    table: dict[str, str]
    known: frozenset[str]
    trunk: tuple[str, ...]


@functools.cache
def candidates() -> tuple[Candidate, ...]:
    """Every naming of every net of every origin."""
    return tuple(
        Candidate(
            origin,
            net,
            table,
            frozenset(table.values()),
            tuple(
                theirs
                for ours, theirs in table.items()
                if not ours.startswith("linear.") and not ours.endswith(COUNTER)
            ),
        )
        for origin in ORIGINS.values()
        for net in nets_of(origin.name)
        for table in tables(origin.name, net)
    )


@dataclass(frozen=True)
class WholeNet:
    """A whole net under a prefix.

    Attributes:
        prefix: with its dot, "" for the top.
        tensors: the net's, without the prefix; the last layer's where they are there.
        others: names of all other tensors, as in the file.
        doubtful: those of them that may be a piece of the net.
    """

    prefix: str
    candidate: Candidate
    tensors: Tensors
    others: tuple[str, ...]
    doubtful: tuple[str, ...]


def the_one(contents: Contents, where: str, net: str | None = None) -> WholeNet | None:
    """The whole net in a file that no table covers; None where there is none.

    Args:
        net: only this one, by our name.

    Raises:
        WeightsError: there are several, or something beside it may be a piece of it; names what
            to type.
    """
    found = _find(contents.tensors, net)
    if contents.part and any(not f.prefix for f in found):
        found = [f for f in found if not f.prefix]
    if not found:
        return None
    if len(found) > 1:
        full = [_full(contents, f.prefix) for f in found]
        named = [
            f"{p} ({f.candidate.origin.name}'s {f.candidate.net})"
            for p, f in zip(full, found, strict=True)
        ]
        raise WeightsError(
            f"{where} holds {len(found)} whole nets: {', '.join(named)}. Which one is meant is not "
            f"guessed: {how_to_choose(full)}"
        )
    (one,) = found
    # A part that was asked for is the net: what lies beside it was seen.
    if one.doubtful and not contents.part:
        modules = grouped(one.doubtful)
        raise WeightsError(
            f"{where}: every tensor of {one.candidate.origin.name}'s {one.candidate.net} is there, "
            f"and {len(one.doubtful)} others beside them that may be a piece of it, which makes it "
            f"another net:\n{first_few(modules, 5)}\nIf they are none, say so: "
            f"{how_to_choose([_full(contents, one.prefix)])} If they are, use it as a net of your "
            "own: docs/own_net.md."
        )
    return one


def _full(contents: Contents, prefix: str) -> str:
    """What to type for the net under a prefix of what was read, a key before it as it was asked."""
    taken = "".join(w for w in contents.wrappers if w.endswith("."))
    key = f"{contents.key}/" if contents.key else ""
    return shlex.quote(f"{key}{taken + prefix or TOP}")


def _find(tensors: Mapping[str, torch.Tensor], net: str | None) -> list[WholeNet]:
    """One per prefix; of namings that fit alike the first, as `identify` takes it."""
    found: dict[str, WholeNet] = {}
    for candidate in candidates():
        first = candidate.trunk[0]
        if net not in (None, candidate.net):
            continue
        for name in tensors:
            prefix = name.removesuffix(first)
            is_prefix = name.endswith(first) and (not prefix or prefix.endswith("."))
            if is_prefix and prefix not in found and (one := _whole(tensors, prefix, candidate)):
                found[prefix] = one
    return list(found.values())


def _whole(
    tensors: Mapping[str, torch.Tensor], prefix: str, candidate: Candidate
) -> WholeNet | None:
    if not all(f"{prefix}{name}" in tensors for name in candidate.trunk):
        return None
    inside = {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}
    patterns = candidate.origin.extras
    mine = {
        n: t
        for n, t in inside.items()
        if n in candidate.known or any(fnmatch.fnmatchcase(n, p) for p in patterns)
    }
    modules = {name.partition(".")[0] for name in candidate.trunk}
    strangers = [n for n in inside if n not in mine]
    if any(n.partition(".")[0] in modules for n in strangers):
        return None
    ours = {o: mine[t] for o, t in candidate.table.items() if t in mine}
    options, _ = options_of(candidate.net, ours)
    try:
        shapes = shapes_of(candidate.net, 1, options)
    except WeightsError:
        return None  # no net is so narrow
    # fc6 and fc7 of timm's VGG are convolutions there: the same numbers in another shape.
    for name, tensor in to_linear(ours).items():
        if not name.startswith("linear.") and tensor.shape != shapes.get(name):
            return None
    return WholeNet(
        prefix,
        candidate,
        mine,
        tuple(n for n in tensors if not n.startswith(prefix) or n[len(prefix) :] not in mine),
        tuple(f"{prefix}{n}" for n in strangers if not _is_beside(n)),
    )


def _is_beside(name: str) -> bool:
    """Called like what stands behind a trunk, or counts while it trains."""
    return any(_BESIDE.fullmatch(word) for word in name.partition(".")[0].lower().split("_"))


def options_of(net: str, ours: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], int]:
    """Options of `nets.build` that shapes state outright, and the number of classes."""
    options: dict[str, Any] = {}
    first = ours.get("stem.conv1.weight", ours.get("conv1.0.weight"))
    if first is not None and first.ndim:
        width = first.shape[0] / (16 if net.startswith("cifar_") else 64)
        if width != 1:
            options["width"] = width
    fc6 = ours.get("fc6.bias")
    if fc6 is not None and fc6.ndim and fc6.shape[0] != 4096:
        options["fc_channels"] = fc6.shape[0]
    last = ours.get("linear.bias")
    return options, last.shape[0] if last is not None and last.ndim else 1000


def shapes_of(net: str, num_classes: int, options: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Shape of every tensor of a net; nothing is computed.

    Raises:
        WeightsError: there is no such net, or none with these options.
    """
    try:
        with torch.device("meta"):
            built: torch.nn.Module = nets.build(net, num_classes, **options)
    except (ValueError, ImportError) as error:
        raise WeightsError(f"the net of the file cannot be built: {error}") from None
    return {name: t.shape for name, t in built.state_dict().items()}
