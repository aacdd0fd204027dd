"""A published number stands beside a run of its protocol; each dependency is named when it differs.

Expected values are He et al. 2015, tables 7, 8 and 10, and Ren et al. 2015; the settings, those of
the presets in configs/, which `tests/config/test_preset_protocols.py` holds against the papers.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from resdet.evaluation.published import published_protocols as protocols
from resdet.evaluation.published.departures import value_text
from resdet.evaluation.published.published_tables import voc_classes
from resdet.report import compare
from resdet.report.comparison import published_numbers
from resdet.report.comparison.published_numbers import BUT_FOR, OTHER, SAME, matches_for
from resdet.report.render import plain_text, report_json, tables
from resdet.report.runs import Column, DetectorStart
from resdet.report.scores import Metric
from tests.support.fabricate import fabricate_run

EXPERIMENTS = {e.name: e for e in protocols.experiments()}
VOC0712 = EXPERIMENTS["voc0712"]
RATIO = "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"
# A sampling ratio is of RoIAlign alone, a decay of norms of norms that train.
READ_WITH = {
    RATIO: {"MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2"},
    "SOLVER.WEIGHT_DECAY_NORM": {"MODEL.NET.NORM": "BN"},
}


def config_of(name: str = "voc0712", net: str = "resnet101") -> dict[str, Any]:
    """The keys of a run that did what the paper did."""
    experiment = EXPERIMENTS[name]
    schedule = experiment.alternating
    steps = schedule.images_seen // schedule.batch
    settings = {key: s.of(net)[0] for key, s in experiment.settings.items() if s.of(net)}
    return settings | {
        "MODEL.NET.NAME": net,
        "MODEL.WEIGHTS": "r101.safetensors",
        "DATASETS.TRAIN": list(experiment.numbers[0].train),
        "SOLVER.BASE_LR": schedule.rate,
        "SOLVER.IMS_PER_BATCH": schedule.batch,
        "SOLVER.MAX_ITER": steps,
        "SOLVER.STEPS": [round(steps * drop) for drop in schedule.drops],
    }


def a_run(
    name: str = "voc0712",
    net: str = "resnet101",
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[Column, Any]:
    """A run of an experiment and its scores, but for `changes`."""
    experiment = EXPERIMENTS[name]
    config = config_of(name, net) | (config or {})
    sets = [{"name": "all of them", "images": changes.get("train_images", experiment.train_images)}]
    card = {"data": {"name": "imagenet_train", "images": 1_281_167}} | changes.get("card", {})
    run: Any = SimpleNamespace(
        info={
            "train_sets": sets,
            "leak": changes.get("leak", ""),
            "data_changes": changes.get("data_changes"),
            "best_of": changes.get("best"),
        },
        state=changes.get("state", "finished"),
    )
    column = Column(
        run,
        "A",
        "ResNet-101",
        "ResNet-101",
        pretrained=changes.get("pretrained", True),
        config=config,
        seed=1,
        label="ResNet-101",
        card=card,
        samples_seen=changes.get("samples_seen"),
        detector=DetectorStart("m.pth") if changes.get("from_detector") else None,
    )
    is_voc = experiment.num_classes == 20
    classes = voc_classes() if is_voc else tuple(str(i) for i in range(80))
    images = changes.get("images", experiment.images)
    scores: Any = SimpleNamespace(
        data_set=changes.get("test", experiment.test),
        classes=changes.get("classes", classes),
        expected=range(images),
        evaluated=range(changes.get("evaluated", images)),
        primary=changes.get("primary", experiment.metrics.get("mean_ap")),
        coco=None if is_voc else {"AP": 0.27, "AP50": 0.48},
    )
    return column, scores


# The schedule of the one joint training of configs/voc0712_r101.yaml.
JOINT = {"SOLVER.SCHEME": "joint", "SOLVER.MAX_ITER": 160_000, "SOLVER.STEPS": [112_000]}


def match_of(*args: Any, **changes: Any) -> published_numbers.ProtocolMatch:
    return matches_for(*a_run(*args, **changes))["mean_ap"]


def other_than(values: tuple[Any, ...]) -> Any:
    """A value of the same type that is none of these."""
    first = values[0]
    if isinstance(first, bool):
        return not first
    if isinstance(first, int | float):
        return first + 17
    return [*first, 17] if isinstance(first, list) else "something else"


# -- the same protocol -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "net", "numbers", "source"),
    [
        ("voc07", "vgg16", {"mean_ap": 0.699}, "Faster R-CNN, VOC 2007"),
        ("voc0712", "resnet101", {"mean_ap": 0.764}, "table 7"),
        ("voc0712", "vgg16", {"mean_ap": 0.732}, "table 7"),
        ("voc0712pp", "resnet101", {"mean_ap": 0.738}, "table 7"),
        ("coco", "resnet101", {"AP": 0.272, "AP50": 0.484}, "table 8"),
        ("coco", "vgg16", {"AP": 0.212, "AP50": 0.415}, "table 8"),
        ("coco_refined", "resnet101", {"AP": 0.299, "AP50": 0.499}, "table 9"),
        ("coco_context", "resnet101", {"AP": 0.300, "AP50": 0.511}, "table 9"),
        ("coco_scales", "resnet101", {"AP": 0.325, "AP50": 0.538}, "table 9"),
    ],
)
def test_a_run_of_the_same_protocol_has_the_papers_number(
    name: str, net: str, numbers: dict[str, float], source: str
) -> None:
    """Tables 7 to 9 of He et al.; 69.9 of Ren et al."""
    matches = matches_for(*a_run(name, net))
    assert {key: m.value for key, m in matches.items()} == pytest.approx(numbers)
    assert {(m.outcome, m.source, m.departures) for m in matches.values()} == {(SAME, source, ())}


def test_the_number_of_table_7_has_the_classes_of_table_10() -> None:
    """Table 10: sheep 78.6, tvmonitor 72.0; the rows' means are table 7's (rounding: 0.05)."""
    match = match_of()
    assert match.per_class_source == "table 10"
    assert match.per_class["sheep"] == pytest.approx(0.786)
    assert match.per_class["tvmonitor"] == pytest.approx(0.72)
    rows = [row for e in EXPERIMENTS.values() for row in e.per_class]
    assert len(rows) == 4
    for row in rows:
        assert np.mean(list(row.per_class.values())) == pytest.approx(row.value, abs=0.0501)


# -- each dependency, changed alone ----------------------------------------------------------


# With another scheme another schedule is held, too: test_a_joint_training_is_held_…
@pytest.mark.parametrize("key", sorted(set(VOC0712.settings) - {"SOLVER.SCHEME"}))
def test_another_value_of_a_key_is_named(key: str) -> None:
    """One key changed, all else the paper's: that key alone, with both values."""
    setting = VOC0712.settings[key]
    value = other_than(setting.of("resnet101"))
    config = {key: value, **READ_WITH.get(key, {})}
    match = match_of(config=config)
    assert {d.key for d in match.departures} == set(config)
    departure = next(d for d in match.departures if d.key == key)
    assert departure.run == value_text(value)
    assert departure.source == setting.source
    decides = setting.decides or key == RATIO
    assert match.outcome == (OTHER if decides else BUT_FOR)
    assert match.shown is not decides


