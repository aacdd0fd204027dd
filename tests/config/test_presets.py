"""The presets: every protocol has every net, each file is the record's, twins differ in the net."""

import importlib
import re
import shutil
from collections.abc import Iterator
from types import ModuleType

import pytest

pytest.importorskip("detectron2")

import torch

from resdet import nets
from resdet.config import flatten, get_cfg, resolve
from tests.support.preset_files import (
    CONFIGS,
    DC5_LEAVES,
    IMAGENET,
    LEAVES,
    PRETRAIN,
    of,
)

BACKBONES = ("r18", "r34", "r50", "r101", "r152", "vgg16")


# Every net of tables 2 to 6 that is ours, VGG's sizes, today's recipe.
CLASSIFIERS = {
    *(f"imagenet_plain{depth}" for depth in (18, 34)),
    *(f"imagenet_resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"imagenet_resnet{depth}_modern" for depth in (18, 34, 50, 101, 152)),
    *("imagenet_resnet18_a", "imagenet_resnet34_a", "imagenet_resnet34_c"),
    *(f"imagenet_vgg{name}" for name in ("11", "16", "16_s256", "16_s384", "16_bn", "19")),
    *(f"cifar10_{n}{depth}" for n in ("plain", "resnet") for depth in (20, 32, 44, 56, 110, 1202)),
}


def test_every_protocol_has_every_net_in_both_recipes():
    """Four protocols, six nets, paper and modern; three nets in four steps, with FPN and with
    AdamW, two with DC5, two stated; masks on C4 and FPN; two nets with context, and from a detector
    of COCO; three nets frozen, two transformers trained."""
    expected = {
        f"{protocol}_{net}{recipe}"
        for protocol in ("voc07", "voc0712", "voc0712pp", "coco")
        for net in BACKBONES
        for recipe in ("", "_modern")
    }
    expected |= {
        f"{protocol}_{net}_fpn"
        for protocol in ("voc07", "voc0712", "coco")
        for net in ("r50", "r101", "vgg16")
    }
    expected |= {
        f"{protocol}_{net}_adamw"
        for protocol in ("voc0712", "coco")
        for net in ("r50", "r101", "vgg16")
    }
    expected |= {
        f"{protocol}_{net}_alternating"
        for protocol in ("voc07", "voc0712", "voc0712pp", "coco")
        for net in ("r50", "r101", "vgg16")
    }
    expected |= {
        f"{protocol}_{net}_frozen"
        for protocol in ("voc07", "coco")
        for net in ("r50", "r101", "vits")
    }
    expected |= {f"{protocol}_{net}" for protocol in ("voc07", "coco") for net in ("vits", "vitb")}
    expected |= {"coco_r50_dc5", "coco_r101_dc5", "coco_r101_stated", "coco_vgg16_stated"}
    expected |= {f"coco_{net}_context" for net in ("r101", "vgg16")}
    expected |= {f"coco_{net}_c4_masks" for net in ("r50", "r101")}
    expected |= {f"coco_{net}_fpn_masks" for net in ("r50", "r101", "vgg16")}
    expected |= {
        f"{protocol}_{net}_{ending}"
        for protocol in ("voc0712", "voc0712pp")
        for net in ("r101", "vgg16")
        for ending in ("from_coco", "plus")
    }
    assert {p.stem for p in LEAVES} == expected
    assert {p.stem for p in PRETRAIN} == CLASSIFIERS


@pytest.mark.parametrize("path", [*LEAVES, *PRETRAIN], ids=lambda p: p.stem)
def test_preset_loads_and_names_a_net(path):
    name = resolve(path).cfg.MODEL.NET.NAME
    if name.startswith("timm:"):
        timm = pytest.importorskip("timm")
        assert timm.list_pretrained(name.removeprefix("timm:")), "timm has no such weights"
    else:
        assert name in nets.names()


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_twins_differ_in_the_net_alone(path):
    """The header's promise, on the resolved configs."""
    header = path.read_text(encoding="utf-8")
    twin = header.split("# Twin     ")[1].split(";")[0]
    a, b = (dict(flatten(resolve(p).cfg)) for p in (path, path.parent / twin))
    assert {k for k in a if a[k] != b[k]} <= {"MODEL.NET.NAME"}


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda p: p.stem)
def test_classifiers_that_are_twins_differ_in_the_net_alone(path):
    """Its name and the options of it, such as table 3's shortcuts; and the net does differ."""
    header = path.read_text(encoding="utf-8")
    if "# Twin     " not in header:
        assert path.stem in ("imagenet_vgg16_s256", "imagenet_vgg16_s384", "imagenet_vgg16_bn")
        return
    twin = header.split("# Twin     ")[1].split(";")[0]
    a, b = (dict(flatten(resolve(p).cfg)) for p in (path, path.parent / twin))
    differing = {k for k in a if a[k] != b[k]}
    assert differing and differing <= {"MODEL.NET.NAME", "MODEL.NET.SHORTCUT"}


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_header_lines_stand_in_their_order(path):
    """The Run line names the file itself."""
    lines = path.read_text(encoding="utf-8").splitlines()
    named = re.findall(r"^# (\w+) {2,}\S", "\n".join(lines), flags=re.MULTILINE)
    assert named == ["Source", "Twin", "Differs", "Trains", "Weights", "Run", "Needs"]
    run = next(line for line in lines if line.startswith("# Run"))
    assert run.endswith(f" {path.relative_to(CONFIGS.parent).as_posix()}")


