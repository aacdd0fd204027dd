"""What the presets in configs/ are made of: data sets, nets, recipes, and where numbers stand.

`make_presets.py` writes the files from it. A row here is a file there: to add a preset, add its
net to a recipe and run `python tools/make_presets.py`. Classifiers have a record of their own,
`pretraining_record.py`, and ImageNet's DET and LOC `imagenet_presets.py`.

Not for: the settings that presets share (configs/base), or He et al.'s and Ren et al.'s numbers,
which are read from `resdet.evaluation.published.published_tables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from resdet.evaluation.published import published_tables


@dataclass(frozen=True)
class DataSets:
    """What is trained and tested on.

    Attributes:
        title: its name in a header. needs: what must lie there.
        test: the set that the paper's numbers are of. source: the table that has them.
        how: what such a number is, as a header puts it.
    """

    title: str
    needs: str
    test: str
    source: str
    how: str


DATA_SETS = {
    "voc07": DataSets(
        title="VOC07",
        needs="datasets/VOC2007 (trainval and test)",
        test="voc_2007_test",
        source="Faster R-CNN, VOC 2007",
        how="VOC 2007 test, 11 points",
    ),
    "voc0712": DataSets(
        title="VOC07+12",
        needs="datasets/VOC2007 and datasets/VOC2012",
        test="voc_2007_test",
        source="table 7",
        how="VOC 2007 test, 11 points",
    ),
    "voc0712pp": DataSets(
        title="VOC07++12",
        needs="datasets/VOC2007 and datasets/VOC2012",
        test="voc_2012_test",
        source="table 7",
        how="VOC 2012 test, server",
    ),
    "coco": DataSets(
        title="COCO",
        needs="datasets/coco",
        test="coco_2014_val",
        source="table 8",
        how="val 2014, trained on train",
    ),
}

# What the papers' detectors of COCO were trained on, before VOC's sets.
COCO_TRAINVAL = ("coco_2014_train", "coco_2014_val")

# In a preset's name: the net's name, and its title.
NETS = {
    "r18": ("resnet18", "ResNet-18"),
    "r34": ("resnet34", "ResNet-34"),
    "r50": ("resnet50", "ResNet-50"),
    "r101": ("resnet101", "ResNet-101"),
    "r152": ("resnet152", "ResNet-152"),
    "vgg16": ("vgg16", "VGG-16"),
    "vits": ("timm:vit_small_patch16_224.augreg_in21k_ft_in1k", "ViT-S/16"),
    "vitb": ("timm:vit_base_patch16_224.augreg_in21k_ft_in1k", "ViT-B/16"),
}
OURS = ("r18", "r34", "r50", "r101", "r152", "vgg16")

# How a header cites a paper of `published_tables`, and what its metrics are called there.
CITED = {
    published_tables.PAPER: "He et al. 2015, {source}",
    "Ren et al. 2015 (v3)": "Ren et al. 2015 (arXiv:1506.01497v3)",
}
METRICS = {"VOC 11-point": "AP50", "VOC area": "AP50", "AP50": "AP50", "AP": "AP"}
# He et al.'s rate: on VOC, as in Fast R-CNN, for 2 images a step; on COCO (appendix A) for 16.
STATED_RATE = 0.001
STATED_BATCH = 2


@dataclass(frozen=True)
class Recipe:
    """One detector and schedule around every net.

    Attributes:
        folder: within configs; "" is its top.
        ending: of a preset's name; None takes the folder's.
        base: of configs/base, after the name of the data sets. over: files there, laid over it.
        detector: of the title; with_: of it, after the net. recipe: whose it is.
        start: of its weights, the preset of the detector that it begins with, {net} in its name;
            "" begins with a classifier.
        system: whose number of `published_tables` it is; () of none. source: the table that has
            it; "" is the data sets' own.
        differs: from what it names as its source. of_net: the same for a net with another text.
        data, nets: of which there are presets. pair: whose twin a net is; the first one's twin
            is the second.
    """

    folder: str
    base: str
    recipe: str
    differs: str
    nets: tuple[str, ...] = OURS
    data: tuple[str, ...] = tuple(DATA_SETS)
    pair: tuple[str, str] = ("vgg16", "r101")
    over: tuple[str, ...] = ()
    ending: str | None = None
    detector: str = "Faster R-CNN"
    with_: str = ""
    start: str = ""
    system: tuple[str, ...] = ()
    source: str = ""
    of_net: Mapping[str, str] = field(default_factory=dict)

    def stem(self, data: str, net: str) -> str:
        """The name of a preset's file, without its ending."""
        ending = self.folder if self.ending is None else self.ending
        return "_".join(part for part in (data, net, ending) if part)

    def twin(self, net: str) -> str:
        """The net of the preset that a net's own is compared with first."""
        first, second = self.pair
        return second if net == first else first