@pytest.mark.parametrize("key", sorted(VOC0712.settings))
def test_every_value_that_the_protocol_allows_is_no_departure(key: str) -> None:
    for value in VOC0712.settings[key].of("resnet101"):
        assert match_of(config={key: value}).outcome == SAME


def test_a_key_that_a_run_does_not_have_is_not_known_and_listed() -> None:
    """A config without the key says nothing about it; it is not taken for the paper's."""
    column, scores = a_run()
    del column.config["SOLVER.MOMENTUM"]
    match = matches_for(column, scores)["mean_ap"]
    assert [(d.key, d.run) for d in match.departures] == [("SOLVER.MOMENTUM", "not known")]


@pytest.mark.parametrize("key", READ_WITH)
def test_a_key_counts_only_where_it_is_read(key: str) -> None:
    """RoIPool takes a maximum and samples nothing; a frozen norm does not decay."""
    assert match_of(config={key: 2}).outcome == SAME
    assert match_of(config={key: 2, "MODEL.NET.NORM": "FrozenBN"}).outcome == SAME


def test_a_size_that_the_net_has_of_its_own_is_the_papers() -> None:
    """14 cells of a residual net, 7 of VGG, stated or not; the other way it is no published one."""
    key = "MODEL.NET.POOLED_SIZE"
    for net, own, other in (("resnet101", 14, 7), ("vgg16", 7, 14)):
        assert match_of("voc0712", net, {key: own}).outcome == SAME
        match = match_of("voc0712", net, {key: other})
        assert [(d.key, d.paper) for d in match.departures] == [(key, "0")]
        assert match.outcome == OTHER


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param({"images": 120}, "test images", id="subset"),
        pytest.param({"evaluated": 4951}, "test images", id="image-missing"),
        pytest.param({"primary": "VOC area"}, "AP rule", id="other-rule"),
        pytest.param({"classes": tuple("abcdefghijklmnopqrst")}, "names of classes", id="names"),
        pytest.param({"classes": tuple("abc")}, "classes", id="fewer-classes"),
        pytest.param({"pretrained": False}, "start", id="from-scratch"),
        pytest.param({"from_detector": True}, "start", id="from-a-detector"),
        pytest.param({"data_changes": ["voc_2007_trainval"]}, "training data", id="changed-data"),
        pytest.param({"config": {"DATASETS.TRAIN": ["voc_2007_trainval"]}}, "training sets",
                     id="less-data"),
        pytest.param({"train_images": 16_000}, "training images", id="images-left-out"),
        pytest.param({"leak": "yes"}, "test images", id="leak"),
        pytest.param({"best": {"metric": "voc_2007_test/AP50", "value": 60.0, "step": 9}}, "model",
                     id="chosen-by-its-set"),
        pytest.param({"state": "interrupted"}, "training", id="not-finished"),
        pytest.param({"card": {"data": {"name": "digits_crops_train", "images": 20_000}}},
                     "pretraining data", id="no-imagenet"),
        pytest.param({"card": {"data": {"name": "imagenet_train", "images": 3000}}},
                     "pretraining data", id="a-part-of-imagenet"),
        pytest.param({"card": {"training": {"samples": 1_281_167}}}, "pretraining images seen",
                     id="one-epoch"),
        # 600 steps of 2 for 60,000.
        pytest.param({"config": {"SOLVER.MAX_ITER": 600, "SOLVER.STEPS": [300]}}, "length",
                     id="short"),
        pytest.param({"config": {"SOLVER.BASE_LR": 0.02}}, "rate", id="rate-20-times"),
        pytest.param({"config": {"SOLVER.BASE_LR": 0.0001}}, "rate", id="a-tenth-of-the-rate"),
        ({"config": {"MODEL.WEIGHTS": "torchvision://vgg16/IMAGENET1K_V1"}},
         "recipe of the pretraining"),
    ],
)  # fmt: skip
def test_another_experiment_has_no_number(changes: dict[str, Any], what: str) -> None:
    """The cause is named, with both values, and the number is nowhere."""
    match = match_of(**changes)
    assert (match.outcome, match.shown) == (OTHER, False)
    assert [d.what for d in match.departures] == [what]
    assert published_numbers.numbers_for(*a_run(**changes)) == {}


