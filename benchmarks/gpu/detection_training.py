"""Training steps of detectors on a GPU: stock Detectron2, and each key.

    python -m benchmarks.gpu.detection_training [--only R-50-C4 …] [--rounds 5] [--quick]

Two images of 800 x 1200 with ten objects each, the same weights and random draws, whole steps:
forward, backward, SGD. "stock, autocast bf16" is Detectron2's model in torch's autocast as a whole;
BF16 is with CHANNELS_LAST. Before, the gradients of the first step must agree with the peer's,
within the bounds of the CPU's benchmark.

Not for: loading (`loading`, `scaling`).
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

import torch

from benchmarks.claims import Claim
from benchmarks.detection.detectors import NETS, peer_of
from benchmarks.detection.training import MOST_APART_BF16, Trained, apart
from benchmarks.gpu.detector_ways import (
    FULL_SCALE,
    SMALL_SCALE,
    DetectorScale,
    DetectorWay,
    ways_of,
)
from benchmarks.gpu.device import DEVICE
from benchmarks.gpu.part import Cases, claim_of, run_part
from benchmarks.gpu.turns_on_gpu import GPUWay, Step, take_turns
from resdet.engine.speed.fused_optimizer import with_fused_step

# TensorFloat-32 keeps ten bits, bfloat16 seven: 8 times as near, and far from what float32 gives.
MOST_APART_TF32 = 0.05
WARM_UP, STEPS = 4, 10


def keys(regions: int) -> list[str]:
    return ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", str(regions)]


def trained(net: str, way: DetectorWay, scale: DetectorScale, device: str) -> Trained:
    """A detector that takes steps in this setting."""
    model = way.model(net, keys(scale.regions_of(net)), scale, device)
    one = Trained(way.for_training(model, device), None, way.around(device))
    if way.fused:
        one.optimizer = with_fused_step(one.optimizer, "on")
    return one


def measure(net: str, scale: DetectorScale, rounds: int, steps: int) -> Claim:
    batch = scale.batch(scale.images)
    gradients: dict[str, dict[str, torch.Tensor]] = {}
    differences: dict[str, tuple[float, float]] = {}

    def make(name: str, way: DetectorWay) -> Step:
        one = trained(net, way, scale, DEVICE)

        def step() -> Any:
            with way.arithmetic():
                return one.step(batch)

        step()
        first = {key: value.float().cpu() for key, value in one.gradients().items()}
        if not gradients:
            gradients[name] = first
        bound = MOST_APART_BF16 if way.bf16 else MOST_APART_TF32
        differences[name] = apart(first, gradients[peer_of(net)]), bound
        return step

    ways = {
        name: GPUWay(functools.partial(make, name, way))
        for name, way in ways_of(net, training=True).items()
    }
    timed = take_turns(ways, DEVICE, rounds=rounds, steps=steps, warm_up=WARM_UP)
    off = {name: d for name, d in differences.items() if name in timed.seconds}
    return claim_of(
        timed,
        f"a detection training step, {net}, {scale.regions_of(net)} regions",
        f"{scale.images} images of {scale.size[0]} x {scale.size[1]}, SGD, turns of {steps} steps",
        "gradients of the first step apart from the peer's, as a share of their norm: "
        + ", ".join(f"{name} {value:.1e} (bound {most})" for name, (value, most) in off.items()),
        all(value < most for value, most in off.values()),
    )


def cases(args: argparse.Namespace) -> Cases:
    scale, rounds, steps = (SMALL_SCALE, 1, 1) if args.quick else (FULL_SCALE, args.rounds, STEPS)
    return {net: functools.partial(measure, net, scale, rounds, steps) for net in args.only}


def main(argv: list[str] | None = None) -> int:
    return run_part(__doc__ or "", cases, argv, rounds=5, choices=tuple(NETS))


if __name__ == "__main__":
    sys.exit(main())
