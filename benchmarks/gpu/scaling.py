"""One GPU to all of them: seconds of an image in the commands that users type.

    python -m benchmarks.gpu.scaling [--rounds 2] [--quick]

torchrun starts `pretrain_cls` (ResNet-50 at 224 on made JPEGs, 64 images a GPU and step) and
`train_det` (the demo's scenes at 800 pixels, ResNet-50-C4, 2 images a GPU and step), with the keys
that gain, on 1, 2, 4, … GPUs and on all; once with no loader workers and once with ENGINE.WORKERS
auto. Twice as many can be twice as fast at the most. Each run's own record of the middle of its
steps counts; losses must be finite.

Not for: a machine with one GPU.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import claims, two_processes
from benchmarks.claims import Claim
from benchmarks.gpu.device import DEVICE
from benchmarks.gpu.part import Cases, run_part
from benchmarks.loading import make_folder

STEPS = 60
KEYS = ["MODEL.DEVICE", DEVICE, "TEST.EVAL_PERIOD", "0", "ENGINE.BF16", "auto",
        "ENGINE.CHANNELS_LAST", "auto", "ENGINE.FUSED_OPTIMIZER", "auto"]  # fmt: skip
NETS = {
    "classification": ["MODEL.NET.NAME", "resnet50", "PRETRAIN.SCALED_DECODE", "on"],
    "detection": [
        "MODEL.NET.NAME", "resnet50", "MODEL.NET.WIDTH", "1.0", "MODEL.NET.STEM", "imagenet",
        "MODEL.NET.POOLED_SIZE", "0", "INPUT.MIN_SIZE_TRAIN", "(800,)",
        "ENGINE.FAST_TRAINING", "on",
    ],
}  # fmt: skip
COMMANDS = {"classification": two_processes.classification, "detection": two_processes.detection}
# Images of a GPU and step.
IMAGES = {"classification": 64, "detection": 2}
WORKERS = {
    "no workers": ["DATALOADER.NUM_WORKERS", "0"],
    "WORKERS auto": ["ENGINE.WORKERS", "auto"],
}


def numbers_of(gpus: int) -> list[int]:
    """1, 2, 4, … and all.

    >>> numbers_of(6)
    [1, 2, 4, 6]
    """
    return sorted({*(2**i for i in range(gpus.bit_length()) if 2**i <= gpus), gpus})


def measure(task: str, workers: str, numbers: list[int], rounds: int, steps: int) -> Claim:
    images = IMAGES[task]
    seconds: dict[str, list[float]] = {}
    losses = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / "images", 256)
        command = COMMANDS[task](folder, [*KEYS, *WORKERS[workers], *NETS[task]])
        for _ in range(rounds):
            for number in numbers:
                time, loss = two_processes.seconds_per_image(
                    command, folder, number, images, steps, on_cpu=False
                )
                seconds.setdefault(f"{number} GPU{'s' * (number > 1)}", []).append(time)
                losses.append(loss)
    return Claim(
        f"{task} training on several GPUs, ResNet-50, {workers}",
        f"seconds of an image, {images} images a GPU and step, {steps} steps",
        claims.rows(seconds),
        rounds,
        "last losses " + ", ".join(f"{loss:.3f}" for loss in losses),
        all(map(math.isfinite, losses)),
    )


def cases(args: argparse.Namespace) -> Cases:
    numbers = numbers_of(torch.cuda.device_count())
    if numbers == [1]:
        print("one GPU: nothing to measure here")
        return {}
    rounds, steps = (1, 20) if args.quick else (args.rounds, STEPS)
    return {
        f"{task}, {workers}": functools.partial(measure, task, workers, numbers, rounds, steps)
        for task in COMMANDS
        for workers in WORKERS
    }


def main(argv: list[str] | None = None) -> int:
    return run_part(__doc__ or "", cases, argv, rounds=2)


if __name__ == "__main__":
    sys.exit(main())