def test_a_joint_training_is_held_against_its_own_schedule() -> None:
    """Its scheme is listed; that it is as long as no step of the four is not."""
    match = match_of(config=JOINT)
    assert [(d.key, d.run) for d in match.departures] == [("SOLVER.SCHEME", "joint")]
    short = match_of(config=JOINT, samples_seen=1200)
    assert [d.key for d in short.departures] == ["SOLVER.MAX_ITER", "SOLVER.SCHEME"]
    assert short.outcome == OTHER


def test_the_rpn_s_schedule_is_held_in_four_steps_alone() -> None:
    (other,) = match_of(config={"SOLVER.RPN.MAX_ITER": 70_000}).departures
    assert (other.key, other.paper, other.run) == ("SOLVER.RPN.MAX_ITER", "80000", "70000")
    joint = match_of(config={**JOINT, "SOLVER.RPN.MAX_ITER": 0})
    assert [d.key for d in joint.departures] == ["SOLVER.SCHEME"]


@pytest.mark.parametrize(
    ("changes", "what", "text"),
    [
        pytest.param({"config": {"SOLVER.BASE_LR": 0.002}}, "rate", "0.002 for 2 images", id="lr"),
        pytest.param(
            {"config": {"SOLVER.BASE_LR": 0.008, "SOLVER.IMS_PER_BATCH": 16,
                        "SOLVER.MAX_ITER": 7_500, "SOLVER.STEPS": [3_750]}},
            "batch", "16, the rate 0.008 following by the linear rule", id="linear-rule"),
        pytest.param({"config": {"SOLVER.MAX_ITER": 100_000, "SOLVER.STEPS": [50_000]}}, "length",
                     "100,000 steps of 2", id="length"),
        pytest.param({"config": {"SOLVER.STEPS": [30_000, 48_000]}}, "drops of the rate",
                     "at 50% and 80% of the length", id="drops"),
        pytest.param({"card": {"data": {}}}, "pretraining data", "not known", id="foreign-weights"),
        pytest.param({"card": {"training": {"samples": 115_305_030}}}, "pretraining images seen",
                     "115,305,030", id="ninety-epochs"),
    ],
)  # fmt: skip
def test_a_departure_is_listed_beside_the_number(
    changes: dict[str, Any], what: str, text: str
) -> None:
    match = match_of(**changes)
    assert (match.outcome, match.shown) == (BUT_FOR, True)
    assert [(d.what, d.run) for d in match.departures] == [(what, text)]


