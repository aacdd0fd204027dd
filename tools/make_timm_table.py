"""Writes docs/timm.md: for every family of timm whether its nets can be backbones, or why not.

    python tools/make_timm_table.py              writes the page; a minute, on the meta device
    python tools/make_timm_table.py --check      writes nothing, exit code 1 where it differs
    python tools/make_timm_table.py --nets       tries every net of timm instead, prints the counts

A family is a module of `timm.models`. Of each, nets of `TRIED` are built as a detector builds them,
with a pyramid, and run on an image that is not square: by shapes alone, without values.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timm
import torch
from detectron2.modeling import build_backbone
from written_page import add_check, write_or_check

import resdet.detect  # noqa: F401 registers
from resdet.config import resolve
from resdet.detect.architecture.finer_maps import FinerMaps
from resdet.detect.architecture.maps_backbone import MapsBackbone
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.architecture.simple_pyramid import SimplePyramid
from resdet.errors import ResdetError
from resdet.nets.timm import TimmNet

PAGE = Path(__file__).resolve().parents[1] / "docs" / "timm.md"

# Which nets are tried: small ones, one of each kind that people ask for.
TRIED: dict[str, tuple[str, ...]] = {
    "beit": ("beit_base_patch16_224", "beitv2_base_patch16_224"),
    "byoanet": ("halonet26t", "botnet26t_256", "lambda_resnet26t"),
    "byobnet": ("repvgg_a0", "resnet50_clip", "mobileone_s0"),
    "cait": ("cait_xxs24_224",),
    "coat": ("coat_tiny", "coat_lite_tiny"),
    "convit": ("convit_tiny",),
    "convmixer": ("convmixer_768_32",),
    "convnext": ("convnext_tiny", "convnextv2_tiny"),
    "cpubone": ("cpubone_nano",),
    "crossvit": ("crossvit_tiny_240",),
    "csatv2": ("csatv2",),
    "cspnet": ("cspdarknet53", "cs3darknet_s"),
    "cspnext": ("cspnext_tiny",),
    "davit": ("davit_tiny",),
    "deepseek_vit": ("deepseek_vit_412m",),
    "deit": ("deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"),
    "densenet": ("densenet121",),
    "dla": ("dla34",),
    "dpn": ("dpn48b",),
    "edgenext": ("edgenext_xx_small",),
    "efficientformer": ("efficientformer_l1",),
    "efficientformer_v2": ("efficientformerv2_s0",),
    "efficientnet": ("efficientnet_b0", "efficientnetv2_s", "mobilenetv2_100"),
    "efficientvim": ("efficientvim_m1",),
    "efficientvit_mit": ("efficientvit_b0", "efficientvit_l1"),
    "efficientvit_msra": ("efficientvit_m0",),
    "eva": (
        "eva02_tiny_patch14_224",
        "eva02_base_patch16_clip_224",
        "vit_small_patch16_dinov3",
        "vit_pe_core_tiny_patch16_384",
    ),
    "fasternet": ("fasternet_t0",),
    "fastvit": ("fastvit_t8",),
    "focalnet": ("focalnet_tiny_srf",),
    "gcvit": ("gcvit_xxtiny",),
    "gemma4_vit": ("gemma4_vit_167m",),
    "ghostnet": ("ghostnet_100",),
    "hardcorenas": ("hardcorenas_b",),
    "hgnet": ("hgnet_tiny", "hgnetv2_b0"),
    "hiera": ("hiera_tiny_224",),
    "hieradet_sam2": ("sam2_hiera_tiny",),
    "hrnet": ("hrnet_w18_small",),
    "iformer": ("iformer_t",),
    "inception_next": ("inception_next_atto",),
    "inception_resnet_v2": ("inception_resnet_v2",),
    "inception_v3": ("inception_v3",),
    "inception_v4": ("inception_v4",),
    "lcnetv2": ("lcnetv2_small",),
    "levit": ("levit_128s", "levit_conv_128s"),
    "lowformer": ("lowformer_b0",),
    "mambaout": ("mambaout_femto",),
    "maxxvit": ("maxvit_tiny_tf_224", "coatnet_0_rw_224", "maxxvit_rmlp_nano_rw_256"),
    "metaformer": ("poolformer_s12", "caformer_s18", "convformer_s18"),
    "mlp_mixer": ("mixer_s32_224", "gmlp_ti16_224", "resmlp_12_224"),
    "mobilenetv3": ("mobilenetv3_small_100", "mobilenetv4_conv_small"),
    "mobilenetv5": ("mobilenetv5_base",),
    "mobilevit": ("mobilevit_xxs", "mobilevitv2_050"),
    "mvitv2": ("mvitv2_tiny",),
    "naflexvit": ("naflexvit_base_patch16_gap",),
    "nasnet": ("nasnetalarge",),
    "nest": ("nest_tiny",),
    "nextvit": ("nextvit_small",),
    "nfnet": ("nfnet_l0", "nf_resnet26"),
    "pit": ("pit_ti_224",),
    "pnasnet": ("pnasnet5large",),
    "pvt_v2": ("pvt_v2_b0",),
    "qwen3_vit": ("qwen3_vit_88m",),
    "rdnet": ("rdnet_tiny",),
    "regnet": ("regnetx_002", "regnety_002"),
    "repghost": ("repghostnet_050",),
    "repvit": ("repvit_m1",),
    "res2net": ("res2net50_14w_8s",),
    "resnest": ("resnest14d",),
    "resnet": ("resnet18", "resnet50", "resnext50_32x4d"),
    "resnetv2": ("resnetv2_18", "resnetv2_50x1_bit"),
    "rexnet": ("rexnet_100",),
    "selecsls": ("selecsls42",),
    "senet": ("legacy_seresnet18",),
    "sequencer": ("sequencer2d_s",),
    "shvit": ("shvit_s1",),
    "sknet": ("skresnet18",),
    "starnet": ("starnet_s050",),
    "swiftformer": ("swiftformer_xs",),
    "swin_transformer": ("swin_tiny_patch4_window7_224",),
    "swin_transformer_v2": ("swinv2_tiny_window8_256",),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224",),
    "tiny_vit": ("tiny_vit_5m_224",),
    "tnt": ("tnt_s_patch16_224",),
    "tresnet": ("tresnet_m",),
    "twins": ("twins_svt_small", "twins_pcpvt_small"),
    "vgg": ("vgg11", "vgg11_bn"),
    "visformer": ("visformer_tiny",),
    "vision_transformer": (
        "vit_small_patch16_224",
        "vit_small_patch14_dinov2",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_clip_224",
        "vit_base_patch16_siglip_224",
    ),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224"),
    "vision_transformer_relpos": ("vit_relpos_small_patch16_224",),
    "vision_transformer_sam": ("samvit_base_patch16_224",),
    "vitamin": ("vitamin_small_224",),
    "volo": ("volo_d1_224",),
    "vovnet": ("vovnet39a", "ese_vovnet19b_slim_dw"),
    "xception": ("legacy_xception",),
    "xception_aligned": ("xception41",),
    "xcit": ("xcit_nano_12_p8_224",),
}

# Sides of the square that nets of one size are tried with: two that are no net's own, then 224.
SQUARES = (320, 512, 224)
# (height, width) of the image, and of the levels that every net must give of it.
SIZE = (128, 192)
LEVELS = {f"p{n}": (SIZE[0] // 2**n, SIZE[1] // 2**n) for n in range(2, 7)}

SPLIT = "layers: C4, FPN"
LAYERS = "layers: FPN"
MAPS = "maps: FPN"
ONE_MAP = "one map: simple pyramid"

HEAD = """# Families of timm as backbones

