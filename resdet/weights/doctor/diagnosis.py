"""The weight doctor: what a file is, what can be told of its conventions, whether it is healthy.

Nothing here is guessed silently. What names and records state is given as it is; what statistics
suggest is given with its evidence; what cannot be known is null.

Not for: scoring images under every convention (`image_probe`), or writing anything (`conversion`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resdet.errors import WeightsError
from resdet.nets.families import family_of
from resdet.run import layout
from resdet.weights import native_names
from resdet.weights.cards import Card, Input, path_beside
from resdet.weights.doctor.first_layer import (
    Evidence,
    clashes,
    color_order,
    first_convolution,
    scale,
)
from resdet.weights.eps import with_its_eps
from resdet.weights.formats.contents import Contents
from resdet.weights.origins import registry
from resdet.weights.origins.habits import by_habit, card_of, needs_stride_rule, unknown_of
from resdet.weights.origins.identify import Identified
from resdet.weights.origins.origin import COUNTER, Habits
from resdet.weights.origins.whole_nets import shapes_of
from resdet.weights.resolve import WeightFile
from resdet.weights.tensor_checks import is_folded, not_finite
from resdet.weights.transfer import grouped

# A variance this small divides by little but eps.
TINY_VARIANCE = 1e-6


@dataclass(frozen=True)
class Norms:
    """Health of a file's batch norms.

    Attributes:
        count: of norms with statistics.
        untrained: mean 0, variance 1, no shift: they never saw a batch.
        folded: the identity plus a shift, their scale lies in the convolutions.
        tiny: names of norms with variances below `TINY_VARIANCE`, and how many.
        negative: names of norms with negative variances.
    """

    count: int
    untrained: int
    folded: bool
    tiny: dict[str, int]
    negative: tuple[str, ...]

    def sentence(self) -> str:
        if not self.count:
            return "no batch norm"
        if self.folded:
            return (
                f"{self.count} norms, all folded into their convolutions: they can only stay frozen"
            )
        if self.untrained == self.count:
            return f"{self.count} norms, none ever trained"
        parts = [f"{self.count} norms with statistics"]
        if self.untrained:
            parts.append(f"{self.untrained} never trained")
        if self.tiny:
            channels = sum(self.tiny.values())
            parts.append(
                f"{channels} channels in {len(self.tiny)} with a variance below {TINY_VARIANCE:g} "
                "(dead: nothing reaches them)"
            )
        return ", ".join(parts)


@dataclass(frozen=True)
class Fit:
    """How a file would arrive in one of our nets, the classifier's last layer included."""

    net: str
    arrived: int
    expected: int
    left_over: int

    @property
    def whole(self) -> bool:
        return self.arrived == self.expected and not self.left_over


@dataclass(frozen=True)
class Diagnosis:
    """All that is known of one file; `to_json` is what docs/commands.md promises."""

    path: str
    container: str | None = None
    wrappers: tuple[str, ...] = ()
    origin: str | None = None
    architecture: str | None = None
    detector: str | None = None
    input: Input | None = None
    stride_rule: str | None = None
    color: Evidence = field(default_factory=lambda: Evidence(None, "not looked at"))
    scale: Evidence = field(default_factory=lambda: Evidence(None, "not looked at"))
    norms: Norms | None = None
    tensors: int = 0
    parameters: int = 0
    verified: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()

    @property
    def loadable(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.path,
            "origin": self.origin,
            "architecture": self.architecture,
            "detector": self.detector,
            "container": self.container,
            "wrapper": " / ".join(self.wrappers) or None,
            "stride_rule": self.stride_rule,
            "color_order": self.input.color_order if self.input else self.color.value,
            "input": None
            if self.input is None
            else {"mean": list(self.input.mean), "std": list(self.input.std), "range": [0, 255]},
            "verified": self.verified,
            "evidence": {
                "color_order": {"value": self.color.value, "why": self.color.why},
                "scale": {"value": self.scale.value, "why": self.scale.why},
            },
            "norms": None if self.norms is None else self.norms.sentence(),
            "tensors": self.tensors,
            "parameters": self.parameters,
            "notes": list(self.notes),
            "problems": list(self.problems),
            "loads_into": [
                {"net": f.net, "arrived": f.arrived, "expected": f.expected} for f in self.fits
            ],
        }


def inspect(path: Path | str, *, part: str | None = None) -> Diagnosis:
    """What a file is. A file that cannot be read or told gives a report with that problem.

    Args:
        part: as `formats.read` takes it.

    Raises:
        WeightsError: there is no such file.
    """
    return inspect_file(WeightFile(path, part))


