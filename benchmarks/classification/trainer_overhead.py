"""What the trainer costs over a bare loop: guards, records, random numbers, hooks.

    python -m benchmarks.classification.trainer_overhead [--rounds 20] [--quick]

The same net in the same precision on one batch in memory. Bare: normalise, forward, backward, SGD,
the loss read. The trainer: `Pretraining` with its own loop, hooks and writers, fed with the same
batch. They take turns step by step, in one process; the stream of batches is the place where the
bare loop has its turn. Both start from the same weights, and their losses must be equal.

Not for: loading, scoring or checkpoints, whose time is not compared.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.claims import Claim, add_arguments, report, rows
from benchmarks.classification.trainers import AUTO, Enough, last_loss, make_batch, make_trainer
from benchmarks.loading import make_folder
from resdet.pretrain.trainer import Pretraining

# The same operations on the same numbers; a sum over threads may come in another order.
LOSS_BOUND = 1e-4
WARM_UP = 3


class Bare:
    """A plain loop over a copy of the trainer's net, in its precision, with its optimizer."""

    def __init__(self, trainer: Pretraining):
        self.net = copy.deepcopy(trainer.net)
        self.precision = trainer.precision
        self.mean, self.std = trainer.prepare.mean, trainer.prepare.std
        solver = trainer.cfg.SOLVER
        self.optimizer = torch.optim.SGD(
            self.net.parameters(),
            solver.BASE_LR,
            momentum=solver.MOMENTUM,
            weight_decay=solver.WEIGHT_DECAY,
            fused=trainer.loop.optimizer.defaults["fused"],
        )

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        x = self.precision.input((images - self.mean) / self.std)
        with self.precision.autocast():
            logits = self.net(x)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def measure(net: str, side: int, batch_size: int, rounds: int, opts: list[str]) -> Claim:
    seconds: dict[str, list[float]] = {"bare loop": [], "trainer": []}
    losses: dict[str, list[float]] = {"bare loop": [], "trainer": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = make_folder(folder / "images", 4)
        keys = ["MODEL.NET.NAME", net, "SOLVER.IMS_PER_BATCH", str(batch_size),
                "SOLVER.BASE_LR", "0.01", *opts]  # fmt: skip
        trainer = make_trainer(folder, images, keys)
        bare, batch = Bare(trainer), make_batch(batch_size, side)

        def batches(start: int) -> Iterator[Any]:
            for _ in range(WARM_UP + rounds):
                began = time.perf_counter()
                losses["bare loop"].append(bare.step(batch[0], batch[1]))
                ours = time.perf_counter()
                seconds["bare loop"].append(ours - began)
                yield batch
                seconds["trainer"].append(time.perf_counter() - ours)
                losses["trainer"].append(last_loss(trainer) or math.nan)
            raise Enough

        trainer.loop.batches = batches
        with contextlib.suppress(Enough):
            trainer.train(resuming=False)
    pairs = list(zip(*losses.values(), strict=True))
    apart = max(abs(one - other) / abs(one) for one, other in pairs)
    return Claim(
        f"the trainer over a bare loop, {net}",
        f"seconds of a step, {batch_size} images of {side} x {side} from memory, "
        f"{trainer.precision}",
        rows({name: times[WARM_UP:] for name, times in seconds.items()}),
        rounds,
        f"losses of {len(pairs)} steps, at most {apart:.1e} apart",
        apart <= LOSS_BOUND,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser, rounds=20)
    args = parser.parse_args(argv)
    if args.quick:
        return report([measure("cifar_resnet20", 32, 32, 4, AUTO)], args)
    claims = [
        measure("resnet18", 224, 32, args.rounds, AUTO),
        measure("cifar_resnet20", 32, 128, 3 * args.rounds, AUTO),
    ]
    return report(claims, args)


if __name__ == "__main__":
    sys.exit(main())
