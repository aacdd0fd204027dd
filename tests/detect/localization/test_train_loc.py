"""Appendix C from end to end on a made-up tree: train, result files, evaluate, kill and resume."""

from __future__ import annotations

import dataclasses
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
from resdet.data import DetectionSet, catalog
from resdet.data.ilsvrc.ilsvrc_trial import wnid
from resdet.detect.localization.localization_run import check_sets
from resdet.errors import DataError
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


def results_in(run: Path) -> Path:
    """The folder of the only set that was tested."""
    (folder,) = (run / "localization").iterdir()
    return folder


def contents(run: Path) -> dict[str, bytes]:
    """Result files and rows; the weights apart, which a zip dates."""
    return {p.name: p.read_bytes() for p in results_in(run).iterdir()}


def proposals(run: Path) -> bytes:
    return (run / "proposals" / "proposals.safetensors").read_bytes()


def states(run: Path) -> list[dict[str, torch.Tensor]]:
    return [
        torch.load(run / step / "model_final.pth", weights_only=True)["model"]
        for step in ("rpn", "rcnn")
    ]


def assert_equal_runs(one: Path, two: Path) -> None:
    for mine, theirs in zip(states(one), states(two), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert proposals(one) == proposals(two)
    assert contents(one) == contents(two)


def test_all_rows_are_there_and_printed(place: Path) -> None:
    rows = json.loads((results_in(place / "one") / "rows.json").read_text())
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
    folder = results_in(place / "one")
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
    lines = (results_in(place / "one") / "centre_rpn_predicted.txt").read_text().splitlines()
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


# Runs a command and dies by SIGKILL as the given image of a pass over a set is done.
KILLED_AT_IMAGE = """
import os, signal, sys
from resdet.cli.main import main
from resdet.detect.alternating import proposal_making
from resdet.detect.testing import partial_results
proposal_making.PART_IMAGES = partial_results.PART_IMAGES = 2
parts = {"proposals": proposal_making.ProposalParts, "test": partial_results.Parts}[sys.argv[1]]
add, seen = parts.add, []
def killed(self, image_id, *results):
    seen.append(image_id)
    if len(seen) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, image_id, *results)
parts.add = killed
sys.exit(main(sys.argv[3:]))
"""


def killed_at_image(place: Path, where: str, image: int, *words: str) -> None:
    done = children.python("-c", KILLED_AT_IMAGE, where, image, *words, cwd=place,
                           OMP_NUM_THREADS="1")  # fmt: skip
    assert done.returncode == -9, done.stderr


def test_killed_and_resumed_equals_one_go_to_the_bit(place: Path) -> None:
    """Killed in the RPN's training, within its proposals, at a step of R-CNN's training, and within
    the second test; each time it goes on from the newest checkpoint or part, and what is done is
    not done again."""
    run = place / "killed"
    killed = children.run_cli(*command("killed"), cwd=place, kill_at=4)
    assert killed.returncode == -9, killed.stderr
    assert not (run / "proposals").exists()
    killed_at_image(place, "proposals", 6, *command("killed", "--resume"))
    assert len(list((run / "proposals" / "parts").glob("part_*.safetensors"))) == 2
    assert not (run / "rcnn").exists()
    killed = children.run_cli(*command("killed", "--resume"), cwd=place, kill_at=3)
    assert killed.returncode == -9, killed.stderr
    assert (run / "rcnn" / "checkpoints" / "step_0000002.pth").exists()
    assert not (run / "proposals" / "parts").exists()
    # 20 images of the first test, then 4 whole parts of the second.
    killed_at_image(place, "test", 20 + 9, *command("killed", "--resume"))
    parts = results_in(run) / "parts_dense"
    assert len(list(parts.glob("part_*.json"))) == 4
    again = children.run_cli(*command("killed", "--resume", "auto"), cwd=place)
    assert again.returncode == 0, again.stderr
    assert "loc_val, centre: done before, nothing has changed" in again.stderr
    assert "8 of 20 images are there already" in again.stderr
    assert_equal_runs(place / "one", run)


def test_a_finished_step_is_not_trained_again(place: Path) -> None:
    """R-CNN's model taken away: the RPN and the proposals stay, R-CNN comes back the same."""
    shutil.copytree(place / "one", place / "again")
    (place / "again" / "rcnn" / "model_final.pth").unlink()
    done = children.run_cli(*command("again", "--resume"), cwd=place)
    assert done.returncode == 0, done.stderr
    assert "rpn/model_final.pth is there: it is not trained again" in done.stderr
    assert "proposals.safetensors is there: it is not made again" in done.stderr
    assert_equal_runs(place / "one", place / "again")


def test_a_finished_run_is_not_tested_again(place: Path) -> None:
    """It states that; a row whose file was changed is made again, and nothing else."""
    shutil.copytree(place / "one", place / "done")
    run = results_in(place / "done")
    before = {path.name: path.stat().st_mtime_ns for path in run.glob("*.txt")}
    done = children.run_cli(*command("done", "--resume"), cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done before, nothing has changed") == 2
    assert "blacklisted" in done.stdout
    assert {path.name: path.stat().st_mtime_ns for path in run.glob("*.txt")} == before
    (run / "dense_rpn_known.txt").write_text("another")
    done = children.run_cli(*command("done", "--resume"), cwd=place)
    assert "centre: done before" in done.stderr and "dense: done before" not in done.stderr
    assert_equal_runs(place / "one", place / "done")


def test_another_blacklist_is_tested_again(place: Path, ilsvrc_root: Path) -> None:
    """It decides the error; `evaluate ilsvrc loc` reads it anew, and both must say the same."""
    shutil.copytree(place / "one", place / "listed")
    (kit,) = (ilsvrc_root / "devkit" / "data").glob("*_clsloc_validation_blacklist.txt")
    before = kit.read_text()
    index = next(n for n in range(1, 20) if str(n) not in before.split())
    kit.write_text(f"{before.rstrip()}\n{index}\n")
    try:
        done = children.run_cli(*command("listed", "--resume"), cwd=place)
    finally:
        kit.write_text(before)
    assert done.returncode == 0, done.stderr
    assert "boxes of 2 blacklisted" in done.stdout and "done before" not in done.stderr
    rows = json.loads((results_in(place / "listed") / "rows.json").read_text())
    assert {row["blacklisted"] for row in rows} == {2}


def test_two_processes_give_what_one_gives(place: Path) -> None:
    """R-CNN on the RPN and the proposals of one process: the sum of the same regions' gradients in
    another order. Proposals and results of one net are equal to the bit."""
    run = place / "two"
    shutil.copytree(place / "one", run)
    shutil.rmtree(run / "rcnn")
    shutil.rmtree(run / "proposals")
    shutil.rmtree(run / "localization")
    done = children.run_cli(*command("two", "--resume"), cwd=place, processes=2)
    assert done.returncode == 0, done.stderr
    assert proposals(run) == proposals(place / "one")
    for mine, theirs in zip(states(run), states(place / "one"), strict=True):
        for name, tensor in mine.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)
    shutil.copytree(run, place / "two_tested")
    shutil.rmtree(place / "two_tested" / "localization")
    done = children.run_cli(*command("two_tested", "--eval-only"), cwd=place)
    assert done.returncode == 0, done.stderr
    assert contents(place / "two_tested") == contents(run)


def test_an_rpn_trains_in_two_processes(place: Path) -> None:
    done = children.run_cli(*command("rpn_of_two"), "LOC.RCNN", "off", cwd=place, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("blacklisted") == 1  # one process prints
    metrics = (place / "rpn_of_two" / "rpn" / "metrics.json").read_text().splitlines()
    assert json.loads(metrics[-1])["iteration"] == 5
    assert len(contents(place / "rpn_of_two")) == 5  # 2 tests, known and predicted, and the rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("LOC.TEST", "('centre',)"), "LOC.TEST is ['centre'], the run was started with"),
        (("SOLVER.MAX_ITER", "8"), "SOLVER.MAX_ITER is 8, the run was started with 6"),
    ],
    ids=["tests", "steps"],
)
def test_what_shapes_a_step_may_not_change_on_resume(
    place: Path, words: tuple[str, ...], message: str
) -> None:
    """R-CNN trains on proposals of the last test; a finished step is as long as it is."""
    done = children.run_cli(*command("one", "--resume"), *words, cwd=place)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_a_resume_on_other_images_is_refused(place: Path) -> None:
    """The run states another hash of its training set than the tree has."""
    shutil.copytree(place / "one", place / "changed")
    info = json.loads((place / "changed" / "run.json").read_text())
    assert [(s["name"].rpartition(":")[2], s["images"]) for s in info["train_sets"]] == [
        ("loc_train", 27)
    ]
    info["train_sets"][0]["hash"] = "0" * 64
    (place / "changed" / "run.json").write_text(json.dumps(info))
    done = children.run_cli(*command("changed", "--resume"), cwd=place)
    assert done.returncode == 2, done.stderr
    assert "ENGINE.ALLOW_CHANGED_DATA" in done.stderr


