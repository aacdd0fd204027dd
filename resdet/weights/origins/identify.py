"""Whose file this is, identified by the full set of names in it.

One table (`registry.tables`) must cover all names but for known extras, and the shapes must be
those of the net; nothing is matched by shape (`docs/faults.md` F18). The net inside a Detectron2
detector is taken out of its backbone and region heads.

Not for: reading files (`formats`), what values mean (`registry`), or proving what cannot be read
from names (`doctor`).
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from resdet.errors import WeightsError
from resdet.weights.cards import Card
from resdet.weights.formats.contents import Contents, Tensors
from resdet.weights.origins import whole_nets
from resdet.weights.origins.origin import COUNTER, Origin
from resdet.weights.origins.registry import ORIGINS, to_our_values
from resdet.weights.origins.whole_nets import Candidate, candidates, options_of, shapes_of

# Share of a net that a file may lack and be identified; usual partial files lack a stage.
MOST_MISSING = 1 / 3
# Parts of a Detectron2 detector that are no part of its net.
DETECTOR_PARTS = (
    "proposal_generator.",
    "roi_heads.",
    "backbone.fpn_",
    "pixel_",
    "anchor_generator",
)


@dataclass(frozen=True)
class Identified:
    """What a file holds, in our terms.

    Attributes:
        origin: whose conventions; `net` and `options` are for `resdet.nets.build`.
        tensors: under our names, with our meaning.
        missing: tensors of the net, by our names, that the file lacks.
        extras: names in the file that belong to no net and were left out.
        detector: "" or the kind of Detectron2 detector around the net ("C4", "FPN", "DC5").
        notes: conversions that were done, in sentences.
        own: the net's tensors under the names that its origin gives them.
    """

    origin: Origin
    net: str
    options: dict[str, Any]
    num_classes: int
    tensors: Tensors
    missing: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    detector: str = ""
    notes: tuple[str, ...] = field(default=())
    own: Tensors = field(default_factory=dict)


def identify(
    contents: Contents, where: str, card: Card | None = None, *, net_given: bool = False
) -> Identified:
    """Whose file this is, and its tensors under our names.

    The net is the one whose table covers every name in the file and lacks the fewest: a file may
    lack tensors (transfer counts them), but not hold unknown ones. Where no table covers the file,
    it is the one net that is whole in it (`whole_nets`).

    Args:
        card: of the file, where it has one: its net and options must fit.
        net_given: the user states which net it is, whatever the file states.

    Raises:
        WeightsError: no table covers the file and no net is whole in it, or several are, or its
            shapes are of another net; shows the first name or shape that does not fit.
    """
    tensors, detector, extras = _out_of_detector(contents.tensors)
    match = (_as_in_card(tensors, card) if card else None) or _best(tensors)
    if match is None:
        one = whole_nets.the_one(contents, where, card.net if card else None)
        if one is None:
            raise WeightsError(_unknown(tensors, where))
        tensors, extras = one.tensors, list(one.others)
        match = one.candidate, [n for n in one.tensors if n not in one.candidate.known]
    (origin, net, table, *_), net_extras = match
    theirs = {t: o for o, t in table.items()}
    own = {name: t for name, t in tensors.items() if name in theirs}
    ours = {theirs[name]: t for name, t in own.items()}
    _refuse_odd_types(ours, table, where)
    if not (card or net_given) and (stated := _stated_architecture(contents)) not in ("", net):
        raise WeightsError(
            f"{where} states that it is a {stated}, and its tensors are named as those "
            f"of a {net}. Nets of the same names can be others (BlurPool, anti-aliasing). If it "
            f"is a {net}, state it: python tools/convert_weights.py card {shlex.quote(where)}"
        )
    ours, notes = to_our_values(origin, ours, tensors, where)
    options, num_classes = options_of(net, ours)
    if net.startswith("resnet") and origin.stride_in_1x1 is not None:
        options["stride_in_1x1"] = origin.stride_in_1x1
    build_options = {**options, **(card.net_options if card else {})}
    expected = shapes_of(net, num_classes, build_options)
    if odd := _odd_last_layer(ours, expected):
        ours = {n: t for n, t in ours.items() if n not in odd}
        own = {n: t for n, t in own.items() if theirs[n] not in odd}
        extras = [*extras, *(table[n] for n in odd)]
    _refuse_shapes(ours, expected, net, origin, table, where)
    missing = tuple(n for n in expected if n not in ours and not n.endswith(COUNTER))
    total = sum(not n.endswith(COUNTER) for n in expected)
    if len(missing) > MOST_MISSING * total:
        raise WeightsError(
            f"{where}: its names are those of {origin.name}'s {net}, but {len(missing)} of "
            f"{total} tensors are missing (first: {missing[0]}): too many to identify it as one. "
            "It may be a smaller net, or one with other norms: as one of your own, docs/own_net.md."
        )
    if detector:
        missing = tuple(n for n in missing if not n.startswith("linear."))
    return Identified(
        origin,
        net,
        build_options,
        num_classes,
        ours,
        missing,
        (*extras, *(n for n in net_extras if n not in origin.used)),
        detector,
        notes,
        own,
    )


def _odd_last_layer(
    ours: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Size]
) -> list[str]:
    """A last layer of another shape behind a whole trunk, such as a projection in its place."""
    odd = [n for n, t in ours.items() if t.shape != expected.get(n)]
    if not odd or not all(n.startswith("linear.") for n in odd):
        return []
    whole = all(n in ours for n in expected if not n.endswith(COUNTER) and "linear." not in n)
    return [n for n in ours if n.startswith("linear.")] if whole else []


def _best(
    tensors: Mapping[str, torch.Tensor], net: str | None = None
) -> tuple[Candidate, list[str]] | None:
    """The candidate that covers all names and lacks the fewest, and the extras that it allows.

    Of equals the first: timm's ResNets have torchvision's names and conventions.
    """
    best: tuple[int, Candidate, list[str]] | None = None
    for candidate in (c for c in candidates() if net in (None, c.net)):
        unknown = [n for n in tensors if n not in candidate.known]
        extras = [
            n for n in unknown if any(fnmatch.fnmatchcase(n, p) for p in candidate.origin.extras)
        ]
        if len(unknown) > len(extras) or len(unknown) == len(tensors):
            continue
        lacking = sum(n not in tensors and not n.endswith(COUNTER) for n in candidate.known)
        if best is None or lacking < best[0]:
            best = (lacking, candidate, extras)
    return best[1:] if best else None


def _as_in_card(
    tensors: Mapping[str, torch.Tensor], card: Card
) -> tuple[Candidate, list[str]] | None:
    """The candidate of the card's net, where it lacks nothing under the card's options.

    A residual net with option A has the names of a plain one, so names alone cannot decide.
    """
    candidate = _best(tensors, card.net)
    if candidate is None:
        return None
    table = candidate[0].table
    expected = shapes_of(card.net, 1, card.net_options)
    whole = all(table.get(n) in tensors for n in expected if not n.endswith(COUNTER))
    return candidate if whole else None


def is_detectron2_detector(tensors: Iterable[str]) -> bool:
    """By its names; torchvision's detectors have `roi_heads.`, too, and `rpn.` beside it."""
    names = list(tensors)
    return any(n.startswith(("proposal_generator.", "roi_heads.")) for n in names) and not any(
        n.startswith(("rpn.", "backbone.body.")) for n in names
    )


