"""Log-probabilities of every image of a set under a protocol, each image once.

Not for: which net (`resdet.pretrain.file_scores`), or errors (`resdet.evaluation.classification`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch import nn

from resdet import profile
from resdet.data.images.scan import Progress
from resdet.data.records import ClassificationSet
from resdet.engine.data_workers import Loader
from resdet.engine.evaluation import evaluating
from resdet.engine.machine_limits import lacks_memory
from resdet.errors import TrainingStopped
from resdet.pretrain.protocols.dense_form import DenseForm
from resdet.pretrain.protocols.score_parts import ScoreParts
from resdet.pretrain.protocols.view_protocol import ViewProtocol
from resdet.pretrain.protocols.views import ViewReader, Views
from resdet.pretrain.recipe.mean_image import MeanImage
from resdet.pretrain.scoring import Prepare

logger = logging.getLogger("resdet.pretrain")

Item = tuple[int, Views]


def score_images(
    net: nn.Module,
    data: ClassificationSet,
    protocol: ViewProtocol,
    prepare: Prepare,
    folder: Path,
    fingerprint: dict[str, Any],
    *,
    mean_image: MeanImage | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> tuple[np.ndarray, ScoreParts]:
    """The net's log-probabilities, from the parts in `folder` and what they lack.

    Args:
        data: with one class per output of the net.
        prepare: (N, 3, H, W) uint8 RGB, float32 with a mean image, to the net's input.
        fingerprint: all that decides the numbers; parts of another one are removed.
        mean_image: the net's, where it was trained with one; images must be square then.
        batch_size: images of one process at once; of 10-crop and dense a tenth, at least one.

    Returns:
        (N, K) float32 on the main process, (0, K) on others; and the parts, to be removed when
        the numbers are kept elsewhere.

    Raises:
        Interrupted: a signal came; what is finished is kept.
        TrainingStopped: disk or memory is too small, or the net's outputs are not finite; the same.
        CheckFailed: an image was seen twice or never.
        ConfigError: the net takes no such views.
    """
    scorer = Scorer(net, protocol, prepare)
    with ScoreParts.open(
        folder, fingerprint, name=data.name, images=len(data), classes=len(data.classes)
    ) as parts:
        mine = parts.left()[comm.get_rank() :: comm.get_world_size()]
        share = batch_size if protocol.kind == "centre" else max(1, batch_size // 10)
        reader = ViewReader(data, protocol, mine, mean_image)
        loader = Loader(reader, workers, share, batch_size=share, collate_fn=list)
        progress = Progress(f"{data.name}, {protocol.kind}", len(mine), logger)
        began, done = time.monotonic(), 0
        with profile.section("scoring", "batch"), evaluating(net), torch.no_grad():
            for items in profile.stepwise(iter(loader)):
                with profile.span("forward"):
                    rows = _rows(scorer, items)
                _refuse_not_finite(rows, items, data)
                parts.add([number for number, _ in items], rows)
                done += len(items)
                progress.show(done)
    comm.synchronize()
    if not comm.is_main_process():
        return np.empty((0, len(data.classes)), dtype=np.float32), parts
    seconds = time.monotonic() - began
    logger.info("%s: %d images in %.1f s", data.name, len(mine), seconds)
    return parts.gathered(), parts


def _rows(scorer: Scorer, items: list[Item]) -> np.ndarray:
    try:
        return scorer(items)
    except Exception as error:
        if not lacks_memory(error):
            raise
        text = str(error).strip().partition("\n")[0]
    # Outside of the handler: the error keeps the memory that it is about.
    raise TrainingStopped(
        f"the memory is not enough for {len(items)} images at once: {text}\nFinished images are "
        "kept. Less is needed with a smaller --batch-size, or without the largest of --sizes."
    )


def _refuse_not_finite(rows: np.ndarray, items: list[Item], data: ClassificationSet) -> None:
    bad = np.flatnonzero(np.isnan(rows).any(axis=1))
    if len(bad):
        name = data.name_of(items[int(bad[0])][0])
        raise TrainingStopped(
            f"the net gives no numbers for {len(bad)} of {len(rows)} images of {data.name} (first: "
            f"{name}): its outputs are NaN. Look at its weights: resdet convert_weights inspect."
        )


class Scorer:
    """Views of some images to their log-probabilities, (n, K) float32.

    Args:
        net: in evaluation mode, on the device that `prepare` gives.
    """

    def __init__(self, net: nn.Module, protocol: ViewProtocol, prepare: Prepare):
        self.net = net
        self.protocol = protocol
        self.prepare = prepare
        if protocol.kind == "dense":
            with evaluating(net):
                self.dense = DenseForm(net, protocol.crop, protocol.average)

    def __call__(self, items: list[Item]) -> np.ndarray:
        views = [views for _, views in items]
        if self.protocol.kind != "dense":
            return self._crops(np.stack([view for (view,) in views])).float().cpu().numpy()
        sizes = [self._size([v[i] for v in views]) for i in range(len(self.protocol.sizes))]
        return mean_of_logs(torch.stack(sizes)).float().cpu().numpy()

    def _crops(self, crops: np.ndarray) -> torch.Tensor:
        """(n, V, crop, crop, 3) to (n, K), float64."""
        number, each = crops.shape[:2]
        images = torch.from_numpy(crops).flatten(0, 1).permute(0, 3, 1, 2)
        outputs = [self.net(x).double().unflatten(0, (number, each)) for x in self._inputs(images)]
        logits = torch.cat(outputs, dim=1)
        if self.protocol.average == "logits":
            return torch.log_softmax(logits.mean(dim=1), dim=1)
        return mean_of_logs(torch.log_softmax(logits, dim=2).transpose(0, 1))

    def _size(self, views: list[np.ndarray]) -> torch.Tensor:
        """The images at one size, (1, H, W, 3) each, to (n, K), float64; equal ones together."""
        rows: list[torch.Tensor] = [torch.empty(0)] * len(views)
        for places in _by_shape(views):
            stacked = np.concatenate([views[i] for i in places])
            images = torch.from_numpy(stacked).permute(0, 3, 1, 2)
            logs = mean_of_logs(torch.stack([self.dense(x) for x in self._inputs(images)]))
            for place, row in zip(places, logs, strict=True):
                rows[place] = row
        return torch.stack(rows)

    def _inputs(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The images as the net takes them, then their mirror images."""
        yield self.prepare(images)
        if self.protocol.flip:
            yield self.prepare(images.flip(-1))


def mean_of_logs(logs: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean over the first dimension of what `logs` are logarithms of.

    Of one it is the same to the bit.
    """
    return logs[0] if len(logs) == 1 else torch.logsumexp(logs, dim=0) - math.log(len(logs))


def _by_shape(views: list[np.ndarray]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, view in enumerate(views):
        groups.setdefault(view.shape, []).append(place)
    return list(groups.values())
