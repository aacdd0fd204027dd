"""What `--profile` of a training leaves behind, also when it is stopped or was never begun."""

import argparse

import pytest
import torch

pytest.importorskip("detectron2")


from resdet import profile
from resdet.engine.profiling import left_in, profiled
from resdet.errors import ConfigError, Interrupted
from tests.support import loops

ON = argparse.Namespace(profile=True)
OFF = argparse.Namespace(profile=False)


def test_a_stopped_training_leaves_what_it_has(tmp_path, capsys):
    """SIGTERM in the 13th step: ten after the first three, and both files in the run folder."""
    run = loops.make_run(tmp_path / "r")
    with pytest.raises(Interrupted), profiled(ON, "train_det"), left_in(run):
        loops.train(loops.make_loop(), run, 0, 100, loops.Stopped(12))
    (section,) = run.read("profile.json")["sections"]
    assert (section["name"], section["first"]["calls"], section["steps"]["calls"]) == (
        "training",
        3,
        10,
    )
    assert list(section["steps"]["parts"]) == [
        "wait for data",
        "forward",
        "backward",
        "check of gradients",
        "optimizer step",
        "log and checkpoints",
    ]
    assert "training: 10 steps of" in capsys.readouterr().out
    assert (run.path / "profile.svg").read_text(encoding="utf-8").startswith("<svg")
    run.discard()
    assert not run.path.exists() or not list(run.path.glob("profile.*"))


def test_seconds_of_a_real_loop_add_up(tmp_path):
    """Sections, what was before and the rest are the whole; no row is negative."""
    run = loops.make_run(tmp_path / "r")
    with profiled(ON, "train_det"), left_in(run):
        loops.train(loops.make_loop(), run, 0, 12)
    report = run.read("profile.json")
    (section,) = report["sections"]
    parts = section["seconds"] + report["getting ready"] + report["other"]
    assert parts == pytest.approx(report["seconds"], abs=1e-9)
    rows = [section["first"], section["steps"]]
    assert sum(r["seconds"] for r in rows) + section["around"] == pytest.approx(section["seconds"])
    while rows:
        row = rows.pop()
        below = list(row.get("parts", {}).values())
        assert row["own"] >= 0
        assert row["own"] + sum(r["seconds"] for r in below) == pytest.approx(row["seconds"])
        rows += below


def test_a_profiled_loop_takes_the_same_steps(tmp_path):
    """Weights to the bit, dropout and norms included."""
    weights = []
    for args in (OFF, ON):
        loop, run = loops.make_loop(), loops.make_run(tmp_path / str(args.profile))
        with profiled(args, "train_det"):
            loops.train(loop, run, 0, 8)
        weights.append(loop.state_dict()["model"])
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_a_refused_command_leaves_no_profile(tmp_path, capsys):
    """Nothing was measured: no file in the folder, which may be another run's, and no table."""
    run = loops.make_run(tmp_path / "r")
    with pytest.raises(ConfigError), profiled(ON, "train_det"), left_in(run):
        raise ConfigError("no")
    assert not (run.path / "profile.json").exists() and capsys.readouterr().out == ""
    assert profile.active() is None