def kind_of_detector(tensors: Mapping[str, torch.Tensor]) -> str:
    """ "C4", "FPN" or "DC5" of a Detectron2 detector; "" for other files."""
    return _out_of_detector(tensors)[1]


def _out_of_detector(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], str, list[str]]:
    """The net inside a Detectron2 detector under bare names; ("", []) for other files."""
    if not is_detectron2_detector(tensors):
        return dict(tensors), "", []
    trunk = "backbone.bottom_up." if any("bottom_up" in n for n in tensors) else "backbone."
    # Tails of ours in the region heads: res5 of residual nets, fc6 and fc7 of VGG.
    tails = ("roi_heads.res5.", "roi_heads.fc6.", "roi_heads.fc7.")
    tensors_of_net, others = {}, []
    for name, tensor in tensors.items():
        if name.startswith("backbone.fpn_"):
            others.append(name)
        elif name.startswith(trunk):
            tensors_of_net[name[len(trunk) :]] = tensor
        elif name.startswith(tails):
            tensors_of_net[name.removeprefix("roi_heads.")] = tensor
        elif name.startswith(DETECTOR_PARTS):
            others.append(name)
        else:
            tensors_of_net[name] = tensor
    has_tail = any(n.startswith(tails) for n in tensors)
    kind = "FPN" if trunk != "backbone." else "C4" if has_tail else "DC5"
    return tensors_of_net, kind, others


