"""What may differ between two runs and what may not."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resdet.report.comparison.backbone_gains import _schedule
from resdet.report.comparison.comparability import Comparability
from resdet.report.comparison.config_differences import config_differences
from resdet.report.document import gather
from resdet.report.runs import by_group, read_columns
from resdet.run import layout
from resdet.run.folder import read_json, write_json
from tests.support.fabricate import fabricate_run

CARD = {"input": {"mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0], "color_order": "BGR"}}


def kinds(a: dict[str, Any], b: dict[str, Any], *cards: dict[str, Any]) -> dict[str, str]:
    base = {"MODEL.NET.NAME": "resnet18", "MODEL.WEIGHTS": "w"}
    found = config_differences([{**base, **a}, {**base, **b}], cards or ({}, {}))
    return {d.key: d.kind for d in found}


def verdict(tmp_path: Path, *runs: dict[str, Any]) -> Comparability:
    folders = [
        fabricate_run(tmp_path / str(i), num_images=8, num_samples=0, **{"net": "vgg11", **options})
        for i, options in enumerate(runs)
    ]
    return gather(folders).verdict


@pytest.mark.parametrize(
    ("key", "a", "b", "kind"),
    [
        pytest.param("MODEL.NET.NAME", "vgg16", "resnet101", "backbone", id="net"),
        pytest.param("MODEL.NET.WIDTH", 1.0, 0.5, "backbone", id="net-option"),
        pytest.param("MODEL.WEIGHTS", "a.safetensors", "", "backbone", id="weights"),
        pytest.param("MODEL.BACKBONE.NAME", "x", "y", "backbone", id="backbone-name"),
        pytest.param("TRANSFER.FROM_SCRATCH", True, False, "bookkeeping", id="from-scratch"),
        pytest.param("MODEL.RPN.IN_FEATURES", ["res4"], ["conv5"], "net", id="shared-stage"),
        pytest.param("MODEL.FPN.IN_FEATURES", ["res5"], ["conv5"], "net", id="pyramids-stages"),
        pytest.param("OUTPUT_DIR", "a", "b", "bookkeeping", id="output"),
        pytest.param("SEED", 1, 2, "bookkeeping", id="seed"),
        pytest.param("TEST.BEST_METRIC", "", "AP", "bookkeeping", id="best-model"),
        pytest.param("TEST.VALIDATION_LOSS", False, True, "bookkeeping", id="validation-loss"),
        pytest.param(
            "TEST.EXPECTED_RESULTS",
            [],
            [["bbox", "AP", 38.0, 0.5]],
            "bookkeeping",
            id="expected-results",
        ),
        pytest.param("TEST.EARLY_STOP", 0, 3, "other", id="early-end"),
        pytest.param("ENGINE.DISK_WAIT", 0.0, 60.0, "bookkeeping", id="full-disk"),
        pytest.param("ENGINE.WORKER_TIMEOUT", 0.0, 60.0, "bookkeeping", id="silent-worker"),
        pytest.param("SOLVER.BASE_LR", 0.001, 0.01, "other", id="rate"),
        pytest.param("MODEL.RESNETS.NORM", "BN", "GN", "other", id="stock-key-not-in-use"),
        pytest.param("MODEL.NETWORK", 1, 2, "other", id="prefix-is-not-the-node"),
        pytest.param("TEST.DETECTIONS_PER_IMAGE", 50, 100, "other", id="limit-F55"),
        pytest.param("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.02, 0.05, "other", id="threshold-F55"),
        pytest.param("EVAL.VOC_STYLE", "d2", "devkit", "other", id="style-F53"),
    ],
)
def test_each_key_that_differs_has_its_bin(key: str, a: object, b: object, kind: str) -> None:
    """The list of issue 8 (backbone, weights, scratch, output) and of `docs/faults.md`."""
    assert kinds({key: a}, {key: b}) == {key: kind}


def test_a_key_that_only_one_config_has_is_a_difference() -> None:
    """An older resdet may lack a key; nobody knows what it did instead."""
    (found,) = config_differences([{"SOLVER.X": 1}, {}], [{}, {}])
    assert (found.kind, found.values) == ("other", (1, "(not set)"))


def test_equal_values_of_other_type_do_not_differ() -> None:
    """YAML reads 1 and 1.0, [600] and (600,); true is not 1."""
    assert kinds({"A": 1, "B": [600]}, {"A": 1.0, "B": (600,)}) == {}
    assert kinds({"A": True}, {"A": 1}) == {"A": "other"}


def test_preprocessing_may_differ_only_where_the_cards_state_it() -> None:
    """F19: mean, std and colour order belong to the weights; without a card they are a choice."""
    ours = {"MODEL.PIXEL_MEAN": [118.0] * 3}
    theirs = {"MODEL.PIXEL_MEAN": [1.0, 2.0, 3.0]}
    own = {"input": {"mean": [118, 118, 118]}}
    assert kinds(ours, theirs, own, CARD) == {"MODEL.PIXEL_MEAN": "card"}
    assert kinds(ours, theirs, own, {}) == {"MODEL.PIXEL_MEAN": "other"}
    assert kinds(ours, theirs, CARD, own) == {"MODEL.PIXEL_MEAN": "other"}
    assert kinds({"INPUT.FORMAT": "RGB"}, {"INPUT.FORMAT": "BGR"}, own, CARD) == {
        "INPUT.FORMAT": "other"
    }


def test_frozen_stages_may_differ_only_between_arrived_and_random_weights() -> None:
    """Random weights are never frozen, so FREEZE_AT 2 and 0 are one setting there only."""
    key = "MODEL.BACKBONE.FREEZE_AT"
    assert kinds({key: 2}, {key: 0, "MODEL.WEIGHTS": ""})[key] == "net"
    assert kinds({key: 2}, {key: 1, "MODEL.WEIGHTS": ""})[key] == "other"
    assert kinds({key: 2}, {key: 0})[key] == "other"


def test_weights_are_compared_by_what_was_loaded() -> None:
    """MODEL.WEIGHTS auto leaves a path or an address in the config; another run may have typed the
    other. Without hashes only names are known."""
    ours = {"MODEL.WEIGHTS": "runs/imagenet_resnet101/model.safetensors"}
    theirs = {"MODEL.WEIGHTS": "hf://me/r101", "MODEL.WEIGHTS_PART": "model"}
    ours["MODEL.WEIGHTS_PART"] = ""
    for loaded, kind in ((("a", "a"), "bookkeeping"), (("a", "b"), "backbone"),
                         (("", ""), "backbone"), ((), "backbone")):  # fmt: skip
        found = config_differences([ours, theirs], [{}, {}], loaded)
        assert [(d.key, d.kind) for d in found] == [(key, kind) for key in sorted(ours)]


def test_a_permission_to_start_from_nothing_counts_where_something_did() -> None:
    """Beside weights TRANSFER.FROM_SCRATCH does nothing."""
    key = "TRANSFER.FROM_SCRATCH"
    assert kinds({key: True}, {key: False}) == {key: "bookkeeping"}
    random = {key: True, "MODEL.WEIGHTS": ""}
    assert kinds(random, {key: False}) == {key: "backbone", "MODEL.WEIGHTS": "backbone"}


@pytest.mark.parametrize("sha", ["a" * 64, ""])
def test_seeds_of_one_backbone_may_name_its_weights_in_two_ways(tmp_path: Path, sha: str) -> None:
    """`auto` in one preset, the file in another config that permits random weights."""
    named = {"overrides": {"MODEL.WEIGHTS": "auto's", "TRANSFER.FROM_SCRATCH": False}, "seed": 2}
    known = {"card_changes": {"tensors_sha256": sha, "data": {}}}
    folders = [
        fabricate_run(tmp_path / name, num_images=8, num_samples=0, **known, **changes)
        for name, changes in (("a", {}), ("b", named))
    ]
    groups = by_group(read_columns(folders))
    assert len(groups) == (1 if sha else 2)


def test_stock_detectron2_nets_may_differ_in_their_own_node() -> None:
    """With MODEL.NET.NAME empty, MODEL.RESNETS describes the backbone."""
    a = {"MODEL.NET.NAME": "", "MODEL.RESNETS.DEPTH": 50}
    assert kinds(a, {**a, "MODEL.RESNETS.DEPTH": 101}) == {"MODEL.RESNETS.DEPTH": "backbone"}


def test_another_net_alone_is_comparable(tmp_path: Path) -> None:
    """The comparison that the project is for."""
    outcome = verdict(tmp_path, {}, {"net": "resnet18"})
    assert outcome.comparable
    assert outcome.stamp == "COMPARABLE"
    assert {d.key for d in outcome.of_kind("backbone")} >= {"MODEL.NET.NAME", "MODEL.WEIGHTS"}


def test_another_rate_is_not_comparable_and_names_both_values(tmp_path: Path) -> None:
    """Style 4.4: the message holds both values."""
    outcome = verdict(tmp_path, {}, {"net": "resnet18", "overrides": {"SOLVER.BASE_LR": 0.03}})
    assert outcome.stamp == "NOT COMPARABLE"
    assert outcome.reasons == ("SOLVER.BASE_LR is 0.02 in A, 0.03 in B",)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"classes": tuple("0123456798")}, "the class lists differ", id="class-order"),
        pytest.param({"absent": ("3",)}, "the ground truth differs", id="annotations"),
        pytest.param({"num_evaluated": 6}, "the evaluated images differ", id="images"),
        pytest.param({"voc_year": 2010}, "the AP rule differs", id="rule-F54"),
        pytest.param({"info": {"samples": 99}}, "training samples seen: 3,200 in A", id="samples"),
        pytest.param(
            {"info": {"samples": 99, "ended_by": "TEST.EARLY_STOP"}},
            "3,200 in A, 99 (ended by TEST.EARLY_STOP) in B",
            id="early-end",
        ),
        pytest.param(
            {"info": {"train_sets": [{"name": "digits_train", "hash": "other"}]}},
            "the training data differ",
            id="training-data",
        ),
    ],
)
def test_what_no_config_shows_is_compared_too(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    """F54, F85, F89: same classes, objects, images, rule, data and samples."""
    outcome = verdict(tmp_path, {}, {"net": "resnet18", **options})
    assert not outcome.comparable
    assert any(reason in text for text in outcome.reasons), outcome.reasons


def test_image_ids_that_became_numbers_are_named(tmp_path: Path) -> None:
    """A set that was exported again between the runs: 000001 in one, 1 in the other."""
    folders = [
        fabricate_run(
            tmp_path / net, net=net, num_images=8, num_samples=0, data_set="mine",
            evaluators=("coco",), voc_year=None,
        )
        for net in ("vgg11", "resnet18")
    ]  # fmt: skip
    results = folders[1] / "results" / "mine"
    for file in (results / n for n in (layout.GROUND_TRUTH, layout.IMAGES, layout.COCO_RESULTS)):
        text = json.dumps(read_json(file))
        write_json(file, json.loads(re.sub(r'"0+(\d+)"', r"\1", text)))
    outcome = gather(folders).verdict
    (told,) = (text for text in outcome.reasons if "evaluated images differ" in text)
    assert "first: 000001, 000002" in told


def test_two_pretrainings_of_one_net_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    """Same net, data and length, another rate; a classifier pretrained again per seed is a seed."""
    rates = {"a": 0.1, "b": 0.1, "c": 0.01, "d": 0.01}
    folders = [
        fabricate_run(
            tmp_path / name, net="resnet18", num_images=8, num_samples=0, seed=seed,
            overrides={"MODEL.WEIGHTS": f"{name}.pth"},
            card_changes={
                "tensors_sha256": name * 64,
                "config": f"SEED: {seed}\nOUTPUT_DIR: {name}\nSOLVER: {{BASE_LR: {rate}}}\n",
            },
        )
        for seed, (name, rate) in enumerate(rates.items(), 1)
    ]  # fmt: skip
    assert list(by_group(read_columns(folders)).values()) == [[0, 1], [2, 3]]
    report = gather(folders)
    (gain,) = report.sets[0].gains
    assert (gain.pair.before, gain.pair.after) == ((0, 1), (2, 3))


def test_a_net_of_random_weights_is_not_called_pretrained(tmp_path: Path) -> None:
    """The twin that `rank` makes: its card says so, and what weights give is counted from it."""
    folders = [
        fabricate_run(
            tmp_path / name, net="resnet18", num_images=60, num_samples=0, skill=skill,
            overrides={"MODEL.WEIGHTS": f"{name}.pth"}, card_changes=card,
        )
        for name, skill, card in (
            ("trained", 0.8, {}),
            ("random", 0.4, {"data": {"name": "random"}, "training": {}, "tensors_sha256": "r"}),
        )
    ]  # fmt: skip
    columns = read_columns(folders)
    assert [c.start for c in columns] == ["pretrained", "random weights"]
    assert [c.label for c in columns] == ["ResNet-18, pretrained", "ResNet-18, random weights"]
    report = gather(folders)
    assert report.verdict.comparable
    (gain,) = report.sets[0].gains
    assert (gain.pair.before, gain.pair.after) == ((1,), (0,)) and gain.absolute > 0


def test_unequal_numbers_of_runs_per_backbone_are_not_comparable(tmp_path: Path) -> None:
    """A mean over two seeds against a single run would be compared."""
    outcome = verdict(tmp_path, {"seed": 1}, {"seed": 2}, {"net": "resnet18"})
    assert any("runs per backbone differ: 2 of VGG-11" in text for text in outcome.reasons)


def test_other_seeds_and_versions_are_notes(tmp_path: Path) -> None:
    """F63: named, as they may move AP by hundredths, and no reason to refuse."""
    versions = {"versions": {"torch": "2.14.1", "Pillow": "12.0.0"}}
    outcome = verdict(tmp_path, {}, {"net": "resnet18", "seed": 2, "info": versions})
    assert outcome.comparable
    assert "Seeds differ: 1 in A, 2 in B." in outcome.notes
    assert "Pillow differs: 13.0.0 in A, 12.0.0 in B." in outcome.notes


def test_another_start_and_data_that_changed_are_named(tmp_path: Path) -> None:
    """A detector that starts from one trained before; ENGINE.ALLOW_CHANGED_DATA on the way."""
    folders = [
        fabricate_run(
            tmp_path / net, net=net, num_images=8, num_samples=0, info={"data_changes": c}
        )
        for net, c in (("vgg11", None), ("resnet18", ["digits_train"]))
    ]
    write_json(folders[1] / layout.TRANSFER, {"file": "m.pth", "heads": "all arrived"})
    cautions = " ".join(gather(folders).verdict.cautions)
    assert "B started from a whole detector, whose training is not known here" in cautions
    assert "The training data of B changed on the way" in cautions


def test_what_the_word_backbone_hides_is_a_caution(tmp_path: Path) -> None:
    """Two causes at once, other pretraining data, another norm, an unfinished run, a leak."""
    other_data = {"card_changes": {"data": {"name": "imagenet_train", "hash": "77"}}}
    outcome = verdict(tmp_path / "data", {}, {"net": "resnet18", **other_data})
    assert any("trained on different data: digits_crops_train in A" in c for c in outcome.cautions)
    outcome = verdict(tmp_path / "start", {}, {"net": "resnet18", "pretrained": False})
    assert any("mixes two causes" in c for c in outcome.cautions)
    frozen = {"overrides": {"MODEL.NET.NORM": "FrozenBN"}, "info": {"leak": "same images"}}
    outcome = verdict(tmp_path / "norm", {}, {"net": "resnet18", **frozen})
    assert any("MODEL.NET.NORM is BN in A, FrozenBN in B" in c for c in outcome.cautions)
    assert "Same images (B)." in outcome.cautions
    assert outcome.comparable


@pytest.mark.parametrize(
    ("key", "value"), [("POOLED_SIZE", 7), ("DROPOUT", 0.0), ("RES5_DILATION", 2)]
)
def test_how_a_detector_uses_one_net_is_a_caution(tmp_path: Path, key: str, value: float) -> None:
    """Regions of 7 cells or of 14 are no other backbone; of two nets each has its own."""
    changed = {"overrides": {f"MODEL.NET.{key}": value}}
    outcome = verdict(tmp_path / "one", {}, changed)
    (caution,) = (c for c in outcome.cautions if key in c)
    assert caution.startswith(f"MODEL.NET.{key} is ") and f", {value} in B: part of " in caution
    outcome = verdict(tmp_path / "two", {}, {"net": "resnet18", **changed})
    assert not any(key in c for c in outcome.cautions)


def test_a_best_model_compares_with_a_best_model_alone(tmp_path: Path) -> None:
    """F37: what the test set itself chose is no number of a last model."""
    best = {"best_of": {"metric": "digits_test/AP50", "value": 50.1, "step": 400}}
    outcome = verdict(tmp_path / "one", {}, {"net": "vgg11", "info": best})
    (reason,) = outcome.reasons
    assert reason == "model of the training: the last in A, the best by digits_test/AP50 in B"
    outcome = verdict(tmp_path / "both", {"info": best}, {"net": "vgg11", "info": best})
    assert outcome.comparable
    chosen = [c for c in outcome.cautions if "chosen by digits_test/AP50" in c]
    assert [c[:27] for c in chosen] == [f"{x} is the model after 400 st"[:27] for x in "AB"]


def test_ensembles_are_compared_by_the_weights_of_their_further_members(tmp_path: Path) -> None:
    """TEST.ENSEMBLE has paths, behind which another training may lie. The first is the run."""

    def ensemble(*weights: str) -> dict[str, Any]:
        members = [{"run": "r", "net": "resnet18", "weights": w} for w in weights]
        return {"info": {"ensemble": members}}

    outcome = verdict(
        tmp_path / "same", ensemble("own", "x"), {"net": "vgg11", **ensemble("other", "x")}
    )
    assert outcome.comparable
    outcome = verdict(
        tmp_path / "other", ensemble("own", "x"), {"net": "vgg11", **ensemble("other", "y")}
    )
    assert [r for r in outcome.reasons if "further detectors" in r] == [
        "further detectors of the ensemble (hash of weights): x in A, y in B"
    ]


def test_the_order_of_annotations_is_no_difference(tmp_path: Path) -> None:
    """The hash is over what decides a score."""
    folder = fabricate_run(tmp_path / "a", num_images=8, num_samples=0)
    other = fabricate_run(tmp_path / "b", net="vgg11", num_images=8, num_samples=0)
    path = other / "results" / "digits_test" / "ground_truth.json.gz"
    truth = json.loads(gzip.decompress(path.read_bytes()))
    truth["annotations"].reverse()
    path.write_bytes(gzip.compress(json.dumps(truth).encode()))
    assert gather([folder, other]).verdict.comparable


def test_a_twin_from_scratch_is_told_which_preprocessing_it_lacks(tmp_path: Path) -> None:
    """Without a card Detectron2's defaults stand: another order of colours, and what to type."""
    other = {"INPUT.FORMAT": "BGR", "MODEL.PIXEL_MEAN": [103.5, 116.3, 123.7]}
    outcome = verdict(tmp_path, {}, {"pretrained": False, "overrides": other})
    assert not outcome.comparable
    (hint,) = [c for c in outcome.cautions if "preprocessing" in c]
    assert hint.startswith("No card gives B its preprocessing")
    assert 'INPUT.FORMAT "RGB" MODEL.PIXEL_MEAN "[118.0, 118.0, 118.0]"' in hint