def inspect_file(file: WeightFile) -> Diagnosis:
    """`inspect`, for a file that is used further: it is not read again."""
    path = file.path
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Name a weight file that does.")
    try:
        contents = file.contents
    except WeightsError as error:
        return Diagnosis(str(path), problems=(str(error),))
    counted: dict[str, Any] = {
        "container": contents.container,
        "wrappers": contents.wrappers,
        "tensors": len(contents.tensors),
        "parameters": parameters(contents.tensors),
    }
    spoiled = not_finite(contents.tensors, path.name)
    try:
        if card := file.card_inside:
            if card.tensors_sha256 != file.digest:
                spoiled.append("its tensors do not match the SHA-256 in its card: damaged")
            return _with_card(path, contents, card, spoiled, counted)
        if file.named:
            return _with_card(path, contents, file.named[1], spoiled, counted)
        return _foreign(file, spoiled, counted)
    except WeightsError as error:
        return Diagnosis(
            str(path),
            color=color_order(first_convolution(contents.tensors)),
            problems=(*spoiled, str(error)),
            **counted,
        )


def _with_card(
    path: Path, contents: Contents, card: Card, problems: list[str], counted: dict[str, Any]
) -> Diagnosis:
    """A file with a complete card, whose tensors are named as in its net."""
    card = with_its_eps(card, str(path))
    if native_names.has_own_names(card.net):
        native_names.check(contents, card.net, card.net_options, path)
    health = norms_of(contents.tensors)
    fits = _fits(card.net, card.net_options, len(card.classes) or None, contents.tensors)
    return Diagnosis(
        str(path),
        origin=card.origin,
        architecture=card.net,
        input=card.input,
        stride_rule=_stride(card.net, card.net_options),
        color=color_order(first_convolution(contents.tensors)),
        scale=scale(contents.tensors),
        norms=health,
        verified=card.verified,
        problems=(*problems, *_ill(health), *_lacking(fits, card.net)),
        fits=fits,
        **counted,
    )


def _foreign(file: WeightFile, problems: list[str], counted: dict[str, Any]) -> Diagnosis:
    path, contents = file.path, file.contents
    # A run of ours: the card of the classifier that its detector started from lies in its folder.
    run_card = path.parent / layout.CARD
    is_own = run_card.exists() and path.name in (layout.DETECTOR, layout.BEST_DETECTOR)
    of_run = Card.read(run_card) if is_own else None
    identified = file.identified(of_run) if of_run else file.identification
    habits = by_habit(path, contents, identified)
    card = None
    if of_run:
        of_run = with_its_eps(of_run, file.where)
    if identified.detector and of_run:
        card = of_run
    elif path_beside(path).exists():
        card = with_its_eps(card_of(path, contents, identified, file.digest), file.where)
    elif not identified.detector and unknown_of(habits):
        problems = [
            *problems,
            f"no card, and its files do not tell {' and '.join(unknown_of(habits))}",
        ]
    options = card.net_options if card else habits.options
    input_ = card.input if card else habits.input
    if not card and not habits.verified and (odd := clashes(habits.input, identified.tensors)):
        problems = [*problems, *odd]
        input_ = None
    health = norms_of(identified.tensors)
    fits = _fits(
        identified.net,
        options,
        identified.num_classes,
        identified.tensors,
        bool(identified.detector),
    )
    return Diagnosis(
        str(path),
        origin=card.origin if card else habits.origin,
        architecture=identified.net,
        detector=identified.detector or None,
        input=input_,
        stride_rule=_stride(identified.net, options),
        color=color_order(first_convolution(identified.tensors)),
        scale=scale(identified.tensors),
        norms=health,
        verified=card.verified if card else habits.verified,
        notes=_notes(file, identified, habits),
        problems=(*problems, *_ill(health), *_missing(identified)),
        fits=fits,
        **counted,
    )


def _notes(file: WeightFile, identified: Identified, habits: Habits) -> tuple[str, ...]:
    contents = file.contents
    notes = list(identified.notes)
    if aside := file.left_aside():
        notes.append(aside)
    if identified.detector and unknown_of(habits):
        notes.append(
            "as a detector it loads whole, with the config that it was trained with; its net alone "
            "needs a card first (convert_weights card)"
        )
    if identified.missing and all(n.startswith("linear.") for n in identified.missing):
        notes.append("the classifier's last layer is not there: whole as a backbone")
    if contents.averages:
        notes.append(
            f"averaged weights lie beside: --part {contents.averages[0]} takes those instead"
        )
    family = family_of(identified.net)
    if habits.origin == "torchvision" and family is not None and family.name == "resnet":
        notes.append(
            "timm's ResNets have the same names; so have nets that are others (BlurPool, "
            "anti-aliased), which no name or shape tells"
        )
    if contents.beside:
        shown = [f"{k}={v}" for k, v in contents.beside.items() if len(str(v)) < 40][:6]
        notes.append(f"beside the tensors: {', '.join(shown) or ', '.join(contents.beside)}")
    return tuple(notes)


