"""The Detectron2 side: any of our nets as backbone and region heads of one Faster R-CNN.

Importing this registers `build_net_backbone`, `build_net_fpn_backbone`, `RegionHeads` and the data
sets that Detectron2 lacks; nothing else of Detectron2 is touched.
"""

from resdet.data import catalog
from resdet.detect.architecture.backbone import NetBackbone, build_net, build_net_backbone
from resdet.detect.architecture.fpn import build_net_fpn_backbone
from resdet.detect.architecture.region_heads import RegionHeads

catalog.register()

__all__ = [
    "NetBackbone",
    "RegionHeads",
    "build_net",
    "build_net_backbone",
    "build_net_fpn_backbone",
]
