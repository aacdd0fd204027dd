"""A training step of stock Detectron2 against ENGINE.FAST_TRAINING, one image.

    python -m benchmarks.detection.training [--net R-50-C4 …] [--regions 128] [--rounds 3]

The same weights (`detectors`), image, objects and random draws; 600 x 900 pixels of noise with ten
boxes. Both take whole steps (forward, backward, SGD) in turns, and the median of each is compared.
Before, the gradients of the first step must agree: in float32 to 5e-3 of their norm (random
weights rank boxes so closely that rounding may exchange some); for bf16 the difference is printed.

Not for: loading, or a GPU (`benchmarks.gpu`).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from benchmarks.apart import forget_peak, peaks_of, print_peak
from benchmarks.claims import Claim, add_arguments, report, rows
from benchmarks.detection.detectors import NETS, SIZE, image_of_noise, pair, peer_of
from resdet.detect.fast.fast_training import speed_up
from resdet.engine.speed.precision import Precision

MODULE = "benchmarks.detection.training"
# Nets, and how many regions.
CASES = (("R-50-C4", 128), ("R-50-FPN", 512), ("VGG-16", 128))
MOST_APART, MOST_APART_BF16 = 5e-3, 0.15
# Beside the peer.
SETTINGS = {
    "fast": Precision(channels_last=True),
    "fast, bf16": Precision(bf16=True, channels_last=True),
}


def batch_of_one(seed: int = 0, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """An image with ten objects, as wide and tall as a tenth to a third of it."""
    (image,) = image_of_noise(seed, size)
    share = torch.tensor([size[1] / SIZE[1], size[0] / SIZE[0]])
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(10, 2, generator=generator) * torch.tensor([600.0, 400.0]) * share
    sides = (60 + torch.rand(10, 2, generator=generator) * 140) * share
    objects = Instances((image["height"], image["width"]))
    objects.gt_boxes = Boxes(torch.cat([corners, corners + sides], dim=1))
    objects.gt_classes = torch.randint(0, 80, (10,), generator=generator)
    return [{**image, "instances": objects}]


class Trained:
    """A detector that takes steps in one setting.

    Args:
        precision: of ENGINE.FAST_TRAINING; None leaves the model as it is.
        around: what the model runs in, such as an autocast.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision | None,
        around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        self.model = model.train()
        self.around = around
        if precision is not None:
            speed_up(self.model, precision)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # No rate: the weights, and so the work, stay the same from step to step.
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(trained, 0.0, momentum=0.9)

    def step(self, batch: list[dict[str, Any]]) -> tuple[dict[str, float], float]:
        """Losses and seconds of one step, whose end is waited for: the losses are read."""
        start = time.perf_counter()
        torch.manual_seed(0)  # the sampling of anchors and regions
        self.optimizer.zero_grad()
        with EventStorage(), self.around():
            losses = self.model(batch)
        sum(losses.values()).backward()
        self.optimizer.step()
        return {k: v.item() for k, v in losses.items()}, time.perf_counter() - start

    def gradients(self) -> dict[str, torch.Tensor]:
        named = self.model.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """How far the gradients lie apart, as a share of their norm."""
    if one.keys() != other.keys():
        raise ValueError(f"gradients of other parameters: {sorted(one.keys() ^ other.keys())[:5]}")
    differences = nn.utils.get_total_norm([one[k] - other[k] for k in one])
    return float(differences / nn.utils.get_total_norm(one.values()))


def settings(net: str, regions: int, only: str | None = None) -> dict[str, Trained]:
    """The peer and ours, by name, or one of them."""
    keys = ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", str(regions)]
    models = {}
    for name in (peer_of(net), *SETTINGS):
        if only in (None, name):
            peer, ours = pair(net, keys)
            precision = SETTINGS.get(name)
            models[name] = Trained(ours if precision else peer, precision)
    return models


def measure(net: str, regions: int, rounds: int, *, with_memory: bool) -> Claim:
    trained, batch = settings(net, regions), batch_of_one()
    losses, gradients = {}, {}
    for name, one in trained.items():
        losses[name] = sum(one.step(batch)[0].values())
        gradients[name] = one.gradients()
    seconds: dict[str, list[float]] = {name: [] for name in trained}
    for _ in range(rounds):
        for name, one in trained.items():
            seconds[name].append(one.step(batch)[1])
    exact, half = (apart(gradients[peer_of(net)], gradients[n]) for n in ("fast", "fast, bf16"))
    arguments = ("--net", net, "--regions", regions)
    peaks = peaks_of(MODULE, list(trained), *arguments) if with_memory else None
    return Claim(
        f"a detection training step, {net}, {regions} regions",
        f"{peer_of(net)} against ENGINE.FAST_TRAINING, one image of 600 x 900, SGD",
        rows(seconds, peaks),
        rounds,
        "losses "
        + ", ".join(f"{value:.4f}" for value in losses.values())
        + f"; gradients of the first step apart by {exact:.1e} of their norm in float32, "
        f"{half:.1e} in bf16",
        exact < MOST_APART and half < MOST_APART_BF16,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, default=[net for net, _ in CASES])
    parser.add_argument("--regions", type=int, help="default: as suits each net")
    add_arguments(parser, rounds=3)
    args = parser.parse_args(argv)
    if args.peak_of:
        one = settings(args.net[0], args.regions, args.peak_of)[args.peak_of]
        one.step(batch_of_one())  # momentum comes at the end of the first
        forget_peak()
        one.step(batch_of_one())
        return print_peak()
    usual = dict(CASES)
    cases = [(net, args.regions or usual.get(net, 128)) for net in args.net]
    rounds = args.rounds
    if args.quick:
        cases, rounds = [(cases[0][0], 32)], 1
    return report([measure(*c, rounds, with_memory=not args.quick) for c in cases], args)


if __name__ == "__main__":
    sys.exit(main())