def test_eval_only_adds_rows_and_leaves_the_others(place: Path) -> None:
    shutil.copytree(place / "one", place / "scored")
    before = contents(place / "scored")
    words = ("--eval-only", "LOC.TEST", "('centre',)", "LOC.SIZES", "(40,)")
    done = children.run_cli(*command("scored", *words[:1]), *words[1:], cwd=place)
    assert done.returncode == 0, done.stderr
    assert contents(place / "scored") == before


def test_eval_only_reads_images_as_the_run_did_and_needs_no_classifier(place: Path) -> None:
    """The net's name is known from the run, which trained with MODEL.WEIGHTS: the config has none.
    The run's own limit of pixels, which is less than an image has, holds for the test."""
    run = place / "as_trained"
    shutil.copytree(place / "one", run)
    shutil.rmtree(run / "localization")
    words = ("train_loc", "--config", "c.yaml", "--output", "as_trained", "--eval-only")
    done = children.run_cli(*words, "LOC.SCORES", "scores.npz", cwd=place)
    assert done.returncode == 0, done.stderr
    assert contents(run) == contents(place / "one")
    text = (run / "config.yaml").read_text()
    tree = yaml.safe_load(text)
    tree["INPUT"]["MAX_PIXELS"] = 100
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    done = children.run_cli(*words, "LOC.SCORES", "scores.npz", cwd=place)
    assert done.returncode != 0 and "INPUT.MAX_PIXELS" in done.stderr


