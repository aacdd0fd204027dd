"""Names of other origins, by explicit tables, and the conventions that go with them.

Never by shape and never by the longest suffix (`faults.md` F18). A table is a bijection over all
tensors of a net; what a file has beside it is left over and shown. So far: torchvision.

Not for: reading files (`files`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from resdet import nets
from resdet.errors import WeightsError
from resdet.nets.zoo import RESNETS, VGGS
from resdet.weights.card import Card, Input

# torchvision.transforms' usual mean and std, times 255.
TORCHVISION_INPUT = Input("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
BN_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_names(net: str) -> dict[str, str]:
    """Our name to torchvision's, for every tensor of an ImageNet ResNet or VGG.

    Raises:
        ValueError: torchvision has no such net; lists those it has.

    Example:
        >>> torchvision_names("resnet50")["res4.0.shortcut.norm.bias"]
        'layer3.0.downsample.1.bias'
    """
    if net.startswith("resnet") and int(net[6:]) in RESNETS:
        return _torchvision_resnet(int(net[6:]))
    depth = net.removeprefix("vgg").removesuffix("_bn")
    if net.startswith("vgg") and depth.isdigit() and int(depth) in VGGS:
        return _torchvision_vgg(int(depth), net.endswith("_bn"))
    known = [n for n in nets.names() if n.startswith(("resnet", "vgg"))]
    raise ValueError(f"torchvision has no twin of {net!r}; it has {', '.join(known)}")


def _torchvision_resnet(depth: int) -> dict[str, str]:
    block, blocks = RESNETS[depth]
    layers = {"stem.conv1": ("conv1", "bn1")}
    in_channels = 64
    for i, num_blocks in enumerate(blocks):
        out_channels = 64 * 2**i * block.expansion
        for j in range(num_blocks):
            ours, theirs = f"res{i + 2}.{j}", f"layer{i + 1}.{j}"
            for k in range(1, 4 if block.expansion == 4 else 3):
                layers[f"{ours}.conv{k}"] = (f"{theirs}.conv{k}", f"{theirs}.bn{k}")
            if j == 0 and (i > 0 or in_channels != out_channels):
                layers[f"{ours}.shortcut"] = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
        in_channels = out_channels
    names = {"linear.weight": "fc.weight", "linear.bias": "fc.bias"}
    for ours, (conv, norm) in layers.items():
        names[f"{ours}.weight"] = f"{conv}.weight"
        names.update({f"{ours}.norm.{n}": f"{norm}.{n}" for n in BN_NAMES})
    return names


def _torchvision_vgg(depth: int, has_norm: bool) -> dict[str, str]:
    names: dict[str, str] = {}
    index = 0
    for i, num_convs in enumerate(VGGS[depth]):
        for j in range(num_convs):
            for n in ("weight", "bias"):
                names[f"conv{i + 1}.{j}.{n}"] = f"features.{index}.{n}"
            if has_norm:
                names.update(
                    {f"conv{i + 1}.{j}.norm.{n}": f"features.{index + 1}.{n}" for n in BN_NAMES}
                )
            index += 3 if has_norm else 2  # convolution, norm, ReLU
        index += 1  # max pooling
    for ours, theirs in (("fc6", 0), ("fc7", 3), ("linear", 6)):
        for n in ("weight", "bias"):
            names[f"{ours}.{n}"] = f"classifier.{theirs}.{n}"
    return names


def identify(
    tensors: Mapping[str, torch.Tensor], where: str
) -> tuple[dict[str, torch.Tensor], Card]:
    """Tensors under our names, with a card of the origin's habits.

    The net is the one whose table covers every name in the file and leaves the fewest of its own
    unfilled: a file may lack tensors (transfer counts them), but not hold unknown ones.

    Raises:
        WeightsError: no table covers the file; shows the first name that none knows.
    """
    found: list[tuple[int, str, dict[str, str]]] = []
    for net in nets.names():
        if not net.startswith(("resnet", "vgg")):
            continue
        table = torchvision_names(net)
        if set(tensors) <= set(table.values()):
            found.append((len(table) - len(tensors), net, table))
    if not found:
        first = sorted(tensors)[0]
        raise WeightsError(
            f"{where}: no card, and its {len(tensors)} tensors have names of no origin that resdet "
            f"knows (torchvision's ResNet and VGG); first: {first}."
        )
    _, net, table = min(found)
    renamed = {ours: tensors[theirs] for ours, theirs in table.items() if theirs in tensors}
    options = {"stride_in_1x1": False} if net.startswith("resnet") else {}
    card = Card(
        net=net,
        net_options=options,
        input=TORCHVISION_INPUT,
        norm={
            "kind": "none" if net in _NO_NORM else "BN",
            "eps": 1e-5,
            "folded": is_folded(renamed),
        },
        origin="torchvision",
        verified=False,
    )
    return renamed, card


_NO_NORM = tuple(f"vgg{depth}" for depth in VGGS)


def is_folded(tensors: Mapping[str, torch.Tensor]) -> bool:
    """All norms are the identity plus a bias: their scales lie in the convolutions (F21c)."""
    means = [t for n, t in tensors.items() if n.endswith("norm.running_mean")]
    scales = [t for n, t in tensors.items() if n.endswith("norm.weight")]
    biases = [t for n, t in tensors.items() if n.endswith("norm.bias")]
    if not means:
        return False
    identity = all((t == 0).all() for t in means) and all((t == 1).all() for t in scales)
    return bool(identity and any((t != 0).any() for t in biases))
