"""One way of starting on one tree, in this process: time, memory, and that of a worker alone.

    start     the set is read and the loader gives its first batch, images decoded
    epoch     one worker reads every record in random order, images left out

Memory is what Linux counts as private to a process (`smaps_rollup`: Private_Clean, Private_Dirty);
pages that forked processes share are nobody's, so a worker that reads without writing has few.

Not for: making trees (`trees`), or setting ways side by side (`__main__`).
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.scale import trees

FOLDERS, COCO, SHARDS = "class folders", "COCO", "tar shards"
OURS = "ours"
PEERS = {
    FOLDERS: "torchvision ImageFolder",
    COCO: "Detectron2, serialised list",
    SHARDS: "webdataset",
}
BATCH, RECORDS_A_TIME = 4, 256
# Imported before a start, by all ways, so that they have the same behind them.
MODULES = (
    "detectron2.data", "resdet.data.catalog", "resdet.detect.loading", "resdet.config",
    "resdet.pretrain.image_loading", "torchvision.datasets", "torchvision.transforms.v2",
)  # fmt: skip
# A start gives the loader, with its first batch taken, and the records for an epoch.
Start = Callable[[Path], tuple[int, Any]]


def private_mb(pid: int | str = "self") -> float:
    """Memory that this process shares with none."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    sizes = (line.split() for line in text.splitlines() if line.startswith("Private_"))
    return sum(int(size) for _, size, _ in sizes) / 1024


def measure(kind: str, way: str, root: Path) -> dict[str, float]:
    """Figures of one way; `seconds` and `processor` are of the start, without imports."""
    start = STARTS[kind, way]
    for module in MODULES:
        importlib.import_module(module)
    wall, processor = time.perf_counter(), time.process_time()
    images, records = start(root)
    figures: dict[str, float] = {
        "images": images,
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    gc.collect()
    figures["parent_mb"] = private_mb()
    if isinstance(records, torch.utils.data.IterableDataset):
        return {**figures, **_streamed(records, images)}
    return {**figures, **_epoch(records)}


def _epoch(records: Any) -> dict[str, float]:
    """Private memory of a worker at its first and after its last record."""
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(
        records,
        batch_size=RECORDS_A_TIME,
        sampler=order.tolist(),
        num_workers=1,
        collate_fn=len,
        multiprocessing_context="fork",
    )
    batches: Any = iter(loader)
    (worker,) = batches._workers
    seen, at_first = next(batches), private_mb(worker.pid)
    for _ in range(len(loader) - 1):
        seen += next(batches)
    assert seen == len(records), (seen, len(records))
    return {"worker_first_mb": at_first, "worker_mb": private_mb(worker.pid)}


def _streamed(records: Any, images: int) -> dict[str, float]:
    """The same of records that come in the order in which they lie."""
    loader = torch.utils.data.DataLoader(
        records, RECORDS_A_TIME, num_workers=1, collate_fn=len, multiprocessing_context="fork"
    )
    batches: Any = iter(loader)
    (worker,) = batches._workers
    seen, at_first = next(batches), private_mb(worker.pid)
    after = at_first
    for number in batches:
        seen += number
        after = private_mb(worker.pid) if seen < images else after
    assert seen == images, (seen, images)
    return {"worker_first_mb": at_first, "worker_mb": after}


def first_batch(batches: Any) -> None:
    """Takes one, and ends the workers."""
    next(iter(batches))


# -- class folders -----------------------------------------------------------------------------


class _NoImages:
    """In the place of an `ImageReader`: a path is read from the records, and nothing else."""

    def read(self, path: str, data: bytes | None = None) -> np.ndarray:
        return np.full((1, 1, 3), len(path), dtype=np.uint8)


def start_ours_on_folders(root: Path) -> tuple[int, Any]:
    from resdet.data import catalog
    from resdet.pretrain.augment import TrainCrop
    from resdet.pretrain.image_loading import Crops, train_batches

    data = catalog.load_classification("imagenet_train", root=root)
    crop = TrainCrop(kind="area", crop=224, jitter=(256, 480), flip=True, color_std=0.0)
    crops = Crops(data, crop)
    first_batch(train_batches(crops, batch_size=BATCH, seed=1, start=0, num_workers=1))
    without = replace(data, reader=_NoImages())  # type: ignore[arg-type]
    return len(data), Crops(without, lambda image, _: image)


def start_image_folder(root: Path) -> tuple[int, Any]:
    import torchvision
    from torchvision.transforms import v2

    crop = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    images = torchvision.datasets.ImageFolder(str(root / trees.FOLDERS), crop)
    first_batch(torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=1))
    images.loader, images.transform = len, None
    return len(images), images