def test_a_new_part_is_of_the_start_and_named_where_it_differs(tmp_path: Path) -> None:
    """Random res5 in one of two pretrained nets is no other detector, and yet a caution."""
    new = {"overrides": {"TRANSFER.NEW": ["res5.*"]}}
    outcome = verdict(tmp_path / "a", new, {"pretrained": False})
    assert outcome.comparable
    assert not [c for c in outcome.cautions if "TRANSFER.NEW" in c]
    outcome = verdict(tmp_path / "b", new, {"net": "resnet18"})
    assert outcome.comparable
    assert any("not as much of each net was pretrained" in c for c in outcome.cautions)


def test_the_length_in_words_is_what_was_trained() -> None:
    """Two runs that TEST.EARLY_STOP ended after 300 of 800 steps; of an older one all are known."""
    config = {"SOLVER.MAX_ITER": 800, "SOLVER.IMS_PER_BATCH": 4}
    ended: Any = SimpleNamespace(config=config, run=SimpleNamespace(info={"steps": 300}))
    older: Any = SimpleNamespace(config=config, run=SimpleNamespace(info={}))
    assert _schedule([ended, ended]).startswith(": 300 iterations of 4 images")
    assert _schedule([older, older]).startswith(": 800 iterations of 4 images")
    assert _schedule([ended, older]) == ""