@pytest.mark.parametrize("changes", [{"net": "resnet50"}, {"test": "voc_2007_val"}])
def test_a_net_or_set_without_a_number_has_no_match(changes: dict[str, Any]) -> None:
    """Table 7 has VGG-16 and ResNet-101, on two sets."""
    net = changes.pop("net", "resnet101")
    assert matches_for(*a_run(config={"MODEL.NET.NAME": net}, **changes)) == {}


def test_vgg_on_one_year_is_held_against_its_own_number() -> None:
    """69.9 was trained on VOC07 alone, 73.2 on VOC07+12; both are of VOC 2007's test set."""
    assert matches_for(*a_run("voc07", "vgg16"))["mean_ap"].value == pytest.approx(0.699)
    assert matches_for(*a_run("voc0712", "vgg16"))["mean_ap"].value == pytest.approx(0.732)


# -- the presets -----------------------------------------------------------------------------


def preset_match(name: str, net: str, preset: str) -> published_numbers.ProtocolMatch:
    pytest.importorskip("detectron2")
    from resdet.config import check_reference_batch, flatten, resolve
    from resdet.detect.architecture.model import fill_from_weights_and_net
    from tests.support.preset_files import CONFIGS

    config = resolve(CONFIGS / preset, ["MODEL.WEIGHTS", "x"])
    check_reference_batch(config)
    fill_from_weights_and_net(config, None)
    column, scores = a_run(name, net, config=dict(flatten(copy.deepcopy(config.cfg))))
    return next(iter(matches_for(column, scores).values()))


@pytest.mark.parametrize(
    ("name", "net", "preset", "keys"),
    [
        ("voc07", "vgg16", "voc07_vgg16.yaml", ["SOLVER.SCHEME", "SOLVER.WARMUP_ITERS"]),
        ("voc0712", "vgg16", "voc0712_vgg16.yaml", ["SOLVER.SCHEME", "SOLVER.WARMUP_ITERS"]),
        ("voc0712", "resnet101", "voc0712_r101.yaml", ["SOLVER.SCHEME", "SOLVER.WARMUP_ITERS"]),
        ("voc0712pp", "resnet101", "voc0712pp_r101.yaml", ["SOLVER.SCHEME", "SOLVER.WARMUP_ITERS"]),
        ("voc07", "vgg16", "alternating/voc07_vgg16_alternating.yaml", []),
        ("voc0712", "resnet101", "alternating/voc0712_r101_alternating.yaml", []),
        ("voc0712pp", "vgg16", "alternating/voc0712pp_vgg16_alternating.yaml", []),
        ("coco", "resnet101", "alternating/coco_r101_alternating.yaml", []),
        ("coco", "vgg16", "stated/coco_vgg16_stated.yaml", ["SOLVER.SCHEME"]),
        ("coco", "resnet101", "stated/coco_r101_stated.yaml", ["SOLVER.SCHEME"]),
        (
            "coco",
            "vgg16",
            "coco_vgg16.yaml",
            ["SOLVER.BASE_LR", "SOLVER.SCHEME", "SOLVER.WARMUP_ITERS"],
        ),
        (
            "coco",
            "resnet101",
            "coco_r101.yaml",
            ["SOLVER.BASE_LR", "SOLVER.SCHEME", "SOLVER.WARMUP_ITERS"],
        ),
    ],
)
def test_a_paper_preset_has_the_protocol_but_for_what_its_page_states(
    name: str, net: str, preset: str, keys: list[str]
) -> None:
    """docs/protocol.md: joint training, Detectron2's warm-up, COCO's rate by the linear rule."""
    match = preset_match(name, net, preset)
    assert match.outcome == (BUT_FOR if keys else SAME)
    assert sorted(d.key for d in match.departures) == keys


