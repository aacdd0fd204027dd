"""The presets' headers: published numbers, and where a preset differs from them."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

import torch

from resdet import nets
from resdet.config import check_reference_batch, flatten, resolve
from resdet.detect import plan
from resdet.evaluation.published.published_tables import published
from tests.support.preset_files import (
    CONFIGS,
    CONTEXT_LEAVES,
    DC5_LEAVES,
    FPN_LEAVES,
    FROM_COCO_LEAVES,
    LEAVES,
    MASK_LEAVES,
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
    # "box AP", "mask AP".
    "coco_r50_c4_masks": "Mask R50-C4 1x with MSRA weights: AP 36.8, of masks 32.2",
    "coco_r101_c4_masks": "Mask R101-C4 3x: AP 42.6, of masks 36.7",
    "coco_r50_fpn_masks": "Mask R50-FPN 1x with MSRA weights: AP 38.6, of masks 35.2",
    "coco_r101_fpn_masks": "Mask R101-FPN 3x: AP 42.9, of masks 38.6",
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


@pytest.mark.parametrize(
    "path", [*MODERN_LEAVES, *FPN_LEAVES, *DC5_LEAVES, *MASK_LEAVES], ids=lambda p: p.stem
)
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


# He et al., tables 10 and 11 ("baseline+++"); Ren et al., COCO+07+12 and COCO+07++12.
NUMBERS_FROM_COCO = {
    "voc0712_r101_plus": ("He et al. 2015, table 10", "85.6"),
    "voc0712pp_r101_plus": ("He et al. 2015, table 11", "83.8"),
    "voc0712_vgg16_from_coco": ("Ren et al. 2015 (arXiv:1506.01497v3)", "78.8"),
    "voc0712pp_vgg16_from_coco": ("Ren et al. 2015 (arXiv:1506.01497v3)", "75.9"),
}


@pytest.mark.parametrize("path", FROM_COCO_LEAVES, ids=lambda p: p.stem)
def test_a_header_of_what_starts_from_coco_has_the_papers_number(path):
    """And what the paper's start has more, COCO's val; improvements stand where they are on."""
    header = header_of(path)
    cited = NUMBERS_FROM_COCO.get(path.stem)
    expected = "no published number under this protocol"
    if cited:
        how = "2012 test, server" if "pp" in path.stem else "2007 test, 11 points"
        expected = f"{cited[0]}: AP50 {cited[1]} (VOC {how})"
    assert header["Source"] == expected
    assert "COCO's train alone to start from (theirs: trainval)" in header["Differs"]
    is_plus = path.stem.endswith("_plus")
    assert ("box refinement" in header["Trains"]) == is_plus
    start = f"coco_{path.stem.split('_')[1]}{'_context' if is_plus else ''}"
    assert header["Weights"].startswith(f"auto: runs/{start}/model_final.pth; ")
    (config,) = CONFIGS.rglob(f"{start}.yaml")
    assert header["Weights"].endswith(f"--config {config.relative_to(CONFIGS.parent)}")


@pytest.mark.parametrize("path", FROM_COCO_LEAVES, ids=lambda p: p.stem)
def test_what_starts_from_coco_is_vocs_preset_with_cocos_anchors(path):
    """So that the RPN of `coco_<net>` arrives whole; in "+++" the three improvements, and no more.

    He et al., appendix B: box refinement, global context, scales 200 to 1000.
    """
    data, net, *_ = path.stem.split("_")
    ours, plain, coco = (
        dict(flatten(resolve(p).cfg))
        for p in (path, CONFIGS / f"{data}_{net}.yaml", CONFIGS / f"coco_{net}.yaml")
    )
    differing = {key: ours[key] for key in ours if ours[key] != plain[key]}
    anchors = "MODEL.ANCHOR_GENERATOR.SIZES"
    expected = {anchors: coco[anchors], "TRANSFER.HEADS": "by_name"}
    if path.stem.endswith("_plus"):
        expected |= CONTEXT | {"TEST.SCALES": (200, 400, 600, 800, 1000)}
    assert differing == expected


@pytest.mark.parametrize("path", FROM_COCO_LEAVES, ids=lambda p: p.stem)
def test_what_starts_from_coco_has_the_model_of_its_start(path):
    """Every key of MODEL, so that each tensor has a place but for the rows of the classes."""
    (start,) = re.findall(r"--config (\S+)$", header_of(path)["Weights"])
    ours, theirs = (dict(flatten(resolve(p).cfg.MODEL)) for p in (path, CONFIGS.parent / start))
    assert ours == theirs


CONTEXT = {"MODEL.REGION_HEADS.CONTEXT": True, "TEST.BOX_REFINEMENT": "on"}


@pytest.mark.parametrize("path", CONTEXT_LEAVES, ids=lambda p: p.stem)
def test_the_context_row_is_cocos_preset_with_its_two_improvements(path):
    """Table 9: each row adds to the one above; + context is 51.1 and 30.0 with ResNet-101."""
    plain = CONFIGS / f"{path.stem.removesuffix('_context')}.yaml"
    ours, theirs = (dict(flatten(resolve(p).cfg)) for p in (path, plain))
    assert {key: ours[key] for key in ours if ours[key] != theirs[key]} == CONTEXT
    number = "He et al. 2015, table 9: AP50 51.1, AP 30.0 (val 2014, trained on train)"
    without = "no published number under this protocol"
    assert header_of(path)["Source"] == (number if "r101" in path.stem else without)


def test_two_presets_are_of_the_context_row_and_held_against_it():
    """Not against the baseline, which has neither improvement: nothing makes it another row."""
    assert [p.stem for p in CONTEXT_LEAVES] == ["coco_r101_context", "coco_vgg16_context"]
    config = resolve(CONTEXT_LEAVES[0], ["MODEL.WEIGHTS", "FILE"])
    check_reference_batch(config)
    experiment, found = plan.departures(config.cfg)
    assert ", table 9, + context: " in experiment
    decides = {d.key for d in found if d.decides}
    assert decides <= {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION"}  # which follows from the net


@pytest.mark.parametrize("path", PAPER_LEAVES, ids=lambda p: p.stem)
def test_a_rate_that_the_paper_does_not_state_is_named(path):
    """He et al., appendix A: 0.001 on COCO too, for 16 images; ours by the linear rule is 0.008."""
    solver = resolve(path).cfg.SOLVER
    found = re.search(
        r"rate ([\d.]+) for (\d+) images \(([\d.]+) for (\d+) by the linear rule\) "
        r"where the paper states 0\.001(?: \(stated/(\w+)\))?;",
        header_of(path)["Differs"],
    )
    assert (found is None) == (solver.BASE_LR == 0.001)
    if found:
        rate, batch, of_few, few = map(float, found.groups()[:4])
        tables = path.stem in ("coco_r101", "coco_vgg16")
        assert found[5] == (f"{path.stem}_stated" if tables else None)
        assert (rate, batch) == (solver.BASE_LR, solver.IMS_PER_BATCH)
        assert rate / batch == pytest.approx(of_few / few, rel=1e-12)
        assert (of_few, few) == (0.001, 2)


# Tables 2 and 3 have a number for these; VGG's other sizes have none there.
NUMBERED = {
    *(f"imagenet_{net}" for net in ("plain18", "plain34", "vgg16")),
    *(f"imagenet_resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("imagenet_resnet18_a", "imagenet_resnet34_a", "imagenet_resnet34_c"),
}


@pytest.mark.parametrize(
    "path",
    [p for p in PRETRAIN if p.stem.startswith("imagenet") and not p.stem.endswith("_modern")],
    ids=lambda p: p.stem,
)
def test_an_imagenet_header_has_a_number_of_its_net_and_names_other_shortcuts(path):
    """Tables 2 and 3; resnet18's cited option A over a net of option B, without a word."""
    header, name = header_of(path), resolve(path).cfg.MODEL.NET.NAME
    found = re.search(r"He et al\. 2015, (table \d)(?: \(option (.)\))?: top-1 ([\d.]+), 10-crop",
                      header["Source"])  # fmt: skip
    if path.stem not in NUMBERED:
        assert found is None
        return
    (row,) = published(source=found[1], net=name, metric="top-1 error", value=float(found[3]))
    option = resolve(path).cfg.MODEL.NET.SHORTCUT
    with torch.device("meta"):
        ours = getattr(nets.build(name, **({"shortcut": option} if option else {})), "shortcut", "")
    ours, theirs = ours.replace("none", ""), row.shortcut or ""
    assert found[2] in (None, theirs or None)
    if ours == theirs:
        assert "shortcuts" not in header.get("Differs", "")
    else:
        assert (path.stem, ours, theirs, found[2]) == ("imagenet_resnet18", "B", "A", "A")
        message = f"shortcuts are option B, .*; {row.source}'s are option A, .* imagenet_resnet18_a"
        assert re.search(message, header["Differs"])


