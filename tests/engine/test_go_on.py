"""A resume ends the step before it as it would have ended: metrics, evaluations, leftovers."""

import json
import types

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.engine import metric_writers
from resdet.engine.checkpoint import Checkpoints, resume
from resdet.engine.evaluation import Evaluation
from resdet.engine.loop import Schedule
from resdet.errors import DataError, Interrupted, TrainingStopped
from tests.support.loops import Killed, Stopped, make_loop, make_run

STEPS = 12


def train(run, start, *more, loop=None, evaluate=None):
    loop = loop or make_loop()
    weight = next(loop.model.parameters())
    hooks = [
        Schedule(),
        Checkpoints(run, 5),
        Evaluation(run, 5, evaluate or (lambda: {"set/error": float(weight.sum())})),
        *metric_writers.build_writers(run, STEPS),
        *more,
    ]
    loop.register_hooks(hooks)
    loop.train(start, STEPS)


def lines(run):
    text = (run.path / "metrics.json").read_text(encoding="utf-8")
    return [
        {k: v for k, v in json.loads(line).items() if k != "data_time"}
        for line in text.splitlines()
    ]


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A run in one go, a line every four steps: 3, 7, 11, and evaluations after 5 and 10."""
    monkeypatch.setattr(metric_writers, "PERIOD", 4)
    run = make_run(tmp_path / "whole")
    train(run, 0)
    found = lines(run)
    assert [line["iteration"] for line in found] == [3, 7, 4, 11, 9]
    return found


@pytest.mark.parametrize("step", range(5, STEPS))
@pytest.mark.parametrize("end", [Killed, Stopped])
def test_metrics_are_those_of_one_go(tmp_path, whole, step, end):
    """Losses are the middle of the last steps, also of those before the stop; an evaluation that
    was due is made; a line that a stop wrote early is not left beside the true one."""
    run = make_run(tmp_path / "r")
    with pytest.raises((RuntimeError, Interrupted)):
        train(run, 0, end(step))
    loop = make_loop()
    train(run, resume(loop, run), loop=loop)
    assert lines(run) == whole


def test_a_kill_after_the_last_checkpoint_still_leaves_the_last_line(tmp_path, whole):
    """The checkpoint is written before the writers write."""
    run = make_run(tmp_path / "r")
    loop = make_loop()

    class AtTheEnd(Killed):
        def before_step(self):
            pass

        def after_step(self):
            if self.trainer.iter == STEPS - 1:
                raise RuntimeError("killed")

    loop.register_hooks([Schedule(), Checkpoints(run, 5), AtTheEnd(0)])
    with pytest.raises(RuntimeError):
        loop.train(0, STEPS)
    again = make_loop()
    assert resume(again, run) == STEPS
    train(run, STEPS, loop=again)
    assert lines(run)[-1] == whole[-2]


def test_a_checkpoint_of_before_goes_on_with_the_lines_below_its_step(tmp_path, whole):
    """Without a record in it, and where metrics.json is shorter than it was."""
    run = make_run(tmp_path / "r")
    with pytest.raises(RuntimeError):
        train(run, 0, Killed(9))
    (run.path / "metrics.json").write_text('{"iteration": 3}\n{"iterat', encoding="utf-8")
    loop = make_loop()
    assert resume(loop, run) == 5
    assert lines(run) == [{"iteration": 3}]


def test_images_lost_in_an_evaluation_stop_with_the_state_kept(tmp_path):
    """Exit code 3, and not the 2 of what can be mended before a start."""
    run = make_run(tmp_path / "r")

    def lost():
        raise DataError("a.jpg is gone")

    with pytest.raises(TrainingStopped, match=r"measure on could not be read: a\.jpg is gone"):
        train(run, 0, evaluate=lost)
    loop = make_loop()
    assert resume(loop, run) == 5


def test_an_evaluation_that_fails_again_on_a_resume_labels_no_state_wrongly(tmp_path):
    run = make_run(tmp_path / "r")

    def lost():
        raise DataError("a.jpg is gone")

    for _ in range(2):
        loop = make_loop()
        start = resume(loop, run) if run.checkpoints.exists() else 0
        with pytest.raises(TrainingStopped):
            train(run, start, loop=loop, evaluate=lost)
    assert [p.name for p in run.checkpoints.glob("*.pth")] == ["step_0000005.pth"]


def test_a_folder_that_was_removed_is_not_made_again(tmp_path):
    run = make_run(tmp_path / "r")

    class Removes(Killed):
        def before_step(self):
            if self.trainer.iter == self.steps:
                run.path.rename(tmp_path / "moved")

    loop = make_loop()
    loop.register_hooks([Schedule(), Checkpoints(run, 5), Removes(7)])
    with pytest.raises(TrainingStopped, match="is gone: its run.json was removed or moved"):
        loop.train(0, STEPS)
    assert not run.path.exists()
    with pytest.raises(TrainingStopped, match="is gone"):
        run.update(state="finished")
    assert not run.path.exists()


def test_a_step_that_is_not_taken_leaves_no_trace(tmp_path):
    """Its forward pass has moved the statistics and the count of live norms by then, and recorded
    scalars, as the heads of Detectron2 do."""
    run, loop = make_run(tmp_path / "r"), make_loop(spoil_at=3)
    losses = loop.losses

    def recording(x):
        loop.storage.put_scalar("head/accuracy", float(loop.iter))
        return losses(x)

    loop.losses = recording
    with pytest.raises(TrainingStopped, match="nan at step 3"):
        train(run, 0, loop=loop)
    again, whole = make_loop(), make_loop()
    assert resume(again, run) == 3
    assert max(i for _, pairs, _ in again._earlier["scalars"] for _, i in pairs) == 2
    whole.register_hooks([Schedule()])
    whole.train(0, 3)
    expected, output = whole.model.state_dict(), again.model.state_dict()
    assert expected.keys() == output.keys() and any("tracked" in name for name in expected)
    assert all(torch.equal(output[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("place", "kept"), [("losses", 7), ("step", 5)])
def test_a_worker_that_dies_while_a_step_is_computed_stops_with_a_true_state(tmp_path, place, kept):
    """torch raises it in the main process wherever that is; within the optimizer's step nothing
    of this step can be kept."""
    run, loop = make_run(tmp_path / "r"), make_loop()
    of = loop if place == "losses" else loop.optimizer
    inner = getattr(of, place)

    def struck(*args):
        made = inner(*args)
        if loop.iter == 7:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        return made

    setattr(of, place, struck)
    with pytest.raises(
        TrainingStopped, match=r"worker was lost at step 7: DataLoader worker \(pid"
    ):
        train(run, 0, loop=loop)
    again, whole = make_loop(), make_loop()
    assert resume(again, run) == kept
    whole.register_hooks([Schedule()])
    whole.train(0, kept)
    expected, output = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(output[name], expected[name]) for name in expected)


def test_seconds_of_killed_attempts_count_up_to_their_checkpoint(tmp_path, monkeypatch):
    """A step takes one second here; the two steps after the checkpoint are taken twice."""
    clock = [100.0]
    times = types.SimpleNamespace(monotonic=lambda: clock[0], perf_counter=lambda: clock[0])
    monkeypatch.setattr("resdet.engine.loop.time", times)

    class Second(Killed):
        def before_step(self):
            clock[0] += 1
            super().before_step()

    run = make_run(tmp_path / "r")
    loop = make_loop()
    with pytest.raises(RuntimeError):
        train(run, 0, Second(7), loop=loop)
    again = make_loop()
    assert resume(again, run) == 5
    clock[0] += 1000
    train(run, 5, Second(99), loop=again)
    assert again.seconds == STEPS
    finished = make_loop()
    assert resume(finished, run) == STEPS
    clock[0] += 1000
    train(run, STEPS, loop=finished)
    assert finished.seconds == STEPS
