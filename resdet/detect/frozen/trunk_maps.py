"""Maps of a frozen trunk, computed once for each image and given to the detector from then on.

A detector whose batches bring maps along does not run its trunk; without maps it runs as ever.
Images are padded to one square (INPUT.SQUARE_PAD), so that their maps do not depend on what else
is in a batch.

Not for: the files (`map_store`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet.config import data_options, flatten, net_options
from resdet.data.images.reader import ImageReader
from resdet.detect.architecture.backbone import NetBackbone, trunk_of
from resdet.detect.frozen.map_store import MapStore
from resdet.detect.loading import Mapper, identity
from resdet.detect.testing.inference import MappedRecords, with_progress
from resdet.detect.testing.partial_results import weights_digest
from resdet.engine.data_workers import Loader, num_workers
from resdet.engine.evaluation import evaluating
from resdet.errors import ConfigError
from resdet.file_names import file_name
from resdet.nets.families import family_of
from resdet.run.folder import utc_now
from resdet.run.lock import held

logger = logging.getLogger("resdet.detect")

MAPS = "maps"
# Images that pass through the trunk at once while the store is filled.
BATCH = 16
# Keys that decide what a map is, beside the trunk's weights and the images.
_DECIDE = (
    "INPUT.SQUARE_PAD", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "INPUT.FORMAT",
    "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "ENGINE.BF16", "ENGINE.FAST_TRAINING",
)  # fmt: skip


class TrunkMaps:
    """The maps of one detector's trunk, by set of images.

    Args:
        cfg: resolved, with ENGINE.TRUNK_CACHE.
        model: the detector, filled; from now on it takes maps that a batch brings along.
        reader: reads each image.

    Raises:
        ConfigError: a part of the trunk trains.
    """

    def __init__(self, cfg: Any, model: nn.Module, reader: ImageReader):
        self.cfg = cfg
        self.model: Any = model
        self.reader = reader
        self.trunk = trunk_of(model)
        refuse_what_trains(self.trunk)
        self._digest = weights_digest(self.trunk)
        take_given_maps(model, self.trunk)

    def mapper(self, records: Sequence[dict[str, Any]], name: str, *, is_train: bool) -> MapsMapper:
        """A mapper of these records that brings their maps along; computes what is missing.

        Args:
            name: of the set, for messages and the folder.
            is_train: images as in training, with objects.
        """
        mapper = Mapper.of(self.cfg, self.reader, is_train, at_test_size=True)
        store = self._filled(records, name)
        places = {record["image_id"]: place for place, record in enumerate(records)}
        return MapsMapper(mapper, store, places)

    def _filled(self, records: Sequence[dict[str, Any]], name: str) -> MapStore:
        (folder, about), shapes = self._place(records, name), self._shapes()
        # What is whole is only read, by as many runs at once as there are.
        if comm.is_main_process() and MapStore.is_whole_in(folder):
            logger.info("%s: maps of %d images are in %s", name, len(records), folder)
        elif comm.is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            with held(folder / "lock.json", utc_now(), wait=True):
                self._fill(MapStore(folder, about, shapes, len(records)), records, name)
        comm.synchronize()
        return MapStore(folder, about, shapes, len(records))

    def _place(self, records: Sequence[dict[str, Any]], name: str) -> tuple[Path, dict[str, Any]]:
        """The folder of these maps, named by all that decides them, and the same in words."""
        keys = dict(flatten(self.cfg))
        images = hashlib.sha256()
        for r in records:
            stat = os.stat(r["file_name"])
            of_file = f"{r['file_name']}\0{stat.st_size} {stat.st_mtime_ns}"
            images.update(f"{r['image_id']}\0{of_file}\n".encode("utf-8", "surrogateescape"))
        about = {
            "net": self.cfg.MODEL.NET.NAME,
            # A stride rule, an eps or a size of images is in no tensor.
            "net options": {k: str(v) for k, v in sorted(net_options(self.cfg).items())},
            "weights": self._digest,
            "set": name,
            "list of images": images.hexdigest(),
            "images read": {k: str(v) for k, v in sorted(data_options(self.cfg).items())},
            "keys": {key: str(keys[key]) for key in _DECIDE},
        }
        mark = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.cfg.ENGINE.TRUNK_CACHE) / f"{file_name(name)}-{mark}", about

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one image's maps; of a net that may pad less than its strides have, as they are."""
        side, trunk = self.cfg.INPUT.SQUARE_PAD, self.trunk
        is_foreign = family_of(self.cfg.MODEL.NET.NAME) is None
        if is_foreign and isinstance(trunk, NetBackbone) and not trunk.fits_cells:
            image = next(trunk.parameters()).new_zeros((1, 3, side, side))
            with evaluating(trunk), torch.no_grad():
                return {name: tuple(x.shape[1:]) for name, x in trunk(image).items()}
        return {
            name: (spec.channels, side // spec.stride, side // spec.stride)
            for name, spec in trunk.output_shape().items()
        }

    def _fill(self, store: MapStore, records: Sequence[dict[str, Any]], name: str) -> None:
        if store.is_whole:  # since another process filled it
            return
        mapper = Mapper.of(self.cfg, self.reader, False)
        left = records[store.done :]
        loader = Loader(
            MappedRecords(left, mapper),
            num_workers(self.cfg, images=len(left)),
            BATCH,
            batch_size=BATCH,
            collate_fn=identity,
        )
        try:
            with evaluating(self.model), torch.no_grad():
                for batch in with_progress(loader, len(left), f"{name}, maps of the trunk"):
                    images = self.model.preprocess_image(batch).tensor
                    maps = self.trunk(images)
                    store.add({k: v.float().cpu() for k, v in maps.items()})
        finally:
            store.flush()


class MapsMapper:
    """A record to what the model takes, with maps in the place of pixels.

    Args:
        mapper: as without maps; the image that it is given is blank.
        places: of each image in the store, by id.
    """

    def __init__(self, mapper: Mapper, store: MapStore, places: Mapping[Any, int]):
        self._mapper = mapper
        self._store = store
        self._places = places

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        blank = np.broadcast_to(np.uint8(0), (record["height"], record["width"], 3))
        rest = {k: v for k, v in record.items() if k != "annotations"}
        given = self._mapper.of_image(rest, blank, record.get("annotations", ()))
        given[MAPS] = self._store[self._places[record["image_id"]]]
        return given


def refuse_what_trains(trunk: nn.Module) -> None:
    """Raises ConfigError where a step would change what the trunk computes."""
    trained = [name for name, p in trunk.named_parameters() if p.requires_grad]
    live = [name for name, m in trunk.named_modules() if isinstance(m, _BatchNorm)]
    if names := trained or live:
        raise ConfigError(
            f"ENGINE.TRUNK_CACHE keeps the maps of a trunk that does not change, and "
            f"{names[0]} of it {'trains' if trained else 'is a live batch norm'} "
            f"({len(names)} such). Freeze all of its stages (MODEL.BACKBONE.FREEZE_AT, with "
            "MODEL.WEIGHTS), or leave ENGINE.TRUNK_CACHE out."
        )


class _Given:
    """What stands in for a trunk while a batch brings its maps along; copies share it."""

    def __init__(self, trunk: nn.Module):
        self._run = trunk.forward
        self._maps: dict[str, torch.Tensor] | None = None

    def __deepcopy__(self, memo: Any) -> _Given:
        return self

    def take(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Called before the detector's forward pass."""
        batch = args[0]
        self._maps = None
        if batch and MAPS in batch[0]:
            names = batch[0][MAPS]
            self._maps = {name: torch.stack([one[MAPS][name] for one in batch]) for name in names}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self._maps is None:
            return self._run(x)
        maps, self._maps = self._maps, None
        return {name: values.to(x.device, x.dtype) for name, values in maps.items()}


def take_given_maps(model: nn.Module, trunk: nn.Module) -> None:
    """Makes the detector use the maps of a batch that has them, instead of its trunk."""
    if isinstance(getattr(trunk.forward, "__self__", None), _Given):
        return
    given = _Given(trunk)
    model.register_forward_pre_hook(given.take)
    trunk.forward = given.forward
