"""The presets' headers: published numbers, and where a preset differs from them."""

import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch

from resdet import nets
from resdet.config import resolve
from resdet.evaluation.published.published_tables import published
from tests.support.preset_files import (
    DC5_LEAVES,
    FPN_LEAVES,
    MODERN_LEAVES,
    PAPER_LEAVES,
    PRETRAIN,
)

# MODEL_ZOO.md of Detectron2: "box AP" on COCO, "box AP50" on Pascal VOC.
ZOO_NUMBERS = {
    "coco_r50_modern": "R50-C4 1x with MSRA weights: AP 35.7",
    "coco_r101_modern": "R101-C4 3x: AP 41.1",
    "coco_r50_fpn": "R50-FPN 1x with MSRA weights: AP 37.9",
    "coco_r101_fpn": "R101-FPN 3x: AP 42.0",
    "coco_r50_dc5": "R50-DC5 1x with MSRA weights: AP 37.3",
    "coco_r101_dc5": "R101-DC5 3x: AP 40.6",
    "voc0712_r50_modern": "R50-C4 with MSRA weights: AP50 80.3",
}


def header_of(path: Path) -> dict[str, str]:
    """A header's lines by name, continuations joined."""
    text = path.read_text(encoding="utf-8").split("_BASE_")[0].replace("\n#          ", " ")
    return dict(re.findall(r"^# (\w+) +(.*)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", PAPER_LEAVES, ids=lambda p: p.stem)
def test_a_paper_header_has_the_published_numbers_of_its_config(path):
    """Those of the resolved config's net and data sets in any table; where none is, none."""
    cfg = resolve(path).cfg
    # VOC 2012 test has no annotations, so the preset names no set to test on.
    (test,) = cfg.DATASETS.TEST or ("voc_2012_test",)
    rows = [
        row
        for row in published(data_set=test, train=cfg.DATASETS.TRAIN, net=cfg.MODEL.NET.NAME)
        if row.system in ("baseline", "Faster R-CNN")
    ]
    names = {"VOC 11-point": "AP50", "VOC area": "AP50"}
    expected = {(names.get(row.metric, row.metric), f"{row.value:.1f}") for row in rows}
    source = header_of(path)["Source"]
    assert set(re.findall(r"(AP\d*) ([\d.]+)", source)) == expected
    if rows:
        where = re.match(r"He et al\. 2015, (table \d+): ", source)
        assert (where[1] if where else "Faster R-CNN, VOC 2007") in {row.source for row in rows}
        assert where or source.startswith("Ren et al. 2015 (arXiv:1506.01497v3): ")


def test_seven_paper_headers_have_a_number():
    """Two nets on three data sets by He et al., VGG-16 on VOC07 by Ren et al."""
    numbered = [p.stem for p in PAPER_LEAVES if re.search(r"AP\d* \d", header_of(p)["Source"])]
    both = [f"{d}_{n}" for d in ("coco", "voc0712", "voc0712pp") for n in ("r101", "vgg16")]
    assert sorted(numbered) == sorted([*both, "voc07_vgg16"])


@pytest.mark.parametrize("path", [*MODERN_LEAVES, *FPN_LEAVES, *DC5_LEAVES], ids=lambda p: p.stem)
def test_a_stock_header_has_the_zoos_number(path):
    """Detectron2's model zoo; another schedule than the preset's is called one."""
    source = header_of(path)["Source"]
    number = ZOO_NUMBERS.get(path.stem)
    if number is None:
        assert source == "no published number under this protocol"
    elif " 3x" in number:
        assert source == f"no published number at 1x (Detectron2's model zoo, {number})"
    else:
        assert source == f"Detectron2's model zoo, {number}"


@pytest.mark.parametrize("path", PAPER_LEAVES, ids=lambda p: p.stem)
def test_a_rate_that_the_paper_does_not_state_is_named(path):
    """He et al., appendix A: 0.001 on COCO too, for 16 images; ours by the linear rule is 0.008."""
    solver = resolve(path).cfg.SOLVER
    found = re.search(
        r"rate ([\d.]+) for (\d+) images \(([\d.]+) for (\d+) by the linear rule\) "
        r"where the paper states 0\.001;",
        header_of(path)["Differs"],
    )
    assert (found is None) == (solver.BASE_LR == 0.001)
    if found:
        rate, batch, of_few, few = map(float, found.groups())
        assert (rate, batch) == (solver.BASE_LR, solver.IMS_PER_BATCH)
        assert rate / batch == pytest.approx(of_few / few, rel=1e-12)
        assert (of_few, few) == (0.001, 2)


@pytest.mark.parametrize(
    "path", [p for p in PRETRAIN if p.stem.startswith("imagenet")], ids=lambda p: p.stem
)
def test_an_imagenet_header_has_a_number_of_its_net_and_names_other_shortcuts(path):
    """Tables 2 and 3; resnet18's cited option A over a net of option B, without a word."""
    header, name = header_of(path), resolve(path).cfg.MODEL.NET.NAME
    found = re.search(r"He et al\. 2015, (table \d)(?: \(option (.)\))?: top-1 ([\d.]+), 10-crop",
                      header["Source"])  # fmt: skip
    if name == "vgg16_bn":
        assert found is None
        return
    rows = published(source=found[1], net=name, metric="top-1 error", value=float(found[3]))
    (row,) = rows
    with torch.device("meta"):
        ours = getattr(nets.build(name), "shortcut", "none")
    theirs = row.shortcut or "none"
    assert found[2] in (None, theirs)
    if ours == theirs:
        assert "shortcuts" not in header.get("Differs", "")
    else:
        assert (name, ours, theirs, found[2]) == ("resnet18", "B", "A", "A")
        message = f"shortcuts are option B, .*; {row.source}'s are MODEL.NET.SHORTCUT A"
        assert re.search(message, header["Differs"])


def test_with_the_key_that_its_header_names_resnet18_is_table_2s():
    """Option A adds no parameters: three projections of 1x1 with their norms less."""
    with torch.device("meta"):
        ours, theirs = (
            sum(p.numel() for p in nets.build("resnet18", shortcut=option).parameters())
            for option in ("B", "A")
        )
        default = sum(p.numel() for p in nets.build("resnet18").parameters())
    projections = sum(i * 2 * i + 2 * 2 * i for i in (64, 128, 256))
    assert (default, ours - theirs) == (ours, projections)


@pytest.mark.parametrize(
    "path", [p for p in PRETRAIN if p.stem.startswith("cifar10")], ids=lambda p: p.stem
)
def test_a_cifar_header_has_table_6s_error(path):
    """With mean and deviation of five runs where it has them; plain nets are curves of figure 6."""
    name = resolve(path).cfg.MODEL.NET.NAME
    rows = published(source="table 6", net=name, metric="error")
    source = header_of(path)["Source"]
    assert re.findall(r"\d\.\d\d", source) == [f"{row.value:.2f}" for row in rows]
    assert ("figure 6" in source) == (rows == ())
