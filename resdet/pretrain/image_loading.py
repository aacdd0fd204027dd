"""A classification set to batches: our order, our augmentation, decoded images kept if asked.

Not for: what lies in the set (`resdet.data`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from resdet import profile
from resdet.data.images.resize import Region, resized
from resdet.data.order import Sample, SampleOrder, generator_for
from resdet.data.records import ClassificationSet
from resdet.engine.data_workers import Loader
from resdet.pretrain.augment import TrainCrop
from resdet.pretrain.recipe.mean_image import MeanImage

Batch = tuple[torch.Tensor, torch.Tensor, list[int]]
Crop = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]


class Crops(torch.utils.data.Dataset):
    """Crops by `Sample` (augmented) or by number (not).

    Args:
        images: the set.
        crop: image and generator to a square crop; the generator is None without augmentation.
        seed: of the augmentation.
        cache_mb: decoded images are kept while they need no more than so many MB in all, in
            equal shares where several workers each keep their own.
        by_region: only the part of an image that becomes the crop is resized, and without a cache
            JPEGs are decoded smaller where that is enough (`ImageReader.read_region`). The crop
            must be a `TrainCrop`.
    """

    def __init__(
        self,
        images: ClassificationSet,
        crop: Crop,
        seed: int = 0,
        cache_mb: float = 0,
        *,
        by_region: bool = False,
    ):
        self.images = images
        self.crop = crop
        self.seed = seed
        self.room = cache_mb * 2**20
        self.by_region = by_region and isinstance(crop, TrainCrop) and crop.has_region
        self._kept: dict[int, np.ndarray] = {}
        self._bytes_kept = 0
        self._is_full = not cache_mb

    def __len__(self) -> int:
        return len(self.images)

    def _read(self, index: int) -> np.ndarray:
        image = self._kept.get(index)
        if image is None:
            with profile.span(profile.DECODE):
                image = self.images.read(index)
            worker = torch.utils.data.get_worker_info()
            room = self.room / (worker.num_workers if worker else 1)
            if self._bytes_kept + image.nbytes <= room:
                self._bytes_kept += image.nbytes
                self._kept[index] = image
            else:
                self._is_full = True
        return image

    def _region(self, crop: TrainCrop, index: int, generator: np.random.Generator) -> np.ndarray:
        """The crop from its part of the image, the same whether the image is kept or not."""

        def choose(size: tuple[int, int]) -> Region:
            return crop.region(size, generator)

        if index in self._kept or not self._is_full:
            picture = Image.fromarray(self._read(index))
            with profile.span(profile.AUGMENT):
                return crop.finish(resized(picture, choose(picture.size)), generator)
        with profile.span(profile.DECODE):
            part = self.images.read_region(index, choose, smaller=not self.room)
        with profile.span(profile.AUGMENT):
            return crop.finish(part, generator)

    def __getitem__(self, item: Sample | int) -> tuple[np.ndarray, int, int]:
        if isinstance(item, Sample):
            index, generator = item.index, generator_for(self.seed, item)
        else:
            index, generator = item, None
        if self.by_region and generator is not None:
            assert isinstance(self.crop, TrainCrop)
            crop = self._region(self.crop, index, generator)
        else:
            image = self._read(index)
            with profile.span(profile.AUGMENT):
                crop = self.crop(image, generator)
        return crop, int(self.images.labels[index]), index


def training_crops(cfg: Any, images: ClassificationSet, mean_image: MeanImage | None) -> Crops:
    """The crops that PRETRAIN's keys make of a training set."""
    recipe = cfg.PRETRAIN
    crop = TrainCrop(
        kind=recipe.AUGMENTATION,
        crop=recipe.CROP,
        jitter=tuple(recipe.JITTER),
        flip=recipe.FLIP,
        color_std=recipe.COLOR_STD,
        mean_image=mean_image,
    )
    by_region = recipe.SCALED_DECODE == "on"
    return Crops(images, crop, cfg.SEED, cache_mb=recipe.CACHE_MB, by_region=by_region)


def collate(items: list[tuple[np.ndarray, int, int]]) -> Batch:
    """Images (N, 3, H, W) uint8 (float32 less a mean image), labels (N,), indices."""
    images = torch.from_numpy(np.stack([crop for crop, _, _ in items])).permute(0, 3, 1, 2)
    return images, torch.tensor([label for _, label, _ in items]), [i for _, _, i in items]


def train_batches(
    crops: Crops,
    *,
    batch_size: int,
    seed: int,
    start: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Endless batches from number `start` on; each process takes its share of every batch."""
    order = SampleOrder(len(crops), seed)
    mine = (batch[rank::world_size] for batch in order.batches(batch_size, start))
    share = batch_size // world_size
    return iter(Loader(crops, num_workers, share, batch_sampler=mine, collate_fn=collate))


def batches_of_one_epoch(
    crops: Crops,
    *,
    batch_size: int,
    seed: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Every image once, augmented as in the first epoch; each process takes its share of a batch.

    Batches are of nearly equal size, at most `batch_size`, so that none is a rest of one image.
    """
    order = SampleOrder(len(crops), seed)
    samples = list(itertools.islice(order.samples(), len(crops)))
    number = math.ceil(len(samples) / batch_size)
    bounds = [len(samples) * i // number for i in range(number + 1)]
    whole = (samples[start:end] for start, end in itertools.pairwise(bounds))
    mine = [part for batch in whole if (part := batch[rank::world_size])]
    share = max(1, batch_size // world_size)
    return iter(Loader(crops, num_workers, share, batch_sampler=mine, collate_fn=collate))


def test_batches(
    crops: Crops, *, batch_size: int, num_workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Every image once, in its own order; never padded (F41)."""
    mine = torch.utils.data.Subset(crops, range(rank, len(crops), world_size))
    return iter(Loader(mine, num_workers, batch_size, batch_size=batch_size, collate_fn=collate))