# -- tar shards --------------------------------------------------------------------------------


def start_ours_on_shards(root: Path) -> tuple[int, Any]:
    from resdet.data import catalog
    from resdet.pretrain.augment import TrainCrop
    from resdet.pretrain.image_loading import Crops, train_batches

    data = catalog.load_classification(f"wds:{root / trees.SHARDS}")
    crop = TrainCrop(kind="area", crop=32, jitter=(36, 48), flip=True, color_std=0.0)
    crops = Crops(data, crop)
    first_batch(train_batches(crops, batch_size=BATCH, seed=1, start=0, num_workers=1))
    # The bytes of every image are read, and not decoded.
    without = replace(data, reader=_NoImages())  # type: ignore[arg-type]
    return len(data), Crops(without, lambda image, _: image)


def start_webdataset(root: Path) -> tuple[int, Any]:
    """As its users do: shards, and then 1,000 samples, are mixed, as it reads front to back."""
    import webdataset
    from torchvision.transforms import v2

    shards = sorted(str(path) for path in (root / trees.SHARDS).glob("*.tar"))
    crop = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.PILToTensor()])

    def stream() -> Any:
        return webdataset.WebDataset(shards, shardshuffle=100, seed=1, empty_check=False).shuffle(
            1000
        )

    batches = stream().decode("pil").to_tuple("jpg", "cls").map_tuple(crop)
    first_batch(torch.utils.data.DataLoader(batches, BATCH, num_workers=1))
    # It has no number of its own: that is what each user counts, or writes down.
    images = trees.IMAGES_OF_SHARD * len(shards)
    return images, stream().to_tuple("jpg", "cls")


# -- COCO --------------------------------------------------------------------------------------


class _Counted(torch.utils.data.Dataset[int]):
    """The number of objects of each record, so that the whole record is made."""

    def __init__(self, records: Sequence[dict[str, Any]]):
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> int:
        return len(self.records[index]["annotations"])


def start_ours_on_coco(root: Path) -> tuple[int, Any]:
    from resdet.config import get_cfg
    from resdet.data import DataOptions, catalog
    from resdet.data.images.reader import ImageReader
    from resdet.data.serialized import SerializedList
    from resdet.detect.loading import Mapper, train_batches, training_records

    options = DataOptions(masks=False)
    data = catalog.load_detection("coco_2017_train", root=root, options=options)
    if not isinstance(data.records, SerializedList):
        data = replace(data, records=SerializedList(data.records))
    number = len(data)
    records, _ = training_records(data.records, drop_difficult=False, filter_empty=True)
    del data
    mapper = Mapper.of(get_cfg(), ImageReader(options), True)
    batches = train_batches(records, mapper, batch_size=BATCH, seed=1, start=0, num_workers=1)
    first_batch(batches)
    return number, _Counted(records)


def start_detectron2(root: Path) -> tuple[int, Any]:
    from detectron2.config import get_cfg
    from detectron2.data import (
        DatasetCatalog,
        DatasetFromList,
        DatasetMapper,
        build_detection_train_loader,
        get_detection_dataset_dicts,
    )
    from detectron2.data.datasets import register_coco_instances

    name = "stand_in"
    if name not in DatasetCatalog:
        register_coco_instances(name, {}, str(root / trees.JSON), str(root / trees.IMAGES))
    records = get_detection_dataset_dicts([name], filter_empty=True)
    number = sum(1 for _ in (root / trees.IMAGES).iterdir())
    mapper = DatasetMapper(get_cfg(), is_train=True)
    loader = build_detection_train_loader(
        records, mapper=mapper, total_batch_size=BATCH, num_workers=1
    )
    first_batch(loader)
    del loader
    serialised = DatasetFromList(records, copy=False)
    del records
    return number, _Counted(serialised)


STARTS: dict[tuple[str, str], Start] = {
    (FOLDERS, OURS): start_ours_on_folders,
    (FOLDERS, PEERS[FOLDERS]): start_image_folder,
    (SHARDS, OURS): start_ours_on_shards,
    (SHARDS, PEERS[SHARDS]): start_webdataset,
    (COCO, OURS): start_ours_on_coco,
    (COCO, PEERS[COCO]): start_detectron2,
}


def print_measured(kind: str, way: str, root: Path) -> None:
    print(json.dumps(measure(kind, way, root)))