@pytest.mark.parametrize("preset", ["modern/voc0712_r101_modern.yaml", "fpn/voc0712_r101_fpn.yaml"])
def test_a_stock_preset_is_another_experiment(preset: str) -> None:
    """Detectron2's recipe: scales, pooling, proposals."""
    match = preset_match("voc0712", "resnet101", preset)
    assert match.outcome == OTHER
    deciding = {d.key for d in match.listed}
    assert {"INPUT.MIN_SIZE_TEST", "MODEL.ROI_BOX_HEAD.POOLER_TYPE"} <= deciding


# -- in the report ---------------------------------------------------------------------------


def test_a_short_run_does_not_stand_beside_76_4() -> None:
    """600 steps for 160,000: the table says so, and has no number."""
    short = {"SOLVER.SCHEME": "joint", "SOLVER.MAX_ITER": 600, "SOLVER.STEPS": [420]}
    column, scores = a_run(config=short)
    table = tables.beside_published([column], [scores])
    assert table is not None
    (row,) = table.rows
    assert [cell.text for cell in row[1:3]] == ["not shown", OTHER]
    assert row[3].text.startswith(
        "length (SOLVER.MAX_ITER: 600 steps of 2; paper: 160,000 steps of 2, Ren 3.1.3 and 3.2 for "
        "the rate; open for the length: about 19 passes)"
    )
    for text in (tables.to_markdown(table, [column]), plain_text._terminal_list(table)):
        assert "76.4" not in text


def test_a_departure_stands_beside_76_4_in_every_form_of_the_report() -> None:
    column, scores = a_run(config={**JOINT, "SOLVER.MOMENTUM": 0.8})
    scores.metric = Metric("mean_ap", "VOC 11-point", "AP50 (VOC 2007, 11 points)")
    scores.value = lambda _: 0.75
    scores.per_class = lambda _: {}
    scores.absent = lambda _: []
    ranking = tables.ranking([column], [scores], scores.metric)
    assert [c.text for c in ranking.rows[0][1:]] == ["75.0", "76.4"]
    assert ranking.rows[0][2].note == "table 7, but for 2 things"
    table = tables.beside_published([column], [scores])
    assert table is not None
    for text in (tables.to_markdown(table, [column]), plain_text._terminal_list(table)):
        assert "76.4" in text
        assert "joint" in text
        assert "momentum" in text
    assert "mirrored half of the time" in table.caption
    (match,) = matches_for(column, scores).values()
    stored = report_json._match(match)
    assert (stored["outcome"], stored["value"]) == (BUT_FOR, 0.764)
    assert len(stored["departures"]) == 2


def test_a_whole_report_names_the_cause_and_has_no_number(tmp_path: Path) -> None:
    """Six images, the demo's schedule: page, Markdown, terminal and JSON say so, none says 76.4."""
    options: Any = {"data_set": "voc_2007_test", "classes": voc_classes(), "num_images": 6}
    folders = [
        fabricate_run(tmp_path / net, net=net, num_samples=0, **options)
        for net in ("resnet101", "resnet50")
    ]
    paths = compare(folders, tmp_path / "report")
    texts = (paths.html.read_text("utf-8"), paths.markdown.read_text("utf-8"), paths.text)
    for text in texts:
        assert OTHER in text
        assert "6 of 6; paper: 4,952" in text
    # The list of all published numbers, in page and Markdown, is no column of a run's.
    assert "76.4" not in paths.text
    stored = json.loads(paths.json.read_text("utf-8"))["sets"]["voc_2007_test"]["published"]
    assert {k: v["mean_ap"]["value"] for k, v in stored.items()} == {"A": None}


def test_json_has_no_number_of_another_experiment() -> None:
    stored = report_json._match(match_of(config={**JOINT, "SOLVER.MAX_ITER": 600}))
    assert (stored["outcome"], stored["value"]) == (OTHER, None)


def test_results_without_a_run_have_no_match() -> None:
    """How a foreign detector was made is not known."""
    column, scores = a_run()
    column.config.clear()
    assert tables.beside_published([column], [scores]) is None
