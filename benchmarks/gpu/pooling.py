"""Pooling of regions alone, on a GPU: Detectron2's RoIAlign, and what the fast keys put there.

    python -m benchmarks.gpu.pooling [--rounds 7] [--quick]

A map of 1,024 channels and 50 x 75 cells, 1,000 regions of 14 x 14 cells as C4's, forward alone and
with the gradient of the map. On a GPU the fast keys take Detectron2's own kernel: that costs
nothing is what must show. "sums of map cells" is what they take on a CPU, whose groups of regions
cost a GPU launches and waits; it stands here to see whether that is so. "DETERMINISTIC" is the
kernel under ENGINE.DETERMINISTIC, which torchvision then writes in torch's own operations.

Not for: a whole step (`detection_training`, `detection_inference`).
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

import torch
from detectron2.layers import ROIAlign

from benchmarks.claims import Claim
from benchmarks.gpu.device import DEVICE, arithmetic
from benchmarks.gpu.part import Cases, claim_of, run_part
from benchmarks.gpu.turns_on_gpu import GPUWay, Step, take_turns
from resdet.detect.fast.roi_align import SummedAlign

# (channels, height and width of the map, regions)
FULL, SMALL = (1024, 50, 75, 1000), (8, 10, 12, 12)
SIDE, STRIDE, CHUNK = 14, 16, 50
# float32; the same sums in another order, of some tens of terms.
BOUND = 1e-4
WARM_UP, STEPS = 3, 10


def problem(sizes: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A map (1, C, H, W) and regions (R, 5) in pixels, a sixteenth to all of the image."""
    channels, height, width, regions = sizes
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(1, channels, height, width, generator=generator)
    extent = torch.tensor([width, height]) * float(STRIDE)
    corners = torch.rand(regions, 2, 2, generator=generator).sort(dim=1).values * extent
    boxes = torch.cat([torch.zeros(regions, 1), corners.flatten(1)], dim=1)
    return shared.to(DEVICE), boxes.to(DEVICE)


def summed(align: ROIAlign, shared: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The CPU's form, on this device."""
    one = SummedAlign(align, CHUNK)
    _, channels, height, width = shared.shape
    cells = shared.permute(0, 2, 3, 1).reshape(-1, channels)
    axis = torch.arange(SIDE, device=shared.device)
    groups = one.pooling.groups(boxes[:, 1:], CHUNK)
    image = boxes[:, 0].long()
    return one.pooling.pool_all(cells, (height, width), image, boxes[:, 1:], axis, groups)


def measure(sizes: tuple[int, int, int, int], rounds: int, steps: int, *, training: bool) -> Claim:
    shared, boxes = problem(sizes)
    shared.requires_grad_(training)
    align = ROIAlign(SIDE, 1 / STRIDE, sampling_ratio=0, aligned=True)
    fast = SummedAlign(align, CHUNK)
    calls: dict[str, tuple[Any, bool]] = {
        "Detectron2's RoIAlign": (align, False),
        "as the fast keys": (fast, False),
        "sums of map cells": (functools.partial(summed, align), False),
        "DETERMINISTIC": (align, True),
    }
    results: dict[str, torch.Tensor] = {}

    def make(name: str, call: Any, deterministic: bool) -> Step:
        def step() -> torch.Tensor:
            with arithmetic("never", deterministic=deterministic):
                shared.grad = None
                pooled: torch.Tensor = call(shared, boxes)
                if training:
                    pooled.sum().backward()
                return pooled

        pooled = step()
        result = shared.grad if training else pooled
        assert result is not None
        results[name] = result.detach().cpu()
        return step

    ways = {name: GPUWay(functools.partial(make, name, *how)) for name, how in calls.items()}
    timed = take_turns(ways, DEVICE, rounds=rounds, steps=steps, warm_up=WARM_UP)
    first = next(iter(results.values()))
    apart = max(float((r - first).norm() / first.norm()) for r in results.values())
    channels, height, width, regions = sizes
    return claim_of(
        timed,
        f"pooling {'and its gradient' if training else 'alone'}, {regions} regions",
        f"{channels} channels, {height} x {width} cells, {SIDE} x {SIDE} a region, float32",
        f"{'gradients of the map' if training else 'regions'} apart by {apart:.1e} of their norm "
        f"(bound {BOUND})",
        apart <= BOUND,
    )


def cases(args: argparse.Namespace) -> Cases:
    sizes, rounds, steps = (SMALL, 1, 1) if args.quick else (FULL, args.rounds, STEPS)
    return {
        name: functools.partial(measure, sizes, rounds, steps, training=training)
        for name, training in (("forward", False), ("forward and backward", True))
    }


def main(argv: list[str] | None = None) -> int:
    return run_part(__doc__ or "", cases, argv, rounds=7)


if __name__ == "__main__":
    sys.exit(main())
