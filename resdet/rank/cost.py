"""What a backbone costs on this machine: parameters, multiply-adds, time, memory.

Measured in a process of its own, by one detector of the ranking at the ranking's size, one image at
a time, so that the columns of a table are of one kind. Times are medians of a few images.

Not for: how long the ranking takes (`budget`), or a benchmark to publish (`benchmarks/`).
"""

from __future__ import annotations

import contextlib
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resdet import nets
from resdet.config import Config, presets, resolve
from resdet.detect import from_run, starting_weights
from resdet.detect.architecture.backbone import build_net, trunk_of
from resdet.detect.architecture.model import build_faults_as_pages, fill_from_weights_and_net
from resdet.detect.frozen.map_store import bytes_of
from resdet.detect.frozen.trunk_maps import MAPS, take_given_maps
from resdet.engine.starts.start_checks import settle_device
from resdet.errors import ConfigError
from resdet.nets.timm_maps import NO_IMAGE
from resdet.rank.candidates import RankedBackbone
from resdet.rank.quick_detector import CONFIG, keys_of_row
from resdet.rank.ranking_folder import Ranking
from resdet.weights import Card
from resdet.weights.resolve import WeightFile

WARM, MEASURED = 2, 7
TRUNK_BATCH = 8


@dataclass(frozen=True)
class Cost:
    """Of one backbone, at the size of the ranking.

    Attributes:
        net: its name.
        parameters: of the trunk. multiply_adds: of the whole net on one image; None where it does
            not run at this size.
        ms: of the detector on one image, in milliseconds.
        memory_mb: of the process at its peak while it detects, not before; on a GPU, of torch
            there.
        device: what it was measured on. threads: of torch.
        trunk_seconds: of the trunk on one image of a batch. step_seconds: of one step of the heads.
        map_bytes: of one image's maps.
        waited: share of the measuring in which the process had no core, 0 to 1: other processes, a
            quota or the disk; with several threads the least that it can have been, on a GPU 0.
        image_size: of a net that is built for one size of images, the ranking's; 0 of others.
        license: of the weights, "" where nobody states it.
        sha256: of the weights' tensors. source: where they came from, for people.
    """

    net: str
    parameters: int
    multiply_adds: int | None
    ms: float
    memory_mb: float
    device: str
    threads: int
    trunk_seconds: float
    step_seconds: float
    map_bytes: int
    waited: float
    image_size: int
    license: str
    sha256: str
    source: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def built(
    ranking: Ranking, candidate: RankedBackbone, classes: int, more: Sequence[str] = ()
) -> tuple[Config, nn.Module, Card]:
    """The detector of a row before it trains, in evaluation mode.

    Args:
        more: KEY VALUE words beside those of the row.

    Raises:
        ConfigError, WeightsError: as `train_det` would.
    """
    config = resolve(presets.find(CONFIG), [*keys_of_row(ranking, candidate, 1), *more])
    settle_device(config)
    tensors, card = WeightFile(ranking.weights(candidate)).load()
    with build_faults_as_pages(config):
        fill_from_weights_and_net(config, card)
    config.fill({"MODEL.ROI_HEADS.NUM_CLASSES": classes}, "the data sets")
    with build_faults_as_pages(config):
        model = from_run.build(config.cfg)
    starting_weights.load_backbone(model, tensors, ranking.weights(candidate), ())
    return config, model.eval(), card


def _built_for_size(
    ranking: Ranking, candidate: RankedBackbone, classes: int
) -> tuple[Config, nn.Module, Card]:
    """As `built`; a net of one size (BEiT, MaxViT) is built for the square of the ranking."""
    try:
        return built(ranking, candidate, classes)
    except ConfigError as error:
        if NO_IMAGE not in str(error):
            raise
    square = ["MODEL.NET.IMAGE_SIZE", str(ranking.plan.size)]
    return built(ranking, candidate, classes, square)


