"""The presets of ImageNet's DET (`train_det`) and LOC (`train_loc`), in configs/imagenet
and configs/localization.

Not for: writing them (`make_presets`), or the settings that they share (configs/base).
"""

from __future__ import annotations

from preset_record import NETS
from preset_text import auto_weights_of, resolved_of, text_of, trains

IMAGENET_NETS = ("r101", "vgg16")
FOLDERS = {"det": "imagenet", "loc": "localization"}
DET_BASE, LOC_BASE = "base/imagenet_det_paper.yaml", "base/imagenet_loc.yaml"
NEEDS = "the images of ImageNet, which cannot be had here: nothing of this was measured"
# Of table 13, the rows of this net: box error of the known class; its top-5 error, with R-CNN.
LOC_NUMBERS = {
    "r101": (
        "He et al. 2015, table 13: box error of the known class 13.3 (1-crop), 11.7 (dense);",
        "top-5 error with R-101's classes 14.4, with R-CNN 10.6 (dense)",
    ),
    "vgg16": ("no published number under this protocol (table 13's VGG-16 is VGG's own method)",),
}


def imagenet() -> dict[str, str]:
    """Every preset's path within configs, and its text."""
    return {
        _path(track, net).removeprefix("configs/"): build(net)
        for track, build in (("det", _det), ("loc", _loc))
        for net in IMAGENET_NETS
    }


def _path(track: str, net: str) -> str:
    return f"configs/{FOLDERS[track]}/imagenet_{track}_{net}.yaml"


def _twin(net: str, track: str) -> list[str]:
    other = next(n for n in IMAGENET_NETS if n != net)
    return [
        f"imagenet_{track}_{other}.yaml; differs in MODEL.NET.NAME and MODEL.WEIGHTS only (tested)"
    ]


def _det(net: str) -> str:
    name, title = NETS[net]
    keys = resolved_of(DET_BASE, f"  NET: {{NAME: {name}}}\n")
    return text_of(
        f"Faster R-CNN on ImageNet DET with {title}, the paper's recipe for COCO.",
        {
            "Source": ["no published number under this protocol (table 12 has improvements, too)"],
            "Twin": _twin(net, "det"),
            "Differs": [
                "the schedule is not stated, COCO's is taken; one joint training instead of four",
                "alternating steps, see docs/imagenet.md",
            ],
            "Trains": trains(keys, keys["DATASETS.TRAIN"]),
            "Weights": auto_weights_of(name),
            "Run": [f"python tools/train_det.py --config {_path('det', net)}"],
            "Needs": [f"datasets/ILSVRC with val1 and val2; {NEEDS}"],
        },
        f"../{DET_BASE}",
        f"NAME: {name}",
    )


def _loc(net: str) -> str:
    name, title = NETS[net]
    keys = resolved_of(LOC_BASE, f"  NET: {{NAME: {name}}}\n")
    return text_of(
        f"Localisation on ImageNet LOC with {title}: per-class RPN, then R-CNN.",
        {
            "Source": LOC_NUMBERS[net],
            "Twin": _twin(net, "loc"),
            "Differs": ["what appendix C leaves open is decided in docs/imagenet.md, line by line"],
            "Trains": [line.replace("images", "crops") for line in
                       trains(keys, keys["DATASETS.TRAIN"])]
            + ["R-CNN: as many steps of as many warped regions"],
            "Weights": auto_weights_of(name),
            "Run": [
                f"python tools/train_loc.py --config {_path('loc', net)}"
            ],
            "Needs": [f"datasets/ILSVRC; {NEEDS}"],
        },
        f"../{LOC_BASE}",
        f"NAME: {name}",
    )  # fmt: skip
