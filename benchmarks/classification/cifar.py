"""Training CIFAR's ResNet-20, 128 images of 32 x 32 from memory: a plain float32 loop and our keys.

    python -m benchmarks.classification.cifar [--rounds 7] [--quick]

The same net from the same weights on the same batch, whole steps with normalising, each setting in
a process of its own, in turns of a few steps. Plain: float32, torch's SGD, nothing else. Ours: the
trainer of `pretrain_cls` with all keys off, with those that gain, and with ENGINE.COMPILE, too,
whose first step takes a minute or two. The losses of the first steps must agree, in float32 to
rounding and else to the bound of bfloat16's eight bits.

Not for: accuracy, or loading.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.claims import Claim, add_arguments, report, rows
from benchmarks.classification.trainers import AUTO, BF16, OFF, last_loss, make_batch, make_trainer
from benchmarks.loading import make_folder
from benchmarks.turns import Order, Training, in_turns, seconds_and_peaks, stream
from resdet import nets
from resdet.engine.speed.torch_compile import missing_compiler

MODULE = "benchmarks.classification.cifar"
NET, SIDE, RATE, MOMENTUM, DECAY = "cifar_resnet20", 32, 0.01, 0.9, 1e-4
CLASSES = 2
PLAIN, COMPILED = "plain float32 loop", "ours, with ENGINE.COMPILE"
WAYS: dict[str, list[str]] = {
    PLAIN: [],
    "ours, all keys off": OFF,
    "ours, BF16 and CHANNELS_LAST": BF16,
    "ours": AUTO,
    COMPILED: [*AUTO, "ENGINE.COMPILE", "on"],
}
FLOAT32_BOUND, BF16_BOUND = 1e-5, 0.02
WARM_UP = 3


def plain(order: Order, batch: tuple[torch.Tensor, torch.Tensor, list[int]], start: Path) -> None:
    net = nets.build(NET, CLASSES).train()
    net.load_state_dict(torch.load(start, weights_only=True))
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    # As torchvision's loaders lay images out.
    images, labels = batch[0].contiguous(), batch[1]
    order.step_done()
    while True:
        loss = F.cross_entropy(net((images - mean) / std), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        order.step_done(loss.item())


def ours(order: Order, batch: Any, start: Path, opts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = make_folder(folder / "images", 2 * CLASSES)
        keys = ["MODEL.NET.NAME", NET, "SOLVER.BASE_LR", str(RATE),
                "SOLVER.IMS_PER_BATCH", str(len(batch[0])), *opts]  # fmt: skip
        trainer = make_trainer(folder, images, keys)
        trainer.net.load_state_dict(torch.load(start, weights_only=True))
        trainer.loop.batches = lambda _: stream(
            order, itertools.repeat(batch), lambda: last_loss(trainer)
        )
        trainer.train(resuming=False)


def measure(batch_size: int, rounds: int, steps: int, chosen: list[str]) -> Claim:
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.pth"
        torch.manual_seed(0)
        torch.save(nets.build(NET, CLASSES).state_dict(), start)
        arguments = ("--batch", batch_size, "--start", start)
        ways = {n: functools.partial(Training, MODULE, "--way", n, *arguments) for n in chosen}
        turns = in_turns(ways, rounds, steps, WARM_UP)
    seconds, peaks = seconds_and_peaks(turns)
    first = turns[PLAIN][0].losses
    apart = {
        name: max(abs(a - b) / abs(b) for a, b in zip(taken[0].losses, first, strict=True))
        for name, taken in turns.items()
        if name != PLAIN
    }
    agrees = all(
        value <= (FLOAT32_BOUND if WAYS[name] == OFF else BF16_BOUND)
        for name, value in apart.items()
    )
    return Claim(
        "CIFAR, ResNet-20",
        f"seconds of a step of {batch_size} images from memory, {torch.get_num_threads()} threads, "
        f"turns of {steps} steps",
        rows(seconds, peaks),
        rounds,
        f"losses of the first {WARM_UP} steps against the plain loop's: "
        + ", ".join(f"{name} {value:.1e} apart" for name, value in apart.items()),
        agrees,
        shown=("ours", COMPILED),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    add_arguments(parser, rounds=7)
    args = parser.parse_args(argv)
    if args.way:
        batch = make_batch(args.batch, SIDE)
        if args.way == PLAIN:
            plain(Order(), batch, args.start)
        else:
            ours(Order(), batch, args.start, WAYS[args.way])
        return 0
    chosen = list(WAYS)
    if args.quick or missing_compiler("cpu"):
        # Compiling takes longer than all the rest.
        chosen.remove(COMPILED)
    if args.quick:
        return report([measure(32, 2, 2, chosen)], args)
    return report([measure(args.batch, args.rounds, args.steps, chosen)], args)


if __name__ == "__main__":
    sys.exit(main())
