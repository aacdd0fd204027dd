"""Values that an origin lays out differently: our tensors to its meaning, and back.

    fold, unfold            Caffe2's norms: scale and shift alone
    bias_into_norm          the first convolution's bias of MSRA's ResNet-50
    to_linear, to_convolution   fc6 and fc7 of timm's VGG
    centred, uncentred      where option A's zeros go: around the copied channels, or behind them

Each pair gives back what it was given, bit for bit, where the values allow it; which do not is
said with the function.

Not for: names (`names`), or which origin needs what (`origins`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from resdet.weights.formats.containers import Tensors

# eps of every norm of every origin here; files do not tell it.
EPS = 1e-5
STEM_MEAN = "stem.conv1.norm.running_mean"


def unfold(ours: Tensors) -> Tensors:
    """Scale and shift as a norm with mean 0 and variance 1 - eps, as Detectron2 does."""
    found = dict(ours)
    for name in [n for n in ours if n.endswith("norm.weight")]:
        norm = name.removesuffix(".weight")
        # In float32: half precision has no 1 - eps.
        found[f"{norm}.running_mean"] = torch.zeros_like(ours[name], dtype=torch.float32)
        # With this variance scale / sqrt(variance + eps) is the scale itself.
        found[f"{norm}.running_var"] = torch.ones_like(ours[name], dtype=torch.float32) - EPS
    return found


def fold(ours: Tensors) -> Tensors:
    """Norms as scale and shift. Their statistics are lost, but for those that `unfold` made."""
    found = dict(ours)
    for name in [n for n in ours if n.endswith("norm.weight")]:
        norm = name.removesuffix(".weight")
        mean, variance = (found.pop(f"{norm}.running_{s}") for s in ("mean", "var"))
        if (mean == 0).all() and torch.equal(variance, torch.ones_like(variance) - EPS):
            continue  # the identity: a round trip stays exact
        scale = ours[name].double() * (variance.double() + EPS).rsqrt()
        shift = ours[f"{norm}.bias"].double() - mean.double() * scale
        found[name] = scale.to(ours[name].dtype)
        found[f"{norm}.bias"] = shift.to(ours[name].dtype)
    return found


def bias_into_norm(ours: Tensors, bias: torch.Tensor) -> Tensors:
    """(x + bias - mean) * scale + shift: the bias is a smaller mean."""
    return {**ours, STEM_MEAN: ours[STEM_MEAN].float() - bias.float()}


def to_linear(ours: Tensors) -> Tensors:
    """(4096, 512, 7, 7) to (4096, 25088): channels, rows, columns, as `flatten` orders them."""
    return {n: t.flatten(1) if _is_fc(n) and t.ndim == 4 else t for n, t in ours.items()}


def to_convolution(ours: Tensors, pooled_size: int = 7) -> Tensors:
    """Back: fc6 takes `pooled_size` cells a side, fc7 one."""
    sides = {"fc6.weight": pooled_size, "fc7.weight": 1}
    return {
        n: t.unflatten(1, (-1, sides[n], sides[n])) if n in sides else t for n, t in ours.items()
    }


def _is_fc(name: str) -> bool:
    return name in ("fc6.weight", "fc7.weight")


# -- option A ----------------------------------------------------------------------------------


def uncentred(theirs: Tensors) -> Tensors:
    """A CIFAR net whose option A pads zeros on both sides, as the same function with zeros behind.

    Channels of the residual stream get another order, stage by stage; every convolution, norm and
    the last layer follow. The function stays the same (sums in another order: 1e-6 in float32),
    the values are moved only.
    """
    return _reordered(theirs, inverse=False)


def centred(ours: Tensors) -> Tensors:
    """Back, bit for bit."""
    return _reordered(ours, inverse=True)


def _reordered(tensors: Tensors, *, inverse: bool) -> Tensors:
    orders = _orders(tensors)
    if inverse:
        orders = {stage: torch.argsort(order) for stage, order in orders.items()}
    found = dict(tensors)
    for name, tensor in tensors.items():
        for dim, stage in _streams(name, tensor):
            found[name] = found[name].index_select(dim, orders[stage]).contiguous()
    return found


def _orders(tensors: Mapping[str, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Stage to the order of its stream: entry k is the channel there that is channel k here."""
    order = torch.arange(tensors["stem.conv1.weight"].shape[0])
    orders = {2: order}
    for stage in (3, 4):
        channels = tensors[f"res{stage}.0.conv2.weight"].shape[0]
        before = (channels - len(order)) // 2
        copied = order + before
        zeros = [c for c in range(channels) if not before <= c < before + len(order)]
        order = torch.cat([copied, torch.tensor(zeros, dtype=torch.long)])
        orders[stage] = order
    return orders


def _streams(name: str, tensor: torch.Tensor) -> Iterator[tuple[int, int]]:
    """The dimensions of a tensor that run along the residual stream, and of which stage."""
    if name.endswith("num_batches_tracked"):
        return
    if name == "linear.weight":
        yield 1, 4
    if not name.startswith("res"):
        return
    stage, block, layer = int(name[3]), int(name.split(".")[1]), name.split(".")[2]
    if layer == "conv1" and tensor.ndim == 4:
        yield 1, stage if block else max(2, stage - 1)
    if layer == "conv2":
        yield 0, stage
