"""Training steps of classifiers on a GPU: torchvision's net in a plain loop, and each of our keys.

    python -m benchmarks.gpu.classification [--only resnet50 …] [--rounds 5] [--quick]

A batch of 64 images of 224 x 224, in pinned memory as a loader leaves it: to the GPU, normalised,
forward, backward, SGD with momentum, the loss read. Ours is the step of `pretrain_cls`'s own loop,
with one key on after the other and with all that gain. All start from the same weights, so that
the losses of the first steps must agree; IMAGES_PER_PASS alone gives another where norms are live.

Not for: reading images (`loading`), or several GPUs (`scaling`).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from detectron2.utils.events import EventStorage

from benchmarks.claims import Claim
from benchmarks.classification.trainers import OFF, last_loss, make_batch, make_trainer
from benchmarks.gpu.device import DEVICE, arithmetic
from benchmarks.gpu.part import Cases, claim_of, run_part
from benchmarks.gpu.turns_on_gpu import GPUWay, Step, take_turns
from benchmarks.loading import make_folder
from resdet.weights import transfer
from resdet.weights.origins import registry

NETS = ("resnet18", "resnet50", "resnet101", "vgg16")
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
WARM_UP, STEPS = 5, 20
# TensorFloat-32 rounds to 2^-11, bfloat16 to 2^-8; a net of a hundred layers makes more of it.
LOSS_BOUND, LOSS_BOUND_BF16 = 0.01, 0.05
PEER, PEER_BF16 = "torchvision", "torchvision, bf16 and channels_last"
BF16 = ["ENGINE.BF16", "on", "ENGINE.CHANNELS_LAST", "on"]
ALL = [*BF16, "ENGINE.FUSED_OPTIMIZER", "on", "ENGINE.TF32", "on"]
PARTS = "IMAGES_PER_PASS, half the batch"
KEYS: dict[str, list[str]] = {
    "all keys off": [],
    "TF32": ["ENGINE.TF32", "on"],
    "TF32 never": ["ENGINE.TF32", "never"],
    "CUDNN_BENCHMARK": ["CUDNN_BENCHMARK", "True"],
    "CHANNELS_LAST": ["ENGINE.CHANNELS_LAST", "on"],
    "BF16": ["ENGINE.BF16", "on"],
    "BF16 and CHANNELS_LAST": BF16,
    "FUSED_OPTIMIZER": ["ENGINE.FUSED_OPTIMIZER", "on"],
    "COMPILE": ["ENGINE.COMPILE", "on"],
    PARTS: ["ENGINE.IMAGES_PER_PASS", "half"],
    "DETERMINISTIC": ["ENGINE.DETERMINISTIC", "True"],
    "all": ALL,
    "all, CUDNN_BENCHMARK": [*ALL, "CUDNN_BENCHMARK", "True"],
    "all, COMPILE": [*ALL, "ENGINE.COMPILE", "on"],
}


def torchvisions(name: str, state: dict[str, torch.Tensor], batch: Any, *, bf16: bool) -> Step:
    """A plain loop over torchvision's net, as its reference trains without options."""
    net = getattr(torchvision.models, name)(num_classes=2).train().to(DEVICE)
    net.load_state_dict(state)
    if bf16:
        net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    mean, std = (torch.tensor(v, device=DEVICE).view(1, 3, 1, 1) for v in (MEAN, STD))

    def step() -> float:
        images, labels = (t.to(DEVICE, non_blocking=True) for t in batch[:2])
        # Torchvision's loader lays images out so; ours come as they were decoded, channels last.
        layout = torch.channels_last if bf16 else torch.contiguous_format
        x = ((images - mean) / std).contiguous(memory_format=layout)
        torch.manual_seed(0)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def ours(
    name: str, state: dict[str, torch.Tensor], batch: Any, opts: list[str], folder: Path
) -> Step:
    """The step of the trainer's own loop, on a batch in memory."""
    size = len(batch[0])
    opts = [str(max(1, size // 2)) if value == "half" else value for value in opts]
    keys = ["MODEL.DEVICE", DEVICE, "MODEL.NET.NAME", name, "SOLVER.IMS_PER_BATCH", str(size),
            "SOLVER.BASE_LR", str(RATE), "SOLVER.WEIGHT_DECAY", str(DECAY),
            "SOLVER.WARMUP_ITERS", "0", *OFF, *opts]  # fmt: skip
    place = Path(tempfile.mkdtemp(dir=folder))
    with arithmetic():  # which making it sets for good
        trainer = make_trainer(place, folder / "images", keys)
    table = registry.table("torchvision", name)
    given = {o: state[t] for o, t in table.items() if t in state}
    transfer(trainer.net, given, where="torchvision", optional=())
    engine, loop = trainer.cfg.ENGINE, trainer.loop
    loop.batches = lambda start: itertools.repeat(batch)
    loop.model.train()
    loop.iter, loop.storage = 0, EventStorage(0)

    def step() -> float | None:
        with arithmetic(
            engine.TF32,
            deterministic=engine.DETERMINISTIC,
            cudnn_benchmark=trainer.cfg.CUDNN_BENCHMARK,
        ):
            loop.run_step()
        loop.iter += 1
        return last_loss(trainer)

    return step


def measure(
    name: str,
    side: int,
    batch_size: int,
    rounds: int,
    steps: int,
    keys: Sequence[str] = tuple(KEYS),
) -> Claim:
    # cuBLAS reads it when it starts; without, DETERMINISTIC is refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    images, labels, indices = make_batch(batch_size, side)
    batch = (images.pin_memory(), labels.pin_memory(), indices)
    torch.manual_seed(0)
    state = getattr(torchvision.models, name)(num_classes=2).state_dict()
    losses: dict[str, float] = {}

    def noting(way: str, make: Any) -> Step:
        step: Any = make()
        losses[way] = step()
        return step

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / "images", 4)
        plain = functools.partial(torchvisions, name, state, batch)
        makes: dict[str, Any] = {
            PEER: functools.partial(plain, bf16=False),
            PEER_BF16: functools.partial(plain, bf16=True),
            **{k: functools.partial(ours, name, state, batch, KEYS[k], folder) for k in keys},
        }
        ways = {way: GPUWay(functools.partial(noting, way, make)) for way, make in makes.items()}
        timed = take_turns(ways, DEVICE, rounds=rounds, steps=steps, warm_up=WARM_UP)
    checked, agrees = compare(losses)
    return claim_of(
        timed,
        f"a classification training step, {name}",
        f"{batch_size} images of {side} x {side} from pinned memory, SGD, turns of {steps} steps",
        checked,
        agrees,
    )


def compare(losses: dict[str, float]) -> tuple[str, bool]:
    """How far the losses of the first step lie from the peer's, and whether that is near enough."""
    shares = {way: abs(loss / losses[PEER] - 1) for way, loss in losses.items() if way != PARTS}
    half = {way for way in shares if way == PEER_BF16 or "ENGINE.BF16" in KEYS.get(way, ())}
    exact = max(share for way, share in shares.items() if way not in half)
    rounded = max((shares[way] for way in half), default=0.0)
    text = (
        f"losses of the first step within {exact:.1e} of {PEER}'s in float32 and TensorFloat-32 "
        f"(bound {LOSS_BOUND}), {rounded:.1e} in bf16 (bound {LOSS_BOUND_BF16})"
    )
    return text, exact <= LOSS_BOUND and rounded <= LOSS_BOUND_BF16


def cases(args: argparse.Namespace) -> Cases:
    if args.quick:
        return {name: functools.partial(measure, name, 64, 4, 1, 1) for name in args.only[:1]}
    return {
        name: functools.partial(measure, name, 224, 64, args.rounds, STEPS) for name in args.only
    }


def main(argv: list[str] | None = None) -> int:
    return run_part(__doc__ or "", cases, argv, rounds=5, choices=NETS)


if __name__ == "__main__":
    sys.exit(main())
