"""What can be told of tensors alone: their SHA-256, and which hold NaN or infinite values,
and whether norms were trained or folded.

Not for: what tensors mean (`origins`), or files (`files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from resdet.errors import ConfigError, WeightsError


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


def is_folded(tensors: Mapping[str, torch.Tensor]) -> bool:
    """All norms are the identity plus a bias: their scales lie in the convolutions (F21)."""
    means = [t for n, t in tensors.items() if n.endswith("norm.running_mean")]
    scales = [t for n, t in tensors.items() if n.endswith("norm.weight")]
    biases = [t for n, t in tensors.items() if n.endswith("norm.bias")]
    if not means:
        return False
    identity = all((t == 0).all() for t in means) and all((t == 1).all() for t in scales)
    return bool(identity and any((t != 0).any() for t in biases))


def refuse_norms_of_detector(tensors: Mapping[str, torch.Tensor], where: str, norm: str) -> None:
    """What a classifier's card and norms would have shown, for a whole detector to train on (F21).

    Args:
        norm: MODEL.NET.NORM.

    Raises:
        WeightsError: the backbone's norms were never trained. ConfigError: they are folded, and
            would be live.
    """
    backbone = {n: t for n, t in tensors.items() if n.startswith("backbone.")}
    refuse_untrained_norms(backbone, where)
    if norm == "BN" and is_folded(backbone):
        raise ConfigError(
            f"MODEL.NET.NORM is BN, but the norms of {where} are folded into its convolutions: "
            "they can only stay frozen. Set MODEL.NET.NORM FrozenBN."
        )


def refuse_untrained_norms(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Norms with mean 0, variance 1 and identity scale hold no statistics at all (F21)."""
    norms = [n.removesuffix(".running_mean") for n in tensors if n.endswith(".running_mean")]
    if norms and all(
        bool((tensors[f"{n}.running_mean"] == 0).all())
        and bool((tensors[f"{n}.running_var"] == 1).all())
        and not (f"{n}.bias" in tensors and bool((tensors[f"{n}.bias"] != 0).any()))
        for n in norms
    ):
        raise WeightsError(
            f"{where}: all {len(norms)} norms have mean 0 and variance 1: they were never trained. "
            "Train the net with tools/pretrain_cls.py; or compute them alone, over your images and "
            "with all weights as they are: pretrain_cls with MODEL.WEIGHTS and SOLVER.BASE_LR 0.0 "
            "SOLVER.MAX_ITER 1 PRETRAIN.BN_IMAGES 10000; or start from scratch: MODEL.WEIGHTS ''."
        )


def _half(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float16 and bool(tensor.isinf().any())
