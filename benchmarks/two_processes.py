"""Two training processes on two cores against one on one core: seconds per image.

    python -m benchmarks.two_processes [--steps 20] [--quick]

The commands that users type, run by torchrun where there are two: `pretrain_cls` (ResNet-18 at 224
pixels on made JPEGs, 16 images a process and step) and `train_det` (the demo's ResNet-18 detector
on its scenes, 8 images a process and step). Each process has one thread, one core and decodes its
own images; gradients are exchanged once a step. Twice as fast is the most there can be. What each
run recorded as the middle of its steps is compared, the runs taking turns. That two processes
compute what one does is shown in `tests/engine/test_processes.py`; here both must have seen their
images and kept a finite loss.

Not for: GPUs, or machines with one core.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims import NOT_HERE, Claim, add_arguments, report, rows
from benchmarks.loading import make_folder

ROOT = Path(__file__).resolve().parents[1]
# Detectron2's writers record the middle of the last 20 steps.
STEPS = 20
COMMON = ["MODEL.DEVICE", "cpu", "ENGINE.THREADS", "1", "DATALOADER.NUM_WORKERS", "0",
          "TEST.EVAL_PERIOD", "0"]  # fmt: skip


def classification(folder: Path, keys: Sequence[str] = COMMON) -> list[str]:
    config = ROOT / "configs" / "pretrain" / "imagenet_resnet18.yaml"
    images = str(folder / "images")
    return ["tools/pretrain_cls.py", "--config", str(config), *keys,
            "PRETRAIN.TRAIN", images, "PRETRAIN.VAL", images, "PRETRAIN.BN_IMAGES", "0",
            "SOLVER.REFERENCE_BATCH", "0"]  # fmt: skip


def detection(folder: Path, keys: Sequence[str] = COMMON) -> list[str]:
    config = ROOT / "configs" / "demo" / "resnet.yaml"
    return ["tools/train_det.py", "--config", str(config), *keys, "TRANSFER.FROM_SCRATCH", "True",
            "DATASETS.TEST", "()"]  # fmt: skip


TASKS = {
    "classification training, ResNet-18": (classification, 16),
    "detection training, the demo's ResNet-18": (detection, 8),
}


def seconds_per_image(
    command: list[str],
    folder: Path,
    processes: int,
    images: int,
    steps: int,
    *,
    on_cpu: bool = True,
) -> tuple[float, float]:
    """Of one run, whose output is thrown away; and its last loss.

    Args:
        images: of a process and step. on_cpu: each process has one core and one thread.
    """
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    output = folder / f"run{len(list(folder.iterdir()))}"
    solver = ["SOLVER.MAX_ITER", str(steps), "SOLVER.IMS_PER_BATCH", str(processes * images),
              "SOLVER.STEPS", "()"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pin = None
    if on_cpu:
        cores = sorted(os.sched_getaffinity(0))[:processes]
        environment["OMP_NUM_THREADS"] = "1"
        pin = functools.partial(os.sched_setaffinity, 0, cores)
    done = subprocess.run(
        [*start, *command[:3], "--output", str(output), *command[3:], *solver],
        cwd=ROOT,
        env=environment,
        preexec_fn=pin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    last = json.loads((output / "metrics.json").read_text(encoding="utf-8").splitlines()[-1])
    return last["time"] / (processes * images), last["total_loss"]


def measure(name: str, rounds: int, steps: int) -> Claim:
    make, images = TASKS[name]
    seconds: dict[str, list[float]] = {"one process": [], "two processes": []}
    losses = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / "images", 64)
        for _ in range(rounds):
            for number, times in enumerate(seconds.values(), 1):
                time, loss = seconds_per_image(make(folder), folder, number, images, steps)
                times.append(time)
                losses.append(loss)
    return Claim(
        f"two processes, {name}",
        f"seconds per image, {images} images a process and step, one thread and core each",
        rows(seconds),
        rounds,
        f"{steps} steps each, last losses " + ", ".join(f"{loss:.3f}" for loss in losses),
        all(map(math.isfinite, losses)),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    add_arguments(parser, rounds=2)
    args = parser.parse_args(argv)
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        print("two processes need two cores of a Linux machine: nothing to measure here")
        return NOT_HERE
    names, rounds, steps = list(TASKS), args.rounds, args.steps
    if args.quick:
        names, rounds, steps = names[1:], 1, 5
    return report([measure(name, rounds, steps) for name in names], args)


if __name__ == "__main__":
    sys.exit(main())
