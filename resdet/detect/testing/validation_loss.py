"""A detector's losses on a test set while it trains, as training has them: TEST.VALIDATION_LOSS.

Each image passes alone, at the size of the test and without flips; regions and anchors are sampled
as in training, by random numbers of the image's own, so that two models see the same draws. Norms
and dropout compute as in a test. The losses are means over the images.

Not for: AP (`evaluate` in `trainer`), or which model is the best.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from resdet.data.images.reader import ImageReader
from resdet.data.order import Sample
from resdet.data.records import DetectionSet
from resdet.detect.alternating.proposal_source import ProposalSource
from resdet.detect.loading import (
    Mapper,
    Records,
    identity,
    refuse_run_lengths,
    training_records,
)
from resdet.engine.data_workers import Loader, num_workers
from resdet.engine.evaluation import evaluating

TOTAL = "validation_loss"


def validation_losses(
    cfg: Any,
    model: nn.Module,
    data: DetectionSet,
    reader: ImageReader,
    proposals: ProposalSource | None = None,
) -> dict[str, float]:
    """Mean losses over an annotated set, by SET/validation_NAME, and their sum SET/validation_loss.

    Several processes share the images; each gets the means over all.

    Args:
        proposals: of Fast R-CNN alone.
    """
    mapper = Mapper.of(cfg, reader, True, proposals, at_test_size=True)
    records = records_with_losses(cfg, data)
    mine = range(comm.get_rank(), len(records), comm.get_world_size())
    sums: dict[str, float] = defaultdict(float)
    with evaluating(model), torch.no_grad(), EventStorage():
        for part in _deciding(model):
            part.training = True
        with torch.random.fork_rng(devices=_cuda_devices(cfg)):
            for index, batch in zip(mine, _batches(cfg, records, mapper, mine), strict=True):
                torch.manual_seed(_seed_of(cfg.SEED, index))
                for name, loss in model(batch).items():
                    sums[name] += float(loss)
    every = comm.all_gather(dict(sums))
    names = {name: None for part in every for name in part}
    means = {name: sum(part.get(name, 0.0) for part in every) / len(records) for name in names}
    found = {f"{data.name}/validation_{name}": mean for name, mean in means.items()}
    return {**found, f"{data.name}/{TOTAL}": sum(means.values())}


def records_with_losses(cfg: Any, data: DetectionSet) -> Sequence[dict[str, Any]]:
    """The records of a test set as they would train; images without objects stay.

    Raises:
        ConfigError: masks of another form than INPUT.MASK_FORMAT.
    """
    records, counts = training_records(
        data.records, drop_difficult=cfg.DATASETS.VOC_DIFFICULT == "drop", filter_empty=False
    )
    refuse_run_lengths(cfg, data.name, counts)
    return records


def _deciding(model: nn.Module) -> list[nn.Module]:
    """The modules that decide between losses and detections; all others stay in test mode."""
    generator, heads = (getattr(model, name, None) for name in ("proposal_generator", "roi_heads"))
    parts = (model, generator, heads, getattr(heads, "mask_head", None))
    return [part for part in parts if isinstance(part, nn.Module)]


def _batches(
    cfg: Any, records: Sequence[dict[str, Any]], mapper: Mapper, indices: Sequence[int]
) -> Loader:
    return Loader(
        Records(records, mapper, cfg.SEED),
        num_workers(cfg, images=len(records)),
        1,
        batch_sampler=[[Sample(0, index)] for index in indices],
        collate_fn=identity,
    )


def _seed_of(seed: int, index: int) -> int:
    return (max(seed, 0) * 1_000_003 + index) % 2**63


def _cuda_devices(cfg: Any) -> list[int]:
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type != "cuda":
        return []
    # "cuda" is this process's own, of several.
    return [torch.cuda.current_device() if device.index is None else device.index]
