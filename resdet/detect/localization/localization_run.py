"""All of appendix C in one run folder: RPN, proposals, R-CNN, test. Each step leaves its files, and
a run that goes on does not repeat a step that is done.

    rpn/            the per-class RPN
    proposals/      its best boxes of each training image, for the image's class (LOC.RCNN on)
    rcnn/           the net over warped regions (LOC.RCNN on)
    localization/   result files and rows; tests in parts below it while they run

Not for: arguments and printing (`resdet.cli.localization`).
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet import nets, weights
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.localization import loc_checkpoints, loc_results
from resdet.detect.localization.loc_images import CropMapper, RegionMapper
from resdet.detect.localization.loc_results import KNOWN, PREDICTED, RCNN, RPN, LocRow
from resdet.detect.localization.loc_testing import (
    PROPOSAL_WIDTH,
    ROW_WIDTH,
    LocTester,
    proposal_rows,
)
from resdet.detect.localization.per_class_rpn import PerClassRPN, build_per_class_rpn
from resdet.detect.localization.proposal_store import ProposalStore, StoredRows
from resdet.detect.localization.warped_region_net import (
    POSITIVE_OVERLAP,
    POSITIVE_SHARE,
    WarpedRegionNet,
    build_warped_region_net,
)
from resdet.detect.starting_weights import Tensors
from resdet.detect.testing.partial_results import weights_digest
from resdet.engine.evaluation import evaluating
from resdet.errors import ConfigError, DataError
from resdet.run import layout
from resdet.run.folder import Run, read_json, write_json
from resdet.weights.tensor_checks import refuse_untrained_norms

logger = logging.getLogger("resdet.detect.localization")
LOG_SECONDS = 10.0


class ProposedRecords(Sequence[dict[str, Any]]):
    """Records of a training set with the proposals of each; images without one are left out."""

    def __init__(self, data: DetectionSet, stored: StoredRows):
        self._data = data
        self._stored = stored
        self._places = [n for n in range(len(data)) if len(stored[n])]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        place = self._places[index]
        return {**self._data.records[place], "proposals": self._stored[place][:, :4]}


def check_sets(train: DetectionSet | None, test: DetectionSet) -> None:
    """Both must be of LOC, with the same classes.

    Raises:
        DataError: the images of one have no class. ConfigError: their classes differ.
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


