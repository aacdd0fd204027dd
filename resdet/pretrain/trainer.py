"""Pretraining: a config to a trained classifier with its card, in a run folder.

On the shared loop, with Detectron2's solver keys, hooks, writers and log line. At the end BN
statistics are recomputed over training images, the net is scored, and tensors and card are
written as one safetensors file.

Not for: what happens to the file afterwards (`resdet.detect`).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.engine import hooks
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm

from resdet import nets, weights
from resdet.config import drop_path_option
from resdet.data import catalog
from resdet.data.records import ClassificationSet, with_labels_of
from resdet.engine.checkpoint import Checkpoints, resume
from resdet.engine.data_hashes import hash_of_contents, hash_of_files, hold_against
from resdet.engine.data_workers import batches_ahead, lost_images_stop, num_workers
from resdet.engine.evaluation import BestModel, Evaluation, Record, metric_of
from resdet.engine.loop import Loop, Schedule, passes
from resdet.engine.metric_writers import build_writers
from resdet.engine.parallel import average_buffers, distributed
from resdet.engine.processes import one_first
from resdet.engine.solver.optimizers import build_optimizer
from resdet.engine.solver.weight_average import WeightAverage, average_of
from resdet.engine.speed.activation_checkpointing import recompute_blocks
from resdet.engine.speed.fused_optimizer import is_fused, with_fused_step
from resdet.engine.speed.kept_memory import can_keep
from resdet.engine.speed.precision import Precision
from resdet.engine.speed.torch_compile import compiled
from resdet.engine.starts.start_checks import (
    DiskNeed,
    bytes_in,
    processes_here,
    require_disk,
    require_shared_memory,
)
from resdet.engine.starts.start_estimate import (
    LEFT_OUT,
    MEASURED,
    Estimate,
    Plan,
    StepCost,
)
from resdet.engine.versions import versions
from resdet.errors import ConfigError, WeightsError
from resdet.nets.timm_maps import embeddings
from resdet.pretrain.classifier_card import card_of
from resdet.pretrain.first_weights import start_from_weights
from resdet.pretrain.image_loading import (
    Batch,
    batches_of_one_epoch,
    train_batches,
    training_crops,
)
from resdet.pretrain.interim_errors import SCALARS, InterimErrors, scalars_of
from resdet.pretrain.net_parts import chain_of, stages_of
from resdet.pretrain.recipe.error_schedule import ErrorRule, ErrorSchedule, RateByError
from resdet.pretrain.recipe.label_mixing import LabelMixing
from resdet.pretrain.recipe.mean_image import input_of
from resdet.pretrain.recipe.norm_statistics import recompute_bn_statistics
from resdet.pretrain.recipe.plan import plan_of_classifier
from resdet.pretrain.scoring import rank_of
from resdet.pretrain.set_scores import Preparation, score_sets
from resdet.run import layout
from resdet.run.folder import Run, utc_now

logger = logging.getLogger("resdet.pretrain")


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
            options_of_net = {**net_options, **drop_path_option(cfg)}
            self.net = nets.build(cfg.MODEL.NET.NAME, len(self.train_set.classes), **options_of_net)
        except ValueError as error:
            raise ConfigError(f"MODEL.NET: {error}") from None
        self.net.to(cfg.MODEL.DEVICE)
        self.precision = Precision.of_config(cfg)
        if self.precision.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if cfg.ENGINE.ACTIVATION_CHECKPOINTING == "on":
            trunk = chain_of(self.net, "trunk", "ENGINE.ACTIVATION_CHECKPOINTING is on")
            ends = (trunk.get_submodule(s.name) for s in self.net.stages())
            # An activation that ends a stage of timm's changes its input in place.
            recompute_blocks(stage for stage in ends if next(stage.parameters(), None) is not None)
        self.input, self.mean_image = input_of(cfg, self.train_set, self.test_sets.values())
        self.prepare = Preparation(cfg, self.precision)
        self.crops = training_crops(cfg, self.train_set, self.mean_image)
        optimizer = with_fused_step(
            build_optimizer(
                cfg,
                self.net,
                stages_of(cfg, self.net),
                embeddings(getattr(self.net, "model", self.net)),
            ),
            cfg.ENGINE.FUSED_OPTIMIZER,
        )
        self.model = distributed(self.net)
        recipe = cfg.PRETRAIN
        self.mixing = LabelMixing(
            recipe.MIXUP_ALPHA, recipe.CUTMIX_ALPHA, len(self.train_set.classes)
        )
        forward = self._logits if self.mixing.is_off else self.model
        self.logits = compiled(forward, cfg.ENGINE.COMPILE, cfg.MODEL.DEVICE)
        decay = cfg.SOLVER.EMA_DECAY
        self.average = average_of(self.net, decay) if decay > 0 else None
        schedule, rule = build_lr_scheduler(cfg, optimizer), ErrorRule.of_config(cfg)
        # What is scored while it trains, and how its statistics came about.
        self.scored = self.net if self.average is None else self.average.module
        self.statistics = "moving average"
        self.interim = InterimErrors(self)
        self.loop = Loop(
            self.model,
            optimizer,
            schedule if rule.is_off else ErrorSchedule(optimizer, schedule, rule),
            self._losses,
            self._batches,
            seed=cfg.SEED,
            describe=lambda batch: ", ".join(map(self.train_set.name_of, batch[2][:8])),
            clip_norm=cfg.ENGINE.CLIP_GRADIENT_NORM,
            split=self._split,
            beside={"average": self.average} if self.average else {},
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

    def _epoch(self) -> Iterator[Batch]:
        return batches_of_one_epoch(
            self.crops,
            batch_size=self.cfg.SOLVER.IMS_PER_BATCH,
            seed=self.cfg.SEED,
            num_workers=self._num_workers(),
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(self.prepare(images))
        return logits

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        images, labels, _ = batch
        labels = targets = labels.to(self.prepare.mean.device, non_blocking=True)
        if not self.mixing.is_off:
            images, targets = self.mixing(self.prepare(images), labels)
            images, labels = self.precision.input(images), targets.argmax(1)
        with self.precision.autocast():
            logits = self.logits(images)
        logits = logits.float()
        wrong = (rank_of(logits.detach(), labels) >= 1).sum()
        error = 100.0 * wrong.double() / len(labels)
        smoothing = self.cfg.PRETRAIN.LABEL_SMOOTHING
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        return {"loss_cls": loss, "metric/train_top1_error": error}

    # -- the whole -------------------------------------------------------------------------

    def train(self, *, resuming: bool) -> dict[str, Any]:
        """Trains, writes the file, scores; returns the scores by data set.

        Raises:
            TrainingStopped, Interrupted: the state is saved.
        """
        cfg = self.cfg
        best = self._best_model()
        self._require_room()
        if not resuming:
            self.run.update(parent=start_from_weights(self))
        data = self.train_set
        described = {"name": data.name, "hash": data.hash, "images": len(data)}
        sets = [{**described, "files": _hash_of_content(data)}]
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
        plan = self.plan(start)
        self.loop.register_hooks(
            [
                StepCost(plan, cfg.MODEL.DEVICE, self._report),
                hooks.IterationTimer(),
                *self._hooks_of_recipe(),
                Schedule(),
                checkpoints,
                Evaluation(
                    self.run, cfg.TEST.EVAL_PERIOD, self.interim.scalars, best, cfg.TEST.EARLY_STOP
                ),
                *build_writers(self.run, cfg.SOLVER.MAX_ITER),
            ]
        )
        self._log_start(plan)
        self.run.update(state="training", net=self._describe_net(), train_sets=sets)
        self.loop.train(start, cfg.SOLVER.MAX_ITER)
        return self._finish(best)

    def _log_start(self, plan: Plan) -> None:
        logger.info(
            "%s on %s: %d parameters, %d images of %d classes, %s",
            self.cfg.MODEL.NET.NAME,
            self.train_set.name,
            nets.parameters(self.net),
            len(self.train_set),
            len(self.train_set.classes),
            self.precision,
        )
        settings = ", ".join(self._settings_of_speed()) or "all keys off"
        logger.info("speed: %s (docs/speed.md has what each key does)", settings)
        logger.info("plan\n%s", "\n".join(plan.lines()))

    def _finish(self, best: BestModel | None) -> dict[str, Any]:
        """The trained net into its file, and its scores, which it returns."""
        seconds, steps = self.loop.seconds, self.loop.iter
        self.run.update(train_seconds=seconds, **self.loop.how_it_ended())
        if self.average is not None:
            self.net.load_state_dict(self.average.module.state_dict())
        with lost_images_stop():
            self._recompute_statistics()
            scores = self.score()
        self.scored = self.net
        self.interim.keep(steps, scores)
        if comm.is_main_process():
            self._hand_over(scores, seconds)
            if best:
                best.offer(steps, scalars_of(scores))
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
        scores, seconds = self.interim.latest, self.loop.seconds
        card = card_of(self, scores, record["step"], seconds, best=record)
        weights.save(path, self.scored.state_dict(), card)

    def _hooks_of_recipe(self) -> list[hooks.HookBase]:
        """What the recipe's keys do after a step, before anything is scored or written."""
        cfg, found = self.cfg, []
        if self.average is not None:
            found.append(
                WeightAverage(
                    self.average,
                    self.net,
                    period=cfg.SOLVER.EMA_STEPS,
                    warmup=cfg.SOLVER.WARMUP_ITERS,
                )
            )
        if isinstance(self.loop.scheduler, ErrorSchedule):
            batch = cfg.SOLVER.IMS_PER_BATCH
            found.append(RateByError(self.loop.scheduler, self.run, self.interim.of_val, batch))
        return found

    def plan(self, start: int = 0) -> Plan:
        """What is to be done from this step on."""
        return plan_of_classifier(
            self.cfg,
            self.net,
            start=start,
            images=len(self.train_set),
            test_images=(
                len(self.test_sets.get(self.cfg.PRETRAIN.VAL, ())),
                sum(map(len, self.test_sets.values())),
            ),
        )

    def _report(self, estimate: Estimate) -> None:
        logger.info(estimate.line())
        self.run.update(estimate=estimate.to_dict())

    def estimate(self) -> tuple[Plan, Estimate]:
        """The plan, and what a few steps show; nothing is kept.

        Raises:
            TrainingStopped: a step cannot be taken.
        """
        self._require_room()
        start_from_weights(self)
        plan = self.plan()
        cost = StepCost(plan, self.cfg.MODEL.DEVICE)
        # Without the schedule, which ends at MAX_ITER: a rate changes no cost.
        self.loop.register_hooks([cost])
        self.loop.train(0, LEFT_OUT + MEASURED)
        return plan, cost.found

    def _require_room(self) -> None:
        """Raises RunError where disk or shared memory is too small."""
        cfg = self.cfg
        need = DiskNeed.of_training(cfg, self.net)
        require_disk(self.run.path, need.most, need, there=bytes_in(self.run.checkpoints))
        batch = cfg.SOLVER.IMS_PER_BATCH
        workers = processes_here(comm.get_world_size()) * self._num_workers()
        pixel = 3 * (4 if self.mean_image else 1)
        # Each process trains on its share of a batch, and scores whole ones.
        for share in (batch // comm.get_world_size(), batch):
            images_and_labels = (pixel * cfg.PRETRAIN.CROP**2 * share, 8 * share)
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

    def _recompute_statistics(self) -> None:
        images, batch_size = self.cfg.PRETRAIN.BN_IMAGES, self.cfg.SOLVER.IMS_PER_BATCH
        if images == 0:
            return
        if images > 0:
            number = max(1, images // batch_size)  # whole batches
            batches: Iterator[Batch] = itertools.islice(self._batches(0), number)
        else:
            number = math.ceil(len(self.train_set) / batch_size)
            batches = self._epoch()
        with self.precision.autocast():
            layers, seen = recompute_bn_statistics(self.net, batches, self.prepare, number)
        self.statistics = f"over {seen} training images"
        logger.info("statistics of %d BN layers over %d images", layers, seen)

    def score(self) -> dict[str, Any]:
        """1-crop errors on every test set."""
        average_buffers(self.net)
        return score_sets(self.cfg, self.net, self.prepare, self.test_sets, self.mean_image)

    def _hand_over(self, scores: dict[str, Any], seconds: float) -> None:
        card = card_of(self, scores, self.loop.iter, seconds)
        card = weights.save(self.run.path / layout.CLASSIFIER, self.net.state_dict(), card)
        self.run.write(layout.CARD, card.to_dict())
        self.run.write(layout.CLASSIFICATION, scores)


def _hash_of_content(data: ClassificationSet) -> str:
    """Of images in memory, whose own hash has all, it is that of no file."""
    if data.encoded is not None:
        return hash_of_contents(len(data), data.encoded.size, data.encoded.read)
    return hash_of_files(len(data.files), data.files.__getitem__)


def _record_in(path: Path) -> Record | None:
    try:
        _, card = weights.load(path)
    except WeightsError:
        return None
    return card.training.get("best")