# -- the record and the files ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    """tools/make_presets.py, imported as a script there imports its neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CONFIGS.parent / "tools"))
        yield importlib.import_module("make_presets")


def test_the_files_are_the_records_byte_for_byte(tool):
    """And every leaf is made: those of the demo alone, and what leaves stand on, are not."""
    made = {CONFIGS / path: text.encode() for path, text in tool.presets().items()}
    assert {path: path.read_bytes() for path in [*LEAVES, *IMAGENET, *PRETRAIN]} == made
    by_hand = {
        path
        for path in CONFIGS.rglob("*.yaml")
        if path.parent.name in ("base", "demo", "rank") or path.name.startswith("base")
    }
    assert set(CONFIGS.rglob("*.yaml")) - by_hand == set(made)
    assert (len(LEAVES), len(made), len(by_hand)) == (104, 108 + len(CLASSIFIERS), 40)


def test_a_preset_that_differs_is_named_and_then_written(tool, tmp_path, capsys):
    """--check changes nothing; without it what differs is written, and nothing else touched."""
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)
    assert tool.main(["--check"], configs) == 0
    changed, gone = configs / "coco_r101.yaml", configs / "dc5" / "coco_r50_dc5.yaml"
    changed.write_text(changed.read_text(encoding="utf-8") + "SEED: 2\n", encoding="utf-8")
    gone.unlink()
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in configs.rglob("*.yaml")}

    capsys.readouterr()
    assert tool.main(["--check"], configs) == 1
    named = re.findall(r"^configs/(\S+) differs", capsys.readouterr().out, flags=re.MULTILINE)
    assert named == ["coco_r101.yaml", "dc5/coco_r50_dc5.yaml"]
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before
    assert not gone.exists()

    assert tool.main([], configs) == 0
    for path in configs.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (CONFIGS / path.relative_to(configs)).read_bytes()
    untouched = before.keys() - {changed, gone}
    assert {p: p.stat().st_mtime_ns for p in untouched} == {p: before[p][1] for p in untouched}


def test_a_file_that_no_row_makes_is_named(tool, tmp_path, capsys):
    """A preset written by hand, or left behind when its row went, with the record that it would
    stand in; bases are nobody's."""
    shutil.copytree(CONFIGS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "modern" / "base_of_mine.yaml").touch()
    assert tool.main(["--check"], tmp_path) == 0
    (tmp_path / "modern" / "coco_r20_modern.yaml").touch()
    assert (tool.main(["--check"], tmp_path), tool.main([], tmp_path)) == (1, 1)
    expected = "configs/modern/coco_r20_modern.yaml is not in tools/preset_record.py"
    assert capsys.readouterr().out.count(expected) == 2
    (tmp_path / "pretrain" / "imagenet_resnet20.yaml").touch()
    (tmp_path / "localization" / "imagenet_loc_r50.yaml").touch()
    assert tool.main(["--check"], tmp_path) == 1
    out = capsys.readouterr().out
    assert "imagenet_resnet20.yaml is not in tools/pretraining_record.py: add" in out
    assert "imagenet_loc_r50.yaml is not in tools/imagenet_presets.py: add" in out


# -- the nets, in both protocols -----------------------------------------------------------------


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_a_preset_has_the_nets_own_shape(path):
    """Options off: ResNet as published (stride in the 1x1), VGG with its fc6 and fc7.

    DC5 is res5 dilated, and nothing else.
    """
    off = dict(flatten(get_cfg().MODEL.NET, "MODEL.NET."))
    del off["MODEL.NET.NAME"]
    if path in DC5_LEAVES:
        off["MODEL.NET.RES5_DILATION"] = 2
    assert of(off, path) == off
    assert off["MODEL.NET.STRIDE_IN_1X1"] is True


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_a_residual_net_is_shared_up_to_stride_16_and_takes_14_cells(name):
    """Appendix A: conv4_x is shared; 14 x 14 cells as in Mask R-CNN; 2 stages frozen."""
    with torch.device("meta"):
        net = nets.build(name)
    strides = {stage.name: stage.stride for stage in net.stages()}
    assert (net.shared_stage, strides[net.shared_stage], net.pooled_size) == ("res4", 16, 14)
    assert list(strides)[:2] == ["stem", "res2"]


def test_vgg16_is_shared_up_to_stride_16_and_takes_7_cells():
    """py-faster-rcnn: conv5_3 without pool5, 7 x 7 cells; conv1 and conv2 frozen."""
    with torch.device("meta"):
        net = nets.build("vgg16")
    strides = {stage.name: stage.stride for stage in net.stages()}
    assert (net.shared_stage, strides[net.shared_stage], net.pooled_size) == ("conv5", 16, 7)
    assert list(strides)[:2] == ["conv1", "conv2"]
