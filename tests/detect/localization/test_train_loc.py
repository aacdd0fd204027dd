"""Appendix C from end to end on a made-up tree: train, result files, evaluate, kill and resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("detectron2")

from resdet import nets, weights
from resdet.cli.main import main
from resdet.data.ilsvrc.ilsvrc_trial import wnid
from resdet.evaluation.classification.score_files import ClassScores, save_scores
from resdet.formats.ilsvrc_tree import LOC, IlsvrcTree, read_images
from resdet.weights import Card, Input
from tests.support import children

CONFIG: dict[str, Any] = {
    "MODEL": {
        "DEVICE": "cpu",
        "BACKBONE": {"FREEZE_AT": 1},
        "ANCHOR_GENERATOR": {"SIZES": [[16, 32]]},
    },
    "INPUT": {"RANDOM_FLIP": "none"},
    "LOC": {
        "CROP": 32, "JITTER": [32, 40], "TEST_SIDE": 36, "HIDDEN": 8, "PROPOSALS": 4,
        "STAGE": "res4", "RCNN": "on", "RCNN_ITERS": 5, "TEST": ["centre", "dense"],
        "SIZES": [32, 48],
    },
    "SOLVER": {
        "IMS_PER_BATCH": 4, "BASE_LR": 0.01, "MAX_ITER": 6, "STEPS": [], "WARMUP_ITERS": 0,
        "CHECKPOINT_PERIOD": 2,
    },
    "SEED": 3,
}  # fmt: skip
WEIGHTS = ("MODEL.WEIGHTS", "net.safetensors", "LOC.SCORES", "scores.npz")
ROWS = [(t, n, c) for t in ("centre", "dense") for n in ("rpn", "rpn+rcnn")
        for c in ("known", "predicted")]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ilsvrc_root: Path) -> Path:
    place = tmp_path_factory.mktemp("loc")
    sets = {"TRAIN": [f"ilsvrc:{ilsvrc_root}:loc_train"], "TEST": [f"ilsvrc:{ilsvrc_root}:loc_val"]}
    (place / "c.yaml").write_text(yaml.safe_dump({**CONFIG, "DATASETS": sets}), encoding="utf-8")
    torch.manual_seed(0)
    net = nets.build("resnet18", 10, width=0.125)
    net(torch.randn(4, 3, 64, 64))
    card = Card("resnet18", Input("RGB", (60.0,) * 3, (50.0,) * 3), {"width": 0.125})
    weights.save(place / "net.safetensors", net.state_dict(), card)
    _scores(place / "scores.npz", ilsvrc_root)
    done = children.run_cli(*command("one"), cwd=place)
    assert done.returncode == 0, done.stderr
    (place / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return place


def _scores(path: Path, root: Path) -> None:
    """Random scores of ten classes in the order of sorted wnids, images in another order."""
    ids = read_images(IlsvrcTree(root, LOC).list_file("val")).ids
    values = np.random.default_rng(0).normal(size=(len(ids), 10))
    logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    images = tuple(f"val/{i}.JPEG" for i in reversed(ids))
    names = tuple(wnid(k) for k in range(10))
    labels = np.full(len(ids), -1)
    save_scores(path, ClassScores(logs.astype(np.float32), labels, images, names, "val", "hash"))


def command(output: str, *more: str) -> tuple[str, ...]:
    return ("train_loc", "--config", "c.yaml", "--output", output, *more, *WEIGHTS)


def contents(run: Path) -> dict[str, bytes]:
    """Result files and rows; the weights apart, which a zip dates."""
    folder = run / "localization"
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def states(run: Path) -> list[dict[str, torch.Tensor]]:
    return [
        torch.load(run / step / "model_final.pth", weights_only=True)["model"]
        for step in ("rpn", "rcnn")
    ]


def assert_equal_runs(one: Path, two: Path) -> None:
    for mine, theirs in zip(states(one), states(two), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert contents(one) == contents(two)


def test_all_rows_are_there_and_printed(place: Path) -> None:
    rows = json.loads((place / "one" / "localization" / "rows.json").read_text())
    assert [(r["testing"], r["net"], r["classes"]) for r in rows] == ROWS
    assert all(0 <= r["error"] <= 1 for r in rows)
    printed = (place / "printed.txt").read_text()
    assert "20 images, boxes of 1 blacklisted" in printed
    for row in rows:
        assert row["file"] in printed
    run = json.loads((place / "one" / "run.json").read_text())
    assert (run["kind"], run["state"]) == ("localization", "finished")


def test_evaluate_gives_the_rows_errors_of_the_files(
    place: Path, ilsvrc_root: Path, capsys: Any
) -> None:
    """From the tree's XML, lists and kit, not from the run's records."""
    folder = place / "one" / "localization"
    for row in json.loads((folder / "rows.json").read_text()):
        words = ["evaluate", "ilsvrc", "loc", str(folder / row["file"]), "--json", "--root"]
        assert main([*words, str(ilsvrc_root)]) == 0
        result = json.loads(capsys.readouterr().out)
        if row["classes"] == "known":
            assert row["error"] == result["known_class_localization_error"]
            # A guess for the known class has the right label.
            assert row["error"] == result["top5_localization_error"]
        else:
            assert row["error"] == result["top5_localization_error"]
            assert row["classification"] == result["top5_classification_error"]
        assert result["blacklisted"] == row["blacklisted"] == 1


def test_predicted_classes_are_the_five_best_of_the_scores(place: Path, ilsvrc_root: Path) -> None:
    """Row by row from the arrays: scores are in the order of wnids, the file in the kit's ids."""
    tree = IlsvrcTree(ilsvrc_root, LOC)
    ids = [line.split()[0] for line in tree.map_file.read_text().splitlines()]
    logs = np.load(place / "scores.npz")["log_probabilities"][::-1]  # images were reversed
    lines = (place / "one/localization/centre_rpn_predicted.txt").read_text().splitlines()
    assert len(lines) == len(logs) == 20
    for line, row in zip(lines, logs, strict=True):
        best = [ids.index(wnid(k)) + 1 for k in np.argsort(-row)[:5]]
        assert [int(float(v)) for v in line.split()[::5]] == best


