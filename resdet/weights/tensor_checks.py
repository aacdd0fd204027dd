"""What can be told of tensors alone: their SHA-256, and which hold NaN or infinite values.

Not for: what tensors mean (`origins`), or files (`files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from resdet.errors import WeightsError


def sha256_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(
            f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="surrogatepass")
        )
        # view as bytes: numpy knows no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def refuse_not_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises WeightsError for the first tensor with a NaN or infinite value (F25)."""
    if problems := not_finite(tensors, where):
        raise WeightsError(problems[0])


def not_finite(tensors: Mapping[str, torch.Tensor], where: str) -> list[str]:
    """One sentence per tensor that holds NaN or infinite values: how many, where the first is."""
    problems = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        # torch asks no float of one byte whether it is finite.
        try:
            bad = ~torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float())
        except (RuntimeError, NotImplementedError):
            dtype = str(tensor.dtype).removeprefix("torch.")
            problems.append(f"{where}, {name}: {dtype} is no type that torch can compute with.")
            continue
        if bad.any():
            first = int(bad.reshape(-1).nonzero()[0])
            # 65,504 is the largest float16: what was larger became infinite at saving.
            hint = " The range of float16 was exceeded at saving." if _half(tensor) else ""
            problems.append(
                f"{where}, {name}: {int(bad.sum())} of {tensor.numel()} values are not finite "
                f"(first: index {first}).{hint} The file is spoiled; train or fetch it again."
            )
    return problems


def _half(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float16 and bool(tensor.isinf().any())
