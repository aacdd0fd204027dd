"""Whether a GPU computes what it should, before anything is timed.

    python -m benchmarks.gpu.parity [--only R-50-C4 …] [--quick]

Of each detector with random weights, in float32 without TensorFloat-32: the GPU against the CPU,
the fast keys against stock on the GPU, and both in bfloat16. Losses and gradients of a training
step and the detections of an image are compared. All anchors and proposals count, so that nothing
hangs on random draws, which differ from device to device. Of each classifier the loss and the
gradients of a step: the GPU against the CPU, and bfloat16 with channels_last against float32.

Not for: how fast it is.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.claims import Claim
from benchmarks.classification.trainers import make_batch
from benchmarks.detection.detectors import NETS, peer_of
from benchmarks.detection.inference import MOST_OF_SPREAD, keys, matched, sorted_apart
from benchmarks.detection.training import MOST_APART, MOST_APART_BF16, Trained, apart
from benchmarks.gpu.classification import NETS as CLASSIFIERS
from benchmarks.gpu.detection_inference import detections
from benchmarks.gpu.detector_ways import FULL_SCALE, SMALL_SCALE, DetectorScale, DetectorWay
from benchmarks.gpu.device import DEVICE, arithmetic
from benchmarks.gpu.part import Cases, run_part
from resdet import nets
from resdet.engine.speed.precision import Precision

# Rounding decides between boxes that are as good as each other, at NMS or at the last place.
MOST_UNMATCHED = 0.02
MOST_LOSS, MOST_LOSS_BF16 = 1e-3, 0.05
# Nothing is drawn: every anchor and every proposal of an image counts.
EVERY = ["MODEL.RPN.BATCH_SIZE_PER_IMAGE", "1000000",
         "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "1000000",
         "MODEL.RPN.NMS_THRESH", "1.0"]  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """How far two lie apart, and how far they may."""

    what: str
    value: float
    bound: float

    def __str__(self) -> str:
        return f"{self.what} {self.value:.1e} (bound {self.bound:g})"


@dataclass
class Computed:
    """What a way gave: losses and gradients of a step, detections of an image; all on the CPU."""

    losses: dict[str, float]
    gradients: dict[str, torch.Tensor]
    instances: Any


def compute(net: str, way: DetectorWay, scale: DetectorScale, device: str) -> Computed:
    """A training step and an image of a detector in this setting."""
    proposals = min(scale.proposals, 300)
    opts = [*EVERY, "MODEL.RPN.POST_NMS_TOPK_TRAIN", str(proposals)]
    with way.arithmetic():
        model = way.for_training(way.model(net, opts, scale, device), device)
        one = Trained(model, None, way.around(device))
        losses, _ = one.step(scale.batch(1))
        gradients = {key: value.float().cpu() for key, value in one.gradients().items()}
    model = way.for_detecting(way.model(net, keys(proposals), scale, device))
    (instances,) = detections(model, scale.batch(1), way, device)
    return Computed(losses, gradients, instances)


def differences(what: str, one: Computed, other: Computed, *, bf16: bool) -> list[Difference]:
    """Of the second from the first."""
    total, others = sum(one.losses.values()), sum(other.losses.values())
    loss, gradient = (MOST_LOSS_BF16, MOST_APART_BF16) if bf16 else (MOST_LOSS, MOST_APART)
    if bf16:
        apart_by = sorted_apart(one.instances, other.instances)
        boxes = Difference("sorted scores", apart_by, MOST_OF_SPREAD)
    else:
        same, of = matched(one.instances, other.instances)
        boxes = Difference("detections without a match", 1 - same / max(of, 1), MOST_UNMATCHED)
    found = [
        Difference("loss", abs(others / total - 1), loss),
        Difference("gradients", apart(other.gradients, one.gradients), gradient),
        boxes,
    ]
    return [Difference(f"{what}: {d.what}", d.value, d.bound) for d in found]


def of_detector(net: str, scale: DetectorScale) -> Claim:
    stock = DetectorWay(ours=peer_of(net) != "stock", tf32="never")
    ways = {
        "fast keys": DetectorWay(fast=True, tf32="never"),
        "bf16": DetectorWay(bf16=True, tf32="never"),
        "fast keys, bf16": DetectorWay(fast=True, bf16=True, tf32="never"),
    }
    on_gpu = compute(net, stock, scale, DEVICE)
    found = differences(
        "GPU against CPU", compute(net, stock, scale, "cpu"), on_gpu, bf16=False
    )  # fmt: skip
    for name, way in ways.items():
        computed = compute(net, way, scale, DEVICE)
        found += differences(f"{name} against {peer_of(net)}", on_gpu, computed, bf16=way.bf16)
    return as_claim(f"parity, {net}", found)


def of_classifier(name: str, side: int, batch_size: int) -> Claim:
    settings = {
        "cpu": Precision(),
        "gpu": Precision(DEVICE),
        "bf16": Precision(DEVICE, bf16=True, channels_last=True),
    }
    computed = {
        key: classifier_step(name, precision, side, batch_size)
        for key, precision in settings.items()
    }
    found = []
    for what, one, other, bounds in (
        ("GPU against CPU", "cpu", "gpu", (MOST_LOSS, MOST_APART)),
        ("bf16 against float32", "gpu", "bf16", (MOST_LOSS_BF16, MOST_APART_BF16)),
    ):
        (first, gradients), (second, others) = computed[one], computed[other]
        found += [
            Difference(f"{what}: loss", abs(second / first - 1), bounds[0]),
            Difference(f"{what}: gradients", apart(others, gradients), bounds[1]),
        ]
    return as_claim(f"parity, {name}", found)


def classifier_step(
    name: str, precision: Precision, side: int, batch_size: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a net with random weights, in evaluation mode: nothing drops."""
    torch.manual_seed(0)
    net = nets.build(name, 1000).eval().to(precision.device)
    if precision.channels_last:
        net.to(memory_format=torch.channels_last)
    images, labels, _ = make_batch(batch_size, side)
    x = (images.to(precision.device).float() - 118) / 60
    with arithmetic("never"), precision.autocast():
        logits = net(precision.input(x))
        loss = F.cross_entropy(logits.float(), labels.to(precision.device))
    with arithmetic("never"):
        loss.backward()
    gradients = {k: p.grad.float().cpu() for k, p in net.named_parameters() if p.grad is not None}
    return loss.item(), gradients


def as_claim(name: str, found: Sequence[Difference]) -> Claim:
    checked = "; ".join(map(str, found))
    what = "losses, gradients and detections, float32 without TensorFloat-32"
    return Claim(name, what, [], 0, checked, all(d.value <= d.bound for d in found))


def cases(args: argparse.Namespace) -> Cases:
    scale, side, batch = (SMALL_SCALE, 64, 2) if args.quick else (FULL_SCALE, 224, 8)
    quick = CLASSIFIERS[:1] if args.quick else CLASSIFIERS
    detectors = {n: functools.partial(of_detector, n, scale) for n in NETS if n in args.only}
    classifiers = {
        n: functools.partial(of_classifier, n, side, batch) for n in quick if n in args.only
    }
    return {**detectors, **classifiers}


def main(argv: list[str] | None = None) -> int:
    return run_part(__doc__ or "", cases, argv, rounds=1, choices=(*NETS, *CLASSIFIERS))


if __name__ == "__main__":
    sys.exit(main())
