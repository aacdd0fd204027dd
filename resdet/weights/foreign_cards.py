"""The card of a file that carries none: the one beside it, or its origin's habits, or a refusal.

    x.pth.card.json   written by `convert_weights card`: what a person said, kept for good
    config.json       beside timm's files: its `pretrained_cfg`
    habits            what the origin's files want, marked as not verified

What none of these knows is asked for once (`docs/faults.md` F19, F20).

Not for: what can be measured on a file (`doctor`).
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet.errors import WeightsError
from resdet.weights.card import Card, Input
from resdet.weights.doctor.first_layer import clashes, is_folded
from resdet.weights.formats.containers import Contents
from resdet.weights.origins.identify import Identified
from resdet.weights.origins.origin_records import IMAGENET_RGB
from resdet.weights.origins.value_layouts import EPS

SUFFIX = ".card.json"


def path_beside(path: Path | str) -> Path:
    """Where the card of a foreign file lies."""
    return Path(f"{path}{SUFFIX}")


def card_of(path: Path, contents: Contents, found: Identified, digest: str) -> Card:
    """The card of a foreign file.

    Args:
        digest: SHA-256 over the tensors under the names of the file.

    Raises:
        WeightsError: the card beside it is of other tensors or of another net, or nothing says
            how the input must look.
    """
    beside = path_beside(path)
    if beside.exists():
        return _checked(Card.read(beside), path, found, digest)
    habits = by_habit(path, contents, found)
    lacking = unknown_of(habits)
    if lacking:
        raise WeightsError(
            f"{path} has no card, and {found.origin.name}'s files do not tell "
            f"{' and '.join(lacking)}. Say it once: python tools/convert_weights.py card "
            f"{shlex.quote(str(path))} "
            f"{' '.join(flag for name, flag in _FLAGS.items() if name in lacking)}"
            f"{_USUAL if found.origin.name == 'detectron2' else ''}"
        )
    if habits.input is None:  # for mypy: it is among what would be lacking
        raise WeightsError(f"{path} has no card.")
    odd = [] if habits.verified else clashes(habits.input, found.tensors)
    if odd:
        raise WeightsError(
            f"{path} has the names of {habits.origin}'s files; {'; '.join(odd)}. Say once which "
            f"holds: python tools/convert_weights.py card {shlex.quote(str(path))} {_FLAGS[INPUT]}"
        )
    return Card(
        net=found.net,
        net_options=habits.options,
        input=habits.input,
        norm=norm_of(found),
        origin=habits.origin,
        verified=habits.verified,
    )


@dataclass(frozen=True)
class Habits:
    """What is known of a foreign file without asking; None where nothing is.

    Attributes:
        options: of the net; `stride_in_1x1` is there where it is known or matters to nobody.
        verified: a record beside the file says so, not the habit of its origin.
    """

    origin: str
    net: str
    input: Input | None
    options: dict[str, Any]
    verified: bool = False


INPUT = "how its input must look"
STRIDE = "its stride rule"
_FLAGS = {
    INPUT: "--color RGB|BGR --mean M M M --std S S S",
    STRIDE: "--stride 1x1|3x3",
}
_USUAL = (
    "\nDetectron2's own models are BGR, mean 103.53 116.28 123.675, std 1 1 1, stride 1x1; those "
    "from torchvision's weights RGB, mean 123.675 116.28 103.53, std 58.395 57.12 57.375, 3x3."
)


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


def by_habit(path: Path, contents: Contents, found: Identified) -> Habits:
    """What the file's origin, and what lies beside it, say."""
    options = dict(found.options)
    if found.net.startswith(("resnet", "plain")) and not needs_stride_rule(found.net):
        # Basic blocks have no choice; the option is there all the same.
        options["stride_in_1x1"] = False
    origin, input_ = found.origin.name, found.origin.input
    if _is_converted_torchvision(contents):
        options["stride_in_1x1"] = False
        return Habits("torchvision, converted for detectron2", found.net, IMAGENET_RGB, options)
    if origin == "pycls" and "STRIDE_1X1: True" in str(contents.beside.get("cfg", "")):
        options["stride_in_1x1"] = True
    if origin in ("torchvision", "timm") and (record := timm_record(path)):
        named = record["architecture"].removeprefix("tv_")
        if named != found.net:
            raise WeightsError(
                f"{path.parent / 'config.json'} is of a {record['architecture']}, {path.name} "
                f"holds a {found.net}. Keep a file and its config.json in a folder of their own."
            )
        stated = timm_input(path, record)
        return Habits("timm", found.net, stated, options, verified=True)
    return Habits(origin, found.net, input_, options)


