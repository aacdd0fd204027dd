"""What a weight file holds: tensors by name, and what lies beside them, within the file's size.

A file that claims more values than it holds bytes is refused, so memory stays bounded
(`docs/faults.md` F24).

Not for: reading files (`containers`), or finding the tensors in what trainers save (`wrappers`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resdet.errors import WeightsError

Tensors = dict[str, torch.Tensor]

# Numpy's compressed archive may hold so many bytes for each of its own.
MAX_INFLATION = 20


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tensors: by the names that they have there, wrappers and common prefixes taken off.
        container: "safetensors", "torch", "torch (before 1.6)", "pickle" or "npz".
        wrappers: what was taken off, outermost first: keys, then prefixes with their dot.
        metadata: text in the header of a safetensors file.
        beside: plain values that lie beside the tensors (`epoch`, `arch`, `__author__`).
        left_aside: names of tensors that belong to something else (MoCo's key encoder).
        averages: keys under which averaged weights lie beside those read.
        key, part: what was asked for: the key, and the prefix of names or "."; "" without.
    """

    tensors: Tensors
    container: str
    wrappers: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    left_aside: tuple[str, ...] = ()
    averages: tuple[str, ...] = ()
    key: str = ""
    part: str = ""

    def full_names(self) -> Tensors:
        """The tensors with the prefixes that were taken off: a net may call itself `encoder`."""
        prefix = "".join(w for w in self.wrappers if w.endswith("."))
        return {f"{prefix}{n}": t for n, t in self.tensors.items()}


def refuse_claims(tensors: Tensors, path: Path) -> None:
    """A tensor may be a view that repeats few bytes many times: such a file is refused (F24)."""
    for name, tensor in tensors.items():
        if not name.isprintable():
            # Printed as it is, it could contain control codes of the terminal.
            raise WeightsError(f"{path}: a tensor is called {name!r}: no name of a net.")
        if tensor.is_sparse or tensor.is_quantized or tensor.device.type == "meta":
            raise WeightsError(
                f"{path}, {name}: a {tensor.layout} tensor on {tensor.device.type}, expected plain "
                "numbers. Save the weights as dense float tensors."
            )
        claimed = tensor.numel() * tensor.element_size()
        held = tensor.untyped_storage().nbytes()
        if claimed > held:
            raise WeightsError(
                f"{path}, {name}: claims {tuple(tensor.shape)}, {claimed:,} bytes, and the file "
                f"holds {held:,} of them. It was not unpacked."
            )


def refuse_total(total: int, path: Path) -> None:
    """Tensors that share memory count each time; tied weights are few."""
    if total > MAX_INFLATION * path.stat().st_size:
        raise WeightsError(
            f"{path}: its tensors claim {total:,} bytes in all, the file has "
            f"{path.stat().st_size:,}. It was not unpacked."
        )
