"""Detecting on a GPU: stock Detectron2, and each key, one image or several at once.

    python -m benchmarks.gpu.detection_inference [--only R-50-C4 …] [--rounds 5] [--quick]

Images of 800 x 1200 and 1,000 proposals each, random weights; seconds of an image, from the image
on the CPU to its boxes there. `TEST.IMS_PER_BATCH` is the number behind the name. The first image's
detections must be the peer's, within the bounds of the CPU's benchmark.

Not for: reading images (`loading`), or writing results.
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

import torch

from benchmarks.claims import Claim
from benchmarks.detection.detectors import NETS, peer_of
from benchmarks.detection.inference import MOST_OF_SPREAD, keys, sorted_apart
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

# Of float32, in TensorFloat-32 as torch allows it; what each key gives without is in `parity`.
MOST_OF_SPREAD_TF32 = 0.1
WARM_UP, STEPS = 3, 10


def detections(model: Any, batch: list[dict[str, Any]], way: DetectorWay, device: str) -> list[Any]:
    """Of each image, on the CPU, as `resdet.detect.testing.inference` takes them."""
    with torch.no_grad(), way.arithmetic(), way.around(device)():
        return [output["instances"].to("cpu") for output in model(batch)]


def measure(net: str, scale: DetectorScale, rounds: int, steps: int) -> Claim:
    peers: list[Any] = []
    differences: dict[str, tuple[float, float]] = {}

    def make(name: str, way: DetectorWay, images: int) -> Step:
        batch = scale.batch(images)
        model = way.for_detecting(way.model(net, keys(scale.proposals), scale, DEVICE))
        first = detections(model, batch[:1], way, DEVICE)
        peers.extend(first if not peers else ())
        bound = MOST_OF_SPREAD if way.bf16 else MOST_OF_SPREAD_TF32
        differences[name] = sorted_apart(peers[0], first[0]), bound
        return lambda: detections(model, batch, way, DEVICE)

    ways = {
        name if images == 1 else f"{name}, {images} images": GPUWay(
            functools.partial(make, name, way, images), images
        )
        for images in scale.batches
        for name, way in ways_of(net, training=False).items()
    }
    timed = take_turns(ways, DEVICE, rounds=rounds, steps=steps, warm_up=WARM_UP)
    return claim_of(
        timed,
        f"detecting, {net}, {scale.proposals} proposals",
        f"seconds of an image of {scale.size[0]} x {scale.size[1]}, turns of {steps} steps",
        f"sorted scores of an image apart from {peer_of(net)}'s, as a share of their spread: "
        + ", ".join(f"{name} {d:.1e} (bound {most})" for name, (d, most) in differences.items()),
        all(value < most for value, most in differences.values()),
    )


def cases(args: argparse.Namespace) -> Cases:
    scale, rounds, steps = (SMALL_SCALE, 1, 1) if args.quick else (FULL_SCALE, args.rounds, STEPS)
    return {net: functools.partial(measure, net, scale, rounds, steps) for net in args.only}


def main(argv: list[str] | None = None) -> int:
    return run_part(__doc__ or "", cases, argv, rounds=5, choices=tuple(NETS))


if __name__ == "__main__":
    sys.exit(main())
