"""Keys of the paper's detection experiments beyond its baseline (He et al. 2015).

Not for: the other keys (`keys`), or what these do (`resdet.detect.paper`).
"""

from __future__ import annotations

from detectron2.config import CfgNode


def add_paper_keys(cfg: CfgNode) -> None:
    """The keys, all off."""
    _add_improvement_keys(cfg)


def _add_improvement_keys(cfg: CfgNode) -> None:
    """Table 9."""
    # Box refinement and voting at test time (docs/improvements.md): regions are pooled again from
    # their regressed boxes, both rounds go through NMS together, boxes that it keeps move to the
    # weighted mean of those that overlap them. "off" or "on".
    cfg.TEST.BOX_REFINEMENT = "off"
