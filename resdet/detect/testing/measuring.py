"""A detector on its test sets: a result folder each, numbers from the files, and the best one.

    measuring = Measuring(cfg, run, test_sets, reader, classes)
    numbers = measuring.evaluate(model, policy)   # whole sets, kept in the run folder
    scalars = measuring.scalars(model)            # as a training has them in between

Not for: the loop over images (`inference`), or what a number means (`resdet.evaluation`).
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from torch import nn

from resdet import profile
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet, part_of
from resdet.detect.alternating.proposal_scores import propose_and_score
from resdet.detect.alternating.proposal_source import ProposalSource, open_sources
from resdet.detect.architecture.model import is_rpn_alone
from resdet.detect.detecting_form import form_for_detecting, mapper_for_detecting
from resdet.detect.from_run import BuiltDetector
from resdet.detect.frozen.trunk_maps import TrunkMaps
from resdet.detect.paper.members import members_of, orders_of_classes, record_of_ensemble
from resdet.detect.testing import inference
from resdet.detect.testing.curve_numbers import SetResult, curve_names, scalars_of
from resdet.detect.testing.partial_results import Parts, Policy, fingerprint_of, weights_digest
from resdet.detect.testing.validation_loss import records_with_losses, validation_losses
from resdet.engine.checkpoint import is_whole
from resdet.engine.data_workers import num_workers
from resdet.engine.evaluation import BestModel, Record, metric_of
from resdet.engine.parallel import average_buffers
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.run import layout
from resdet.run.folder import Run, write_json


class Measuring:
    """The test of one run: of its detector as it is trained, or of one that is only scored.

    Args:
        cfg: resolved, with what follows from the data sets.
        run: the folder that results are written to.
        test_sets: with one list of classes.
        reader: reads every image of this run.
        classes: of the detector, in the order of its predictor.
    """

    def __init__(
        self,
        cfg: Any,
        run: Run,
        test_sets: Sequence[DetectionSet],
        reader: ImageReader,
        classes: Sequence[str],
    ):
        self.cfg = cfg
        self.run = run
        self.test_sets = test_sets
        self.reader = reader
        self.classes = classes
        self.is_rpn_alone = is_rpn_alone(cfg)

    @functools.cached_property
    def members(self) -> list[BuiltDetector]:
        """The further detectors of TEST.ENSEMBLE; raises as `members_of`."""
        return members_of(self.cfg)

    @functools.cached_property
    def proposals(self) -> ProposalSource | None:
        """Of Fast R-CNN alone those of the test sets; raises as `open_sources`."""
        return open_sources(self.cfg, self.test_sets, is_train=False)

    def check(self) -> None:
        """What `scalars` would refuse, before a training.

        Raises as `members_of`, `orders_of_classes` and `records_with_losses`.
        """
        orders_of_classes(self.members, self.classes)
        if self.cfg.TEST.VALIDATION_LOSS:
            for data in self.test_sets:
                records_with_losses(self.cfg, data)

    def best_model(self, write: Callable[[Path, Record], None]) -> BestModel | None:
        """Keeps the best detector by TEST.BEST_METRIC; None where that is off (F37).

        Args:
            write: the detector as it stands, with the record inside.

        Raises:
            ConfigError: the metric is not measured, or not before the end.
        """
        sets = {s.name: s for s in self.test_sets if s.annotated}
        names = {name: curve_names(s, self.is_rpn_alone) for name, s in sets.items()}
        metric = metric_of(self.cfg, names)
        if not metric:
            return None
        data = sets[metric.rpartition("/")[0]]
        path = self.run.path / layout.BEST_DETECTOR
        return BestModel(self.run, path, metric, data.hash, write=write, read=_record_in)

    def evaluate(
        self, detector: nn.Module, policy: Policy | None = None
    ) -> dict[str, SetResult | None]:
        """Detects on every test set, writes its result folder, and scores the files.

        Several processes share the images; the first scores what all have found.

        A set without annotations has no score: its entry is None.

        Args:
            policy: with one, finished images are kept in parts, so that a signal ends the work
                after an image and the rest can be done later; None for within a training.

        Raises:
            Interrupted, TrainingStopped: finished images are kept in parts.
            RunError: the parts are of something else, and the policy refuses that.
        """
        average_buffers(detector)
        digest = self._digest_of_all(detector) if policy else ""
        maps = self._maps_of(detector)
        model = self._form_for_detecting(detector)
        numbers: dict[str, SetResult | None] = {}
        for data in self.test_sets:
            folder = self.run.results(data.name)
            if self.is_rpn_alone:
                numbers[data.name] = propose_and_score(
                    self.cfg, model, data, self.reader, folder,
                    policy=policy, num_samples=self.cfg.EVAL.SAMPLES,
                )  # fmt: skip
                continue
            parts = None
            if policy:
                mark = fingerprint_of(self.cfg, digest, data)
                parts = Parts.open(self.run.parts(data.name), data, mark, policy)
            mapper = self._mapper(data, maps)
            result = self._detect_and_score(
                model, data, mapper, folder, parts, self.cfg.EVAL.SAMPLES
            )
            if not comm.is_main_process():
                continue
            numbers[data.name] = result
            for metric, values in (result.to_json() if result else {}).items():
                if values is not None:
                    write_json(folder / layout.SCORES[metric], values)
        # Only now: a stop in the last set must not cost the first.
        if policy and comm.is_main_process():
            for data in self.test_sets:
                shutil.rmtree(self.run.parts(data.name), ignore_errors=True)
        return numbers

    def scalars(self, detector: nn.Module) -> dict[str, float]:
        """The numbers of a curve, by SET/NAME: of whole sets, or of TEST.EVAL_IMAGES of each.

        With TEST.VALIDATION_LOSS also the losses on the sets that are annotated.
        """
        part = self.cfg.TEST.EVAL_IMAGES
        scalars = scalars_of(self._evaluate_parts(detector) if part else self.evaluate(detector))
        if self.cfg.TEST.VALIDATION_LOSS:
            for data in self.test_sets:
                if data.annotated:
                    chosen = part_of(data, part) if part else data
                    scalars |= validation_losses(
                        self.cfg, detector, chosen, self.reader, self.proposals
                    )
        return scalars

    def _digest_of_all(self, detector: nn.Module) -> str:
        """Of the weights that decide results; noted in run.json where they are of an ensemble."""
        tested = [detector, *(member.model for member in self.members)]
        digests = [weights_digest(model) for model in tested]
        if self.members:
            ensemble = record_of_ensemble(self.run, self.cfg, self.members, digests)
            self.run.update(ensemble=ensemble)
        elif self.run.info.get("ensemble"):
            self.run.update(ensemble=[])  # of results that these replace
        return "+".join(digests)

    def _form_for_detecting(self, detector: nn.Module) -> nn.Module:
        """The form that it is tested in; raises as `form_for_detecting`."""
        orders = orders_of_classes(self.members, self.classes)
        return form_for_detecting(detector, self.cfg, self.members, orders)

    def _maps_of(self, detector: nn.Module) -> TrunkMaps | None:
        """Of a trunk whose maps are kept; the detector, and what is copied of it, takes them."""
        if not self.cfg.ENGINE.TRUNK_CACHE or self.is_rpn_alone:
            return None
        return TrunkMaps(self.cfg, detector, self.reader)

    def _mapper(self, data: DetectionSet, maps: TrunkMaps | None) -> inference.RecordMapper:
        if maps is not None:
            return maps.mapper(data.records, data.name, is_train=False)
        return mapper_for_detecting(self.cfg, self.reader, self.members, self.proposals)

    def _detect_and_score(
        self,
        model: nn.Module,
        data: DetectionSet,
        mapper: inference.RecordMapper,
        folder: Path,
        parts: Parts | None = None,
        num_samples: int = 0,
    ) -> SetResult | None:
        """One set's result files and numbers; None without annotations, and but for the first
        process."""
        cfg = self.cfg
        results, visited, seconds = inference.detect(
            model,
            data,
            mapper,
            num_workers=num_workers(cfg, images=len(data)),
            batch_size=cfg.TEST.IMS_PER_BATCH,
            parts=parts,
        )
        if not comm.is_main_process():
            return None
        self.run.require()
        with profile.section("writing results"):
            inference.write_results(
                folder,
                data,
                results,
                visited,
                seconds,
                num_samples=num_samples,
                reader=self.reader,
            )
        if not data.annotated:
            return None
        del results  # the files have them
        with profile.section("evaluation"):
            return evaluate_folder(folder, style=cfg.EVAL.VOC_STYLE, engine=cfg.EVAL.ENGINE)

    def _evaluate_parts(self, detector: nn.Module) -> dict[str, SetResult | None]:
        """The numbers of TEST.EVAL_IMAGES of each test set, by a name that has this number.

        Nothing is left of them in the run folder: only a whole set's results may lie there.
        """
        average_buffers(detector)
        maps = self._maps_of(detector)
        model = self._form_for_detecting(detector)
        numbers = {}
        for whole in self.test_sets:
            data = part_of(whole, self.cfg.TEST.EVAL_IMAGES)
            with tempfile.TemporaryDirectory() as folder:
                numbers[data.name] = (
                    propose_and_score(self.cfg, model, data, self.reader, Path(folder))
                    if self.is_rpn_alone
                    else self._detect_and_score(
                        model, data, self._mapper(whole, maps), Path(folder)
                    )
                )
        return numbers


def _record_in(path: Path) -> Record | None:
    """The record in a file of the best detector; None where it is damaged or has none."""
    if not is_whole(path):
        return None
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return dict(state["best"]) if state.get("best") else None