@pytest.mark.parametrize(("option", "number"), [("a", 25.03), ("", 24.52), ("c", 24.19)])
def test_table_3s_comparison_of_shortcuts_has_its_three_presets(option, number):
    """ResNet-34 A, B and C: one key apart, each with the number of its row."""
    path = CONFIGS / "pretrain" / f"imagenet_resnet34{'_' + option if option else ''}.yaml"
    assert f": top-1 {number:.2f}, " in header_of(path)["Source"]
    assert option.upper() == resolve(path).cfg.MODEL.NET.SHORTCUT


@pytest.mark.parametrize(
    ("stem", "number"),
    [("34", "21.84"), ("34_c", "21.53"), ("50", "20.74"), ("101", "19.87"), ("152", "19.38")],
)
def test_a_header_has_table_4s_dense_number_too(stem, number):
    source = header_of(CONFIGS / "pretrain" / f"imagenet_resnet{stem}.yaml")["Source"]
    assert f"; table 4: top-1 {number}, dense at five sizes; evaluate cls" in source


@pytest.mark.parametrize("stem", ["plain34", "resnet18", "resnet34_a", "vgg16"])
def test_a_net_that_table_4_does_not_have_cites_it_not(stem):
    assert "table 4" not in header_of(CONFIGS / "pretrain" / f"imagenet_{stem}.yaml")["Source"]


