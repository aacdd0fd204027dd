"""A weight file of one origin written for another, with proof that nothing was lost.

Names, layouts and meaning are converted by the tables of `native_names` and `origins`. The card is
written inside our own files and beside all others. What is written is read back and compared,
tensor by tensor and by logits, with what was read.

Not for: training state; optimizers and schedules are left out.
"""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from resdet import nets
from resdet.errors import CheckFailed, WeightsError
from resdet.nets.families import family_of
from resdet.nets.vgg import VGG
from resdet.run.folder import atomic_path, write_json
from resdet.weights import files, native_names
from resdet.weights.cards import Card, path_beside
from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.habits import needs_stride_rule
from resdet.weights.origins.origin import COUNTER
from resdet.weights.origins.reference_nets import Parity, logits, our_net, parity, reference_net
from resdet.weights.origins.registry import to_names_of
from resdet.weights.origins.whole_nets import shapes_of
from resdet.weights.resolve import WeightFile
from resdet.weights.tensor_checks import sha256_of
from resdet.weights.transfer import grouped

# Of the largest logit, in float64: sums in another order differ by 1e-14 or so.
MOST_APART = 1e-8
TARGETS = ("torchvision", "timm", "detectron2", "resdet")
SUFFIXES = {
    "torchvision": (".pth", ".pt", ".safetensors"),
    "timm": (".safetensors", ".pth", ".pt"),
    "detectron2": (".pkl", ".pth"),
    "resdet": (".safetensors",),
}


@dataclass(frozen=True)
class Conversion:
    """What was written, and how it compares.

    Attributes:
        tensors: written; `left_out` names of ours that the target does not keep.
        notes: conversions of values, in sentences.
        parities: logits before and after.
    """

    path: str
    to: str
    card: Card
    tensors: int
    missing: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    parities: tuple[Parity, ...]
    keys: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "to": self.to,
            "net": self.card.net,
            "tensors": self.tensors,
            "missing": self.missing,
            "left_out": list(self.left_out),
            "notes": list(self.notes),
            "parity": [p.to_json() for p in self.parities],
            "detectron2_keys": list(self.keys),
        }


def convert(
    source: Path | str,
    to: str,
    out: Path | str,
    *,
    color_order: str | None = None,
    part: str | None = None,
) -> Conversion:
    """Writes `source` for another framework.

    Args:
        to: one of `TARGETS`.
        out: its suffix chooses the container (`SUFFIXES`); must not exist.
        color_order: "RGB" or "BGR": the first layer and the card are converted to it.
        part: of the source, as `formats.read` takes it.

    Raises:
        WeightsError: the source does not load, the target has no such net or another stride
            rule, or what was written does not read back; then no file is left.
    """
    source, out = Path(source), Path(out)
    _refuse_out(source, out, to)
    file = WeightFile(source, part)
    tensors, card = file.load()
    before = dict(tensors)
    flip = color_order is not None and color_order != card.input.color_order
    turned = []
    if flip:
        tensors, card = flipped(tensors, card)
        turned = [f"first layer turned to {card.input.color_order}"]
    num_classes = _num_classes(tensors, card)
    missing = _missing(card, num_classes, tensors, source)
    _refuse_other_nets(card, to, source)
    if to == "detectron2" and any(t.dtype == torch.bfloat16 for t in tensors.values()):
        raise WeightsError(f"{source} is in bfloat16, which a .pkl of numpy arrays cannot hold.")
    try:
        written, notes = _write(out, to, tensors, card)
    except (OSError, SafetensorError, RuntimeError) as error:
        _remove(out)
        raise WeightsError(f"{out} cannot be written: {error}.") from None
    try:
        # Read once more, from the disk: the written file is what is compared.
        again = WeightFile(out)
        parities = _parities(file, again, to, before, card, flip, num_classes, bool(missing))
        kept = _refuse_losses(again, tensors)
        _refuse_disparity(out, parities)
    except BaseException:
        _remove(out)
        raise
    return Conversion(
        path=str(out),
        to=to,
        card=card,
        tensors=written,
        missing=len(missing),
        left_out=tuple(n for n in tensors if n not in kept),
        notes=(*notes, *_left_behind(file), *turned),
        parities=tuple(parities),
        keys=detectron2_keys(card) if to == "detectron2" else (),
    )