def _missing(identified: Identified) -> list[str]:
    if all(n.startswith("linear.") for n in identified.missing):
        return []
    expected = len(identified.missing) + sum(not n.endswith(COUNTER) for n in identified.tensors)
    shown = ", ".join(grouped(identified.missing)[:8])
    if all(".norm.running_" in n for n in identified.missing):
        return [
            f"{len(identified.missing)} of {expected} tensors of {identified.net} are missing, all "
            "statistics of its norms: it has GroupNorm or the like, which resdet's nets have not"
        ]
    return [
        f"{len(identified.missing)} of {expected} tensors of {identified.net} are missing: {shown}"
        f"{', …' if len(grouped(identified.missing)) > 8 else ''}; as a backbone it needs "
        f"TRANSFER.NEW for {', '.join(sorted({n.split('.')[0] for n in identified.missing}))}"
    ]


def _lacking(fits: tuple[Fit, ...], net: str) -> list[str]:
    own = next((f for f in fits if f.net == net), None)
    if own is None or own.whole:
        return []
    return [
        f"{own.arrived} of {own.expected} tensors of {net} would arrive, {own.left_over} have no "
        "place in it"
    ]


def _ill(health: Norms) -> list[str]:
    problems = []
    if health.count and health.untrained == health.count:
        problems.append(
            f"all {health.count} norms have mean 0 and variance 1: they were never trained. "
            "Train the net with tools/pretrain_cls.py"
        )
    if health.negative:
        problems.append(f"negative variances in {', '.join(health.negative[:3])}: spoiled")
    return problems


def _stride(net: str, options: Mapping[str, Any]) -> str | None:
    rule = options.get("stride_in_1x1")
    family = family_of(net)
    if family is None or not family.has_stride_choice:
        return None
    if not needs_stride_rule(net):
        return "3x3"
    return None if rule is None else "1x1" if rule else "3x3"


def parameters(tensors: Mapping[str, torch.Tensor]) -> int:
    """Learnable values: statistics and counters do not count."""
    statistics = ("running_mean", "running_var", COUNTER)
    return sum(t.numel() for n, t in tensors.items() if not n.endswith(statistics))


# -- health -------------------------------------------------------------------------------------


def norms_of(tensors: Mapping[str, torch.Tensor]) -> Norms:
    """Health of the batch norms in a file, under our names or any origin's dotted ones."""
    norms = [n.removesuffix(".running_var") for n in tensors if n.endswith(".running_var")]
    untrained, tiny, negative = 0, {}, []
    for norm in norms:
        variance = tensors[f"{norm}.running_var"]
        mean = tensors.get(f"{norm}.running_mean", torch.ones(1))
        shift = tensors.get(f"{norm}.bias", torch.zeros(1))
        untrained += bool((variance == 1).all() and (mean == 0).all() and (shift == 0).all())
        if small := int((variance < TINY_VARIANCE).sum()):
            tiny[norm] = small
        if (variance < 0).any():
            negative.append(norm)
    return Norms(len(norms), untrained, is_folded(tensors), tiny, tuple(negative))


# -- what it loads into ------------------------------------------------------------------------


def _fits(
    net: str,
    options: Mapping[str, Any],
    num_classes: int | None,
    tensors: Mapping[str, torch.Tensor],
    without_classifier: bool = False,
) -> tuple[Fit, ...]:
    """The file's own net first, then those of its family that share tensors by name and shape."""
    if native_names.has_own_names(net):
        # Checked when it was read: every name and shape is the net's.
        count = sum(not n.endswith(COUNTER) for n in tensors)
        return (Fit(net, count, count, 0),)
    if num_classes is None:
        num_classes = len(tensors["linear.bias"]) if "linear.bias" in tensors else 1000
    given = {n: t for n, t in tensors.items() if not n.endswith(COUNTER)}
    fits = []
    for other in dict.fromkeys((net, *_family(net))):
        # Width and stem change every shape: others are asked under the same options.
        shapes = shapes_of(other, num_classes, _options_for(other, options))
        expected = {n: s for n, s in shapes.items() if not n.endswith(COUNTER)}
        if without_classifier:
            expected = {n: s for n, s in expected.items() if not n.startswith("linear.")}
        arrived = sum(n in given and given[n].shape == s for n, s in expected.items())
        fits.append(Fit(other, arrived, len(expected), sum(n not in expected for n in given)))
    first, *rest = fits
    return (
        first,
        *sorted((f for f in rest if f.arrived), key=lambda f: f.expected - f.arrived)[:3],
    )


def _family(net: str) -> tuple[str, ...]:
    return tuple(
        n for o in ("torchvision", "akamaster") for n in registry.nets_of(o) if _alike(n, net)
    )


def _alike(net: str, other: str) -> bool:
    # CIFAR nets of a thousand layers take long to build, and are not needed here.
    return family_of(net) is family_of(other) is not None and "1202" not in net


def _options_for(net: str, options: Mapping[str, Any]) -> dict[str, Any]:
    family = family_of(net)
    takes_stride = family is None or family.has_stride_choice
    return {k: v for k, v in options.items() if k != "stride_in_1x1" or takes_stride}