def measure(ranking: Ranking, candidate: RankedBackbone, classes: int) -> Cost:
    """Raises as `built`."""
    config, model, card = _built_for_size(ranking, candidate, classes)
    cfg, size = config.cfg, ranking.plan.size
    device = torch.device(cfg.MODEL.DEVICE)
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    trunk = trunk_of(model)
    _forget_peak(device)
    began = time.perf_counter(), time.process_time()
    with torch.no_grad():
        seconds = _median(lambda: model([{"image": image}]), device)
        memory = _peak_mb(device)
        batch: Any = model.preprocess_image([{"image": image}] * TRUNK_BATCH)  # type: ignore[operator]
        trunk_seconds = _median(lambda: trunk(batch.tensor), device, warm=1, count=3) / TRUNK_BATCH
        maps = {name: m[0].float().cpu() for name, m in trunk(batch.tensor[:1]).items()}
    steps = _step_seconds(model, trunk, maps, image, cfg.SOLVER.IMS_PER_BATCH, device)
    waited = _waited(began) if device.type == "cpu" else 0.0
    return Cost(
        net=cfg.MODEL.NET.NAME,
        parameters=nets.parameters(trunk),
        multiply_adds=_multiply_adds(cfg, size),
        ms=1000 * seconds,
        memory_mb=memory,
        device=str(device),
        threads=torch.get_num_threads(),
        trunk_seconds=trunk_seconds,
        step_seconds=steps,
        map_bytes=bytes_of([m.shape for m in maps.values()], 1),
        waited=waited,
        image_size=cfg.MODEL.NET.IMAGE_SIZE,
        license=license_of(card),
        sha256=card.tensors_sha256,
        source=f"{'random, ' * candidate.is_random}{candidate.source}",
    )


def license_of(card: Card) -> str:
    """What the card, or who publishes the weights, states; "" for nothing."""
    published = card.data.get("timm") if isinstance(card.data, dict) else None
    stated = published.get("license") if isinstance(published, dict) else ""
    return str(card.source.get("license") or stated or "")


def _multiply_adds(cfg: Any, size: int) -> int | None:
    try:
        with torch.device("meta"):
            net = build_net(cfg)
        return nets.multiply_adds(net, size)
    except (ValueError, RuntimeError, NotImplementedError):
        return None


def _median(
    run: Callable[[], Any], device: torch.device, *, warm: int = WARM, count: int = MEASURED
) -> float:
    times = []
    for _ in range(warm + count):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _waited(began: tuple[float, float]) -> float:
    """Share of the time since (wall clock, processor's) in which the process had no core."""
    wall = time.perf_counter() - began[0]
    return max(0.0, 1 - (time.process_time() - began[1]) / wall)


def _forget_peak(device: torch.device) -> None:
    """The peak counts from here on: reading weights, and making random ones, is not detecting."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    gc.collect()
    with contextlib.suppress(OSError):  # where there is none of it, all before counts, too
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    # Linux has in it what the parent had when this process was started, so that is for others.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _step_seconds(
    model: Any, trunk: nn.Module, maps: dict[str, torch.Tensor], image: torch.Tensor, batch: int,
    device: torch.device,
) -> float:  # fmt: skip
    """Of a step of the heads on given maps, with two objects an image."""
    from detectron2.structures import Boxes, Instances

    take_given_maps(model, trunk)
    side = image.shape[-1]
    objects = Instances((side, side))
    corners = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.8]]) * side
    objects.gt_boxes, objects.gt_classes = Boxes(corners), torch.zeros(2, dtype=torch.int64)
    given = [{"image": image, "instances": objects, MAPS: maps}] * batch
    model.train()
    from detectron2.utils.events import EventStorage

    def step() -> None:
        losses = model(given)
        sum(losses.values()).backward()
        model.zero_grad(set_to_none=True)

    with EventStorage(0):
        seconds = _median(step, device, warm=1, count=3)
    model.eval()
    return seconds
