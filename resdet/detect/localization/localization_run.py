"""All of appendix C in one run folder: RPN, proposals, R-CNN, test. Each step leaves its files, and
a run that goes on does not repeat a step that is done.

    rpn/            the per-class RPN
    proposals/      its best boxes of each training image, for the image's class (LOC.RCNN on)
    rcnn/           the net over warped regions (LOC.RCNN on)
    localization/   result files and rows of each test set; tests in parts below while they run

Not for: arguments and printing (`resdet.cli.localization`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from resdet import nets, weights
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.alternating.proposal_making import ProposalParts, are_made
from resdet.detect.alternating.proposal_room import file_bytes, require_room
from resdet.detect.localization import loc_checkpoints, loc_results
from resdet.detect.localization.loc_images import CropMapper, RegionMapper
from resdet.detect.localization.loc_passes import ProposedRecords, localized, make_loc_proposals
from resdet.detect.localization.loc_results import KNOWN, PREDICTED, Asked, LocRow
from resdet.detect.localization.loc_testing import RCNN, RPN, LocTester
from resdet.detect.localization.per_class_rpn import PerClassRPN, build_per_class_rpn
from resdet.detect.localization.warped_region_net import (
    POSITIVE_OVERLAP,
    POSITIVE_SHARE,
    WarpedRegionNet,
    build_warped_region_net,
)
from resdet.detect.starting_weights import Tensors
from resdet.detect.testing.partial_results import Parts, Policy, weights_digest
from resdet.detect.trainer import described_with_files
from resdet.engine.data_hashes import hold_against
from resdet.engine.processes import main_alone
from resdet.engine.starts.start_checks import DiskNeed, bytes_in, require_disk
from resdet.errors import ConfigError, DataError, first_few
from resdet.formats.proposal_file import ProposalFile
from resdet.run import layout, shapes
from resdet.run.folder import Run, read_json, write_json
from resdet.weights.tensor_checks import refuse_untrained_norms

logger = logging.getLogger("resdet.detect.localization")
# Finished images of something else, such as another RPN, are removed.
GOES_ON = Policy(resuming=True, refuses_others=False)


def check_sets(train: DetectionSet | None, test: DetectionSet) -> None:
    """Both must be of LOC, with the same classes, and have boxes to train and to score on.

    Raises:
        DataError: the images of one have no class, or some of them no box of theirs.
        ConfigError: their classes differ.
    """
    for data in filter(None, (test, train)):
        if data.annotated and "label" not in data.records[0]:
            raise DataError(
                f"{data.name} has no class for each image, as ILSVRC's LOC has. Name "
                "ilsvrc_loc_train and ilsvrc_loc_val, or ilsvrc:ROOT:loc_train."
            )
        if data.classes != test.classes:
            raise ConfigError(
                f"{data.name} and {test.name} have other classes, or another order. Take both of "
                "one tree."
            )
        if data.annotated:
            _refuse_without_box(data, is_scored=data is test)


def _refuse_without_box(data: DetectionSet, *, is_scored: bool) -> None:
    """Raises DataError for images whose class is known and that have no box of it; where a set is
    scored, those of the blacklist need none."""
    bare = [
        str(record["image_id"])
        for record in data.records
        if not record["annotations"] and not (is_scored and record.get("not_scored"))
    ]
    if bare:
        raise DataError(
            f"{data.name}: {len(bare):,} of {len(data):,} images have no box of their class.\n"
            f"{first_few(bare, 5)}\nAdd the boxes, or take the images out of the list; in a set "
            "that is tested they may be in the development kit's blacklist."
        )


@dataclass
class Localization:
    """One localiser: trained and tested.

    Args:
        cfg: resolved. run: the folder, locked.
        train, test: sets of CLS-LOC with the same classes; train None where nothing trains.
        asked: the classes whose boxes the test set gets.
        tensors: of the classifier that both nets start from; empty for random weights.
        where: its file.
    """

    cfg: Any
    run: Run
    train: DetectionSet | None
    test: DetectionSet
    asked: Asked
    reader: ImageReader
    tensors: Tensors
    where: str = ""

    def __post_init__(self) -> None:
        self.classes = self.test.classes

    # -- the whole ---------------------------------------------------------------------------

    def trained(self) -> tuple[PerClassRPN, WarpedRegionNet | None]:
        """Both nets, each trained to its end.

        Raises:
            TrainingStopped, Interrupted: the state is saved. RunError: the training set changed, a
                checkpoint is of another run, or the disk is too small.
        """
        assert self.train is not None
        cfg = self.cfg
        sets = described_with_files([self.train])
        hold_against(self.run, sets, changed_allowed=cfg.ENGINE.ALLOW_CHANGED_DATA)
        rpn = build_per_class_rpn(cfg, len(self.classes))
        self._require_room(rpn)
        self._fill(rpn.backbone, tuple(rpn.backbone.left_behind))
        flip = cfg.INPUT.RANDOM_FLIP == "horizontal"
        crops = CropMapper(self.reader, cfg.INPUT.FORMAT, cfg.LOC.CROP, cfg.LOC.JITTER, flip)
        self.run.update(
            state="training",
            net={"name": cfg.MODEL.NET.NAME, "parameters": nets.parameters(rpn)},
            train_sets=sets,
        )
        step = self._step(layout.RPN)
        loc_checkpoints.trained(rpn, self.train.records, crops, cfg, step, classes=self.classes)
        if cfg.LOC.RCNN == "off":
            return rpn, None
        proposals = self._proposals(rpn)
        rcnn = build_warped_region_net(cfg, len(self.classes))
        self._fill(rcnn.net, ("linear.*",))
        regions = RegionMapper(
            self.reader, cfg.INPUT.FORMAT, cfg.LOC.CROP, flip,
            overlap=POSITIVE_OVERLAP, share=POSITIVE_SHARE,
        )  # fmt: skip
        records = ProposedRecords(self.train, proposals)
        step = self._step(layout.RCNN)
        loc_checkpoints.trained(
            rcnn, records, regions, self._rcnn_config(), step, classes=self.classes
        )
        return rpn, rcnn

    def _require_room(self, rpn: PerClassRPN) -> None:
        """Raises RunError where the RPN and its proposals of the training images do not fit."""
        need = DiskNeed.of_training(self.cfg, rpn)
        if self.cfg.LOC.RCNN != "off":
            size = self._proposal_bytes
            need = replace(need, proposals=size, proposal_parts=size)
        made = (layout.RPN, layout.LOC_PROPOSALS)
        there = sum(bytes_in(self.run.path / name) for name in made)
        require_disk(self.run.path, need.most, need, there=there)

    @property
    def _proposal_bytes(self) -> int:
        assert self.train is not None
        return file_bytes(len(self.train), self.cfg.LOC.PROPOSALS)

    def loaded(self) -> tuple[PerClassRPN, WarpedRegionNet | None]:
        """Both nets as the run left them."""
        rpn = build_per_class_rpn(self.cfg, len(self.classes))
        loc_checkpoints.load(rpn, self.run.path / layout.RPN / layout.DETECTOR, self.classes)
        if self.cfg.LOC.RCNN == "off":
            return rpn, None
        rcnn = build_warped_region_net(self.cfg, len(self.classes))
        loc_checkpoints.load(rcnn, self.run.path / layout.RCNN / layout.DETECTOR, self.classes)
        return rpn, rcnn

    def _rcnn_config(self) -> Any:
        cfg = self.cfg.clone()
        cfg.defrost()
        if cfg.LOC.RCNN_ITERS:
            cfg.SOLVER.MAX_ITER = cfg.LOC.RCNN_ITERS
        return cfg

    def _step(self, name: str) -> Run:
        """The run folder of a step within the run's; made where it is not there."""
        path = self.run.path / name
        if comm.is_main_process() and not (path / layout.RUN).exists():
            Run.create(
                path,
                kind="localization",
                config_text=self.run.config_text,
                command=list(self.run.info.get("command", [])),
                seed=self.cfg.SEED,
            )
        comm.synchronize()
        run = Run.open(path)
        run.writes = comm.is_main_process()
        return run

    def _fill(self, net: Any, optional: tuple[str, ...]) -> None:
        """The classifier's tensors into a net, every one counted."""
        if not self.tensors:
            return
        refuse_untrained_norms(self.tensors, self.where)
        received = weights.transfer(
            net,
            self.tensors,
            where=self.where,
            declared_new=tuple(self.cfg.TRANSFER.NEW),
            optional=("linear.*", *optional),
        )
        logger.info("%s: %s", self.where, received)
        self.run.write(layout.TRANSFER, {"file": self.where, **received.to_dict()})

    # -- proposals ---------------------------------------------------------------------------

    def _tester(self, rpn: PerClassRPN, rcnn: WarpedRegionNet | None, kind: str) -> LocTester:
        cfg = self.cfg
        return LocTester(
            rpn, self.reader, cfg.INPUT.FORMAT, kind, cfg.LOC.CROP, cfg.LOC.TEST_SIDE,
            cfg.LOC.SIZES, cfg.LOC.PROPOSALS, rcnn, cfg.LOC.RCNN_BATCH,
        )  # fmt: skip

    def _proposals(self, rpn: PerClassRPN) -> ProposalFile:
        """The best proposals of each training image for its class, tested as the last of LOC.TEST;
        made where they are not there."""
        data = self.train
        assert data is not None
        kind, folder = self.cfg.LOC.TEST[-1], self.run.path / layout.LOC_PROPOSALS
        digest, path = weights_digest(rpn), folder / layout.PROPOSALS
        # What R-CNN still trains on is read through: it would stop where a row is damaged.
        is_used = not (self.run.path / layout.RCNN / layout.DETECTOR).exists()

        def refuse_others(file: ProposalFile) -> None:
            if (file.data_set_hash, file.weights) != (data.hash, digest):
                raise DataError(f"{path} has proposals of another RPN, or of other images.")

        there = comm.is_main_process() and are_made(path, refuse_others, is_used=is_used)
        if comm.all_gather(there)[0]:
            logger.info("%s is there: it is not made again", path)
        else:
            about = self._about(data, kind, [digest])
            parts = ProposalParts.open(folder / layout.PARTS, data, digest, about, GOES_ON)
            require_room(folder, self._proposal_bytes, parts.folder, parts.share_left)
            make_loc_proposals(self._tester(rpn, None, kind), data, path, parts)
        return ProposalFile(path)

    def _about(self, data: DetectionSet, kind: str, digests: Sequence[str]) -> dict[str, Any]:
        """What boxes are of."""
        loc = self.cfg.LOC
        sizes = list(loc.SIZES) if kind == "dense" else [loc.TEST_SIDE, loc.CROP]
        return {
            "set": data.hash, "images": len(data), "testing": kind, "sizes": sizes,
            "proposals": loc.PROPOSALS, "nms": self.cfg.MODEL.RPN.NMS_THRESH,
            "models": list(digests),
        }  # fmt: skip

    # -- test --------------------------------------------------------------------------------

    def tested(
        self, rpn: PerClassRPN, rcnn: WarpedRegionNet | None, *, resuming: bool = False
    ) -> list[dict[str, Any]]:
        """Writes the result files of LOC.TEST; gives all rows that the set's folder then has, on
        the main process.

        Args:
            resuming: what was tested before, by the same nets on the same images, stays.
        """
        data, cfg = self.test, self.cfg
        asked = self.asked
        digests = [weights_digest(net) for net in (rpn, rcnn) if net is not None]
        path = self.run.localization(data.name) / layout.LOC_ROWS
        # Read by all processes, which so all stop where it is damaged.
        known = read_json(path, shapes.FILES[layout.LOC_ROWS]) if path.exists() else []
        rows = {(r["testing"], r["net"], r["classes"]): r for r in known}
        for kind in cfg.LOC.TEST:
            about = {**self._about(data, kind, digests), "classes": asked.digest}
            made_of = _made_of(about, data)
            expected = [rows.get((kind, *key)) for key in self._expected(rcnn is not None)]
            if resuming and _all_written(path.parent, expected, made_of):
                logger.info("%s, %s: done before, nothing has changed", data.name, kind)
                continue
            parts = Parts.open(self._parts(kind), data, about, GOES_ON)
            boxes = localized(self._tester(rpn, rcnn, kind), data, asked.of_image, parts)
            if comm.is_main_process():
                for row in self._written(kind, boxes, made_of, rcnn is not None):
                    rows[row.testing, row.net, row.classes] = row.to_json()
                write_json(path, list(rows.values()))
        comm.synchronize()
        if comm.is_main_process():
            # Only now: a stop in the last test must not cost the first.
            for kind in cfg.LOC.TEST:
                shutil.rmtree(self._parts(kind), ignore_errors=True)
        return list(rows.values())

    def _parts(self, kind: str) -> Path:
        """Where the boxes of finished images are while the set is tested."""
        return self.run.localization(self.test.name) / f"{layout.PARTS}_{kind}"

    def _expected(self, has_rcnn: bool) -> list[tuple[str, str]]:
        """Net and classes of the rows of one way of testing."""
        asked = {KNOWN: self.asked.known, PREDICTED: self.asked.predicted}
        nets_tested = (RPN, *([RCNN] if has_rcnn else []))
        return [(net, classes) for net in nets_tested for classes in asked if asked[classes]]

    def _written(
        self, kind: str, boxes: Sequence[Mapping[str, Any]], made_of: str, has_rcnn: bool
    ) -> Iterator[LocRow]:
        """The rows of one way of testing, each with its file."""
        folder, asked = self.run.localization(self.test.name), self.asked
        for net, classes in self._expected(has_rcnn):
            is_known = classes == KNOWN
            of_image = asked.known if is_known else asked.predicted
            by = "" if is_known else asked.classifier
            row = LocRow(self.test.name, kind, net, classes, by, made_of=made_of)
            results = loc_results.guesses_of(boxes, of_image, net)
            yield loc_results.write_row(folder, row, results, self.test)


def _made_of(about: Mapping[str, Any], data: DetectionSet) -> str:
    """Of the boxes, and of the images that the development kit's blacklist leaves out of an error:
    with another one a set is tested again."""
    out = [record["image_id"] for record in data.records if record.get("not_scored")]
    every = {**about, "not_scored": out} if out else about
    return hashlib.sha256(json.dumps(every, sort_keys=True).encode()).hexdigest()


def _all_written(folder: Path, rows: Sequence[Any], made_of: str) -> bool:
    """Whether all rows are of this test, with their files; the main process looks."""
    return bool(
        main_alone(lambda: all(r and loc_results.is_written(folder, r, made_of) for r in rows))
    )