Made by `python tools/make_timm_table.py` with timm {version}. A family is a module of
`timm.models`; the nets named here were built with a pyramid, as `train_det` builds them, and run
on an image of 192 x 128, by shapes alone. `timm:NAME` takes any other net of a family, too; what
a net cannot do ends a command at its start, with the reason. More: [own_net.md](own_net.md).

{counts}

- *layers: C4, FPN*: runs layer by layer, and is split into the paper's trunk and tail at stride 16.
- *layers: FPN*: runs layer by layer; each layer was compared with timm's own forward pass.
- *maps: FPN*: its declared maps, by timm's feature interface, under an FPN.
- *one map: simple pyramid*: a plain transformer; the pyramid of Li et al. 2022 is on its last map.

Where the finest stride is 8 or 16, an FPN stands on deconvolutions of that map, too.

Images are of *any* size, or padded to *a square*, whose side is `MODEL.NET.IMAGE_SIZE`; *a square
of 224* is one of that side alone, and *224 with weights* has that side where weights are to fit:
some of their tensors cannot be resampled.

The licence is the one that timm states for the weights that it names first; other weights of the
same net may have another.

| family | nets | tried | how | images | strides | licence |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Verdict:
    """Of one net: how it is a backbone, or why it is none; one of the two is ""."""

    name: str
    form: str
    reason: str = ""
    images: str = ""
    strides: tuple[int, ...] = ()


def verdict(name: str) -> Verdict:
    """As `_built` finds it for images of any size, else for squares of `SQUARES`."""
    found = _built(name)
    if "MODEL.NET.IMAGE_SIZE" not in found.reason:
        return found
    squares = (_built(name, side) for side in SQUARES)
    return next((square for square in squares if square.form), found)


