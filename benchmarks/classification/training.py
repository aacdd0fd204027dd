"""Training ResNet-18 at 224 pixels on a folder of JPEGs: torchvision's reference loop, timm, ours.

    python -m benchmarks.classification.training [--folder CLASS_FOLDERS] [--batch 32] [--rounds 5]

Whole steps, loading included, of whole programs, each in a process of its own; they take turns of a
few steps. All cut random areas to 224 x 224, mirror half of them and step by SGD with momentum.
torchvision: its references/classification/train.py without options (PIL, its DataLoader, float32),
with and without loader workers. timm: create_loader, channels_last, bfloat16 autocast and its SGD,
with and without workers and torch's fused step. Ours: the trainer of `pretrain_cls`, all keys off
and with those that gain.

Before, all three nets take the same weights and the same batch in float32: their losses must be
equal to rounding. Without a folder 256 JPEGs of 500 x 375 are cut from scikit-image's photographs.

Not for: which recipe trains a better net.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torchvision.transforms import v2

from benchmarks.claims import Claim, add_arguments, report, rows
from benchmarks.classification.trainers import AUTO, BF16, OFF, last_loss, make_batch, make_trainer
from benchmarks.loading import folder_or_made
from benchmarks.turns import Order, Training, in_turns, seconds_and_peaks, stream
from resdet import nets
from resdet.weights import transfer
from resdet.weights.origins import registry

MODULE = "benchmarks.classification.training"
CROP, RATE, MOMENTUM, DECAY = 224, 0.01, 0.9, 1e-4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# float32, the same sums in another order.
LOSS_BOUND = 1e-5
OURS = [*AUTO, "PRETRAIN.SCALED_DECODE", "on"]


def torchvision_reference(
    order: Order, images: Path, batch_size: int, workers: int, device: str = "cpu"
) -> None:
    """references/classification/train.py and presets.py with backend "pil", without options."""
    crop = v2.RandomResizedCrop(CROP, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    mirror = v2.RandomHorizontalFlip(0.5)
    as_float = [v2.PILToTensor(), v2.ToDtype(torch.float, scale=True), v2.Normalize(MEAN, STD)]
    data = torchvision.datasets.ImageFolder(
        str(images), v2.Compose([crop, mirror, *as_float, v2.ToPureTensor()])
    )
    loader = torch.utils.data.DataLoader(
        data, batch_size, sampler=torch.utils.data.RandomSampler(data), num_workers=workers,
        drop_last=True, pin_memory=device != "cpu",
    )  # fmt: skip
    net = torchvision.models.resnet18(num_classes=len(data.classes)).train().to(device)
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    criterion = torch.nn.CrossEntropyLoss()
    order.step_done()
    while True:
        for inputs, labels in loader:
            inputs = inputs.to(device, non_blocking=True)
            loss = criterion(net(inputs), labels.to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            order.step_done(loss.item())


def timm_training(
    order: Order, images: Path, batch_size: int, workers: int, fused: bool = False,
    device: str = "cpu",
) -> None:  # fmt: skip
    """train.py of timm with --channels-last --amp --amp-dtype bfloat16, plain augmentation.

    Its loader normalises whole batches (prefetcher, the default). fused: torch's SGD step, too.
    """
    import timm
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2

    data = create_dataset("", root=str(images), is_training=True)
    loader = create_loader(
        data, (3, CROP, CROP), batch_size, is_training=True, color_jitter=0.0,
        interpolation="bilinear", num_workers=workers, device=torch.device(device),
        persistent_workers=workers > 0, pin_memory=device != "cpu",
    )  # fmt: skip
    net = timm.create_model("resnet18", num_classes=len(data.reader.class_to_idx)).train()
    net.to(device, memory_format=torch.channels_last)
    options = {"fused": True} if fused else {}
    optimizer = create_optimizer_v2(
        net, "momentum", lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, **options
    )
    order.step_done()
    while True:
        for inputs, labels in loader:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16):
                loss = F.cross_entropy(net(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            order.step_done(loss.item())


def ours(order: Order, images: Path, batch_size: int, workers: int, *, opts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keys = ["SOLVER.IMS_PER_BATCH", str(batch_size), "SOLVER.BASE_LR", str(RATE),
                "PRETRAIN.AUGMENTATION", "area", "PRETRAIN.COLOR_STD", "0.0",
                "DATALOADER.NUM_WORKERS", str(workers), *opts]  # fmt: skip
        trainer = make_trainer(Path(folder), images, keys)
        batches = trainer.loop.batches
        trainer.loop.batches = lambda start: stream(
            order, batches(start), lambda: last_loss(trainer)
        )
        trainer.train(resuming=False)


# By name. timm's foreach step and its loader without prefetcher were tried: both slower than these.
WAYS: dict[str, Any] = {
    "torchvision, no workers": functools.partial(torchvision_reference, workers=0),
    "torchvision, 2 workers": functools.partial(torchvision_reference, workers=2),
    "timm, no workers": functools.partial(timm_training, workers=0),
    "timm, 2 workers": functools.partial(timm_training, workers=2),
    "timm, fused": functools.partial(timm_training, workers=0, fused=True),
    "ours, all keys off": functools.partial(ours, workers=0, opts=OFF),
    "ours, BF16 and CHANNELS_LAST": functools.partial(ours, workers=0, opts=BF16),
    "ours": functools.partial(ours, workers=0, opts=OURS),
    "ours, 1 worker": functools.partial(ours, workers=1, opts=OURS),
    "ours, with ENGINE.COMPILE": functools.partial(
        ours, workers=0, opts=[*OURS, "ENGINE.COMPILE", "on"]
    ),
}
QUICK = ("torchvision, no workers", "timm, no workers", "ours")


def losses_apart() -> float:
    """How far the three nets' losses lie apart, with the same weights and the same batch."""
    import timm

    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().train()
    state = theirs.state_dict()
    table = registry.table("torchvision", "resnet18")
    mine = nets.build("resnet18").train()
    transfer(mine, {o: state[t] for o, t in table.items() if t in state}, where="torchvision",
             optional=())  # fmt: skip
    other = timm.create_model("resnet18").train()
    other.load_state_dict(state)  # timm has torchvision's names
    images, labels, _ = make_batch(4, CROP)
    x = images.float() / 255 - 0.5
    losses = [F.cross_entropy(net(x), labels).item() for net in (theirs, other, mine)]
    return max(abs(loss - losses[0]) for loss in losses)


