"""The classification benchmarks: peers are the same net, turns are whole, the trainer is exact."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import benchmarks
from benchmarks.classification.training import LOSS_BOUND, losses_apart
from benchmarks.turns import Training, Turn, in_turns, seconds_and_peaks
from tests.support import children

ROOT = Path(benchmarks.__file__).parents[1]
# Serves steps whose losses are 0, 1, 2, …; prints something of its own; ends by itself at 9.
SERVER = """
    from benchmarks.turns import Order
    order = Order()
    print("not an answer")
    order.step_done()
    for i in range(9):
        order.step_done(float(i))
    raise SystemExit(7)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "server.py").write_text(textwrap.dedent(SERVER), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    return "server"


def test_a_training_takes_the_steps_that_it_is_told(server: str) -> None:
    """Losses go on where the last turn ended; what it prints is no answer."""
    with Training(server) as training:
        first, second = training.turn(2), training.turn(3)
    assert first.losses == [0, 1] and second.losses == [2, 3, 4]
    assert second.seconds > 0 and second.peak_mb > 1


def test_a_training_that_ends_is_told_with_its_code(server: str) -> None:
    with Training(server) as training, pytest.raises(RuntimeError, match=r"server ended with 7"):
        training.turn(10)


def test_ways_alternate_and_the_warm_up_is_not_counted(server: str) -> None:
    """Two rounds of two steps behind one step: five losses, two times."""
    turns = in_turns({"a": lambda: Training(server)}, rounds=2, steps=2, warm_up=1)
    assert [turn.losses for turn in turns["a"]] == [[0], [1, 2], [3, 4]]
    seconds, peaks = seconds_and_peaks(turns)
    assert len(seconds["a"]) == 2 and peaks["a"] == turns["a"][-1].peak_mb
    assert seconds_and_peaks({"b": [Turn(1, [], 1), Turn(2, [], 5)]}) == ({"b": [2]}, {"b": 5})


@pytest.mark.numeric
def test_torchvisions_timms_and_our_resnet18_have_one_loss() -> None:
    """The same weights and batch, in training mode: what the benchmark sets side by side."""
    pytest.importorskip("timm")
    assert losses_apart() <= LOSS_BOUND


@pytest.mark.numeric
def test_the_trainer_takes_the_steps_of_a_bare_loop(tmp_path: Path) -> None:
    """Seven steps with all keys but COMPILE: the losses of a bare loop with the same settings."""
    page = tmp_path / "found.json"
    # Apart: it sets the log and the memory of its process.
    done = children.python(
        "-m", "benchmarks.classification.trainer_overhead", "--quick", "--json", page
    )
    assert done.returncode == 0, done.stderr
    (claim,) = json.loads(page.read_text(encoding="utf-8"))
    assert [row["name"] for row in claim["rows"]] == ["bare loop", "trainer"]
    assert claim["agrees"] and "losses of 7 steps" in claim["checked"]
