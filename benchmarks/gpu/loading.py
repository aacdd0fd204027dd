"""Training from files on a GPU: loader workers off, on and as ENGINE.WORKERS auto has them.

    python -m benchmarks.gpu.loading [--rounds 3] [--quick]

ResNet-18 on JPEGs of 500 x 375, whole steps of whole programs with loading included, each in a
process of its own, in turns: torchvision's reference, timm and ours, as the CPU's benchmark has
them, on the GPU. Before, the losses of the three nets are compared on the CPU, as there.

Not for: the step alone (`classification`).
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from benchmarks import claims
from benchmarks.claims import Claim
from benchmarks.classification.trainers import OFF
from benchmarks.classification.training import (
    LOSS_BOUND,
    losses_apart,
    ours,
    timm_training,
    torchvision_reference,
)
from benchmarks.gpu.device import DEVICE
from benchmarks.gpu.part import Cases, run_part
from benchmarks.loading import folder_or_made
from benchmarks.turns import Order, Training, in_turns, seconds_and_peaks
from resdet.engine.data_workers import MOST_WORKERS, usable_cores

MODULE = "benchmarks.gpu.loading"
WORKERS = max(1, min(usable_cores() - 1, MOST_WORKERS))
ON_GPU = ["MODEL.DEVICE", DEVICE]
FAST = [*ON_GPU, *OFF, "ENGINE.BF16", "auto", "ENGINE.CHANNELS_LAST", "auto",
        "ENGINE.FUSED_OPTIMIZER", "auto"]  # fmt: skip
AUTO_WORKERS = [*FAST, "ENGINE.WORKERS", "auto"]
WAYS: dict[str, Any] = {
    f"torchvision, {WORKERS} workers": functools.partial(
        torchvision_reference, workers=WORKERS, device=DEVICE
    ),
    "torchvision, no workers": functools.partial(torchvision_reference, workers=0, device=DEVICE),
    f"timm, {WORKERS} workers": functools.partial(timm_training, workers=WORKERS, device=DEVICE),
    "all keys off, no workers": functools.partial(ours, workers=0, opts=[*ON_GPU, *OFF]),
    f"all keys off, {WORKERS} workers": functools.partial(
        ours, workers=WORKERS, opts=[*ON_GPU, *OFF]
    ),
    "ours, no workers": functools.partial(ours, workers=0, opts=FAST),
    "ours, WORKERS auto": functools.partial(ours, workers=0, opts=AUTO_WORKERS),
    "ours, WORKERS auto, SCALED_DECODE": functools.partial(
        ours, workers=0, opts=[*AUTO_WORKERS, "PRETRAIN.SCALED_DECODE", "on"]
    ),
}


def measure(images: int, batch_size: int, rounds: int, steps: int) -> Claim:
    with folder_or_made(None, images) as folder:
        arguments = ("--folder", folder, "--batch", batch_size)
        ways = {n: functools.partial(Training, MODULE, "--way", n, *arguments) for n in WAYS}
        turns = in_turns(ways, rounds, steps, warm_up=steps)
    seconds, peaks = seconds_and_peaks(turns)
    apart = losses_apart()
    return Claim(
        "classification training from files, ResNet-18 at 224",
        f"seconds of a step of {batch_size} JPEGs, loading included, {usable_cores()} cores, "
        f"turns of {steps} steps",
        claims.rows(seconds, peaks),
        rounds,
        f"losses of the three nets with equal weights and batch {apart:.1e} apart on the CPU",
        apart <= LOSS_BOUND,
    )


def cases(args: argparse.Namespace) -> Cases:
    sizes = (32, 8, 1, 1) if args.quick else (512, 64, args.rounds, 12)
    return {"from files": functools.partial(measure, *sizes)}


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if "--way" in arguments:  # one that serves its turns
        parser = argparse.ArgumentParser()
        parser.add_argument("--way", choices=WAYS)
        parser.add_argument("--folder", type=Path)
        parser.add_argument("--batch", type=int)
        args = parser.parse_args(arguments)
        WAYS[args.way](Order(), args.folder, args.batch)
        return 0
    return run_part(__doc__ or "", cases, arguments, rounds=3)


if __name__ == "__main__":
    sys.exit(main())
