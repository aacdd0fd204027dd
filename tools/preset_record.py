"""What the presets in configs/ are made of: data sets, nets, recipes, and where numbers stand.

`make_presets.py` writes the files from it. A row here is a file there: to add a preset, add its
net to a recipe (or a row to `PRETRAINING`) and run `python tools/make_presets.py`.

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

# In a preset's name: the net's name, and its title.
NETS = {
    "r18": ("resnet18", "ResNet-18"),
    "r34": ("resnet34", "ResNet-34"),
    "r50": ("resnet50", "ResNet-50"),
    "r101": ("resnet101", "ResNet-101"),
    "r152": ("resnet152", "ResNet-152"),
    "vgg16": ("vgg16", "VGG-16"),
}

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
        folder: within configs; "" is its top. It is the end of a preset's name, too.
        base: of configs/base, after the name of the data sets. over: a file there, laid over it.
        with_: of the title, after the net. recipe: whose it is.
        differs: from what it names as its source. of_net: the same for a net with another text.
        data, nets: of which there are presets. pair: whose twin a net is; the first one's twin
            is the second.
    """

    folder: str
    base: str
    recipe: str
    differs: str
    nets: tuple[str, ...] = tuple(NETS)
    data: tuple[str, ...] = tuple(DATA_SETS)
    pair: tuple[str, str] = ("vgg16", "r101")
    over: str = ""
    with_: str = ""
    of_net: Mapping[str, str] = field(default_factory=dict)

    def twin(self, net: str) -> str:
        """The net of the preset that a net's own is compared with first."""
        first, second = self.pair
        return second if net == first else first


STOCK = "Detectron2's stock recipe"
RECIPES = (
    Recipe(
        folder="",
        base="paper",
        recipe="the paper's recipe",
        differs="one joint training instead of four alternating steps",
    ),
    Recipe(
        folder="stated",
        base="stated",
        recipe="the paper's recipe at the rate that it states",
        differs="one joint training of 16 images instead of four alternating steps, 8 for RPN",
        nets=("r101", "vgg16"),
        data=("coco",),
    ),
    Recipe(
        folder="modern",
        base="modern",
        recipe=STOCK,
        differs="our net as backbone and region heads; all else stock",
    ),
    Recipe(
        folder="fpn",
        base="modern",
        over="fpn",
        with_=" and FPN",
        recipe=STOCK,
        differs="our net under Detectron2's FPN; all else stock",
        of_net={"vgg16": "our net under FPN, p5 pooled from p4; all else stock"},
        nets=("r50", "r101", "vgg16"),
        data=("voc07", "voc0712", "coco"),
    ),
    Recipe(
        folder="dc5",
        base="modern",
        over="dc5",
        with_=" and DC5",
        recipe=STOCK,
        differs="our net as backbone, res5 dilated; all else stock",
        nets=("r50", "r101"),
        data=("coco",),
        pair=("r50", "r101"),
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
}


@dataclass(frozen=True)
class Pretraining:
    """One classifier's preset in configs/pretrain, named after its data and net.

    Attributes:
        source: cited before, or in place of, the paper's number. differs: a line of the header.
        numbered: whether the papers have a number for it. body: what follows the net's name.
        shortcut: option A, B or C of MODEL.NET.SHORTCUT; "" leaves it to the net.
    """

    net: str
    source: str = ""
    shortcut: str = ""
    numbered: bool = True
    differs: str = ""
    body: str = ""


VGG_PAPER = "Simonyan, Zisserman 2014 (arXiv:1409.1556), section 3.1"
VGG_START = "He initialisation instead of starting from the 11-layer net; jitter 256 to 512"
VGG_BODY = """\
PRETRAIN:
  JITTER: (256, 512)
SOLVER:
  WEIGHT_DECAY: 0.0005
{norm}  BASE_LR: 0.01
  STEPS: (150000, 250000, 330000)
  MAX_ITER: 370000
"""
DEEP_BODY = """\
SOLVER:
  # 0.01 for the first 400 steps, as the paper warms up its 110 layers.
  WARMUP_METHOD: constant
  WARMUP_FACTOR: 0.1
  WARMUP_ITERS: 400
"""
CIFAR_MEAN = "mean per channel instead of per pixel, divided by the standard deviation"
PRETRAINING = {
    "imagenet": (
        Pretraining("plain18"),
        Pretraining("plain34"),
        Pretraining("resnet18"),
        Pretraining("resnet18", shortcut="A"),
        Pretraining("resnet34"),
        Pretraining("resnet34", shortcut="A"),
        Pretraining("resnet50"),
        Pretraining("resnet101"),
        Pretraining("resnet152"),
        Pretraining("vgg16", VGG_PAPER, differs=VGG_START, body=VGG_BODY.format(norm="")),
        Pretraining(
            "vgg16_bn",
            f"{VGG_PAPER}: a recipe without batch norm; no number",
            numbered=False,
            differs=f"batch norm; {VGG_START}",
            body=VGG_BODY.format(norm="  WEIGHT_DECAY_NORM: 0.0005\n"),
        ),
    ),
    "cifar10": (
        *(
            Pretraining(
                f"cifar_{net}",
                "He et al. 2015, figure 6: error as a curve, no number",
                numbered=False,
                differs=CIFAR_MEAN,
            )
            for net in ("plain20", "plain56")
        ),
        Pretraining("cifar_resnet20", differs=CIFAR_MEAN),
        Pretraining("cifar_resnet56", differs=CIFAR_MEAN),
        Pretraining("cifar_resnet110", differs=CIFAR_MEAN, body=DEEP_BODY),
    ),
}
# What pretraining needs.
PRETRAINING_NEEDS = {
    "imagenet": "datasets/imagenet/{train,val}; hours and hardware",
    "cifar10": "datasets/cifar/cifar-10-batches-bin; hours",
}