def _built(name: str, image_size: int = 0) -> Verdict:
    """Builds the net's backbone with a pyramid, runs it, and compares the levels."""
    keys: dict[str, object] = {
        "MODEL.DEVICE": "cpu",
        "MODEL.NET.NAME": f"timm:{name}",
        "MODEL.BACKBONE.NAME": "build_net_fpn_backbone",
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    }
    if image_size:
        keys["MODEL.NET.IMAGE_SIZE"] = image_size
        keys |= dict.fromkeys(("INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST"), image_size)
    try:
        with torch.device("meta"), torch.no_grad():
            config = resolve(None, [str(word) for entry in keys.items() for word in entry])
            net = fill_from_weights_and_net(config, None)
            backbone = build_backbone(config.cfg).eval()
            levels = backbone(torch.zeros(1, 3, *SIZE))
    except (ResdetError, ValueError) as error:
        return Verdict(name, "", str(error))
    assert isinstance(net, TimmNet)
    sizes = {level: tuple(found.shape[-2:]) for level, found in levels.items()}
    if sizes != LEVELS:
        return Verdict(name, "", f"its pyramid has levels {sizes}, expected {LEVELS}")
    form = SPLIT if not net.not_split else LAYERS
    bottom_up = getattr(backbone, "bottom_up", None)
    if isinstance(bottom_up, FinerMaps):
        bottom_up = bottom_up.net
    if isinstance(bottom_up, MapsBackbone):
        form = MAPS
    if isinstance(backbone, SimplePyramid):
        form, bottom_up = ONE_MAP, backbone.net
    images = "any"
    if image_size:
        assert isinstance(bottom_up, MapsBackbone)
        images = _square(name, bottom_up, image_size)
    return Verdict(name, form, "", images, tuple(sorted({s.stride for s in net.stages()})))


def _square(name: str, backbone: MapsBackbone, side: int) -> str:
    """Whether a file of timm's own size for this net fits one that is built for this side."""
    with torch.device("meta"):
        usual = timm.create_model(name).state_dict()
    own = backbone.state_dict()
    fitted = {**usual, **backbone.maps.resampled(usual)}
    usual_side = timm.models.get_pretrained_cfg(name).input_size[-1]
    if side == usual_side:
        return f"a square of {side}"
    if all(fitted[name].shape == tensor.shape for name, tensor in own.items()):
        return "a square"
    return f"a square, {usual_side} with weights"


def licence(name: str) -> str:
    """Of the weights that timm names first for this net; "" where it states none."""
    record = timm.models.get_pretrained_cfg(name)
    return str(getattr(record, "license", "") or "")


def _rows() -> dict[str, list[Verdict]]:
    families = timm.list_modules()
    if set(families) != set(TRIED):
        odd = ", ".join(sorted(set(families) ^ set(TRIED)))
        raise SystemExit(f"timm {timm.__version__} and TRIED of this tool differ in: {odd}")
    return {family: [verdict(name) for name in TRIED[family]] for family in sorted(families)}


def page(rows: dict[str, list[Verdict]]) -> str:
    """The page of what `verdict` found, family by family."""
    lines, reasons = [], []
    for family, verdicts in rows.items():
        nets = len(timm.list_models(module=family))
        for v in verdicts:
            how, strides = v.form or "no, see below", ", ".join(map(str, v.strides))
            cells = (family, str(nets), f"`{v.name}`", how, v.images, strides, licence(v.name))
            lines.append(f"| {' | '.join(cells)} |")
            if v.reason:
                reasons.append(f"- `{v.name}`: {' '.join(v.reason.split())}")
    works = [family for family, verdicts in rows.items() if any(v.form for v in verdicts)]
    counts = f"Of {len(rows)} families {len(works)} work."
    head = HEAD.format(version=timm.__version__, counts=counts)
    below = ["", "## Why not", "", *reasons] if reasons else []
    return head + "\n".join([*lines, *below]) + "\n"


def _try_all() -> int:
    names = timm.list_models()
    found = []
    for name in names:
        found.append(verdict(name))
        if found[-1].reason:
            print(f"{name}: {' '.join(found[-1].reason.split())}", flush=True)
    for form, count in Counter(v.form or "no" for v in found).most_common():
        print(f"{count:5} {form}")
    print(f"{len(names):5} nets of timm {timm.__version__}")
    return 0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_check(parser)
    parser.add_argument("--nets", action="store_true", help="try every net; half an hour")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.nets:
        return _try_all()
    return write_or_check(PAGE, page(_rows()), check=args.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
