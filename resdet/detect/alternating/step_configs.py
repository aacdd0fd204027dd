"""What each of the four steps of an alternating training is, as a config of its own.

    1_rpn         RPN from the classifier; all of the net that trains at all
    2_fast_rcnn   Fast R-CNN from the classifier, on proposals of step 1
    3_rpn         RPN's own layers, new, on the shared stages of step 2, which are fixed
    4_fast_rcnn   Fast R-CNN's own layers from step 2, on its shared stages and proposals of step 3

Each is what `train_det` trains with the same keys: step 1 is an RPN alone. The RPN of step 3 begins
anew, as in py-faster-rcnn, whose file of step 2 has RPN layers that never trained. Step 4 goes on
from all of step 2's Fast R-CNN, as in the MATLAB release; py-faster-rcnn's goes on from its fc6 and
fc7, and begins the two output layers anew.

Not for: running them (`four_steps`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from resdet.config import get_cfg
from resdet.config.detectron2_keys import DETECTOR, RPN_ALONE
from resdet.detect.architecture.backbone import build_net


@dataclass(frozen=True)
class AlternatingStep:
    """One of the four.

    Attributes:
        name: of its folder.
        title: for people.
        is_rpn: it trains an RPN, and makes proposals of the training images.
        shares: the shared stages are fixed, at those of `starts_from`.
        starts_from: the step whose weights it begins with; "" for the classifier.
        proposals_of: the step whose proposals it trains on; "" for an RPN.
    """

    name: str
    title: str
    is_rpn: bool
    shares: bool = False
    starts_from: str = ""
    proposals_of: str = ""


STEPS = (
    AlternatingStep("1_rpn", "step 1 of 4, RPN from the classifier", is_rpn=True),
    AlternatingStep(
        "2_fast_rcnn",
        "step 2 of 4, Fast R-CNN from the classifier, on proposals of step 1",
        is_rpn=False,
        proposals_of="1_rpn",
    ),
    AlternatingStep(
        "3_rpn",
        "step 3 of 4, RPN on the shared stages of step 2, which stay",
        is_rpn=True,
        shares=True,
        starts_from="2_fast_rcnn",
    ),
    AlternatingStep(
        "4_fast_rcnn",
        "step 4 of 4, Fast R-CNN on the same stages, on proposals of step 3",
        is_rpn=False,
        shares=True,
        starts_from="2_fast_rcnn",
        proposals_of="3_rpn",
    ),
)


def shared_stages(cfg: CfgNode) -> int:
    """How many stages RPN and Fast R-CNN share, counted as MODEL.BACKBONE.FREEZE_AT counts."""
    names = [stage.name for stage in build_net(cfg).stages()]
    return names.index(cfg.MODEL.RPN.IN_FEATURES[0]) + 1


def schedule_of_rpn(cfg: CfgNode) -> CfgNode:
    """MAX_ITER, STEPS, BASE_LR and IMS_PER_BATCH of an RPN step; what is off is SOLVER's own."""
    solver, rpn = cfg.SOLVER, cfg.SOLVER.RPN
    length = rpn if rpn.MAX_ITER else solver
    return CfgNode(
        {
            "MAX_ITER": length.MAX_ITER,
            "STEPS": tuple(length.STEPS),
            "BASE_LR": rpn.BASE_LR or solver.BASE_LR,
            "IMS_PER_BATCH": rpn.IMS_PER_BATCH or solver.IMS_PER_BATCH,
        }
    )


def config_of_step(
    cfg: CfgNode,
    step: AlternatingStep,
    folder: Path,
    *,
    weights: str,
    proposals: Sequence[Path],
    shared_stages: int,
) -> CfgNode:
    """The config of one step.

    Args:
        cfg: of the whole training, resolved, all facts filled in.
        folder: of the step.
        weights: the file that it begins with; "" for random weights.
        proposals: for Fast R-CNN, a file for each training set.
        shared_stages: of the net, which RPN and Fast R-CNN share.
    """
    off = get_cfg()
    node = cfg.clone()
    node.defrost()
    node.OUTPUT_DIR = str(folder)
    node.DATASETS.TEST = ()
    # A step is not tested; what changes the test is of the whole detector.
    node.TEST = off.TEST.clone()
    node.TEST.IMS_PER_BATCH = cfg.TEST.IMS_PER_BATCH
    node.SOLVER.SCHEME = off.SOLVER.SCHEME
    if step.is_rpn:
        node.MODEL.META_ARCHITECTURE = RPN_ALONE
        for name, value in schedule_of_rpn(cfg).items():
            node.SOLVER[name] = value
    else:
        node.MODEL.META_ARCHITECTURE = DETECTOR
        node.MODEL.LOAD_PROPOSALS = True
        node.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
        node.DATASETS.PROPOSAL_FILES_TRAIN = tuple(map(str, proposals))
        node.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN
    node.SOLVER.RPN = off.SOLVER.RPN.clone()
    # A batch that is as stated needs no reference of the whole training's.
    node.SOLVER.REFERENCE_BATCH, node.SOLVER.SCALE_LR = 0, ""
    if step.shares:
        if not cfg.MODEL.WEIGHTS:
            # From random weights norms were live, and stay so where they train.
            node.MODEL.NET.NORM = "BN"
        node.MODEL.WEIGHTS = weights
        node.MODEL.WEIGHTS_PART = ""
        node.MODEL.BACKBONE.FREEZE_AT = shared_stages
        # What was new in a shared stage is not new any more; in the tail its norms stay live.
        node.TRANSFER.NEW = tuple(
            pattern for pattern in cfg.TRANSFER.NEW if not _fits(pattern, cfg, shared_stages)
        )
    return node


def _fits(pattern: str, cfg: CfgNode, stages: int) -> bool:
    """Whether a pattern of TRANSFER.NEW names one of the first so many stages."""
    names = [stage.name for stage in build_net(cfg).stages()][:stages]
    return any(fnmatch.fnmatchcase(f"{name}.0", pattern) for name in names)