@dataclass
class Localization:
    """One localiser: trained and tested.

    Args:
        cfg: resolved. run: the folder, locked.
        train, test: sets of CLS-LOC with the same classes; train None where nothing trains.
        tensors: of the classifier that both nets start from; empty for random weights.
        where: its file.
    """

    cfg: Any
    run: Run
    train: DetectionSet | None
    test: DetectionSet
    reader: ImageReader
    tensors: Tensors
    where: str = ""

    def __post_init__(self) -> None:
        self.classes = self.test.classes

    # -- the whole ---------------------------------------------------------------------------

    def trained(self) -> tuple[PerClassRPN, WarpedRegionNet | None]:
        """Both nets, each trained to its end."""
        assert self.train is not None
        cfg = self.cfg
        rpn = build_per_class_rpn(cfg, len(self.classes))
        self._fill(rpn.backbone, tuple(rpn.backbone.left_behind))
        flip = cfg.INPUT.RANDOM_FLIP == "horizontal"
        crops = CropMapper(self.reader, cfg.INPUT.FORMAT, cfg.LOC.CROP, cfg.LOC.JITTER, flip)
        self.run.update(
            state="training", net={"name": cfg.MODEL.NET.NAME, "parameters": nets.parameters(rpn)}
        )
        step = self._step(layout.RPN)
        loc_checkpoints.trained(rpn, self.train.records, crops, cfg, step, classes=self.classes)
        if cfg.LOC.RCNN == "off":
            return rpn, None
        stored = self._proposals(rpn)
        rcnn = build_warped_region_net(cfg, len(self.classes))
        self._fill(rcnn.net, ("linear.*",))
        regions = RegionMapper(
            self.reader, cfg.INPUT.FORMAT, cfg.LOC.CROP, flip,
            overlap=POSITIVE_OVERLAP, share=POSITIVE_SHARE,
        )  # fmt: skip
        records = ProposedRecords(self.train, stored)
        step = self._step(layout.RCNN)
        loc_checkpoints.trained(
            rcnn, records, regions, self._rcnn_config(), step, classes=self.classes
        )
        return rpn, rcnn

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
        if (path / layout.RUN).exists():
            return Run.open(path)
        return Run.create(
            path,
            kind="localization",
            config_text=self.run.config_text,
            command=list(self.run.info.get("command", [])),
            seed=self.cfg.SEED,
        )

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

    def _proposals(self, rpn: PerClassRPN) -> StoredRows:
        """The best proposals of each training image for its class, on the densely tested image
        where LOC.TEST has that, else on its centre."""
        data, cfg = self.train, self.cfg
        assert data is not None
        kind = cfg.LOC.TEST[-1]
        about = self._about(data, kind, rpn)
        store = ProposalStore(
            self.run.path / layout.LOC_PROPOSALS, len(data), PROPOSAL_WIDTH, about
        )
        tester = self._tester(rpn, None, kind)
        with evaluating(rpn):
            for record in _counted(data, store):
                (found,) = tester.proposals(record, [record["label"]])
                store.add(proposal_rows(found))
        return store.rows()

    def _about(self, data: DetectionSet, kind: str, *models: Any) -> dict[str, Any]:
        """What the boxes in a store are of."""
        loc = self.cfg.LOC
        sizes = list(loc.SIZES) if kind == "dense" else [loc.TEST_SIDE, loc.CROP]
        return {
            "set": data.hash, "images": len(data), "testing": kind, "sizes": sizes,
            "proposals": loc.PROPOSALS, "nms": self.cfg.MODEL.RPN.NMS_THRESH,
            "models": [weights_digest(m) for m in models if m is not None],
        }  # fmt: skip

    # -- test --------------------------------------------------------------------------------

    def tested(self, rpn: PerClassRPN, rcnn: WarpedRegionNet | None) -> list[dict[str, Any]]:
        """Writes the result files of LOC.TEST; gives all rows that the folder then has."""
        data, cfg = self.test, self.cfg
        predicted, classifier = None, ""
        if cfg.LOC.SCORES:
            predicted, classifier = loc_results.predicted_classes(cfg.LOC.SCORES, data)
        elif not data.annotated:
            raise ConfigError(
                f"{data.name} has no annotations, so its classes are not known. Give the scores of "
                "a classifier on it: LOC.SCORES FILE.npz (evaluate cls)."
            )
        folder = self.run.path / layout.LOCALIZATION
        known = read_json(folder / layout.LOC_ROWS) if (folder / layout.LOC_ROWS).exists() else []
        rows = {(r["testing"], r["net"], r["classes"]): r for r in known}
        for kind in cfg.LOC.TEST:
            for row in self._tested_as(kind, rpn, rcnn, predicted, classifier):
                rows[row.testing, row.net, row.classes] = row.to_json()
                write_json(folder / layout.LOC_ROWS, list(rows.values()))
        return list(rows.values())

    def _tested_as(
        self,
        kind: str,
        rpn: PerClassRPN,
        rcnn: WarpedRegionNet | None,
        predicted: np.ndarray | None,
        classifier: str,
    ) -> list[LocRow]:
        data, folder = self.test, self.run.path / layout.LOCALIZATION
        labels = [[r["label"]] if data.annotated else [] for r in data.records]
        guessed = [[] if predicted is None else predicted[n].tolist() for n in range(len(data))]
        asked = [list(dict.fromkeys([*a, *b])) for a, b in zip(labels, guessed, strict=True)]
        about = {**self._about(data, kind, rpn, rcnn), "classes": _digest(asked)}
        store = ProposalStore(folder / f"{layout.PARTS}_{kind}", len(data), ROW_WIDTH, about)
        tester = self._tester(rpn, rcnn, kind)
        with evaluating(rpn), evaluating(rcnn or rpn):
            for record, classes in zip(_counted(data, store), asked[store.done :], strict=True):
                store.add(tester.boxes(record, classes))
        stored = store.rows()
        rows = [stored[n] for n in range(len(data))]
        found = []
        asked_by = {KNOWN: labels, PREDICTED: guessed}
        for net in (RPN, *([RCNN] if rcnn is not None else [])):
            for title, wanted in asked_by.items():
                if not any(wanted):
                    continue
                results = loc_results.guesses_of(rows, wanted, is_rcnn=net == RCNN)
                row = LocRow(kind, net, title, classifier if title == PREDICTED else "")
                found.append(loc_results.write_row(folder, row, results, data)[0])
        shutil.rmtree(store.folder)
        return found


def _digest(asked: Sequence[Sequence[int]]) -> str:
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def _counted(data: DetectionSet, store: ProposalStore) -> Iterator[dict[str, Any]]:
    """The records that a store has not, with a line every ten seconds; what is pending is written
    when this ends early."""
    start, first = time.monotonic(), store.done
    last = start
    try:
        for place in range(first, len(data)):
            yield data.records[place]
            now = time.monotonic()
            if now - last > LOG_SECONDS or place + 1 == len(data):
                last, done = now, place + 1 - first
                logger.info(
                    "%s: %d of %d images, %.3f s an image, eta %.0f s",
                    data.name,
                    place + 1,
                    len(data),
                    (now - start) / done,
                    (now - start) / done * (len(data) - place - 1),
                )
    finally:
        store.write()
