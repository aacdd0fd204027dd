"""`rank` from the command line: two backbones and a random one, on tiny images."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.run.folder import Run
from resdet.run.lock import held
from tests.support import children, tiny, trainings
from tests.support.fabricate import fabricate_run
from tests.support.pages import python_blocks

WORDS = (
    "--data", "voc:voc:train", "--test", "voc:voc:test", "--steps", "3", "--seeds", "1",
    "--size", "96", "--jobs", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("rank")
    tiny.voc_tree(root / "voc")
    trainings.net_to_hand_over(root / "net.safetensors")
    return root


@pytest.fixture(scope="module")
def ranking(place) -> Path:
    done = children.run_cli(
        "rank", "--backbones", "A=net.safetensors", "floor=random:net.safetensors", *WORDS,
        "--output", "out", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "printed.txt").write_text(done.stdout)
    return place / "out"


def test_a_ranking_ends_in_a_table_a_page_and_runs_that_compare_opens(place, ranking):
    printed = (place / "printed.txt").read_text()
    assert "COMPARABLE" in printed and "NOT COMPARABLE" not in printed
    assert "A" in printed and "floor" in printed
    assert (ranking / "leaderboard.html").exists()
    rows = json.loads((ranking / "leaderboard.json").read_text())["rows"]
    assert {row["backbone"] for row in rows} == {"A", "floor"}
    for row in rows:
        assert row["parameters"] > 0 and row["ms"] > 0 and row["memory_mb"] > 100
        assert row["objects"] == 3 and isinstance(row["logme"], float)
    runs = [ranking / "rows" / label / "seed_1" for label in ("A", "floor")]
    assert [Run.open(run).state for run in runs] == ["finished"] * 2
    done = children.run_cli("compare", *map(str, runs), "--output", "report", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_random_twin_is_the_same_net_untrained(ranking):
    from resdet import weights

    mine, card = weights.load(ranking / "weights" / "floor.safetensors")
    other, other_card = weights.load(ranking.parent / "net.safetensors")
    assert (card.net, card.net_options, card.input) == (
        other_card.net, other_card.net_options, other_card.input,
    )  # fmt: skip
    assert mine.keys() == other.keys() and card.data == {"name": "random"}
    assert not (mine["res2.0.conv1.weight"] == other["res2.0.conv1.weight"]).all()


def test_the_same_command_again_trains_nothing(place, ranking):
    ids = {run: Run.open(run).info["id"] for run in ranking.glob("rows/*/seed_1")}
    done = children.run_cli("rank", "--output", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "started" not in done.stderr
    assert {run: Run.open(run).info["id"] for run in ranking.glob("rows/*/seed_1")} == ids


def test_a_row_whose_cost_is_removed_is_measured_again_and_trains_nothing(place, ranking):
    """As the page says of one that was measured on a busy machine."""
    (ranking / "rows" / "floor" / "cost.json").unlink()
    done = children.run_cli("rank", "--output", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("started")] == [
        "started: measuring floor"
    ]


def test_a_row_is_added_and_the_others_stay(place, ranking):
    ids = {run: Run.open(run).info["id"] for run in ranking.glob("rows/*/seed_1")}
    done = children.run_cli(
        "rank", "--output", "out", "--add", "again=net.safetensors", "--json", cwd=place
    )
    assert done.returncode == 0, done.stderr
    board = json.loads(done.stdout)
    by_label = {row["backbone"]: row for row in board["rows"]}
    assert set(by_label) == {"A", "floor", "again"}
    # The same weights, seed and data: the same numbers.
    assert by_label["again"]["AP"] == by_label["A"]["AP"]
    assert by_label["again"]["logme"] == by_label["A"]["logme"]
    for run, known in ids.items():
        assert Run.open(run).info["id"] == known


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ((), "needs --data"),
        (("--data", "voc:voc:train"), "needs --backbones"),
        (("--backbones", "A=net.safetensors", "--data", "voc:voc:train"), "names one backbone"),
        (("--backbones", "no.pth", "random:resnet18", "--data", "voc:voc:train"), "random:no.pth"),
        (
            ("--backbones", "net.safetensors", "random:resnet18", "--data", "voc:voc:train"),
            "fewer than the 50",
        ),
        (
            ("--backbones", "net.safetensors", "random:resnet18", "--data", "voc:voc:train",
             "--test", "voc:./voc:train"),
            "are also training images",
        ),
        (
            ("--backbones", "net.safetensors", "random:resnet18", "--data", "voc:voc:train",
             "--test", "voc:voc:train"),
            "Leave --test out, and a fifth of voc:voc:train is held out",
        ),
        (("--add", "net.safetensors", "--output", "absent"), "--add needs a ranking"),
        (("--output", "out", "--config", "full.yaml"), "is the detector of --finalists"),
        (("--output", "out", "--finalists", "1"), "name its config, --config FILE"),
        (("--output", "out", "--finalists", "1", "--config", "voc07_r19"), "no preset of the name"),
        (
            ("--output", "out", "--finalists", "1", "--config", "voc07_r18", "SEED", "5"),
            "SEED is set by the ranking in each full training (1, 2, … as the rows have)",
        ),
        (
            ("--output", "out", "--finalists", "1", "--config", "voc07_r18", "MODEL.WEIGHTS", "x"),
            "MODEL.WEIGHTS is set by the ranking in each full training",
        ),
        (("--output", "absent"), "absent has no ranking to go on with. rank needs --backbones"),
        (("--output", "out", "--full", "B=out"), "expected LABEL=RUN with a label of the ranking"),
        (("--output", "out", "--full", "A=out"), "--full A=out: out is no run folder"),
        (
            ("--backbones", "net.safetensors", "random:resnt18", *WORDS),
            "random:resnt18: no file, run folder or address, and no net is called 'resnt18'; did",
        ),
        (("--output", "out", "--add", "A=random:resnet18"), "NAME=random:resnet18"),
        (("--output", "out", "--steps", "9"), "was started with --steps 3, and 9"),
        (("--output", "out", "--backbones", "B=net.safetensors"), "names others"),
        (
            ("--backbones", "net.safetensors", "random:resnet18", *WORDS[:4], "--budget", "soon"),
            "a time such as 15m",
        ),
        (
            ("--backbones", "net.safetensors", "random:resnet18", *WORDS[:4], "--size", "100"),
            "a multiple of 32",
        ),
        (
            ("--backbones", "net.safetensors", "random:resnet18", *WORDS[:4], "--seeds", "0"),
            "--seeds is 0, expected 1 or more",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_ranking_is_a_page_before_anything_runs(
    place, ranking, words, page, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    assert main(["rank", *words]) == 2
    assert page in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_a_row_that_cannot_be_built_is_named_and_the_ranking_stays(place, ranking):
    before = (ranking / "ranking.json").read_bytes()
    done = children.run_cli("rank", "--output", "out", "--add", "random:resnet19", cwd=place)
    assert done.returncode == 2
    assert "random:resnet19" in done.stderr and "no file, run folder or address" in done.stderr
    assert (ranking / "ranking.json").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_stop_leaves_a_ranking_that_goes_on(place, ranking):
    """A scheduler's SIGTERM while a row runs stops it, too; the same command ends with the numbers
    of one without it."""
    shutil.copytree(ranking, place / "stopped")
    row = place / "stopped" / "rows" / "floor"
    (row / "scores.json").unlink()
    shutil.rmtree(row / "seed_1")
    environment = {
        **os.environ, "PYTHONPATH": str(children.ROOT), "OMP_NUM_THREADS": "1",
        "RESDET_CACHE": str(place / "cache"),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "resdet", "rank", "--output", "stopped"],
        cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (row / "scores.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command goes on from here" in printed
    assert not (row / "seed_1" / "lock.json").exists()  # its training has ended
    done = children.run_cli("rank", "--output", "stopped", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    found = {row["backbone"]: row["AP"] for row in json.loads(done.stdout)["rows"]}
    rows = json.loads((ranking / "leaderboard.json").read_text())["rows"]
    assert found == {row["backbone"]: row["AP"] for row in rows}


def test_a_net_of_ones_own_is_ranked_by_the_script_that_registers_it(place):
    """The script of docs/own_net.md: each step of the ranking runs it, too."""
    (place / "own_net.py").write_text(python_blocks("own_net.md")[0], encoding="utf-8")
    done = children.python(
        "own_net.py", "rank", "--backbones", "A=net.safetensors", "own=random:squeezenet1_1",
        *WORDS, "--output", "own", cwd=place, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run.open(place / "own" / "rows" / "own" / "seed_1")
    # Of SqueezeNet 1.1's 26 convolutions all but the classifier's have weight and bias here.
    transfer = run.read("transfer.json")
    assert (transfer["expected"], transfer["arrived"]) == (50, 50)
    assert "COMPARABLE" in done.stdout and "NOT COMPARABLE" not in done.stdout


def test_finalists_are_trained_in_full_and_stand_beside_the_quick_verdict(place, ranking):
    """The first of two, under another detector, on the sets that the ranking was given."""
    shutil.copytree(ranking, place / "final")
    text = trainings.detector(
        trainings.HANDED_OVER, {"MODEL.NET.NAME": "vgg16", "DATASETS.TRAIN": ["voc:voc:test"]}
    )
    (place / "full.yaml").write_text(text, encoding="utf-8")
    words = ["rank", "--output", "final", "--finalists", "1", "--config", "full.yaml"]
    # A try that is refused leaves nothing that the mended command would be held against.
    refused = children.run_cli(*words, "TRANSFER.NEW", "('nothing',)", cwd=place)
    assert refused.returncode == 2 and "cannot begin" in refused.stderr
    # Nor do settings of one that was refused before its first step.
    (place / "final" / "full").mkdir(exist_ok=True)
    (place / "final" / "full" / "settings.json").write_text('{"config": "other", "keys": []}')
    done = children.run_cli(*words, "--json", "TEST.DETECTIONS_PER_IMAGE", "7", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["rows"]
    run = Run.open(place / "final" / "full" / rows[0]["backbone"] / "seed_1")
    assert run.state == "finished" and run.info["train_sets"][0]["name"] == "voc:voc:train"
    assert len(list((place / "final" / "full").glob("*/seed_*"))) == 1
    (scores,) = run.path.glob("results/*/voc.json")
    known = [json.loads(scores.read_text())["area"]["mean_ap"]]
    assert rows[0]["full_training"] == known
    assert all(row["full_training"] is None for row in rows[1:])
    started = run.info["id"]
    again = children.run_cli(*words, "TEST.DETECTIONS_PER_IMAGE", "7", cwd=place)
    assert again.returncode == 0 and Run.open(run.path).info["id"] == started
    assert "in full" not in again.stderr
    # A run that is named stays beside its row in later calls; here it is of the other's weights.
    first = rows[0]["backbone"]
    other = "A" if first == "floor" else "floor"
    for more in (["--full", f"{other}={run.path.relative_to(place)}"], []):
        shown = children.run_cli("rank", "--output", "final", "--json", *more, cwd=place)
        full = {r["backbone"]: r["full_training"] for r in json.loads(shown.stdout)["rows"]}
        assert {label: v for label, v in full.items() if v} == {first: known, other: known}
        assert "it started from other weights" in shown.stderr
    # One that is refused is not remembered.
    (place / "vgg").mkdir()
    fabricate_run(place / "vgg" / "run", net="vgg11", num_images=2, num_samples=0)
    wrong = children.run_cli("rank", "--output", "final", "--full", "A=vgg/run", cwd=place)
    assert wrong.returncode == 2 and "its backbone is a VGG-11" in wrong.stderr
    later = children.run_cli("rank", "--output", "final", "--json", cwd=place)
    assert later.returncode == 0 and "vgg" not in (place / "final" / "ranking.json").read_text()
    # Results that are gone leave the ranking's own table.
    shutil.move(run.path / "results", place / "aside")
    shown = children.run_cli("rank", "--output", "final", "--json", cwd=place)
    assert shown.returncode == 0 and "left out, as it cannot be read any more" in shown.stderr
    shutil.move(place / "aside", run.path / "results")
    other = children.run_cli(*words, cwd=place)
    assert other.returncode == 2
    assert "holds full trainings with another config or other keys" in other.stderr


def test_a_finalist_that_fits_no_detector_is_refused_before_any_is_trained(place, ranking):
    shutil.copytree(ranking, place / "unfit")
    (place / "wide.yaml").write_text(
        trainings.detector(trainings.HANDED_OVER, {"MODEL.NET.WIDTH": 0.5}), encoding="utf-8"
    )
    words = ["rank", "--output", "unfit", "--finalists", "2", "--config", "wide.yaml"]
    done = children.run_cli(*words, cwd=place)
    assert done.returncode == 2
    assert "cannot begin" in done.stderr and "MODEL.NET.WIDTH is 0.5 (wide.yaml" in done.stderr
    assert not list((place / "unfit" / "full").glob("*/seed_*"))


def test_a_ranking_has_one_process_at_a_time(place, ranking, monkeypatch, capsys):
    """A second one would begin anew what the first is measuring."""
    monkeypatch.chdir(place)
    before = (ranking / "ranking.json").read_bytes()
    with held(ranking / "lock.json", "now"):
        assert main(["rank", "--output", "out"]) == 2
    assert "out is in use by process" in capsys.readouterr().err
    assert (ranking / "ranking.json").read_bytes() == before
