"""Loading classification crops against torchvision on PIL: seconds per image of one thread.

    python -m benchmarks.loading [--folder CLASS_FOLDERS] [--rounds 7] [--quick]

Six ways take turns over the same JPEGs, each to one uint8 tensor of 224 x 224 crops, mirrored half
of the time: torchvision's RandomResizedCrop and a scale jitter of torchvision's functions, both on
PIL; ours with PRETRAIN.SCALED_DECODE off and on for AUGMENTATION area and paper. Processor time
counts; medians over the rounds. Before, the crops of on and off are compared on every image, and
their difference must stay in the bounds that the key states.

Without a folder 64 JPEGs of 500 x 375 are cut from scikit-image's photographs.

Not for: workers, or the net (`precision`).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from benchmarks.apart import peaks_of, print_peak
from benchmarks.claims import Claim, add_arguments, report, rows
from resdet.data.options import DataOptions
from resdet.data.order import Sample, generator_for
from resdet.data.readers.class_folders import load_folder
from resdet.pretrain.augment import TrainCrop
from resdet.pretrain.image_loading import Crops, collate

MODULE = "benchmarks.loading"
CROP, JITTER = 224, (256, 480)
# PRETRAIN.SCALED_DECODE: levels of 255. At full size every value; decoded smaller, a crop's mean.
MOST_AT_FULL_SIZE, MOST_MEAN_SMALLER = 2, 6.0
PEERS = {"area": "torchvision RandomResizedCrop", "paper": "torchvision scale jitter"}
Way = Callable[[int], Any]  # one pass over the set, in the epoch of this number


def make_folder(root: Path, number: int = 64) -> Path:
    """JPEGs of 500 x 375, quality 92, in two class folders."""
    from skimage import data

    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(getattr(data, n)()) for n in ("astronaut", "chelsea", "coffee")]
    for i in range(number):
        photograph = photographs[i % len(photographs)]
        width = int(min(photograph.width, photograph.height * 4 / 3) * generator.uniform(0.7, 1))
        left = int(generator.integers(photograph.width - width + 1))
        top = int(generator.integers(photograph.height - width * 3 // 4 + 1))
        box = (left, top, left + width, top + width * 3 // 4)
        picture = photograph.resize((500, 375), Image.Resampling.BICUBIC, box=box)
        path = root / str(i % 2) / f"{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=92)
    return root


class _Jitter:
    """The paper's: shorter side uniform in 256 to 480, random crop; on PIL images."""

    def __call__(self, picture: Image.Image) -> Image.Image:
        picture = v2.functional.resize(picture, [random.randint(*JITTER)])
        return v2.RandomCrop(CROP)(picture)


def _torchvision(folder: Path, crop: Any) -> Way:
    transform = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()])
    images = torchvision.datasets.ImageFolder(str(folder), transform)

    def run(epoch: int) -> Any:
        torch.manual_seed(epoch)
        random.seed(epoch)
        return torch.utils.data.default_collate([images[i] for i in range(len(images))])

    return run


def _crops(folder: Path, kind: str, by_region: bool) -> Crops:
    images = load_folder(folder, name="the folder", options=DataOptions(cache=False))
    return Crops(images, TrainCrop(kind, CROP, JITTER, True, 0.0), by_region=by_region)


def _ours(folder: Path, kind: str, by_region: bool) -> Way:
    crops = _crops(folder, kind, by_region)
    return lambda epoch: collate([crops[Sample(epoch, i)] for i in range(len(crops))])


def ways(folder: Path) -> dict[str, Callable[[], Way]]:
    """By name, what makes each; peers first."""
    return {
        PEERS["area"]: lambda: _torchvision(folder, v2.RandomResizedCrop(CROP)),
        PEERS["paper"]: lambda: _torchvision(folder, _Jitter()),
        "ours, area, off": lambda: _ours(folder, "area", False),
        "ours, paper, off": lambda: _ours(folder, "paper", False),
        "ours, area, on": lambda: _ours(folder, "area", True),
        "ours, paper, on": lambda: _ours(folder, "paper", True),
    }


def differences(folder: Path, kind: str) -> dict[str, Any]:
    """How far the crops of on and off lie apart, over all images, in levels of 255.

    `full` is of crops whose JPEG was decoded at full size, `smaller` of the others: how many,
    and the largest difference of a value (`max`) and of a crop in the mean (`mean`).
    """
    off, on = (_crops(folder, kind, by_region) for by_region in (False, True))
    assert isinstance(on.crop, TrainCrop)
    differences: dict[str, list[tuple[float, float]]] = {"full": [], "smaller": []}
    for index in range(len(off)):
        sample = Sample(0, index)
        size = off.images.read(index).shape[1::-1]
        scale = on.crop.region((size[0], size[1]), generator_for(0, sample)).scale()
        apart = np.abs(off[sample][0].astype(float) - on[sample][0].astype(float))
        kind = "full" if scale == 1 else "smaller"
        differences[kind].append((float(apart.max()), float(apart.mean())))
    return {
        name: {
            "crops": len(values),
            "max": max((v[0] for v in values), default=0.0),
            "mean": max((v[1] for v in values), default=0.0),
        }
        for name, values in differences.items()
    }


def measure(folder: Path, rounds: int, *, with_memory: bool = True) -> list[Claim]:
    """For each kind of crop: its peer, ours off and on, and how far off and on lie apart.

    Args:
        with_memory: each way runs once more in a process of its own, for its peak.
    """
    made = {name: make() for name, make in ways(folder).items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    images = 0
    for epoch in range(rounds + 1):
        for name, run in made.items():
            start = time.process_time()
            images = len(run(epoch)[0])
            if epoch:  # the first round warms up
                seconds[name].append((time.process_time() - start) / images)
    peaks = peaks_of(MODULE, list(made), "--folder", folder) if with_memory else {}
    claims = []
    for kind, peer in PEERS.items():
        apart = differences(folder, kind)
        full, smaller = apart["full"], apart["smaller"]
        ours = [name for name in made if f", {kind}, " in name]
        claims.append(
            Claim(
                f"loading, crops of the kind {kind}",
                f"processor seconds per image, one thread, {images} JPEGs to crops of {CROP}",
                rows({name: seconds[name] for name in (peer, *ours)}, peaks),
                rounds,
                f"{full['crops']} crops decoded at full size differ by at most {full['max']:.0f} "
                f"levels of 255, {smaller['crops']} decoded smaller by {smaller['mean']:.2f} in "
                "the mean of a crop",
                full["max"] <= MOST_AT_FULL_SIZE and smaller["mean"] <= MOST_MEAN_SMALLER,
                shown=(f"ours, {kind}, on",),
            )
        )
    return claims


@contextlib.contextmanager
def folder_or_made(given: Path | None, number: int) -> Iterator[Path]:
    """The folder that was given, or one with so many made JPEGs that goes afterwards."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as made:
        yield make_folder(Path(made), number)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="class folders of JPEGs")
    add_arguments(parser, rounds=7)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with folder_or_made(args.folder, 16 if args.quick else 64) as folder:
        if args.peak_of:
            ways(folder)[args.peak_of]()(0)
            return print_peak()
        rounds = 2 if args.quick else args.rounds
        return report(measure(folder, rounds, with_memory=not args.quick), args)


if __name__ == "__main__":
    sys.exit(main())
