"""Alternating training: four steps, one after the other, and the one detector that they make.

    RUN/alternating/1_rpn/         a run folder of its own, with checkpoints and model_final.pth,
                  …/proposals/     and the proposals of the training images, a file for each set
    RUN/alternating/2_fast_rcnn/   and so on
    RUN/model_final.pth            shared stages of step 2, RPN of step 3, Fast R-CNN of step 4

Nothing goes from one step to the next but these files, so that a training that was stopped, or
killed, goes on at the step, the image or the checkpoint where it was, with the same numbers.

Not for: what a step is (`step_configs`), or the final test (`resdet.detect.trainer`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from torch import nn

from resdet import weights
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect import starting_weights
from resdet.detect.alternating.proposal_making import (
    ProposalParts,
    are_made,
    as_many_as_in_training,
    make_proposals,
)
from resdet.detect.alternating.proposal_room import proposal_bytes
from resdet.detect.alternating.step_configs import (
    STEPS,
    AlternatingStep,
    config_of_step,
    schedule_of_rpn,
)
from resdet.detect.alternating.step_plans import disk_of_steps, plans_of_steps
from resdet.detect.detecting_form import form_for_detecting
from resdet.detect.loading import Mapper
from resdet.detect.testing.partial_results import Policy, fingerprint_of, weights_digest
from resdet.detect.trainer import DetectorTraining, described_with_files
from resdet.engine.checkpoint import is_whole
from resdet.engine.data_hashes import hold_against
from resdet.engine.data_workers import lost_images_stop, num_workers
from resdet.engine.processes import main_alone
from resdet.engine.starts.start_checks import (
    bytes_in,
    require_disk,
    require_equal_shares,
    size_in_words,
)
from resdet.errors import RunError, WeightsError
from resdet.formats.proposal_file import ProposalFile
from resdet.run import layout
from resdet.run.folder import Run

logger = logging.getLogger("resdet.detect.alternating")

SHARED, RPN, HEADS = "backbone.", "proposal_generator.", "roi_heads."


@dataclasses.dataclass(frozen=True)
class _There:
    """What an earlier attempt left of a step: its weights, and proposals of each training set."""

    finished: bool
    made: tuple[bool, ...]

    @property
    def is_whole(self) -> bool:
        return self.finished and all(self.made)


class AlternatingTraining:
    """The four steps of one run.

    Args:
        cfg: of the whole training, resolved, all facts filled in.
        run: the folder that the final detector goes to.
        train_sets: with one list of classes.
        reader: reads every image.
        fill: puts the classifier's weights into the model of a step; steps 1 and 2 begin so.
        shared_stages: of the net, which RPN and Fast R-CNN share.
    """

    def __init__(
        self,
        cfg: Any,
        run: Run,
        train_sets: Sequence[DetectionSet],
        reader: ImageReader,
        fill: Callable[[DetectorTraining], None],
        shared_stages: int,
    ):
        self.cfg = cfg
        self.run = run
        self.train_sets = train_sets
        self.reader = reader
        self.fill = fill
        self.shared_stages = shared_stages
        require_equal_shares(
            {
                "SOLVER.RPN.IMS_PER_BATCH": schedule_of_rpn(cfg).IMS_PER_BATCH,
                "SOLVER.IMS_PER_BATCH": cfg.SOLVER.IMS_PER_BATCH,
            }
        )

    def train(self, *, resuming: bool, may_leave_out_many: bool = True) -> dict[str, torch.Tensor]:
        """Trains what is not trained yet; returns the tensors of the whole detector.

        Args:
            resuming: what is there of this run's steps is gone on from.
            may_leave_out_many: as of `DetectorTraining.train`.

        Raises:
            TrainingStopped, Interrupted: the state is saved. ConfigError: as `DetectorTraining`.
            RunError: a finished step is of another length, the shared stages changed, or the disk
                is too small.
        """
        there = [self._there_of(step, resuming) for step in STEPS]
        self._require_room(there)
        sets = described_with_files(self.train_sets)
        if resuming:
            hold_against(self.run, sets, changed_allowed=self.cfg.ENGINE.ALLOW_CHANGED_DATA)
        self.run.update(state="training", train_sets=sets)
        for step, found in zip(STEPS, there, strict=True):
            self._run_step(step, found, resuming, may_leave_out_many)
        return self._joined()

    def _require_room(self, there: Sequence[_There]) -> None:
        """Raises RunError where the disk is too small for the steps that are not done."""
        done = next((n for n, found in enumerate(there) if not found.is_whole), len(there))
        if done == len(there):
            return
        plans = plans_of_steps(self.cfg, [len(s) for s in self.train_sets])
        proposals = max(planned.plan.disk.proposals for planned in plans)
        require_disk(
            self.run.path,
            disk_of_steps(plans, done),
            f"checkpoints and results of four steps, twice at most {size_in_words(proposals)} of "
            "proposals, and the parts that these are joined of",
            there=bytes_in(self.run.path / layout.ALTERNATING),
        )

    def folder(self, step: str) -> Path:
        """The run folder of a step."""
        return self.run.path / layout.ALTERNATING / step

    def proposals(self, step: str) -> list[Path]:
        """The files of an RPN step's proposals, one for each training set."""
        folder = self.folder(step) / layout.TRAINING_PROPOSALS
        return [folder / self.run.results(s.name).name / layout.PROPOSALS for s in self.train_sets]

    @property
    def seconds(self) -> float:
        """Of the four trainings, without making proposals."""
        return sum(float(Run.open(self.folder(s.name)).info["train_seconds"]) for s in STEPS)

    @property
    def samples(self) -> int:
        """Images that all four steps saw."""
        return sum(int(Run.open(self.folder(s.name)).info["samples"]) for s in STEPS)

    # -- one step --------------------------------------------------------------------------

    def _config(self, step: AlternatingStep) -> Any:
        start = self.folder(step.starts_from) / layout.DETECTOR if step.starts_from else None
        return config_of_step(
            self.cfg,
            step,
            self.folder(step.name),
            weights=str(start) if start else self.cfg.MODEL.WEIGHTS,
            proposals=self.proposals(step.proposals_of) if step.proposals_of else (),
            shared_stages=self.shared_stages,
        )

    def _there_of(self, step: AlternatingStep, resuming: bool) -> _There:
        """Raises RunError as `_is_finished`."""
        if not resuming:
            return _There(False, (False,) * len(self._made_by(step)))
        finished = self._is_finished(self.folder(step.name), self._config(step))
        # What a step still trains on is read through: it would stop where a row is damaged.
        is_used = any(
            other.proposals_of == step.name
            and not self._is_finished(self.folder(other.name), self._config(other))
            for other in STEPS
        )
        made = (self._is_made(path, data, is_used) for path, data in self._made_by(step))
        return _There(finished, tuple(made))

    def _run_step(
        self, step: AlternatingStep, there: _There, resuming: bool, may_leave_out_many: bool
    ) -> None:
        cfg, folder = self._config(step), self.folder(step.name)
        if there.is_whole:
            logger.info("alternating: %s: done before", step.title)
            return
        logger.info("alternating: %s", step.title)
        with self._run_of(folder, cfg, goes_on=resuming) as run:
            # Without the sets: an RPN or Fast R-CNN by itself is tested by `train_det`.
            training = DetectorTraining(cfg, run, self.train_sets, (), self.reader)
            if there.finished:
                self._load_finished(training, folder)
            else:
                self._fill(training, step)
                goes_on = any(run.checkpoints.glob(layout.CHECKPOINT_FILES))
                training.train(
                    resuming=comm.all_gather(goes_on)[0], may_leave_out_many=may_leave_out_many
                )
                training.finish({})
            for (path, data), made in zip(self._made_by(step), there.made, strict=True):
                if not (there.finished and made):
                    with lost_images_stop():
                        self._propose(training, path, data)
        del training
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _made_by(self, step: AlternatingStep) -> list[tuple[Path, DetectionSet]]:
        """The files of proposals that a step leaves, with their sets; none of Fast R-CNN."""
        if not step.is_rpn:
            return []
        return list(zip(self.proposals(step.name), self.train_sets, strict=True))

    def _is_finished(self, folder: Path, cfg: Any) -> bool:
        """Whether a step has its weights; the main process looks for all.

        Raises:
            RunError: it was made with another length, or its folder is damaged.
        """
        return bool(main_alone(lambda: _is_finished(folder, cfg.SOLVER.MAX_ITER)))

    def _is_made(self, path: Path, data: DetectionSet, is_used: bool) -> bool:
        """Whether a step's proposals of a set are there, and whole where they will be used."""

        def refuse_others(file: ProposalFile) -> None:
            file.require_set(data.name, data.hash, "alternating training")

        return bool(main_alone(lambda: are_made(path, refuse_others, is_used=is_used)))

    @contextlib.contextmanager
    def _run_of(self, folder: Path, cfg: Any, *, goes_on: bool) -> Iterator[Run]:
        """The run folder of a step, made where it is not there, held while the step runs."""

        def make() -> None:
            if not (goes_on and (folder / layout.RUN).exists()):
                Run.create(
                    folder, kind="detection", config_text=cfg.dump(), command=sys.argv,
                    seed=cfg.SEED,
                ).update(max_iter=cfg.SOLVER.MAX_ITER)  # fmt: skip

        main_alone(make)
        run = Run.open(folder)
        run.writes = comm.is_main_process()
        with contextlib.ExitStack() as held:
            main_alone(lambda: held.enter_context(run.lock()))
            if (card := self.run.read(layout.CARD)) is not None:
                run.write(layout.CARD, card)
            yield run

    def _fill(self, training: DetectorTraining, step: AlternatingStep) -> None:
        """The weights that a step begins with; a resume then replaces them by its checkpoint's."""
        if not step.starts_from:
            self.fill(training)
            return
        path = self.folder(step.starts_from) / layout.DETECTOR
        tensors = tensors_of(path)
        if step.is_rpn:
            received = load_shared(training.model, tensors, str(path))
            training.run.write(layout.TRANSFER, {"file": str(path), **received.to_dict()})
        else:
            training.load_detector(tensors, str(path))

    def _load_finished(self, training: DetectorTraining, folder: Path) -> None:
        path = folder / layout.DETECTOR
        training.load_detector(tensors_of(path), str(path))

    def _propose(self, training: DetectorTraining, path: Path, data: DetectionSet) -> None:
        """The proposals of a training set, by the RPN of a step that has ended."""
        cfg, digest = training.cfg, weights_digest(training.scored)
        mark = {**fingerprint_of(cfg, digest, data), "of": "proposals of training images"}
        parts = ProposalParts.open(
            path.parent / layout.PARTS, data, digest, mark,
            Policy(resuming=True, refuses_others=False),
        )  # fmt: skip
        model = form_for_detecting(training.scored, cfg)
        with as_many_as_in_training(model, cfg):
            seconds = make_proposals(
                model, data, Mapper.of(cfg, self.reader, is_train=False), path, parts,
                most_bytes=proposal_bytes(cfg, model, len(data), as_in_training=True),
                num_workers=num_workers(cfg, images=len(data)),
                batch_size=cfg.TEST.IMS_PER_BATCH,
            )  # fmt: skip
        if comm.is_main_process():
            file = ProposalFile(path)
            logger.info(
                "%s: %d proposals of %d images in %.0f s, %s",
                data.name, file.total, len(file), seconds, path,
            )  # fmt: skip

    # -- the whole detector ----------------------------------------------------------------

    def _joined(self) -> dict[str, torch.Tensor]:
        """Shared stages of step 2, RPN of step 3, Fast R-CNN of step 4.

        Raises:
            RunError: a later step has other shared stages than step 2: a file was changed.
        """
        paths = {s.name: self.folder(s.name) / layout.DETECTOR for s in STEPS[1:]}
        second, third, fourth = (tensors_of(path) for path in paths.values())
        for name, path in list(paths.items())[1:]:
            other = third if path == paths["3_rpn"] else fourth
            changed = [
                n
                for n, t in other.items()
                if n.startswith(SHARED) and not torch.equal(t, second[n])
            ]
            if changed:
                raise RunError(
                    f"{path} has another {changed[0]} than {paths['2_fast_rcnn']}, whose shared "
                    f"stages {name} trains on. A file was changed: remove the folders of this step "
                    "and those after it, and go on with --resume."
                )
        parts = ((second, SHARED), (third, RPN), (fourth, HEADS))
        return {n: t for tensors, part in parts for n, t in tensors.items() if n.startswith(part)}