def _left_behind(file: WeightFile) -> list[str]:
    """Tensors of the file that belong to no net and are left out."""
    names = file.strangers
    return [f"stays behind, of no net: {', '.join(grouped(names)[:6])}"] if names else []


def _remove(out: Path) -> None:
    for path in (out, path_beside(out)):
        if path.is_file():
            path.unlink()


def _num_classes(tensors: Tensors, card: Card) -> int:
    """Of the last layer; 1000 where it is missing, which is counted as missing then."""
    return nets.classes_in(tensors, card.net, **card.net_options) or 1000


def flipped(tensors: Tensors, card: Card) -> tuple[Tensors, Card]:
    """The same net for the other colour order: first layer and card reversed together (F19)."""
    first = [n for n, t in tensors.items() if t.ndim == 4 and t.shape[1] == 3]
    if len(first) != 1:
        raise WeightsError(
            f"{len(first)} convolutions take three channels ({', '.join(first[:3])}), so which is "
            "the first layer is not known: --color cannot turn it."
        )
    (name,) = first
    return (
        {**tensors, name: tensors[name].flip(1).contiguous()},
        dataclasses.replace(card, input=card.input.turned()),
    )


def detectron2_keys(card: Card) -> tuple[str, ...]:
    """Keys that a stock Detectron2 config needs for these weights; its files lack them."""
    keys = [
        f"INPUT.FORMAT {card.input.color_order}",
        f"MODEL.PIXEL_MEAN {_numbers(card.input.mean)}",
        f"MODEL.PIXEL_STD {_numbers(card.input.std)}",
    ]
    if needs_stride_rule(card.net):
        keys.append(f"MODEL.RESNETS.STRIDE_IN_1X1 {bool(card.net_options.get('stride_in_1x1'))}")
    if card.norm.get("folded"):
        keys.append("MODEL.RESNETS.NORM FrozenBN")
    return tuple(keys)


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in values) + "]"


def _refuse_out(source: Path, out: Path, to: str) -> None:
    if to not in TARGETS:
        raise WeightsError(f"--to is {to!r}, expected one of {', '.join(TARGETS)}.")
    if out.suffix not in SUFFIXES[to]:
        raise WeightsError(
            f"{out} ends in {out.suffix or 'nothing'}; files for {to} end in "
            f"{' or '.join(SUFFIXES[to])}."
        )
    beside = path_beside(out)
    if to != "resdet" and beside.exists():
        raise WeightsError(
            f"{beside} exists, the card of another file. Delete it, or name another -o."
        )
    if out.exists():
        raise WeightsError(
            f"{out} exists{' and is the source' if out.samefile(source) else ''}. It was left as "
            "it is: give -o another name, or delete it."
        )


def _refuse_other_nets(card: Card, to: str, source: Path) -> None:
    """Nets whose names fit the target's net and whose function does not (F20)."""
    if to not in ("torchvision", "timm") or native_names.has_own_names(card.net):
        return
    if needs_stride_rule(card.net) and card.net_options.get("stride_in_1x1", True):
        raise WeightsError(
            f"{source} is a {card.net} with its stride in the first 1x1; {to}'s has it in the 3x3. "
            "The names would fit and the net would be another one. Write it --to detectron2 or "
            "--to resdet."
        )
    usual = ("stride_in_1x1", "width") if card.net_options.get("width") == 1 else ("stride_in_1x1",)
    odd = sorted(option for option in card.net_options if option not in usual)
    if odd:
        raise WeightsError(
            f"{source} is a {card.net} with {', '.join(odd)} of its own, which {to} cannot build: "
            "the names would fit, the net would be another one. Write it --to detectron2 or resdet."
        )


def _missing(card: Card, num_classes: int, tensors: Tensors, source: Path) -> list[str]:
    shapes = shapes_of(card.net, num_classes, card.net_options)
    odd = [n for n, t in tensors.items() if n not in shapes or t.shape != shapes[n]]
    if odd:
        raise WeightsError(
            f"{source} does not hold the {card.net} of its card: {len(odd)} tensors have no place "
            f"or another shape there (first: {odd[0]})."
        )
    return [n for n in shapes if n not in tensors and not n.endswith(COUNTER)]


