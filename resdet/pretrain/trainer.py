"""Pretraining: a config to a trained classifier with its card, in a run folder.

On the shared loop, with Detectron2's solver keys, hooks, writers and log line. At the end BN
statistics are recomputed over training images, the net is scored, and tensors and card are
written as one safetensors file.

Not for: what happens to the file afterwards (`resdet.detect`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.engine import hooks
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm

from resdet import nets, weights
from resdet.data import catalog
from resdet.data.records import ClassificationSet, part_of, with_labels_of
from resdet.engine.checkpoint import Checkpoints, resume
from resdet.engine.data_hashes import hash_of_files, hold_against
from resdet.engine.data_workers import batches_ahead, lost_images_stop, num_workers
from resdet.engine.evaluation import BestModel, Evaluation, Record, metric_of
from resdet.engine.loop import Loop, Schedule, passes
from resdet.engine.metric_writers import build_writers
from resdet.engine.parallel import average_buffers, distributed
from resdet.engine.processes import one_first
from resdet.engine.speed.activation_checkpointing import recompute_blocks
from resdet.engine.speed.fused_optimizer import is_fused, with_fused_step
from resdet.engine.speed.kept_memory import can_keep
from resdet.engine.speed.precision import Precision
from resdet.engine.speed.torch_compile import compiled
from resdet.engine.start_checks import processes_here, require_disk, require_shared_memory
from resdet.engine.versions import versions
from resdet.errors import ConfigError, WeightsError
from resdet.pretrain import augment
from resdet.pretrain.image_loading import Batch, Crops, train_batches
from resdet.pretrain.scoring import rank_of, recompute_bn_statistics
from resdet.pretrain.set_scores import Preparation, score_sets
from resdet.run import layout
from resdet.run.folder import Run, utc_now
from resdet.weights.cards import norm_of_net
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.pretrain")

SCALARS = ("top1_error", "top5_error")


class Pretraining:
    """One classification training.

    Args:
        cfg: resolved; MODEL.NET, PRETRAIN, SOLVER, ENGINE and INPUT keys are read.
        net_options: options of `nets.build` that go with MODEL.NET.
        run: the folder that everything is written to.
        options: how images are read (`resdet.data.DataOptions`).

    Raises:
        DataError: a set is missing or broken. ConfigError: the sets do not fit each other.
    """

    def __init__(self, cfg: Any, net_options: dict[str, Any], run: Run, options: Any):
        self.cfg = cfg
        self.run = run
        self.net_options = net_options

        def load(name: str) -> ClassificationSet:
            return one_first(lambda: catalog.load_classification(name, options=options))

        self.train_set = load(cfg.PRETRAIN.TRAIN)
        self.test_sets = {
            name: with_labels_of(load(name), self.train_set.classes)
            for name in (cfg.PRETRAIN.VAL, cfg.PRETRAIN.TEST)
            if name
        }
        torch.manual_seed(cfg.SEED)
        try:
            self.net = nets.build(cfg.MODEL.NET.NAME, len(self.train_set.classes), **net_options)
        except ValueError as error:
            raise ConfigError(f"MODEL.NET: {error}") from None
        self.net.to(cfg.MODEL.DEVICE)
        self.precision = Precision.of_config(cfg)
        if self.precision.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if cfg.ENGINE.ACTIVATION_CHECKPOINTING == "on":
            recompute_blocks(self.net.get_submodule(s.name) for s in self.net.stages())
        self.prepare = Preparation(cfg, self.precision)
        self.crops = Crops(
            self.train_set,
            augment.TrainCrop(
                kind=cfg.PRETRAIN.AUGMENTATION,
                crop=cfg.PRETRAIN.CROP,
                jitter=tuple(cfg.PRETRAIN.JITTER),
                flip=cfg.PRETRAIN.FLIP,
                color_std=cfg.PRETRAIN.COLOR_STD,
            ),
            cfg.SEED,
            cache_mb=cfg.PRETRAIN.CACHE_MB,
            by_region=cfg.PRETRAIN.SCALED_DECODE == "on",
        )
        self._statistics = "moving average"
        self._scores: dict[str, Any] = {}
        optimizer = with_fused_step(build_optimizer(cfg, self.net), cfg.ENGINE.FUSED_OPTIMIZER)
        self.model = distributed(self.net)
        self.logits = compiled(self._logits, cfg.ENGINE.COMPILE, cfg.MODEL.DEVICE)
        self.loop = Loop(
            self.model,
            optimizer,
            build_lr_scheduler(cfg, optimizer),
            self._losses,
            self._batches,
            seed=cfg.SEED,
            describe=lambda batch: ", ".join(map(self.train_set.name_of, batch[2][:8])),
            clip_norm=cfg.ENGINE.CLIP_GRADIENT_NORM,
            split=self._split,
        )

    def _start_from_weights(self) -> str | None:
        """Puts MODEL.WEIGHTS into the net, every tensor counted; gives their SHA-256.

        The last layer starts fresh where the classes are others.

        Raises:
            WeightsError: a tensor is missing, left over or of another shape. ConfigError: their
                input differs from the config's.
        """
        where = self.cfg.MODEL.WEIGHTS
        if not where:
            return None
        file = WeightFile(where, self.cfg.MODEL.WEIGHTS_PART or None)
        tensors, card = file.load()
        if aside := file.left_aside():
            logger.info("%s: %s", where, aside)
        stated = (
            self.cfg.INPUT.FORMAT,
            tuple(self.cfg.MODEL.PIXEL_MEAN),
            tuple(self.cfg.MODEL.PIXEL_STD),
        )
        theirs = (card.input.color_order, tuple(card.input.mean), tuple(card.input.std))
        if stated != theirs:
            raise ConfigError(
                f"INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD are {stated}, but the card of "
                f"{where} has {theirs}. Use the card's."
            )
        if card.norm.get("folded"):
            raise ConfigError(
                f"The norms of {where} are folded into its convolutions: they can only stay "
                "frozen, and a classifier trains them. Use weights with their statistics."
            )
        self._refuse_other_arithmetic(card, where)
        new = list(self.cfg.TRANSFER.NEW)
        if card.classes != self.train_set.classes:
            new.append("linear.*")
        received = weights.transfer(self.net, tensors, where=where, declared_new=tuple(new))
        logger.info("%s: %s\n%s", where, received, received.table())
        self.run.write(layout.TRANSFER, {"file": where, **received.to_dict()})
        return card.tensors_sha256 or None

    def _refuse_other_arithmetic(self, card: weights.Card, where: str) -> None:
        """Options that change what the same tensors compute, and no shape (F20, F21)."""
        for option, key in (("stride_in_1x1", "STRIDE_IN_1X1"), ("norm_eps", "NORM_EPS")):
            theirs, ours = card.net_options.get(option), self.net_options.get(option)
            is_told = option == "norm_eps" or None not in (theirs, ours)
            if is_told and theirs != ours:
                own = "0.0" if option == "norm_eps" else "the family's"
                raise ConfigError(
                    f"MODEL.NET.{key} is {own if ours is None else ours}, but the card of {where} "
                    f"has {own if theirs is None else theirs}. Use the card's."
                )

    # -- what the loop calls --------------------------------------------------------------

    def _batches(self, start: int) -> Iterator[Batch]:
        return train_batches(
            self.crops,
            batch_size=self.cfg.SOLVER.IMS_PER_BATCH,
            seed=self.cfg.SEED,
            start=start,
            num_workers=self._num_workers(),
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )

    def _split(self, batch: Batch) -> list[tuple[float, Batch]]:
        images, labels, indices = batch
        parts = passes(len(images), self.cfg.ENGINE.IMAGES_PER_PASS)
        return [(share, (images[s], labels[s], indices[s])) for share, s in parts]

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(self.prepare(images))
        return logits

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        images, labels, _ = batch
        labels = labels.to(self.prepare.mean.device, non_blocking=True)
        with self.precision.autocast():
            logits = self.logits(images)
        logits = logits.float()
        wrong = (rank_of(logits.detach(), labels) >= 1).sum()
        error = 100.0 * wrong.double() / len(labels)
        return {"loss_cls": F.cross_entropy(logits, labels), "metric/train_top1_error": error}

    # -- the whole -------------------------------------------------------------------------

    def train(self, *, resuming: bool) -> dict[str, Any]:
        """Trains, writes the file, scores; returns the scores by data set.

        Raises:
            TrainingStopped, Interrupted: the state is saved.
        """
        cfg = self.cfg
        best = self._best_model()
        self._require_room(keeps_best=best is not None)
        if not resuming:
            self.run.update(parent=self._start_from_weights())
        data = self.train_set
        described = {"name": data.name, "hash": data.hash, "images": len(data)}
        sets = [{**described, "files": hash_of_files(len(data.files), data.files.__getitem__)}]
        if resuming:
            hold_against(self.run, sets, changed_allowed=cfg.ENGINE.ALLOW_CHANGED_DATA)
        start = resume(self.loop, self.run) if resuming else 0
        if best and resuming and comm.is_main_process():
            best.resume()
        checkpoints = Checkpoints(
            self.run,
            cfg.SOLVER.CHECKPOINT_PERIOD,
            keep=cfg.ENGINE.KEEP_CHECKPOINTS,
            disk_wait=cfg.ENGINE.DISK_WAIT,
        )
        self.loop.register_hooks(
            [
                hooks.IterationTimer(),
                Schedule(),
                checkpoints,
                Evaluation(self.run, cfg.TEST.EVAL_PERIOD, self._scalars, best),
                *build_writers(self.run, cfg.SOLVER.MAX_ITER),
            ]
        )
        logger.info(
            "%s on %s: %d parameters, %d images of %d classes, %s",
            cfg.MODEL.NET.NAME,
            self.train_set.name,
            nets.parameters(self.net),
            len(self.train_set),
            len(self.train_set.classes),
            self.precision,
        )
        settings = ", ".join(self._settings_of_speed()) or "all keys off"
        logger.info("speed: %s (docs/speed.md has what each key does)", settings)
        self.run.update(state="training", net=self._describe_net(), train_sets=sets)
        self.loop.train(start, cfg.SOLVER.MAX_ITER)
        seconds = self.loop.seconds
        self.run.update(train_seconds=seconds)
        with lost_images_stop():
            self._recompute_statistics()
            scores = self.score()
        if comm.is_main_process():
            self._hand_over(scores, seconds)
            if best:
                best.offer(cfg.SOLVER.MAX_ITER, _scalars_of(scores))
            self.run.update(state="finished", finished=utc_now(), versions=versions())
        return scores

    def _best_model(self) -> BestModel | None:
        """Keeps the best classifier by TEST.BEST_METRIC; None where that is off (F37)."""
        metric = metric_of(self.cfg, dict.fromkeys(self.test_sets, SCALARS))
        if not metric:
            return None
        return BestModel(
            self.run,
            self.run.path / layout.BEST_CLASSIFIER,
            metric,
            self.test_sets[metric.rpartition("/")[0]].hash,
            write=self._write_best,
            read=_record_in,
        )

    def _write_best(self, path: Path, record: Record) -> None:
        card = self.card(self._scores, record["step"], self.loop.seconds)
        card = dataclasses.replace(card, training={**card.training, "best": record})
        weights.save(path, self.net.state_dict(), card)

    def _require_room(self, *, keeps_best: bool) -> None:
        """Raises RunError where disk or shared memory is too small."""
        cfg = self.cfg
        require_disk(self.run.path, self.net, cfg.ENGINE.KEEP_CHECKPOINTS, keeps_best=keeps_best)
        batch = cfg.SOLVER.IMS_PER_BATCH
        workers = processes_here(comm.get_world_size()) * self._num_workers()
        # Each process trains on its share of a batch, and scores whole ones.
        for share in (batch // comm.get_world_size(), batch):
            images_and_labels = (3 * cfg.PRETRAIN.CROP**2 * share, 8 * share)
            require_shared_memory(workers, batches_ahead(share), images_and_labels)

    def _num_workers(self) -> int:
        return num_workers(
            self.cfg,
            images=len(self.train_set),
            in_memory=self.train_set.images is not None or self.cfg.PRETRAIN.CACHE_MB > 0,
        )

    def _settings_of_speed(self) -> list[str]:
        """Those that are on, "auto" as it came out on this machine."""
        settings = {
            "bfloat16": self.precision.bf16,
            "channels_last": self.precision.channels_last,
            "fused SGD": is_fused(self.loop.optimizer),
            "memory kept": self.cfg.ENGINE.KEEP_MEMORY != "off" and can_keep(),
            "compiled": self.cfg.ENGINE.COMPILE == "on",
            "activations recomputed": self.cfg.ENGINE.ACTIVATION_CHECKPOINTING == "on",
        }
        return [name for name, is_on in settings.items() if is_on]

    def _describe_net(self) -> dict[str, Any]:
        return {
            "name": self.cfg.MODEL.NET.NAME,
            "options": self.net_options,
            "parameters": nets.parameters(self.net),
        }

    def _statistics_batches(self) -> int:
        """Whole batches in PRETRAIN.BN_IMAGES, one at least unless it is off."""
        images, batch_size = self.cfg.PRETRAIN.BN_IMAGES, self.cfg.SOLVER.IMS_PER_BATCH
        return max(1, images // batch_size) if images else 0

    def _recompute_statistics(self) -> None:
        batch_size = self.cfg.SOLVER.IMS_PER_BATCH
        num_batches = self._statistics_batches()
        if num_batches == 0:
            return
        with self.precision.autocast():
            layers = recompute_bn_statistics(self.net, self._batches(0), self.prepare, num_batches)
        average_buffers(self.net)
        self._statistics = f"over {num_batches * batch_size} training images"
        logger.info("statistics of %d BN layers over %d images", layers, num_batches * batch_size)

    def score(self, images: int = 0) -> dict[str, Any]:
        """1-crop errors on every test set, or on so many images of each (`part_of`)."""
        average_buffers(self.net)
        sets = [part_of(data, images) for data in self.test_sets.values()]
        scores = score_sets(self.cfg, self.net, self.prepare, {data.name: data for data in sets})
        if not images:
            self._scores = scores
        return scores

    def _scalars(self) -> dict[str, float]:
        return _scalars_of(self.score(self.cfg.TEST.EVAL_IMAGES))

    def _hand_over(self, scores: dict[str, Any], seconds: float) -> None:
        card = self.card(scores, self.cfg.SOLVER.MAX_ITER, seconds)
        card = weights.save(self.run.path / layout.CLASSIFIER, self.net.state_dict(), card)
        self.run.write(layout.CARD, card.to_dict())
        self.run.write(layout.CLASSIFICATION, scores)

    def card(self, scores: dict[str, Any], steps: int, seconds: float) -> weights.Card:
        """Provenance and conventions of the net as it stands after `steps`."""
        cfg = self.cfg
        main: dict[str, Any] = next(iter(scores.values()), {})
        has_norm = any(isinstance(m, torch.nn.BatchNorm2d) for m in self.net.modules())
        return weights.Card(
            net=cfg.MODEL.NET.NAME,
            net_options=self.net_options,
            input=weights.Input(
                cfg.INPUT.FORMAT,
                tuple(cfg.MODEL.PIXEL_MEAN),
                tuple(cfg.MODEL.PIXEL_STD),
                cfg.PRETRAIN.CROP,
                cfg.INPUT.EXIF,
            ),
            classes=self.train_set.classes,
            norm={**norm_of_net(self.net), "statistics": self._statistics}
            if has_norm
            else {"kind": "none"},
            data={
                "name": self.train_set.name,
                "images": len(self.train_set),
                "hash": self.train_set.hash,
            },
            metrics={k: main[k] for k in SCALARS if k in main},
            training={
                "samples": steps * cfg.SOLVER.IMS_PER_BATCH,
                "iterations": steps,
                "seconds": round(seconds, 1),
                "seed": cfg.SEED,
                "run": self.run.info["id"],
            },
            config=cfg.dump(),
            parent=self.run.info.get("parent"),
            versions=versions(),
            created=utc_now(),
        )


def _scalars_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {f"{name}/{key}": values[key] for name, values in scores.items() for key in SCALARS}


def _record_in(path: Path) -> Record | None:
    try:
        _, card = weights.load(path)
    except WeightsError:
        return None
    return card.training.get("best")
