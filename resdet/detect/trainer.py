"""Training a detector: a resolved config to a run folder with weights and results.

The model is Detectron2's; the loop is ours (`resdet.engine`); every number comes from the result
files that the run leaves (`resdet.evaluation`).

Not for: what may be compared with what (`resdet.report`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from torch import nn
from torch.optim.swa_utils import AveragedModel

from resdet import nets, weights
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect import starting_weights
from resdet.detect.alternating.proposal_source import open_sources
from resdet.detect.architecture.backbone import embeddings_in, parts_of_net, stages_in
from resdet.detect.from_run import build
from resdet.detect.frozen.trunk_maps import MapsMapper, TrunkMaps
from resdet.detect.loading import (
    MOST_LEFT_OUT,
    Mapper,
    no_object,
    refuse_run_lengths,
    too_many_empty,
    train_batches,
    training_records,
)
from resdet.detect.plan import disk_of_detector, plan_of_detector
from resdet.detect.starting_weights import Tensors
from resdet.detect.testing.curve_numbers import SetResult, scalars_of
from resdet.detect.testing.measuring import Measuring
from resdet.detect.testing.partial_results import Policy
from resdet.engine.checkpoint import Checkpoints, resume
from resdet.engine.data_hashes import hash_of_files, hold_against
from resdet.engine.data_workers import batches_ahead, num_workers
from resdet.engine.evaluation import BestModel, Evaluation
from resdet.engine.loop import Loop, Schedule, passes
from resdet.engine.metric_writers import build_writers
from resdet.engine.parallel import average_buffers, distributed
from resdet.engine.solver.optimizers import build_optimizer
from resdet.engine.solver.weight_average import WeightAverage, average_of
from resdet.engine.speed.fused_optimizer import with_fused_step
from resdet.engine.starts.start_checks import (
    bytes_in,
    processes_here,
    require_disk,
    require_equal_shares,
    require_shared_memory,
)
from resdet.engine.starts.start_estimate import LEFT_OUT, MEASURED, Estimate, Plan, StepCost
from resdet.engine.versions import versions
from resdet.errors import ConfigError
from resdet.run import layout
from resdet.run.folder import Run, atomic_path, utc_now

logger = logging.getLogger("resdet.detect")


class DetectorTraining:
    """One detector: built, filled, trained, measured.

    Args:
        cfg: resolved, all facts filled in.
        run: the folder that everything is written to.
        train_sets, test_sets: with one list of classes.
        reader: reads every image of this run.
    """

    def __init__(
        self,
        cfg: Any,
        run: Run,
        train_sets: Sequence[DetectionSet],
        test_sets: Sequence[DetectionSet],
        reader: ImageReader,
    ):
        self.cfg = cfg
        self.run = run
        self.train_sets = train_sets
        self.test_sets = test_sets
        self.reader = reader
        self.best: BestModel | None = None
        self.steps_done = cfg.SOLVER.MAX_ITER
        self.model = build(cfg)
        # Of a training that averages its weights; what is scored and kept then.
        self.average: AveragedModel | None = None
        classes = (*train_sets, *test_sets)[0].classes if train_sets or test_sets else ()
        self.measuring = Measuring(cfg, run, test_sets, reader, classes)

    # -- weights ---------------------------------------------------------------------------

    def load_backbone(self, tensors: Tensors, where: str) -> weights.Transfer:
        """A classifier's tensors into trunk and tail; raises as `starting_weights`."""
        new = tuple(self.cfg.TRANSFER.NEW)
        received = starting_weights.load_backbone(self.model, tensors, where, new)
        self.run.write(layout.TRANSFER, {"file": where, **received.to_dict()})
        return received

    def load_detector(
        self, tensors: Tensors, where: str, classes: Sequence[str] | None = None
    ) -> None:
        """A whole detector, as a run or Detectron2 saved it; raises as `starting_weights`.

        Args:
            classes: those of its predictors, to fit them to this training's, () where
                unknown; None: it is to be scored, and nothing may be new.
        """
        if classes is None:
            starting_weights.load_detector(self.model, tensors, where)
            return
        received, fitted = starting_weights.load_detector(
            self.model,
            tensors,
            where,
            lambda given, own: weights.fit_heads(
                given,
                own,
                classes,
                self.train_sets[0].classes,
                how=self.cfg.TRANSFER.HEADS,
                where=where,
                names=dict(pair.split("=") for pair in self.cfg.TRANSFER.HEAD_NAMES),
            ),
            declared_new=self.cfg.TRANSFER.NEW,
        )
        logger.info("%s: %s", where, fitted.sentence)
        report = {"file": where, **received.to_dict(), "heads": fitted.sentence}
        # (class in the file, class here) of every predictor that arrived.
        copied = [list(pair) for pair in fitted.copied]
        self.run.write(layout.TRANSFER, {**report, "head_classes": copied})

    # -- training --------------------------------------------------------------------------

    def train(self, *, resuming: bool, may_leave_out_many: bool = True) -> None:
        """Trains to SOLVER.MAX_ITER and writes model_final.pth.

        Args:
            may_leave_out_many: FILTER_EMPTY_ANNOTATIONS was decided on, so more than a fifth of the
                images may be without objects.

        Raises:
            TrainingStopped, Interrupted: the state is saved. ConfigError: nothing, or too little,
                would train.
        """
        cfg = self.cfg
        require_equal_shares({"SOLVER.IMS_PER_BATCH": cfg.SOLVER.IMS_PER_BATCH})
        self.best = self.measuring.best_model(
            lambda path, record: self._write(path, record["step"], best=record)
        )
        self.measuring.check()
        self._require_room()
        records = self._training_records(may_leave_out_many or resuming)
        if cfg.SOLVER.EMA_DECAY > 0:
            self.average = average_of(self.model, cfg.SOLVER.EMA_DECAY)
        loop = self._loop(records)
        self.model.train()
        sets = described_with_files(self.train_sets)
        if resuming:
            hold_against(self.run, sets, changed_allowed=cfg.ENGINE.ALLOW_CHANGED_DATA)
        start = resume(loop, self.run) if resuming else 0
        if self.best and resuming and comm.is_main_process():
            self.best.resume()
        planned = self._plan(records, start)
        loop.register_hooks(
            [
                StepCost(planned, cfg.MODEL.DEVICE, self._report),
                hooks.IterationTimer(),
                *self._average_hooks(),
                Schedule(),
                Checkpoints(
                    self.run,
                    cfg.SOLVER.CHECKPOINT_PERIOD,
                    keep=cfg.ENGINE.KEEP_CHECKPOINTS,
                    disk_wait=cfg.ENGINE.DISK_WAIT,
                ),
                Evaluation(
                    self.run,
                    cfg.TEST.EVAL_PERIOD,
                    lambda: self.measuring.scalars(self.scored),
                    self.best,
                    cfg.TEST.EARLY_STOP,
                ),
                *build_writers(self.run, cfg.SOLVER.MAX_ITER),
            ]
        )
        self._log_trainable_stages()
        logger.info("plan\n%s", "\n".join(planned.lines()))
        self.run.update(
            state="training",
            net={"name": cfg.MODEL.NET.NAME, "parameters": nets.parameters(self.model)},
            samples=cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH,
            train_sets=sets,
        )
        loop.train(start, cfg.SOLVER.MAX_ITER)
        self.steps_done = loop.iter
        samples = loop.iter * cfg.SOLVER.IMS_PER_BATCH
        self.run.update(train_seconds=loop.seconds, samples=samples, **loop.how_it_ended())
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())
            self.average = None
        average_buffers(self.model)
        if comm.is_main_process():
            self._write(self.run.path / layout.DETECTOR, loop.iter)

    def estimate(self) -> tuple[Plan, Estimate]:
        """The plan, and what a few steps show; nothing is kept.

        Raises:
            TrainingStopped: a step cannot be taken. ConfigError: nothing would train.
        """
        require_equal_shares({"SOLVER.IMS_PER_BATCH": self.cfg.SOLVER.IMS_PER_BATCH})
        self._require_room()
        records = self._training_records(may_leave_out_many=True)
        if self.cfg.SOLVER.EMA_DECAY > 0:
            self.average = average_of(self.model, self.cfg.SOLVER.EMA_DECAY)
        loop = self._loop(records)
        self.model.train()
        planned = self._plan(records)
        cost = StepCost(planned, self.cfg.MODEL.DEVICE)
        loop.register_hooks([*self._average_hooks(), cost])
        loop.train(0, LEFT_OUT + MEASURED)
        return planned, cost.found

    def _plan(self, records: Sequence[Any], start: int = 0) -> Plan:
        return plan_of_detector(
            self.cfg, self.model, start=start, images=len(records), tested=self._tested
        )

    @property
    def _tested(self) -> list[int]:
        """Images of each test set."""
        return [len(s) for s in self.test_sets]

    def _report(self, estimate: Estimate) -> None:
        logger.info(estimate.line())
        self.run.update(estimate=estimate.to_dict())

    @property
    def scored(self) -> nn.Module:
        """The detector that is measured and kept: the average of the weights where there is one."""
        return self.model if self.average is None else self.average.module

    def _average_hooks(self) -> list[WeightAverage]:
        if self.average is None:
            return []
        solver = self.cfg.SOLVER
        return [
            WeightAverage(
                self.average, self.model, period=solver.EMA_STEPS, warmup=solver.WARMUP_ITERS
            )
        ]

    def take_trained(self, tensors: Tensors, *, samples: int, seconds: float) -> None:
        """A detector that was trained in steps; writes model_final.pth, as `train` does.

        Args:
            samples: images that all steps saw. seconds: that these took.
        """
        path = self.run.path / layout.DETECTOR
        starting_weights.load_detector(self.model, tensors, str(path))
        self.run.update(
            net={"name": self.cfg.MODEL.NET.NAME, "parameters": nets.parameters(self.model)},
            samples=samples,
            train_seconds=seconds,
        )
        if comm.is_main_process():
            self._write(path, self.cfg.SOLVER.MAX_ITER)

    def _loop(self, records: Sequence[dict[str, Any]]) -> Loop:
        """The loop over these images, in all processes; hooks are the caller's."""
        cfg = self.cfg
        optimizer = with_fused_step(
            build_optimizer(cfg, self.model, self._stages(), embeddings_in(self.model)),
            cfg.ENGINE.FUSED_OPTIMIZER,
        )
        model = distributed(self.model)

        def batches(start: int) -> Iterator[list[dict[str, Any]]]:
            return train_batches(
                records,
                # Only now: maps of a frozen trunk need its weights, which a resume brings.
                self._mapper(records),
                batch_size=cfg.SOLVER.IMS_PER_BATCH,
                seed=cfg.SEED,
                start=start,
                num_workers=num_workers(cfg, images=len(records)),
                rank=comm.get_rank(),
                world_size=comm.get_world_size(),
                group_by_shape=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            )

        return Loop(
            model,
            optimizer,
            build_lr_scheduler(cfg, optimizer),
            model,
            batches,
            seed=cfg.SEED,
            describe=lambda batch: ", ".join(str(r["image_id"]) for r in batch),
            clip_norm=cfg.ENGINE.CLIP_GRADIENT_NORM,
            split=lambda batch: [
                (share, batch[part])
                for share, part in passes(len(batch), cfg.ENGINE.IMAGES_PER_PASS)
            ],
            beside={"average": self.average} if self.average else {},
        )

    def _mapper(self, records: Sequence[dict[str, Any]]) -> Mapper | MapsMapper:
        """A record to what the model takes."""
        if self.cfg.ENGINE.TRUNK_CACHE:
            names = "+".join(s.name for s in self.train_sets)
            maps = TrunkMaps(self.cfg, self.model, self.reader)
            return maps.mapper(records, names, is_train=True)
        proposals = open_sources(self.cfg, self.train_sets, is_train=True)
        return Mapper.of(self.cfg, self.reader, True, proposals)

    def _stages(self) -> list[nn.Module]:
        """The net's own, from the images on, where their rates differ."""
        if self.cfg.SOLVER.LAYER_DECAY == 1:
            return []
        return stages_in(self.model)

    def _write(self, path: Path, steps: int, **more: Any) -> None:
        run = {"run": self.run.info["id"]}
        state = {"model": self.scored.state_dict(), "iteration": steps, **run, **more}
        with atomic_path(path) as temporary:
            torch.save({**state, "classes": list(self.train_sets[0].classes)}, temporary)

    def _require_room(self) -> None:
        """Raises RunError where disk or shared memory is too small."""
        cfg = self.cfg
        need = disk_of_detector(cfg, self.model, self._tested)
        require_disk(self.run.path, need.most, need, there=bytes_in(self.run.checkpoints))
        images = sum(len(s) for s in self.train_sets)
        share = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
        pixels = max(cfg.INPUT.MIN_SIZE_TRAIN) * cfg.INPUT.MAX_SIZE_TRAIN
        bitmaps: tuple[int, ...] = ()
        if cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "bitmask":
            objects = sum(s.counts.get("objects", 0) for s in self.train_sets)
            bitmaps = (math.ceil(objects / images) * pixels,)
        require_shared_memory(
            processes_here(comm.get_world_size()) * num_workers(cfg, images=images),
            batches_ahead(share),
            # The image, its size, and of its objects boxes, classes and bitmaps; polygons are
            # no tensors.
            (3 * pixels, 1, 1, 1, *bitmaps) * share,
        )

    def _training_records(self, may_leave_out_many: bool) -> Sequence[dict[str, Any]]:
        cfg = self.cfg
        left_out: dict[str, list[Any]] = {}
        records, counts = training_records(
            self.train_sets[0].records
            if len(self.train_sets) == 1
            else (r for s in self.train_sets for r in s.records),
            drop_difficult=cfg.DATASETS.VOC_DIFFICULT == "drop",
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            left_out=left_out,
        )
        every = sum(len(s.records) for s in self.train_sets)
        names = ", ".join(s.name for s in self.train_sets)
        logger.info(
            "%s: %d of %d images train; without objects %d, with crowd only %d "
            "(FILTER_EMPTY_ANNOTATIONS %s); difficult objects left out %d",
            names,
            len(records),
            every,
            counts["without_objects"],
            counts["crowd_only"],
            cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            counts["difficult_dropped"],
        )
        if not counts["objects"]:
            raise ConfigError(f"{names}: {no_object(every, counts)}")
        refuse_run_lengths(cfg, names, counts)
        empty = every - len(records)
        if empty > MOST_LEFT_OUT * every and not may_leave_out_many:
            raise ConfigError(too_many_empty(names, every, counts))
        if left_out and comm.is_main_process():
            self.run.write(layout.LEFT_OUT, left_out)
        return records

    def _log_trainable_stages(self) -> None:
        """Stage by stage: what is frozen and what is not (F45)."""
        if not self.cfg.MODEL.NET.NAME:
            return  # a stock model has no net of ours inside
        for name, module in parts_of_net(self.model).items():
            size = nets.parameters(module)
            trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
            kinds = sorted(
                {type(m).__name__ for m in module.modules() if "BatchNorm" in type(m).__name__}
            )
            logger.info(
                "%-8s %10d parameters, %10d trained, norms: %s",
                name,
                size,
                trained,
                ", ".join(kinds) or "none",
            )

    # -- measuring -------------------------------------------------------------------------

    def evaluate(self, policy: Policy | None = None) -> dict[str, SetResult | None]:
        """Result folders and numbers of the test sets; see `Measuring.evaluate`."""
        return self.measuring.evaluate(self.scored, policy)

    def finish(self, numbers: Mapping[str, SetResult | None]) -> None:
        """Notes the end of the run; `numbers` are those of the trained detector."""
        if comm.is_main_process():
            if self.best:
                self.best.offer(self.steps_done, scalars_of(numbers))
            self.run.update(
                state="finished",
                finished=utc_now(),
                versions=versions(),
                test_sets=[_describe(s) for s in self.test_sets],
                image_repairs=dict(self.reader.counts),
            )


def described_with_files(sets: Sequence[DetectionSet]) -> list[dict[str, Any]]:
    """Training sets for run.json, with a hash over their files (`data_hashes`)."""
    return [{**_describe(s), "files": hash_of_files(len(s), s.file_of)} for s in sets]


def _describe(data: DetectionSet) -> dict[str, Any]:
    return {
        "name": data.name,
        "hash": data.hash,
        **({"mask_hash": data.mask_hash} if data.has_masks else {}),
        "images": len(data.records),
        "classes": list(data.classes),
        "counts": dict(data.counts),
    }
