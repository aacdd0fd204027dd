"""What the presets in configs/pretrain are made of: nets, recipes, sources.

`make_presets.py` writes the files from it. A row here is a file there: to add a preset, add a row
to `PRETRAINING` and run `python tools/make_presets.py`.

Not for: the settings that presets share (configs/pretrain/base_*), or published numbers, which are
read from `resdet.evaluation.published.published_tables` and from torchvision's own records.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pretraining:
    """One classifier's preset in configs/pretrain, named after data, net, variant and recipe.

    Attributes:
        recipe: of the base, after its data set; "" is the paper's.
        variant: of the name, behind the net; a net's other shortcuts are one by themselves.
        source: cited before, or in place of, the paper's number. differs: a line of the header.
        numbered: whether there is a number for it. body: what follows the net's name.
        shortcut: option A, B or C of MODEL.NET.SHORTCUT; "" leaves it to the net.
        twin: the preset that differs in MODEL.NET alone, to be compared first.
        weights: what it may, or must, start from; lines of the header.
    """

    net: str
    recipe: str = ""
    variant: str = ""
    source: str = ""
    shortcut: str = ""
    numbered: bool = True
    differs: str = ""
    body: str = ""
    twin: str = ""
    weights: tuple[str, ...] = ()

    def name(self, data: str) -> str:
        """Of the file, without its ending."""
        net = self.net.removeprefix("cifar_")
        parts = (data, net, self.shortcut.lower(), self.variant, self.recipe)
        return "_".join(part for part in parts if part)


# -- ImageNet, the paper's recipe ----------------------------------------------------------------

MEAN = "mean per channel instead of per pixel, divided by the standard deviation"
PAPERS_NETS = (
    Pretraining("plain18", twin="imagenet_resnet18_a"),
    Pretraining("plain34", twin="imagenet_resnet34_a"),
    Pretraining("resnet18", twin="imagenet_resnet34"),
    Pretraining("resnet18", shortcut="A", twin="imagenet_plain18"),
    Pretraining("resnet34", twin="imagenet_resnet34_c"),
    Pretraining("resnet34", shortcut="A", twin="imagenet_plain34"),
    Pretraining("resnet34", shortcut="C", twin="imagenet_resnet34"),
    Pretraining("resnet50", twin="imagenet_resnet101"),
    Pretraining("resnet101", twin="imagenet_resnet50"),
    Pretraining("resnet152", twin="imagenet_resnet101"),
)

VGG_PAPER = "Simonyan, Zisserman 2014 (arXiv:1409.1556), section 3.1"
VGG_BODY = """\
PRETRAIN:
  JITTER: {jitter}
{test}SOLVER:
  WEIGHT_DECAY: 0.0005
{norm}  BASE_LR: {rate}
  MAX_ITER: 370000
