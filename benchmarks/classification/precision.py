"""What ENGINE.BF16, ENGINE.CHANNELS_LAST and ENGINE.ACTIVATION_CHECKPOINTING gain on a CPU.

    python -m benchmarks.classification.precision [--net resnet18] [--side 224] [--batch 32]

The settings take turns, step by step, on one classifier and one batch of noise; the median of each
is compared with float32. Before, one step of each from the same weights: the losses must agree to
the bound of bfloat16's eight bits. Peak memory is that of a step in a process of its own.

Not for: data loading, whole runs, or a GPU (`benchmarks.gpu`).
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
import torch.nn.functional as F

from benchmarks.apart import forget_peak, peaks_of, print_peak
from benchmarks.claims import Claim, add_arguments, report, rows
from resdet import nets
from resdet.engine.speed.activation_checkpointing import recompute_blocks
from resdet.engine.speed.precision import Precision

MODULE = "benchmarks.classification.precision"
# bfloat16 rounds to 2^-8; what a whole net makes of that stays below a few times as much.
LOSS_BOUND = 0.05


CHECKPOINTING = ", activation checkpointing"
SETTINGS = {
    "float32": Precision(),
    f"float32{CHECKPOINTING}": Precision(),
    "channels_last": Precision(channels_last=True),
    "bf16": Precision(bf16=True),
    "bf16, channels_last": Precision(bf16=True, channels_last=True),
    f"bf16, channels_last{CHECKPOINTING}": Precision(bf16=True, channels_last=True),
}


class Trained:
    """A net that takes steps in one setting; every one starts from the same weights."""

    def __init__(self, name: str, setting: str):
        torch.manual_seed(0)
        precision = SETTINGS[setting]
        self.net = nets.build(name, 1000).train()
        if CHECKPOINTING in setting:
            recompute_blocks(self.net.get_submodule(s.name) for s in self.net.stages())
        if precision.channels_last:
            self.net.to(memory_format=torch.channels_last)
        self.precision = precision
        self.optimizer = torch.optim.SGD(self.net.parameters(), 1e-4, momentum=0.9)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        """Loss and seconds of one step."""
        start = time.perf_counter()
        with self.precision.autocast():
            logits = self.net(self.precision.input(images))
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), time.perf_counter() - start


def measure(net: str, side: int, batch: int, rounds: int, *, with_memory: bool) -> Claim:
    images, labels = batch_of_noise(batch, side)
    trained = {name: Trained(net, name) for name in SETTINGS}
    losses = {name: t.step(images, labels)[0] for name, t in trained.items()}
    apart = max(abs(loss / losses["float32"] - 1) for loss in losses.values())
    seconds: dict[str, list[float]] = {name: [] for name in trained}
    for _ in range(rounds):
        for name, t in trained.items():
            seconds[name].append(t.step(images, labels)[1])
    arguments = ("--net", net, "--side", side, "--batch", batch)
    peaks = peaks_of(MODULE, list(trained), *arguments) if with_memory else None
    return Claim(
        f"a classification training step, {net}",
        f"{side} x {side}, batch {batch}, cpu, SGD",
        rows(seconds, peaks),
        rounds,
        f"losses of the first step within {apart:.1e} (bound {LOSS_BOUND})",
        apart <= LOSS_BOUND,
    )


def batch_of_noise(batch: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, side, side, generator=generator)
    return images, torch.randint(1000, (batch,), generator=generator)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--net", default="resnet18", choices=nets.names())
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    add_arguments(parser, rounds=5)
    args = parser.parse_args(argv)
    if args.peak_of:
        one = Trained(args.net, args.peak_of)
        one.step(*batch_of_noise(args.batch, args.side))  # momentum comes at its end
        forget_peak()
        one.step(*batch_of_noise(args.batch, args.side))
        return print_peak()
    rounds, batch = (1, 8) if args.quick else (args.rounds, args.batch)
    return report([measure(args.net, args.side, batch, rounds, with_memory=not args.quick)], args)


if __name__ == "__main__":
    sys.exit(main())