def measure(
    images: Path, batch_size: int, rounds: int, steps: int, chosen: list[str]
) -> list[Claim]:
    apart = losses_apart()
    arguments = ("--folder", images, "--batch", batch_size)
    ways = {n: functools.partial(Training, MODULE, "--way", n, *arguments) for n in chosen}
    turns = in_turns(ways, rounds, steps, warm_up=2)
    seconds, peaks = seconds_and_peaks(turns)
    claims = []
    for peer in ("torchvision", "timm"):
        # The fastest of the peer's settings is the peer.
        settings = [name for name in seconds if name.startswith(peer)]
        settings.sort(key=lambda name: sorted(seconds[name])[rounds // 2])
        mine = [name for name in seconds if name.startswith("ours")]
        by_setting = {name: seconds[name] for name in (settings[0], *mine, *settings[1:])}
        claims.append(
            Claim(
                f"classification training, ResNet-18 at {CROP} on JPEGs, against {peer}",
                f"seconds of a step of {batch_size} images, loading included, "
                f"{torch.get_num_threads()} threads, turns of {steps} steps",
                rows(by_setting, peaks),
                rounds,
                f"losses of the three nets with equal weights and batch {apart:.1e} apart in "
                "float32",
                apart <= LOSS_BOUND,
                shown=("ours",),
            )
        )
    return claims


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="class folders of JPEGs")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    add_arguments(parser, rounds=5)
    args = parser.parse_args(argv)
    if args.way:
        WAYS[args.way](Order(), args.folder, args.batch)
        return 0
    with folder_or_made(args.folder, 32 if args.quick else 256) as images:
        if args.quick:
            return report(measure(images, 8, 2, 1, list(QUICK)), args)
        return report(measure(images, args.batch, args.rounds, args.steps, list(WAYS)), args)


if __name__ == "__main__":
    sys.exit(main())