# torchvision's own table of its weights (acc@1 80.858, 81.886, 82.284), as errors.
SECOND_RECIPE = {50: "19.14", 101: "18.11", 152: "17.72"}


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_todays_header_has_torchvisions_number_or_none(depth):
    source = header_of(CONFIGS / "pretrain" / f"imagenet_resnet{depth}_modern.yaml")["Source"]
    if depth in SECOND_RECIPE:
        assert source.endswith(f"weights IMAGENET1K_V2: top-1 {SECOND_RECIPE[depth]}, 1-crop")
    else:
        assert source.startswith("no published number of this recipe")


def test_a_headers_hours_are_those_of_docs_cost():
    """ResNet-50: 600k x 256 x 3.858e9 x 3 / 15e12 = 118,500 s = 33 h, as in the page's table."""
    needs = header_of(CONFIGS / "pretrain" / "imagenet_resnet50.yaml")["Needs"]
    assert "; 33 h by the rule in docs/cost.md" in needs
    vgg = header_of(CONFIGS / "pretrain" / "imagenet_vgg16.yaml")["Needs"]
    assert "; 81 h by the rule" in vgg


@pytest.mark.parametrize(("depth", "number"), [(18, 27.88), (34, 25.03)])
def test_table_2s_residual_nets_have_a_preset_of_option_a(depth, number):
    """Its comparison with the plain nets: no extra parameter, beside plain18 and plain34."""
    path = CONFIGS / "pretrain" / f"imagenet_resnet{depth}_a.yaml"
    header = header_of(path)
    (row,) = published(source="table 2", net=f"resnet{depth}")
    assert (row.shortcut, row.value) == ("A", number)
    assert f": top-1 {number:.2f}, " in header["Source"]
    assert "shortcuts" not in header["Differs"]
    a, b = (
        dict(flatten(resolve(p).cfg))
        for p in (path, path.with_name(f"imagenet_resnet{depth}.yaml"))
    )
    assert {key: a[key] for key in a if a[key] != b[key]} == {"MODEL.NET.SHORTCUT": "A"}


def test_option_a_adds_no_parameters():
    """Three projections of 1x1 with their norms less."""
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
    assert ("figure 6" in source or "section 4.2" in source or "not in" in source) == (rows == ())


# -- what a header states of the config --------------------------------------------------------


def numbers(text: str) -> list[float]:
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


SCHEDULE = re.compile(
    r"^(?P<sets>[^;]+); (?P<steps>[\d,]+) steps of (?P<batch>\d+) images at (?P<rate>[\d.]+), "
    r"(?:times (?P<gamma>[\d.]+) at (?:(?P<drops>[\d, and]+)|plateaus of the (?P<error>\w+) error)"
    r"|(?P<cosine>to 0 as a cosine)); "
    r"(?:(?P<warm>no|[\d,]+) (?:steps of )?warm-up"
    r"|warm-up until the training error is below (?P<until>\d+) %); (?P<rest>.*)$"
)


# What a training in four steps states before that of its Fast R-CNN steps.
OF_RPN = re.compile(
    r"RPN ([\d,]+) steps of (\d+) images? at ([\d.]+), times 0\.1 at ([\d,]+), twice; Fast R-CNN "
)


