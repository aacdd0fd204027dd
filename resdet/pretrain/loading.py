"""A classification set to batches: our order, our augmentation, decoded images kept if asked.

Not for: what lies in the set (`resdet.data`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from resdet.data.order import Sample, SampleOrder, generator_for
from resdet.data.records import ClassificationSet

Batch = tuple[torch.Tensor, torch.Tensor, list[int]]
Crop = Callable[[np.ndarray, np.random.Generator | None], np.ndarray]


class Crops(torch.utils.data.Dataset):
    """Crops by `Sample` (augmented) or by number (not).

    Args:
        images: the set.
        crop: image and generator to a square crop; the generator is None without augmentation.
        seed: of the augmentation.
        cache_mb: decoded images are kept while they need no more than so many MB in all.
    """

    def __init__(self, images: ClassificationSet, crop: Crop, seed: int = 0, cache_mb: float = 0):
        self.images = images
        self.crop = crop
        self.seed = seed
        self.room = cache_mb * 2**20
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.images)

    def _read(self, index: int) -> np.ndarray:
        image = self._kept.get(index)
        if image is None:
            image = self.images.read(index)
            if image.nbytes <= self.room:
                self.room -= image.nbytes
                self._kept[index] = image
        return image

    def __getitem__(self, item: Sample | int) -> tuple[np.ndarray, int, int]:
        if isinstance(item, Sample):
            index, generator = item.index, generator_for(self.seed, item)
        else:
            index, generator = item, None
        crop = self.crop(self._read(index), generator)
        return crop, int(self.images.labels[index]), index


def collate(items: list[tuple[np.ndarray, int, int]]) -> Batch:
    """Images (N, 3, H, W) uint8, labels (N,), indices."""
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
    return iter(
        torch.utils.data.DataLoader(
            crops, batch_sampler=mine, num_workers=num_workers, collate_fn=collate
        )
    )


def test_batches(
    crops: Crops, *, batch_size: int, num_workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Every image once, in its own order; never padded (F41)."""
    mine = torch.utils.data.Subset(crops, range(rank, len(crops), world_size))
    return iter(
        torch.utils.data.DataLoader(
            mine, batch_size=batch_size, num_workers=num_workers, collate_fn=collate
        )
    )