# -- which net -------------------------------------------------------------------------------


# Where trainers write the name of the net that they trained.
_ARCHITECTURE_KEYS = ("arch", "architecture", "model_name")


def _stated_architecture(contents: Contents) -> str:
    """The net that the file names, "" where it names none."""
    for key in _ARCHITECTURE_KEYS:
        stated = contents.beside.get(key)
        if isinstance(stated, str) and re.fullmatch(r"(tv_)?(resnet|vgg|plain)\w*(\.\w+)?", stated):
            return stated.removeprefix("tv_").partition(".")[0]
    return ""


def _refuse_odd_types(
    ours: Mapping[str, torch.Tensor], table: Mapping[str, str], where: str
) -> None:
    """Weights are floating numbers with at least one dimension; counters are neither."""
    for name, tensor in ours.items():
        if name.endswith(COUNTER):
            continue
        if not tensor.is_floating_point() or not tensor.ndim:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(
                f"{where}, {table[name]}: {dtype} of shape {tuple(tensor.shape)}, expected "
                "floating numbers. Quantised weights are not read: give those they were made from."
            )


def _refuse_shapes(
    ours: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Size],
    net: str,
    origin: Origin,
    table: Mapping[str, str],
    where: str,
) -> None:
    odd = [n for n, t in ours.items() if n not in expected or t.shape != expected[n]]
    if not odd:
        return
    name = odd[0]
    shape = tuple(expected[name]) if name in expected else "nothing"
    hint = (
        " A wide one, a ResNeXt or one with another stem has the same names."
        if "res" in net
        else ""
    )
    raise WeightsError(
        f"{where} has the names of {origin.name}'s {net}, but {len(odd)} of {len(ours)} tensors "
        f"have other shapes; first: {table.get(name, name)} is {tuple(ours[name].shape)}, {net} "
        f"has {shape}.{hint} As a net of your own it can still be used: docs/own_net.md."
    )


def _unknown(tensors: Mapping[str, torch.Tensor], where: str) -> str:
    """What is known of a file that no table covers: the nearest table, and what stands out."""

    def likeness(candidate: Candidate) -> int:
        # Shared names twice, so that a net with more of them wins over a smaller one.
        return 3 * len(candidate.known & tensors.keys()) - len(candidate.known)

    origin, net, _, known, _ = max(candidates(), key=likeness)
    more = [n for n in tensors if n not in known]
    if len(more) > len(tensors) / 2:
        return (
            f"{where}: no card, and its {len(tensors)} tensors have names of no origin that resdet "
            f"knows ({', '.join(ORIGINS)}); first: {sorted(more)[0]}. A net of your own: "
            "docs/own_net.md."
        )
    return (
        f"{where}: its names are nearest to {origin.name}'s {net}, but {len(more)} of "
        f"{len(tensors)} tensors have no place there; first: {sorted(more)[0]}. It is another "
        "net: use it as one of your own (docs/own_net.md)."
    )