def _is_finished(folder: Path, length: int) -> bool:
    """As `AlternatingTraining._is_finished`, for a step of so many steps."""
    if not (folder / layout.RUN).exists():
        return False
    run = Run.open(folder)
    made_for = run.info.get("max_iter")
    if made_for is not None and made_for != length:
        raise RunError(
            f"{folder} was made for {made_for} steps, and is to have {length} now. The length of "
            "an alternating training stays: give the old SOLVER.MAX_ITER and SOLVER.RPN.MAX_ITER, "
            "or start anew with another --output."
        )
    path = folder / layout.DETECTOR
    return run.state == "finished" and path.exists() and is_whole(path)


def load_shared(model: nn.Module, tensors: starting_weights.Tensors, where: str) -> Any:
    """The shared stages of a detector into an RPN alone, whose own layers stay new; counted.

    Raises:
        WeightsError: one is missing or of another shape.
    """
    return weights.transfer(
        starting_weights.without_buffers(model),
        tensors,
        where=where,
        declared_new=(f"{RPN}*",),
        optional=(f"{HEADS}*",),
    )


def tensors_of(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors in a step's model_final.pth.

    Raises:
        WeightsError: it is missing or damaged.
    """
    if not path.exists() or not is_whole(path):
        raise WeightsError(
            f"{path} is missing or damaged. Remove its folder and those of the steps after it, "
            "and go on with --resume."
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    return dict(state["model"])
