"""Tensors into a net, every one counted.

expected = arrived + declared new, or nothing is loaded at all. What the file has and the net does
not is left over; only optional tensors (the classifier's last layer, batch counters) may be
(`docs/faults.md` F17, F18).

Not for: what a file is (`files`, `origins`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from resdet.errors import WeightsError, first_few

COUNTER = "num_batches_tracked"
ADVICE = (
    "Give MODEL.WEIGHTS a file of this net, set MODEL.NET to the file's net, or declare layers new "
    "with TRANSFER.NEW \"('res5.*',)\"."
)


@dataclass(frozen=True)
class Transfer:
    """What arrived. Names are those of the receiving module, left over those of the file.

    Attributes:
        resampled: those that arrived in another shape than the file's, for another size of images.
    """

    expected: int
    arrived: tuple[str, ...]
    new: tuple[str, ...]
    left_over: tuple[str, ...]
    batch_counters: int = 0
    converted: dict[str, int] = field(default_factory=dict)
    resampled: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "expected": self.expected,
            "arrived": len(self.arrived),
            "new": list(self.new),
            "left_over": list(self.left_over),
            "batch_counters": self.batch_counters,
            "converted": self.converted,
            **({"resampled": list(self.resampled)} if self.resampled else {}),
        }

    def table(self) -> str:
        """A line per top-level module: expected, arrived, new, left over."""
        columns = (self.arrived, self.new, self.left_over)
        rows: dict[str, list[int]] = {}
        for place, names in enumerate(columns):
            for name in names:
                rows.setdefault(name.split(".")[0], [0, 0, 0])[place] += 1
        lines = [f"{'':18}{'expected':>8}{'arrived':>9}{'new':>6}{'left over':>11}"]
        for module, (arrived, new, left_over) in rows.items():
            lines.append(f"{module:18}{arrived + new:8}{arrived:9}{new:6}{left_over:11}")
        return "\n".join(lines)

    def __str__(self) -> str:
        parts = [f"expected {self.expected}", f"arrived {len(self.arrived)}"]
        parts.append(f"new by declaration {len(self.new)}{_in_brackets(self.new)}")
        parts.append(f"left over {len(self.left_over)}{_in_brackets(self.left_over)}")
        if self.batch_counters:
            parts.append(f"batch counters left out {self.batch_counters}")
        if self.resampled:
            names = _in_brackets(self.resampled)
            parts.append(f"resampled for the size of images {len(self.resampled)}{names}")
        parts += [f"{count} from {dtype}" for dtype, count in self.converted.items()]
        return ", ".join(parts)


def _in_brackets(names: Iterable[str]) -> str:
    groups = grouped(names)
    return f" ({', '.join(groups[:6])}{', …' if len(groups) > 6 else ''})" if groups else ""


def grouped(names: Iterable[str]) -> list[str]:
    """One entry per module: `fc.{bias, weight}`."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, leaf = name.rpartition(".")
        modules.setdefault(module, []).append(leaf)
    return [
        f"{module}.{{{', '.join(sorted(leaves))}}}" if len(leaves) > 1 else f"{module}.{leaves[0]}"
        for module, leaves in modules.items()
    ]


def transfer(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    *,
    where: str,
    declared_new: Sequence[str] = (),
    optional: Sequence[str] = ("linear.*",),
    advice: str = ADVICE,
) -> Transfer:
    """Copies tensors into `module` by equal names, or raises and changes nothing.

    Args:
        module: receives; its parameters and buffers are what is expected, batch counters aside.
        tensors: under the module's names.
        where: the file, for messages.
        declared_new: patterns (`res5.*`) of tensors that keep their fresh values.
        optional: patterns of tensors in the file that the net need not have.
        advice: what to do about a file that does not fit.

    Raises:
        WeightsError: an expected tensor is missing or has another shape, or something is left over
            that should not be, or a pattern of `declared_new` fits nothing.
    """
    expected = {name: t for name, t in module.state_dict().items() if not name.endswith(COUNTER)}
    given = {name: t for name, t in tensors.items() if not name.endswith(COUNTER)}
    new = [name for name in expected if _fits(name, declared_new)]
    for pattern in declared_new:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in expected):
            raise WeightsError(
                f"TRANSFER.NEW has {pattern!r}, which fits no tensor of the net "
                f"(it has {', '.join(sorted({n.split('.')[0] for n in expected}))}). "
                "Fix the pattern."
            )
    taken = [name for name in expected if name not in set(new)]
    missing = [name for name in taken if name not in given]
    shapes = [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(expected[name].shape)} in the net"
        for name in taken
        if name in given and given[name].shape != expected[name].shape
    ]
    left_over = [name for name in given if name not in taken]
    strangers = [name for name in left_over if not _fits(name, (*optional, *declared_new))]
    if missing or shapes or strangers:
        raise WeightsError(_page(where, taken, missing, shapes, strangers, advice))

    loaded = {name: given[name] for name in taken}
    with torch.no_grad():
        for name in taken:
            expected[name].copy_(loaded[name])
    _check_values(module, loaded, where)
    return Transfer(
        expected=len(expected),
        arrived=tuple(taken),
        new=tuple(new),
        left_over=tuple(left_over),
        batch_counters=len(tensors) - len(given),
        converted=_conversions(expected, loaded),
    )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_values(module: nn.Module, loaded: Mapping[str, torch.Tensor], where: str) -> None:
    """Every value must have arrived: `copy_` into a stale reference would raise no error."""
    state = module.state_dict()
    for name, tensor in loaded.items():
        if not torch.equal(state[name].cpu(), tensor.to(state[name].dtype).cpu()):
            raise WeightsError(
                f"{where}: {name} was copied but did not arrive. This is a bug in resdet."
            )


def _conversions(
    expected: Mapping[str, torch.Tensor], loaded: Mapping[str, torch.Tensor]
) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, tensor in loaded.items():
        if tensor.dtype != expected[name].dtype:
            dtype = str(tensor.dtype).removeprefix("torch.")
            counts[dtype] = counts.get(dtype, 0) + 1
    return counts


def _page(
    where: str,
    expected: list[str],
    missing: list[str],
    shapes: list[str],
    strangers: list[str],
    advice: str,
) -> str:
    arrived = len(expected) - len(missing) - len(shapes)
    lines = [f"{where} does not fit the net: {arrived} of {len(expected)} tensors would arrive."]
    if missing:
        lines += ["Missing in the file:", first_few(grouped(missing), 8)]
    if shapes:
        lines += ["Of another shape:", first_few(shapes, 8)]
    if strangers:
        lines += ["In the file, but not in the net:", first_few(grouped(strangers), 8)]
    lines.append(f"{advice} Nothing was loaded.")
    return "\n".join(lines)