def _is_converted_torchvision(contents: Contents) -> bool:
    """Detectron2's converter signs its files, and leaves `fc` under the stem."""
    return (
        contents.beside.get("__author__") == "torchvision" or "stem.fc.weight" in contents.tensors
    )


def timm_record(path: Path) -> dict[str, Any] | None:
    """The config.json of timm beside a file; None without one, or where it is another library's.

    Raises:
        WeightsError: it is timm's (it has a `pretrained_cfg`) and cannot be read.
    """
    config = path.parent / "config.json"
    if not config.is_file():
        return None
    try:
        record = json.loads(config.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or "pretrained_cfg" not in record:
            return None
        if not isinstance(record["architecture"], str) or not record["pretrained_cfg"]["mean"]:
            raise ValueError("no architecture")
        return record
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise WeightsError(
            f"{config} lies beside {path.name} but is no timm config ({error!r}). Mend it, or move "
            "the weights into a folder of their own."
        ) from None


def timm_input(path: Path, record: dict[str, Any]) -> Input:
    """How the record wants images; timm's numbers are for pixels in [0, 1]."""
    stated = record["pretrained_cfg"]
    try:
        size = int(stated["input_size"][-1])
        return Input.of_unit_range(stated["mean"], stated["std"], size)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsError(
            f"{path.parent / 'config.json'}: its pretrained_cfg cannot be read ({error!r}). Mend "
            "it, or move the weights into a folder of their own."
        ) from None


def norm_of(found: Identified) -> dict[str, Any]:
    """The card's entry on norms."""
    has_norm = any(".norm." in name for name in found.tensors)
    return {
        "kind": "BN" if has_norm else "none",
        "eps": EPS,
        "folded": found.origin.folded or is_folded(found.tensors),
    }


def part_of(path: Path | str) -> str | None:
    """The part of the file that the card beside it is of; None without a card or a part."""
    card = card_beside(path)
    return card.part or None if card else None


def card_beside(path: Path | str) -> Card | None:
    """The card that lies beside a file; None without one."""
    beside = path_beside(path)
    return Card.read(beside) if beside.exists() else None


def _checked(card: Card, path: Path, found: Identified, digest: str) -> Card:
    where = path_beside(path)
    if card.tensors_sha256 and card.tensors_sha256 != digest:
        raise WeightsError(
            f"{where} is the card of other tensors than those in {path.name} (SHA-256 "
            f"{card.tensors_sha256[:12]}, the file has {digest[:12]}). Make it anew: "
            f"python tools/convert_weights.py card {path}"
        )
    if card.net != found.net:
        raise WeightsError(
            f"{where} says net={card.net}, but {path.name} holds a {found.net}. Delete the card, "
            "or put it beside the file that it belongs to."
        )
    stated = card.net_options.get("stride_in_1x1")
    known = found.options.get("stride_in_1x1")
    if known is not None and stated is not None and stated != known and needs_stride_rule(card.net):
        raise WeightsError(
            f"{where} says stride_in_1x1={stated}, but {found.origin.name}'s files have "
            f"{known}. Delete the card, or mend it."
        )
    return card