"""


def vgg_body(
    jitter: tuple[int, int] = (256, 512), *, rate: str = "0.01", side: int = 0, norm: bool = False
) -> str:
    """The keys of VGG's recipe: its paper's S is `jitter`, its Q `side` (0: 256)."""
    return VGG_BODY.format(
        jitter=jitter,
        rate=rate,
        test=f"  TEST_SIDE: {side}\n" if side else "",
        norm="  WEIGHT_DECAY_NORM: 0.0005\n" if norm else "",
    )


# The first four convolutions and the three linear layers come from net A, the others start fresh.
FROM_NET_A = (
    "none, or as in its paper the 11-layer net's: pretrain_cls --config imagenet_vgg11, then",
    "MODEL.WEIGHTS runs/imagenet_vgg11/model.safetensors TRANSFER.NEW",
    "\"('conv1.1.*', 'conv2.1.*', 'conv3.[2-9].*', 'conv4.*', 'conv5.*')\"",
)
FRESH = "fresh layers by He et al. (arXiv:1502.01852), there normal with variance 0.01"
JITTERED = "jitter from the first step, there a net of S = 384 is tuned"
VGGS = (
    Pretraining(
        "vgg11",
        source=VGG_PAPER,
        numbered=False,
        differs=f"{FRESH}; {JITTERED}; {MEAN}",
        body=vgg_body(),
        twin="imagenet_vgg16",
    ),
    Pretraining(
        "vgg16",
        source=VGG_PAPER,
        differs=f"{FRESH}; {JITTERED}; {MEAN}",
        body=vgg_body(),
        twin="imagenet_vgg19",
        weights=FROM_NET_A,
    ),
    Pretraining(
        "vgg16",
        variant="s256",
        source=f"{VGG_PAPER}: S = 256; no number here",
        numbered=False,
        differs=f"{FRESH}; {MEAN}",
        body=vgg_body((256, 256)),
        weights=FROM_NET_A,
    ),
    Pretraining(
        "vgg16",
        variant="s384",
        source=f"{VGG_PAPER}: S = 384; no number here",
        numbered=False,
        differs=MEAN,
        body=vgg_body((384, 384), rate="0.001", side=384),
        weights=(
            "pretrain_cls --config imagenet_vgg16_s256, then",
            "MODEL.WEIGHTS runs/imagenet_vgg16_s256/model.safetensors; its rate is made for them",
        ),
    ),
    Pretraining(
        "vgg19",
        source=VGG_PAPER,
        numbered=False,
        differs=f"{FRESH}; {JITTERED}; {MEAN}",
        body=vgg_body(),
        twin="imagenet_vgg16",
        weights=FROM_NET_A,
    ),
    Pretraining(
        "vgg16_bn",
        source=f"{VGG_PAPER}: a recipe without batch norm; no number",
        numbered=False,
        differs=f"batch norm; {FRESH}; {JITTERED}; {MEAN}",
        body=vgg_body(norm=True),
    ),
)

# -- ImageNet, today's recipe --------------------------------------------------------------------

# Where torchvision's references have more than the keys here.
NOT_TORCHVISIONS = (
    "no TrivialAugment, random erasing or repeated augmentation; crops of 224 in training, too"
)
TODAYS = tuple(
    Pretraining(net, recipe="modern", differs=NOT_TORCHVISIONS, twin=f"imagenet_{twin}_modern")
    for net, twin in (
        ("resnet18", "resnet34"),
        ("resnet34", "resnet18"),
        ("resnet50", "resnet101"),
        ("resnet101", "resnet50"),
        ("resnet152", "resnet101"),
    )
)

# -- CIFAR-10 ------------------------------------------------------------------------------------

DEEP_BODY = """\
SOLVER:
  # A tenth of the rate until the training error is below 80 %.
  WARMUP_FACTOR: 0.1
PRETRAIN:
  WARMUP_UNTIL_ERROR: 80.0
"""
FIGURE_6 = "He et al. 2015, figure 6: error as a curve, no number"
CIFAR = (
    *(
        Pretraining(f"cifar_plain{depth}", source=FIGURE_6, numbered=False, twin=twin)
        for depth, twin in (
            (20, "cifar10_resnet20"),
            (32, "cifar10_resnet32"),
            (44, "cifar10_resnet44"),
            (56, "cifar10_resnet56"),
        )
    ),
    Pretraining(
        "cifar_plain110",
        source="He et al. 2015, section 4.2: error above 60 %, not drawn",
        numbered=False,
        body=DEEP_BODY,
        differs="warm-up as for ResNet-110, which the paper does not state for it",
        twin="cifar10_resnet110",
    ),
    Pretraining(
        "cifar_plain1202",
        source="not in the paper; no number",
        numbered=False,
        body=DEEP_BODY,
        twin="cifar10_resnet1202",
    ),
    *(
        Pretraining(f"cifar_resnet{depth}", twin=f"cifar10_plain{depth}")
        for depth in (20, 32, 44, 56)
    ),
    Pretraining("cifar_resnet110", body=DEEP_BODY, twin="cifar10_plain110"),
    Pretraining(
        "cifar_resnet1202",
        body=DEEP_BODY,
        differs="warm-up as for ResNet-110, which the paper does not state for it",
        twin="cifar10_plain1202",
    ),
)

PRETRAINING = {"imagenet": (*PAPERS_NETS, *VGGS, *TODAYS), "cifar10": CIFAR}
TITLES = {"imagenet": "ImageNet", "cifar10": "CIFAR-10"}
RECIPES = {"": "", "modern": ", torchvision's recipe of 2021"}
VARIANTS = {"s256": ", shorter side 256", "s384": ", shorter side 384"}
# What pretraining needs.
PRETRAINING_NEEDS = {
    "imagenet": "datasets/imagenet/{train,val}",
    "cifar10": "datasets/cifar/cifar-10-batches-bin",
}