def _write(out: Path, to: str, tensors: Tensors, card: Card) -> tuple[int, tuple[str, ...]]:
    if to == "resdet":
        files.save(out, tensors, card)
        return len(tensors), ()
    theirs, notes = to_names_of(to, card.net, tensors)
    plain = {n: t.detach().cpu().contiguous().clone() for n, t in theirs.items()}
    with atomic_path(out) as temporary:
        if out.suffix == ".safetensors":
            save_file(plain, temporary, metadata={"format": "pt"})
        elif to == "detectron2":
            _write_detectron2(temporary, plain, out.suffix)
        else:
            torch.save(plain, temporary)
    # What was one of several nets is the only one there.
    beside = dataclasses.replace(card, tensors_sha256=sha256_of(plain), part="")
    write_json(path_beside(out), beside.to_dict())
    return len(plain), notes


def _write_detectron2(path: Path, tensors: Tensors, suffix: str) -> None:
    """As Detectron2's own converters write: its suffix search is right for names like these."""
    extra = {"__author__": "resdet", "matching_heuristics": True}
    if suffix == ".pkl":
        arrays = {name: t.numpy() for name, t in tensors.items()}
        path.write_bytes(pickle.dumps({"model": arrays, **extra}))
    else:
        torch.save({"model": tensors, **extra}, path)


def _refuse_losses(out: WeightFile, tensors: Tensors) -> set[str]:
    """The file read back: what arrives must be what was meant, bit for bit; gives its names."""
    again, _ = out.load()
    odd = [n for n, t in again.items() if n not in tensors or not _equal(t, tensors[n])]
    lost = [n for n in tensors if n not in again and not n.endswith(COUNTER)]
    if odd or lost:
        raise WeightsError(
            f"{out.where} does not read back as it was meant: {len(odd)} tensors differ, "
            f"{len(lost)} are lost (first: {(odd or lost)[0]}). It was removed. "
            "This is a bug in resdet."
        )
    return set(again)


def _refuse_disparity(out: Path, parities: list[Parity]) -> None:
    """Logits in float64 that differ by more than rounding mean another net."""
    for pair in parities:
        if pair.difference is not None and pair.difference > MOST_APART * max(1, pair.largest):
            raise CheckFailed(
                f"{out} was removed: {pair.sentence()}, more than rounding. The file is of a net "
                "with the same names and another function, or this is a bug in resdet."
            )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _parities(
    file: WeightFile,
    out: WeightFile,
    to: str,
    before: Tensors,
    card: Card,
    flip: bool,
    num_classes: int,
    incomplete: bool,
) -> list[Parity]:
    if incomplete:
        return [Parity("logits", why="the file does not hold the whole net")]
    # Residual nets run at any size, and a small picture compares them as well; VGG's fc6 does not.
    family = family_of(card.net)
    is_vgg = family is not None and family.net is VGG
    size = card.input.size if is_vgg else min(card.input.size, 64)
    build = (card.net, num_classes, card.net_options)
    ours = logits(our_net(*build, before), size)
    parities = [_against(file.origin, file, build, ours, size, "read")]
    again = logits(our_net(*build, out.load()[0]), size, flip=flip)
    parities.append(parity("ours, before and after", ours, again))
    if to != "resdet":
        parities.append(_against(to, out, build, again, size, "written", flip=flip))
    return [p for p in parities if p is not None]


def _against(
    origin: str,
    file: WeightFile,
    build: tuple[str, int, dict[str, Any]],
    ours: torch.Tensor,
    size: int,
    when: str,
    *,
    flip: bool = False,
) -> Parity | None:
    """The file as it is, in its library's own net, against ours."""
    if origin == "resdet":
        return None
    what = f"{origin}'s own net with the file {when}, against ours"
    net, why = reference_net(origin, *build)
    if net is None:
        return Parity(what, why=why)
    own = file.own_tensors
    if set(own) - set(net.state_dict()):
        return Parity(what, why="the file has other names than it")
    net.load_state_dict(own)
    return parity(what, logits(net, size, flip=flip), ours)
