"""The presets: each loads, twins differ in the net alone, and headers hold what they promise."""

import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet import nets
from resdet.config import flatten, resolve

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAVES = sorted(CONFIGS.glob("*.yaml"))
PRETRAIN = sorted(p for p in (CONFIGS / "pretrain").glob("*.yaml") if not p.name.startswith("base"))
BACKBONES = ("r18", "r34", "r50", "r101", "r152", "vgg16")


def test_every_protocol_has_every_net_in_both_recipes():
    """Four protocols, six nets, paper and modern."""
    expected = {
        f"{protocol}_{net}{recipe}"
        for protocol in ("voc07", "voc0712", "voc0712pp", "coco")
        for net in BACKBONES
        for recipe in ("", "_modern")
    }
    assert {p.stem for p in LEAVES} == expected
    assert len(PRETRAIN) == 14


@pytest.mark.parametrize("path", [*LEAVES, *PRETRAIN], ids=lambda p: p.stem)
def test_preset_loads_and_names_a_net(path):
    cfg = resolve(path).cfg
    assert cfg.MODEL.NET.NAME in nets.names()


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_twins_differ_in_the_net_alone(path):
    """The header's promise, on the resolved configs."""
    header = path.read_text(encoding="utf-8")
    twin = header.split("# Twin     ")[1].split(";")[0]
    a, b = (dict(flatten(resolve(p).cfg)) for p in (path, CONFIGS / twin))
    assert {k for k in a if a[k] != b[k]} <= {"MODEL.NET.NAME"}


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_header_lines_stand_in_their_order(path):
    """style.md 4.5; the Run line names the file itself."""
    lines = path.read_text(encoding="utf-8").splitlines()
    named = re.findall(r"^# (\w+) {2,}\S", "\n".join(lines), flags=re.MULTILINE)
    assert named == ["Source", "Twin", "Differs", "Weights", "Run", "Needs"]
    assert f"configs/{path.name}" in next(line for line in lines if line.startswith("# Run"))


def test_the_papers_detector_is_set_up_as_the_paper_has_it():
    """paper.md 2.5 and 2.6, the keys one by one."""
    cfg = resolve(CONFIGS / "coco_r101.yaml").cfg
    assert cfg.DATASETS.TRAIN == ("coco_2014_train",) and cfg.DATASETS.TEST == ("coco_2014_val",)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[64, 128, 256, 512]]
    assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN) == ((600,), 1000)
    assert cfg.MODEL.RPN.POST_NMS_TOPK_TEST == 300
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE == "ROIPool"
    assert cfg.SOLVER.BASE_LR * 2 / cfg.SOLVER.IMS_PER_BATCH == 0.001
    voc = resolve(CONFIGS / "voc07_vgg16.yaml").cfg
    assert voc.MODEL.ANCHOR_GENERATOR.SIZES == [[128, 256, 512]]
    assert voc.DATASETS.VOC_DIFFICULT == "drop"


def test_modern_presets_are_stock_detectron2():
    """Against the R-50-C4 config that Detectron2 ships, detector and schedule keys."""
    zoo = pytest.importorskip("detectron2.model_zoo")
    stock = dict(
        flatten(resolve(zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml")).cfg)
    )
    ours = dict(flatten(resolve(CONFIGS / "coco_r50_modern.yaml").cfg))
    prefixes = ("MODEL.RPN.", "MODEL.ANCHOR", "MODEL.ROI_BOX_HEAD", "SOLVER.", "INPUT.", "TEST.")
    own = {"SOLVER.REFERENCE_BATCH", "SOLVER.SCALE_LR"}
    odd = {k for k in ours if k.startswith(prefixes) and ours[k] != stock.get(k)} - own
    assert odd == set()