def trains_line(path: Path) -> tuple[re.Match[str], Any]:
    """The schedule in a header's Trains, held against the config that the file resolves to."""
    config = resolve(path)
    check_reference_batch(config)
    cfg = config.cfg
    text = header_of(path)["Trains"]
    if of_rpn := OF_RPN.search(text):
        rpn, text = cfg.SOLVER.RPN, OF_RPN.sub("", text).replace(", twice; ", "; ")
        (drop,) = rpn.STEPS
        stated = [numbers(part)[0] for part in of_rpn.groups()]
        assert stated == [rpn.MAX_ITER, rpn.IMS_PER_BATCH, rpn.BASE_LR, drop]
    assert (of_rpn is not None) == (cfg.SOLVER.SCHEME == "alternating")
    found = SCHEDULE.match(text)
    assert found is not None, text
    (steps,), (warm,) = numbers(found["steps"]), numbers(found["warm"] or "") or [0.0]
    drops = [int(d.replace(",", "")) for d in re.split(r", | and ", found["drops"] or "") if d]
    assert (steps, float(found["batch"])) == (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH)
    assert float(found["rate"]) == cfg.SOLVER.BASE_LR
    assert warm == cfg.SOLVER.WARMUP_ITERS
    assert float(found["until"] or 0) == cfg.PRETRAIN.WARMUP_UNTIL_ERROR
    assert (found["cosine"] is not None) == (cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupCosineLR")
    if not found["cosine"]:
        assert float(found["gamma"]) == cfg.SOLVER.GAMMA
        assert (found["error"] or "off", tuple(drops)) == (
            cfg.PRETRAIN.PLATEAU,
            tuple(cfg.SOLVER.STEPS),
        )
    return found, cfg


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_a_detectors_header_states_what_its_config_resolves_to(path):
    """Sets, schedule, sizes, pooling, proposals, NMS: each word of the line from the config."""
    found, cfg = trains_line(path)
    assert found["sets"] == " + ".join(cfg.DATASETS.TRAIN)
    sides = cfg.INPUT.MIN_SIZE_TRAIN
    several = f"one of {len(sides)}, {min(sides)} to {max(sides)}"
    rpn, head = cfg.MODEL.RPN, cfg.MODEL.ROI_BOX_HEAD
    assert found["rest"] == (
        f"shorter side {several if len(sides) > 1 else sides[0]} (at most "
        f"{cfg.INPUT.MAX_SIZE_TRAIN}), in test {cfg.INPUT.MIN_SIZE_TEST} "
        f"({cfg.INPUT.MAX_SIZE_TEST}); {head.POOLER_TYPE}, {rpn.POST_NMS_TOPK_TRAIN} proposals, "
        f"in test {rpn.POST_NMS_TOPK_TEST}; NMS {cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST}"
        f"{improvements_in(cfg)}"
    )


def improvements_in(cfg: Any) -> str:
    """The line's last words, where table 9's are on."""
    scales = f", scales {', '.join(map(str, cfg.TEST.SCALES))}" if cfg.TEST.SCALES else ""
    is_on = cfg.MODEL.REGION_HEADS.CONTEXT, cfg.TEST.BOX_REFINEMENT
    words = {(False, "off"): "", (True, "on"): "; global context, in test box refinement"}
    return words[is_on] + scales


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda p: p.stem)
def test_a_classifiers_header_states_what_its_config_resolves_to(path):
    """Set, schedule, crops, test, and the shortcuts of the net that is built."""
    found, cfg = trains_line(path)
    assert found["sets"] == cfg.PRETRAIN.TRAIN
    options = {"shortcut": cfg.MODEL.NET.SHORTCUT} if cfg.MODEL.NET.SHORTCUT else {}
    with torch.device("meta"):
        net = nets.build(cfg.MODEL.NET.NAME, **options)
    option = getattr(net, "shortcut", "none")
    last = "no shortcuts" if option == "none" else f"shortcuts of option {option}"
    assert found["rest"] == (
        f"crops of {cfg.PRETRAIN.CROP}; tested on one of side {cfg.PRETRAIN.TEST_SIDE} of "
        f"{cfg.PRETRAIN.VAL}; {last}"
    )


@pytest.mark.parametrize("net", ["r101", "vgg16"])
def test_the_stated_preset_is_the_papers_with_the_rate_of_appendix_a(net):
    """0.001 for 240k steps of 16, 0.0001 for 80k, no warm-up; all else as in coco_<net>."""
    stated, linear = (
        dict(flatten(resolve(CONFIGS / name).cfg))
        for name in (f"stated/coco_{net}_stated.yaml", f"coco_{net}.yaml")
    )
    differing = {key: stated[key] for key in stated if stated[key] != linear[key]}
    assert differing == {"SOLVER.BASE_LR": 0.001, "SOLVER.WARMUP_ITERS": 0}
    schedule = (stated["SOLVER.IMS_PER_BATCH"], stated["SOLVER.STEPS"], stated["SOLVER.MAX_ITER"])
    assert schedule == (16, (240_000,), 320_000)