STOCK = "Detectron2's stock recipe"
UNDER_FPN = "our net under Detectron2's FPN; all else stock"
UNDER_FPN_OF = {"vgg16": "our net under FPN, p5 pooled from p4; all else stock"}
ON_COCO = "one joint training, and one of COCO's train alone to start from (theirs: trainval)"
RECIPES = (
    Recipe(
        folder="",
        base="paper",
        recipe="the paper's recipe",
        differs="one joint training instead of four alternating steps",
        system=("baseline", "Faster R-CNN"),
    ),
    Recipe(
        folder="stated",
        base="stated",
        recipe="the paper's recipe at the rate that it states",
        differs="one joint training of 16 images instead of four alternating steps, 8 for RPN",
        nets=("r101", "vgg16"),
        data=("coco",),
        system=("baseline", "Faster R-CNN"),
    ),
    Recipe(
        folder="alternating",
        base="alternating",
        recipe="the paper's recipe in its four alternating steps",
        differs="box targets by fixed deviations, images mirrored half of the time",
        nets=("r50", "r101", "vgg16"),
        system=("baseline", "Faster R-CNN"),
    ),
    Recipe(
        folder="modern",
        base="modern",
        recipe=STOCK,
        differs="our net as backbone and region heads; all else stock",
    ),
    Recipe(
        folder="adamw",
        base="modern",
        over=("adamw",),
        recipe="AdamW and a cosine around Detectron2's stock detector",
        differs="AdamW, a cosine, rates by depth, averaged weights; all else stock",
        nets=("r50", "r101", "vgg16"),
        data=("voc0712", "coco"),
    ),
    Recipe(
        folder="fpn",
        base="modern",
        over=("fpn",),
        with_=" and FPN",
        recipe=STOCK,
        differs=UNDER_FPN,
        of_net=UNDER_FPN_OF,
        nets=("r50", "r101", "vgg16"),
        data=("voc07", "voc0712", "coco"),
    ),
    Recipe(
        folder="frozen",
        base="modern",
        over=("fpn", "frozen"),
        with_=" under a pyramid",
        recipe="the net frozen",
        differs="the recipe frozen (docs/recipes.md); detector, data and length stock",
        nets=("r50", "r101", "vits"),
        data=("voc07", "coco"),
        pair=("r50", "r101"),
    ),
    Recipe(
        folder="vit",
        ending="",
        base="modern",
        over=("fpn", "vit"),
        with_=" under the simple pyramid",
        recipe="Li et al. 2022's recipe",
        differs="the recipe finetune-vit (docs/recipes.md); heads, data and length stock",
        nets=("vits", "vitb"),
        data=("voc07", "coco"),
        pair=("vits", "vitb"),
    ),
    Recipe(
        folder="dc5",
        base="modern",
        over=("dc5",),
        with_=" and DC5",
        recipe=STOCK,
        differs="our net as backbone, res5 dilated; all else stock",
        nets=("r50", "r101"),
        data=("coco",),
        pair=("r50", "r101"),
    ),
    Recipe(
        folder="masks",
        ending="c4_masks",
        base="modern",
        over=("masks",),
        detector="Mask R-CNN",
        with_=" and C4",
        recipe=STOCK,
        differs="our net as backbone and region heads; all else stock",
        nets=("r50", "r101"),
        data=("coco",),
        pair=("r50", "r101"),
    ),
    Recipe(
        folder="masks",
        ending="fpn_masks",
        base="modern",
        over=("fpn", "masks_fpn"),
        detector="Mask R-CNN",
        with_=" and FPN",
        recipe=STOCK,
        differs=UNDER_FPN,
        of_net=UNDER_FPN_OF,
        nets=("r50", "r101", "vgg16"),
        data=("coco",),
    ),
    Recipe(
        folder="context",
        base="paper",
        over=("context",),
        with_=" and global context",
        recipe="table 9's row of context",
        differs="one joint training instead of four alternating steps",
        nets=("r101", "vgg16"),
        data=("coco",),
        system=("+ context",),
        source="table 9",
    ),
    Recipe(
        folder="from_coco",
        base="paper",
        over=("from_coco",),
        with_=", from a detector of COCO",
        recipe="the paper's recipe",
        differs=ON_COCO,
        nets=("r101", "vgg16"),
        data=("voc0712", "voc0712pp"),
        start="coco_{net}",
        system=("Faster R-CNN",),
    ),
    Recipe(
        folder="from_coco",
        ending="plus",
        base="paper",
        over=("from_coco", "plus"),
        with_=", from a detector of COCO, improved",
        recipe="the paper's baseline+++",
        differs=ON_COCO,
        nets=("r101", "vgg16"),
        data=("voc0712", "voc0712pp"),
        start="context/coco_{net}_context",
        system=("baseline+++",),
    ),
)

# Detectron2's model zoo (MODEL_ZOO.md there): model, schedule, number. Our stock presets of COCO
# are its 1x; VOC has one schedule.
ZOO = {
    "voc0712_r50_modern": ("R50-C4", "", "AP50 80.3"),
    "coco_r50_modern": ("R50-C4", "1x", "AP 35.7"),
    "coco_r101_modern": ("R101-C4", "3x", "AP 41.1"),
    "coco_r50_fpn": ("R50-FPN", "1x", "AP 37.9"),
    "coco_r101_fpn": ("R101-FPN", "3x", "AP 42.0"),
    "coco_r50_dc5": ("R50-DC5", "1x", "AP 37.3"),
    "coco_r101_dc5": ("R101-DC5", "3x", "AP 40.6"),
    "coco_r50_c4_masks": ("Mask R50-C4", "1x", "AP 36.8, of masks 32.2"),
    "coco_r101_c4_masks": ("Mask R101-C4", "3x", "AP 42.6, of masks 36.7"),
    "coco_r50_fpn_masks": ("Mask R50-FPN", "1x", "AP 38.6, of masks 35.2"),
    "coco_r101_fpn_masks": ("Mask R101-FPN", "3x", "AP 42.9, of masks 38.6"),
}