@pytest.mark.parametrize(
    ("output", "words", "message"),
    [
        ("absent", ("--eval-only",), "absent is no run folder"),
        ("one", ("--eval-only", "MODEL.WEIGHTS", "other.pth"), "Leave MODEL.WEIGHTS out"),
        ("one", ("--eval-only", "LOC.CROP", "36"), "or train with the new ones"),
        ("one", ("--eval-only", "--explain"), "--explain is about a training"),
    ],
    ids=["no-run", "weights", "key", "explain"],
)
def test_eval_only_of_something_else_is_refused_with_what_train_loc_can_do(
    place: Path,
    output: str,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """It tests the two nets of a run: it takes no --best and no file of weights."""
    monkeypatch.chdir(place)
    assert main(["train_loc", "--config", "c.yaml", "--output", output, *words]) == 2
    page = capsys.readouterr().err
    assert message in page
    assert "--best" not in page and "of its own" not in page
    assert not (place / "absent").exists()


def test_damaged_rows_are_refused_before_the_test(place: Path) -> None:
    run = place / "damaged_rows"
    shutil.copytree(place / "one", run)
    (results_in(run) / "rows.json").write_text('[{"net": "rpn"}]', encoding="utf-8")
    done = children.run_cli(*command("damaged_rows", "--eval-only"), cwd=place)
    assert done.returncode == 2, done.stderr
    assert "rows.json is damaged" in done.stderr


def test_damaged_proposals_are_made_again(place: Path) -> None:
    """One byte of a box: R-CNN would stop at the image, at each start."""
    run = place / "damaged_proposals"
    shutil.copytree(place / "one", run)
    (run / "rcnn" / "model_final.pth").unlink()
    path = run / "proposals" / "proposals.safetensors"
    raw = bytearray(path.read_bytes())
    raw[4096 + 5] ^= 1
    path.write_bytes(raw)
    done = children.run_cli(*command("damaged_proposals", "--resume"), cwd=place)
    assert done.returncode == 0, done.stderr
    assert "They are made again." in done.stderr
    assert_equal_runs(place / "one", run)


def test_an_image_without_a_box_is_refused_before_anything_trains(ilsvrc_root: Path) -> None:
    """Its class is known from the development kit. One of the blacklist, the last, is not scored,
    but could not train."""
    data = catalog.load_detection(f"ilsvrc:{ilsvrc_root}:loc_val")

    def without_box(place: int) -> DetectionSet:
        records = [dict(record) for record in data.records]
        records[place]["annotations"] = []
        return dataclasses.replace(data, records=records)

    check_sets(data, without_box(-1))
    for train, test in ((None, without_box(3)), (without_box(-1), data)):
        with pytest.raises(
            DataError, match=r"1 of 20 images have no box of their class\.\n.*val_0"
        ):
            check_sets(train, test)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("LOC.CROP", "64"), "LOC.JITTER is 32, smaller than LOC.CROP 64"),
        (("MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.3"), "MODEL.ROI_HEADS.NMS_THRESH_TEST is read by"),
        (("DATASETS.TEST", "('ilsvrc:{root}:det_val',)"), "det_val has no class for each image"),
        (("LOC.STAGE", "res9"), "LOC.STAGE is res9"),
        (("LOC.SCORES", "absent.npz"), "absent.npz does not exist"),
        (("OUTPUT_DIR", "elsewhere"), "and OUTPUT_DIR elsewhere: both name the run folder"),
        (("DATASETS.TRAIN", "('ilsvrc:{root}:loc_test',)"), "loc_test has no annotations, so"),
        (
            ("DATASETS.TEST", "('ilsvrc:{root}:loc_test',)", "LOC.SCORES", ""),
            "loc_test has no annotations, so its classes are not known",
        ),
        (
            ("DATASETS.TEST", "('ilsvrc:{root}:loc_train',)", "LOC.SCORES", ""),
            "27 of 27 test images",
        ),
    ],
    ids=["crop", "other-key", "set", "stage", "scores", "output", "train", "test", "leak"],
)
def test_what_does_not_fit_is_refused(
    place: Path, ilsvrc_root: Path, words: tuple[str, ...], message: str
) -> None:
    name = f"refused_{words[0].rpartition('.')[2]}"
    words = tuple(word.replace("{root}", str(ilsvrc_root)) for word in words)
    done = children.run_cli(*command(name), *words, cwd=place)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


FULL = """
import shutil, sys
from collections import namedtuple
from resdet.cli.main import main
usage = namedtuple("usage", "total used free")
shutil.disk_usage = lambda path: usage(0, 0, int(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""


def test_proposals_that_will_not_fit_are_refused_before_a_step(place: Path) -> None:
    """300 MB hold the small RPN's checkpoints, but not a million proposals of each image."""
    words = (*command("full"), "LOC.PROPOSALS", "1000000")
    done = children.python("-c", FULL, 300_000_000, *words, cwd=place)
    assert done.returncode == 2, done.stderr
    assert "has 286 MB free; this training needs about" in done.stderr
    assert "of proposals and" in done.stderr and not (place / "full" / "rpn").exists()


def test_keys_of_loc_are_refused_elsewhere(place: Path) -> None:
    done = children.run_cli("train_det", "--config", "voc07_r50", "LOC.RCNN", "on", cwd=place)
    assert done.returncode == 2
    assert "LOC.RCNN is read by train_loc alone" in done.stderr