def test_both_nets_start_from_the_classifier(place: Path) -> None:
    """The frozen first stage is the file's to the bit, in both."""
    given = weights.load(place / "net.safetensors")[0]
    rpn, rcnn = states(place / "one")
    assert torch.equal(rpn["backbone.stem.conv1.weight"], given["stem.conv1.weight"])
    for name, tensor in given.items():
        if "running_mean" in name and name.startswith(("stem", "res2", "res3", "res4")):
            assert torch.equal(rpn[f"backbone.{name}"], tensor)
            assert torch.equal(rcnn[f"net.{name}"], tensor)
    assert not any(name.startswith("net.linear") for name in rcnn)
    assert rpn["cls.weight"].shape == (6 * 10, 8, 1, 1)  # two sizes, three ratios
    assert rpn["reg.weight"].shape == (6 * 10 * 4, 8, 1, 1)


def test_killed_and_resumed_equals_one_go_to_the_bit(place: Path) -> None:
    """Killed in the RPN's training, then at the same step in R-CNN's; each time it goes on from the
    newest checkpoint, and what is done is not done again."""
    killed = children.run_cli(*command("killed"), cwd=place, kill_at=4)
    assert killed.returncode == -9, killed.stderr
    assert not (place / "killed" / "rcnn").exists()
    # The RPN goes on from step 4, so that the next kill is R-CNN's.
    killed = children.run_cli(*command("killed", "--resume"), cwd=place, kill_at=3)
    assert killed.returncode == -9, killed.stderr
    assert (place / "killed" / "rcnn" / "checkpoints" / "step_0000002.pth").exists()
    again = children.run_cli(*command("killed", "--resume", "auto"), cwd=place)
    assert again.returncode == 0, again.stderr
    assert_equal_runs(place / "one", place / "killed")


def test_a_finished_step_is_not_trained_again(place: Path) -> None:
    """R-CNN's model taken away: the RPN and the proposals stay, R-CNN comes back the same."""
    shutil.copytree(place / "one", place / "again")
    (place / "again" / "rcnn" / "model_final.pth").unlink()
    before = (place / "again" / "proposals" / "rows.npy").stat().st_mtime_ns
    done = children.run_cli(*command("again", "--resume"), cwd=place)
    assert done.returncode == 0, done.stderr
    assert "rpn/model_final.pth is there: it is not trained again" in done.stderr
    assert (place / "again" / "proposals" / "rows.npy").stat().st_mtime_ns == before
    assert_equal_runs(place / "one", place / "again")


def test_eval_only_adds_rows_and_leaves_the_others(place: Path) -> None:
    shutil.copytree(place / "one", place / "scored")
    before = contents(place / "scored")
    words = ("--eval-only", "LOC.TEST", "('centre',)", "LOC.SIZES", "(40,)")
    done = children.run_cli(*command("scored", *words[:1]), *words[1:], cwd=place)
    assert done.returncode == 0, done.stderr
    assert contents(place / "scored") == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("LOC.CROP", "64"), "LOC.JITTER is 32, smaller than LOC.CROP 64"),
        (("MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.3"), "MODEL.ROI_HEADS.NMS_THRESH_TEST is read by"),
        (("DATASETS.TEST", "('ilsvrc:{root}:det_val',)"), "det_val has no class for each image"),
        (("LOC.STAGE", "res9"), "LOC.STAGE is res9"),
        (("LOC.SCORES", "absent.npz"), "absent.npz does not exist"),
    ],
    ids=["crop", "other-key", "set", "stage", "scores"],
)
def test_what_does_not_fit_is_refused(
    place: Path, ilsvrc_root: Path, words: tuple[str, ...], message: str
) -> None:
    name = f"refused_{words[0].rpartition('.')[2]}"
    words = tuple(word.replace("{root}", str(ilsvrc_root)) for word in words)
    done = children.run_cli(*command(name), *words, cwd=place)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_keys_of_loc_are_refused_elsewhere(place: Path) -> None:
    done = children.run_cli("train_det", "--config", "voc07_r50", "LOC.RCNN", "on", cwd=place)
    assert done.returncode == 2
    assert "LOC.RCNN is read by train_loc alone" in done.stderr
