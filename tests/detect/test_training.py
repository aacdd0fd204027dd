"""The whole of detection on a tiny VOC tree: hand-over, exact resume, results, refusals."""

import json

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import weights
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

CONFIG = trainings.detector(
    trainings.HANDED_OVER,
    {
        "SOLVER.MAX_ITER": 10,
        "SOLVER.STEPS": [8],
        "SOLVER.WARMUP_ITERS": 2,
        "SOLVER.CHECKPOINT_PERIOD": 5,
    },
)
WEIGHTS = ("MODEL.WEIGHTS", "net.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("detect")
    tiny.voc_tree(place / "voc")
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    trainings.net_to_hand_over(place / "net.safetensors")
    done = children.run_cli(*train("one"), cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def train(output, *more):
    return ("train_det", "--config", "c.yaml", "--output", output, *more, *WEIGHTS)


def test_killed_and_resumed_equals_one_go_to_the_bit(place):
    """F36: weights, and with them every detection, are equal; two workers make no difference."""
    killed = children.run_cli(*train("two"), cwd=place, kill_at=7)
    assert killed.returncode == -9, killed.stderr
    again = children.run_cli(*train("two", "--resume"), "DATALOADER.NUM_WORKERS", "2", cwd=place)
    assert again.returncode == 0, again.stderr
    one, two = (
        torch.load(place / n / "model_final.pth", weights_only=True)["model"]
        for n in ("one", "two")
    )
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    name = "coco_instances_results.json"
    assert results(place / "one", name) == results(place / "two", name)


def test_the_best_is_kept_and_equal_after_a_kill(place):
    """F37: never below the final AP50, and its file alone is scored to its value."""
    keys = ("TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "voc:voc:test/AP50")
    done = children.run_cli(*train("best"), *keys, cwd=place)
    assert done.returncode == 0, done.stderr
    run = Run.open(place / "best")
    record = run.info["best"]
    assert record["step"] in (2, 4, 6, 8, 10)
    assert record["value"] >= ap50(run.path)
    killed = children.run_cli(*train("best2"), *keys, cwd=place, kill_at=7)
    assert killed.returncode == -9, killed.stderr
    again = children.run_cli(*train("best2", "--resume"), *keys, cwd=place)
    assert again.returncode == 0, again.stderr
    one, two = (torch.load(place / n / "model_best.pth", weights_only=True)
                for n in ("best", "best2"))  # fmt: skip
    assert one["iteration"] == two["iteration"] == record["step"]
    assert all(torch.equal(one["model"][k], two["model"][k]) for k in one["model"])
    scored = score(place, "best_scored", "MODEL.WEIGHTS", "best/model_best.pth")
    assert scored.returncode == 0, scored.stderr
    assert ap50(place / "best_scored") == pytest.approx(record["value"], abs=1e-9)
    refused = score(place, "best", "MODEL.WEIGHTS", "best/model_best.pth")
    assert refused.returncode == 2 and "add --best" in refused.stderr, refused.stderr
    # By its run; a run folder of its own, with what is known of the training.
    for output, flags in (("best", ["--best"]), ("best_best", [])):
        by_run = score(place, output, *flags, *WEIGHTS)
        assert by_run.returncode == 0, by_run.stderr
        assert "run folder: best_best" in by_run.stdout
        of_best = Run.open(place / "best_best").info
        assert of_best["best_of"] == {**record, "folder": "best"}
        assert (of_best["train_sets"], of_best["samples"]) == (run.info["train_sets"], 20)
        assert ap50(place / "best_best") == pytest.approx(record["value"], abs=1e-9)
    assert Run.open(place / "best").info["best"] == record


def ap50(run_path):
    """In percent, by the rule that the set's year asks for."""
    voc = json.loads((folder_of(run_path) / "voc.json").read_text(encoding="utf-8"))
    (rule,) = (r for r in ("11-point", "area") if voc[r]["protocol"] == voc["primary"])
    return 100 * voc[rule]["mean_ap"]


def folder_of(run_path):
    run = Run.open(run_path)
    (name,) = run.result_sets()
    return run.results(name)


def results(run_path, name):
    return json.loads((folder_of(run_path) / name).read_text(encoding="utf-8"))


def test_every_tensor_is_counted_and_the_card_decides(place):
    """100 tensors of the net without its last layer arrive; RGB and mean come from the card."""
    run = Run.open(place / "one")
    transfer = run.read("transfer.json")
    assert (transfer["expected"], transfer["arrived"], transfer["new"]) == (100, 100, [])
    assert transfer["left_over"] == ["linear.bias", "linear.weight"]
    assert "FORMAT: RGB" in run.config_text and "WIDTH: 0.125" in run.config_text
    assert run.read("card.json")["net"] == "resnet18"
    assert run.state == "finished" and run.info["samples"] == 20


def test_frozen_stages_keep_the_handed_over_values(place):
    """FREEZE_AT 2 and frozen norms: stem and res2 leave training as they came."""
    handed, _ = weights.load(place / "net.safetensors")
    model = torch.load(place / "one" / "model_final.pth", weights_only=True)["model"]
    for name in ("stem.conv1.weight", "res2.0.conv1.weight", "res4.1.conv2.norm.running_mean"):
        assert torch.equal(model[f"backbone.{name}"], handed[name])
    assert not torch.equal(model["backbone.res4.0.conv1.weight"], handed["res4.0.conv1.weight"])


def test_the_result_folder_holds_what_evaluation_and_report_read(place):
    folder = folder_of(place / "one")
    images = results(place / "one", "images.json")
    assert images["expected"] == images["evaluated"] == ["000003", "000004", "000005"]
    assert {p.name for p in folder.glob("comp4_det_test_*")} == {
        "comp4_det_test_ape.txt",
        "comp4_det_test_bee.txt",
    }
    voc = results(place / "one", "voc.json")
    assert voc["11-point"]["images"] == {"expected": 3, "evaluated": 3, "missing": 0}
    assert len(list((folder / "samples").iterdir())) == 3


def test_a_part_of_a_set_is_scored_while_training_and_marked(place):
    """Two of three images, by the fast engine; the end has the numbers of the run without it, and
    no file of a part."""
    keys = ("TEST.EVAL_PERIOD", "5", "TEST.EVAL_IMAGES", "2", "EVAL.ENGINE", "fast")
    done = children.run_cli(*train("parts"), *keys, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = (place / "parts" / "metrics.json").read_text(encoding="utf-8").splitlines()
    names = {name for line in lines for name in json.loads(line) if "AP50" in name}
    assert names == {"voc:voc:test (2 of 3 images)/AP50"}
    assert results(place / "parts", "voc.json") == results(place / "one", "voc.json")
    assert results(place / "parts", "images.json")["evaluated"] == ["000003", "000004", "000005"]
    assert Run.open(place / "parts").result_sets() == Run.open(place / "one").result_sets()


def test_eval_only_gives_the_same_numbers(place):
    before = results(place / "one", "voc.json")
    done = children.run_cli(
        "train_det", "--config", "c.yaml", "--output", "one", "--eval-only", cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert results(place / "one", "voc.json") == before


def test_explain_trains_nothing(place):
    # Nor does it need the data.
    done = children.run_cli(
        *train("three", "--explain", "DATASETS.TRAIN", "('voc:nowhere:train',)"), cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert "the card of net.safetensors" in done.stdout
    assert not (place / "three").exists()


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["MODEL.WEIGHTS", ""], "TRANSFER.FROM_SCRATCH True to train from random weights"),
        (
            ["INPUT.FORMAT", "BGR", *WEIGHTS],
            "INPUT.FORMAT is 'BGR' (command line), expected 'RGB' (the card",
        ),
        (["MODEL.NET.NAME", "resnet34", *WEIGHTS], "expected 'resnet18'"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "80", *WEIGHTS], "NUM_CLASSES is 80 (command line)"),
        (["DATASETS.TEST", "('voc:voc:none',)", *WEIGHTS], "none.txt"),
        (  # F6: the very set, stated on both sides
            ["DATASETS.TEST", "('voc:voc:train',)", *WEIGHTS],
            "3 of 3 test images of voc:voc:train are also training images (same file: 3)",
        ),
    ],
)
def test_contradictions_are_refused_before_a_run_folder_is_made(place, opts, words):
    """F17, F19, F43: exit code 2, both values, no traceback."""
    done = children.run_cli("train_det", "--config", "c.yaml", "--output", "four", *opts, cwd=place)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "four").exists()


def score(place, output, *opts):
    return children.run_cli(
        "train_det", "--config", "c.yaml", "--output", output, "--eval-only", *opts, cwd=place
    )


def test_a_run_is_scored_as_it_was_made(place):
    """A key that shapes detections is refused: compare would believe config.yaml."""
    before = results(place / "one", "voc.json")
    done = score(place, "one", "INPUT.MIN_SIZE_TEST", "36")
    assert done.returncode == 2
    assert "INPUT.MIN_SIZE_TEST is 36 (command line), the run was made with 72" in done.stderr
    done = score(place, "one", "MODEL.WEIGHTS", "two/model_final.pth")
    assert done.returncode == 2
    assert "is the run of another model, made from net.safetensors" in done.stderr
    assert results(place / "one", "voc.json") == before


def test_a_detector_is_scored_into_a_folder_of_its_own(place):
    """The same weights give the same detections; the folder is a run like any other."""
    done = score(place, "fresh", "MODEL.WEIGHTS", "one/model_final.pth")
    assert done.returncode == 0, done.stderr
    name = "coco_instances_results.json"
    ours, theirs = (results(place / n, name) for n in ("fresh", "one"))
    assert [d["category_id"] for d in ours] == [d["category_id"] for d in theirs]
    # The same program on the same machine; files hold seven digits of a score below 1.
    assert max(abs(a["score"] - b["score"]) for a, b in zip(ours, theirs, strict=True)) < 1e-5
    assert Run.open(place / "fresh").state == "finished"
    again = score(place, "fresh")
    assert again.returncode == 0, again.stderr
    assert results(place / "fresh", name) == ours
    done = score(place, "none", "MODEL.WEIGHTS", "net.safetensors")
    assert done.returncode == 2 and "holds a classifier, resnet18; " in done.stderr
    done = score(place, "none")
    assert done.returncode == 2 and "nothing to score" in done.stderr
    assert not (place / "none").exists()


@pytest.mark.numeric
def test_the_fast_form_gives_the_same_detections(place):
    """ENGINE.FAST_INFERENCE against off, from the result files: one for one, within rounding."""
    weights_of = ("MODEL.WEIGHTS", "one/model_final.pth")
    done = score(place, "fast", *weights_of, "ENGINE.FAST_INFERENCE", "on")
    assert done.returncode == 0, done.stderr
    name = "coco_instances_results.json"
    ours, theirs = (results(place / n, name) for n in ("fast", "one"))
    assert len(ours) == len(theirs) > 0
    # In order of score: neighbours lie 8e-4 apart, rounding moves one by 1e-7 (seen).
    for a, b in zip(ours, theirs, strict=True):
        assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
        assert abs(a["score"] - b["score"]) < 1e-3
        assert max(abs(p - q) for p, q in zip(a["bbox"], b["bbox"], strict=True)) < 0.1


def test_compiling_is_refused_before_anything_is_read(place):
    done = children.run_cli(*train("none"), "ENGINE.COMPILE", "on", cwd=place)
    assert done.returncode == 2 and "ENGINE.FAST_TRAINING on is what" in done.stderr
    assert "with_objects" not in done.stderr + done.stdout and not (place / "none").exists()


@pytest.mark.numeric
def test_fast_training_learns_the_same(place):
    """ENGINE.FAST_TRAINING against off: every recorded loss within rounding, the same tensors."""
    done = children.run_cli(*train("quick"), "ENGINE.FAST_TRAINING", "on", cwd=place)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        [json.loads(line) for line in (place / n / "metrics.json").read_text().splitlines()]
        for n in ("quick", "one")
    )
    assert len(ours) == len(theirs) > 0
    # Rounding of 1e-7 a layer, after ten steps: 3e-8 to 3e-5 of a loss were seen (SSE4.1, AVX-512).
    # Each step starts from the last one's rounding, hence no tighter bound.
    for a, b in zip(ours, theirs, strict=True):
        losses = [key for key in b if "loss" in key]
        assert len(losses) == 5
        for key in losses:
            assert a[key] == pytest.approx(b[key], rel=1e-2, abs=1e-4), key
    one, two = (
        torch.load(place / n / "model_final.pth", weights_only=True)["model"]
        for n in ("one", "quick")
    )
    assert list(one) == list(two)
    assert any(not torch.equal(one[k], two[k]) for k in one)  # it was on


