"""Keys of the paper's detection experiments beyond its baseline (He et al. 2015).

Not for: the other keys (`keys`), or what these do (`resdet.detect.paper`).
"""

from __future__ import annotations

from detectron2.config import CfgNode


def add_paper_keys(cfg: CfgNode) -> None:
    """The keys, all off."""
    _add_improvement_keys(cfg)
    _add_scheme_keys(cfg)


def _add_improvement_keys(cfg: CfgNode) -> None:
    """Table 9."""
    # Box refinement and voting at test time (docs/improvements.md): regions are pooled again from
    # their regressed boxes, both rounds go through NMS together, boxes that it keeps move to the
    # weighted mean of those that overlap them. "off" or "on".
    cfg.TEST.BOX_REFINEMENT = "off"
    # Multi-scale testing: the shorter sides of a pyramid in pixels, rising, such as
    # (200, 400, 600, 800, 1000); proposals are those of INPUT.MIN_SIZE_TEST, and each region is
    # pooled from two adjacent scales. () = off.
    cfg.TEST.SCALES = ()
    # The most pixels of the longer side on each of TEST.SCALES. 0 = off: INPUT.MAX_SIZE_TEST in
    # proportion, as the scale is to INPUT.MIN_SIZE_TEST.
    cfg.TEST.SCALES_MAX_SIZE = 0
    # Run folders, or detectors' files in them, that propose and classify together with the detector
    # that is tested; each sees images as its own run does. () = off.
    cfg.TEST.ENSEMBLE = ()
    # Global context in RegionHeads: the whole image is pooled as one more region, and its feature
    # put behind each region's before class and box are predicted; trained with the rest.
    # False = off.
    cfg.MODEL.REGION_HEADS = CfgNode({"CONTEXT": False})


def _add_scheme_keys(cfg: CfgNode) -> None:
    """Alternating training."""
    # How RPN and region heads come to share a net. "joint" = off: trained together, as Detectron2
    # and py-faster-rcnn's end2end. "alternating": Ren et al.'s four steps, RPN and Fast R-CNN in
    # turn; SOLVER.MAX_ITER, STEPS, BASE_LR and IMS_PER_BATCH are those of each Fast R-CNN step.
    cfg.SOLVER.SCHEME = "joint"
    # The schedule of each RPN step of SOLVER.SCHEME alternating, where it is another one.
    rpn = cfg.SOLVER.RPN = CfgNode()
    # Steps of an RPN step; 0 = off: SOLVER.MAX_ITER, with SOLVER.STEPS.
    rpn.MAX_ITER = 0
    # Where its rate falls; read with SOLVER.RPN.MAX_ITER above 0 alone. () = off: nowhere.
    rpn.STEPS = ()
    # Its rate; 0 = off: SOLVER.BASE_LR.
    rpn.BASE_LR = 0.0
    # Its images a step; 0 = off: SOLVER.IMS_PER_BATCH.
    rpn.IMS_PER_BATCH = 0
