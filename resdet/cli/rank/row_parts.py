"""Parts of one row, each in a process of its own, called by `rank` itself.

    cost      weights found or made, the detector built and measured: cost.json
    scores    maps of all images kept, LogME on the objects of the training images: scores.json

Not for: the training of the heads, which is `train_det`.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path

from resdet.cli.rank.planning import data_options_of
from resdet.cli.training.detection_sets import load_set
from resdet.config import data_options
from resdet.data import DataOptions, catalog
from resdet.data.images.reader import ImageReader
from resdet.detect.frozen.trunk_maps import TrunkMaps
from resdet.detect.loading import no_object, training_records
from resdet.engine.speed.kept_memory import keep_freed
from resdet.errors import ConfigError
from resdet.rank import cost, held_out, object_scores, random_weights
from resdet.rank.candidates import RankedBackbone
from resdet.rank.ranking_folder import COST, SCORES, Ranking
from resdet.run.folder import write_json


def measure_cost(ranking: Ranking, candidate: RankedBackbone) -> None:
    """Raises ConfigError, WeightsError or DataError where the backbone cannot be ranked."""
    _log()
    plan = ranking.plan
    if candidate.is_random:
        data = catalog.load_detection(plan.data, options=data_options_of(plan.keys))
        if not plan.test:  # what is held out of it is tested on
            first = held_out.split(len(data))[0][: random_weights.IMAGES]
            data = dataclasses.replace(data, records=[data.records[place] for place in first])
        random_weights.make(candidate, Path(ranking.weights(candidate)), data, plan.size)
    found = cost.measure(ranking, candidate, len(plan.classes))
    write_json(ranking.row(candidate) / COST, found.to_json())


def compute_scores(ranking: Ranking, candidate: RankedBackbone) -> None:
    """Raises as `train_det` would."""
    _log()
    config, model, card = cost.built(ranking, candidate, len(ranking.plan.classes))
    if card.tensors_sha256 != ranking.read_row(candidate, COST)["sha256"]:
        raise ConfigError(
            f"{ranking.weights(candidate)} has other weights than when {candidate.label} was "
            f"measured. Bring the file back, or remove {ranking.row(candidate)}: rank then makes "
            "the row with these."
        )
    cfg = config.cfg
    keep_freed(cfg.ENGINE.KEEP_MEMORY)
    options = DataOptions(**data_options(cfg))
    maps = TrunkMaps(cfg, model, ImageReader(options))
    train, test = (load_set(names[0], options) for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST))
    records, counts = training_records(
        train.records,
        drop_difficult=cfg.DATASETS.VOC_DIFFICULT == "drop",
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
    )
    if not counts["objects"]:
        raise ConfigError(f"{train.name}: {no_object(len(train), counts)}")
    mapper = maps.mapper(records, train.name, is_train=True)
    maps.mapper(test.records, test.name, is_train=False)
    strides = {name: spec.stride for name, spec in maps.trunk.output_shape().items()}
    found = object_scores.score(records, mapper, strides)
    write_json(ranking.row(candidate) / SCORES, found.to_json())


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