def test_classes_are_compared_by_name_when_a_run_is_scored(place):
    """F22: another order is mapped, another list refused; a count alone would let both pass."""
    before = results(place / "one", "voc.json")["11-point"]["classes"]
    (place / "voc" / "classes.txt").write_text("bee\nape\n", encoding="utf-8")
    try:
        done = score(place, "one")
        assert done.returncode == 0, done.stderr
        assert results(place / "one", "voc.json")["11-point"]["classes"] == before
        (place / "voc" / "classes.txt").write_text("ape\nbee\ncat\n", encoding="utf-8")
        done = score(place, "one")
        assert done.returncode == 2
        assert "was trained for 2 classes, voc:voc:test has 3; not in both: cat" in done.stderr
    finally:
        (place / "voc" / "classes.txt").unlink()
    assert score(place, "one").returncode == 0


def test_a_training_that_starts_from_a_detector_fits_its_heads_by_class(place):
    """F22: the net arrives whole; the predictors go by name, or start fresh and are counted."""
    (place / "voc" / "classes.txt").write_text("cat\nbee\nape\n", encoding="utf-8")
    steps = ("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "MODEL.WEIGHTS", "one/model_final.pth")
    options = {"fresh_heads": (), "named_heads": ("TRANSFER.HEADS", "by_name")}
    command = ("train_det", "--config", "c.yaml", "--output")
    try:
        for output, more in options.items():
            done = children.run_cli(*command, output, *steps, *more, cwd=place)
            assert done.returncode == 0, done.stderr
    finally:
        (place / "voc" / "classes.txt").unlink()
    fresh, named = (json.loads((place / n / "transfer.json").read_text()) for n in options)
    assert len(fresh["new"]) == 4 and fresh["expected"] == fresh["arrived"] + 4
    assert fresh["heads"] == "heads: new, 2 classes in the file, 3 others here"
    assert named["new"] == [] and named["expected"] == named["arrived"] == fresh["expected"]
    assert sorted(named["head_classes"]) == [["ape", "ape"], ["bee", "bee"]]
    assert "background too; fresh: cat" in named["heads"]


def test_a_late_flag_is_named_whatever_else_is_missing(place):
    """docs/commands.md: a flag after the first pair is an error of its own."""
    done = children.run_cli("train_det", "SOLVER.MAX_ITER", "3", "--config", "c.yaml", cwd=place)
    assert done.returncode == 2
    assert "--config comes after the first KEY VALUE pair" in done.stderr


def test_the_stock_model_trains_in_our_loop(place):
    """MODEL.NET.NAME "" is off: Detectron2's own R-50-C4, built, trained and scored."""
    opts = [
        "MODEL.NET.NAME", "", "MODEL.BACKBONE.NAME", "build_resnet_backbone",
        "MODEL.ROI_HEADS.NAME", "Res5ROIHeads", "TRANSFER.FROM_SCRATCH", "True",
        "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16",
        "MODEL.RESNETS.WIDTH_PER_GROUP", "8", "MODEL.RESNETS.NORM", "BN", "SOLVER.MAX_ITER", "1",
    ]  # fmt: skip
    done = children.run_cli(
        "train_det", "--config", "c.yaml", "--output", "stock", *opts, cwd=place
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Run.open(place / "stock").state == "finished"
