"""The best model (F37): the right one is kept, whatever stops the training and wherever."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.atomic import atomic_path
from resdet.engine.checkpoint import is_whole, load, newest, resume
from resdet.engine.evaluation import BestModel, Evaluation, metric_of
from resdet.errors import ConfigError, RunError
from resdet.run.folder import Run
from tests.support.loops import Killed, make_loop, make_run, train

# Measured every 5 steps, so the best by AP50 is the one of 15 steps: a tie keeps the earlier.
VALUES = {5: 3.0, 10: math.nan, 15: 5.0, 20: 5.0, 25: 4.0}


class Best:
    """A training whose evaluations give stated values, in a run folder."""

    def __init__(self, path, values=VALUES, name="AP50"):
        self.run = Run.open(path) if path.exists() else make_run(path)
        self.file = path / "model_best.pth"
        self.loop = make_loop()
        self.measured = []
        self.model = BestModel(
            self.run, self.file, f"s/{name}", "hash", write=self.write, read=self.read
        )

        def evaluate():
            self.measured.append(self.loop.storage.iter + 1)
            return {f"s/{name}": values[self.measured[-1]]}

        self.hook = Evaluation(self.run, 5, evaluate, self.model)

    def write(self, path, record):
        with atomic_path(path) as temporary:
            torch.save({"model": self.loop.model.state_dict(), "best": record}, temporary)

    def read(self, path):
        return load(path)["best"] if is_whole(path) else None

    def train(self, *more, stop=30):
        train(self.loop, self.run, 0, stop, self.hook, *more)
        return self

    def resume(self, *more, stop=30):
        start = resume(self.loop, self.run)
        self.model.resume()
        train(self.loop, self.run, start, stop, self.hook, *more)
        return self

    @property
    def kept(self):
        state = load(self.file)
        record = {k: state["best"][k] for k in ("metric", "value", "step")}
        return record, state["model"]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Best(tmp_path_factory.mktemp("best") / "whole").train()


def state_after(steps, path):
    loop = make_loop()
    train(loop, make_run(path), 0, steps)
    return loop.model.state_dict()


def test_the_largest_is_kept_and_a_tie_or_nan_is_not(whole, tmp_path):
    """F37: by hand from VALUES; weights and statistics are those after 15 steps without any of
    this; file, run.json and the checkpoint agree, and `last` names another file."""
    record, model = whole.kept
    assert record == {"metric": "s/AP50", "value": 5.0, "step": 15}
    assert same(model, state_after(15, tmp_path / "r"))
    assert Run.open(whole.run.path).info["best"] == load(whole.file)["best"]
    checkpoint = newest(whole.run.checkpoints)
    assert load(checkpoint)["best"] == load(whole.file)["best"]
    assert (whole.run.checkpoints / "last").read_text(encoding="utf-8").strip() == checkpoint.name
    assert checkpoint.name == "step_0000030.pth"


def test_of_errors_the_smallest_is_kept(tmp_path):
    """F37: the direction is the metric's."""
    values = {5: 30.0, 10: 20.0, 15: 20.0, 20: 25.0, 25: 31.0}
    record, _ = Best(tmp_path / "r", values, "top1_error").train().kept
    assert record == {"metric": "s/top1_error", "value": 20.0, "step": 10}


def kill_in(monkeypatch, thing, name, when):
    """A kill at a place between two hooks: the method raises when it is called."""
    whole = getattr(thing, name)

    def killed(*args, **more):
        if when(*args, **more):
            raise KeyboardInterrupt
        return whole(*args, **more)

    monkeypatch.setattr(thing, name, killed)


@pytest.mark.parametrize(
    "place", ["before the evaluation", "before the file", "in the file", "before run.json", "later"]
)
def test_killed_anywhere_and_resumed_equals_one_go(whole, tmp_path, monkeypatch, place):
    """F37: the kill strikes at the evaluation after 15 steps, whose checkpoint is written."""
    first = Best(tmp_path / "r")
    is_fifteen = lambda *args, **more: first.loop.iter == 14  # noqa: E731
    kill = []
    with monkeypatch.context() as patch:
        if place == "before the evaluation":
            kill_in(patch, first.hook, "evaluate", is_fifteen)
        elif place == "before the file":
            kill_in(patch, first.model, "write", is_fifteen)
        elif place == "in the file":
            kill_in(patch, torch, "save", lambda state, path: "model_best" in str(path))
        elif place == "before run.json":
            kill_in(patch, first.run, "update", lambda **v: "best" in v and v["best"]["step"] > 5)
        else:
            kill = [Killed(17)]
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            first.train(*kill)
    again = Best(first.run.path).resume()
    assert again.kept[0] == whole.kept[0]
    assert same(again.kept[1], whole.kept[1])
    assert same(again.loop.model.state_dict(), whole.loop.model.state_dict())
    assert Run.open(again.run.path).info["best"]["value"] == 5.0
    expected = [20, 25] if place == "later" else [15, 20, 25]
    assert again.measured == ([5, 10, 15, 20, 25] if place == "in the file" else expected)


def test_a_lower_value_after_a_resume_does_not_replace_a_better_file(tmp_path):
    """F37, as reproduced with Detectron2: AP 40 of step 9 was overwritten by AP 12."""
    first = Best(tmp_path / "r", {5: 40.0, 10: 12.0}).train(stop=6)
    second = Best(first.run.path, {5: 40.0, 10: 12.0}).resume(stop=12)
    assert second.measured == [10]
    assert second.kept[0] == {"metric": "s/AP50", "value": 40.0, "step": 5}


def test_a_damaged_or_lost_file_is_named_and_the_next_evaluation_is_the_best(tmp_path, caplog):
    """F37: no record stays that no file has."""
    first = Best(tmp_path / "r").train(stop=16)
    first.file.write_bytes(first.file.read_bytes()[:1000])
    second = Best(first.run.path).resume()
    assert "the best of step 15, is gone or damaged" in caplog.text
    assert second.kept[0] == {"metric": "s/AP50", "value": 5.0, "step": 20}


def test_a_record_without_its_number_is_none(tmp_path):
    """Nothing can be compared with it; in run.json it is damage, which is named."""
    first = Best(tmp_path / "r").train(stop=16)
    state = load(first.file)
    del state["best"]["value"]
    torch.save(state, first.file)
    second = Best(first.run.path).resume()
    assert second.kept[0] == {"metric": "s/AP50", "value": 5.0, "step": 20}
    path = first.run.path / "run.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    del info["best"]["value"]
    path.write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(RunError, match=r"damaged: best\.value is missing"):
        Run.open(first.run.path)


def test_another_metric_starts_anew(tmp_path, caplog):
    """F37: TEST.BEST_METRIC may change on a resume; values of two metrics are not compared."""
    first = Best(tmp_path / "r").train(stop=16)
    second = Best(first.run.path, {20: 60.0, 25: 61.0}, "top1_error").resume()
    assert "is the best by s/AP50, not by s/top1_error" in caplog.text
    assert second.kept[0] == {"metric": "s/top1_error", "value": 60.0, "step": 20}


@pytest.mark.parametrize(
    ("stated", "period", "images", "words"),
    [
        ("AP", 5, 0, r"'AP', which is not measured here. There are a/AP50, b/AP, b/AP50\."),
        ("c/AP50", 5, 0, "'c/AP50', which is not measured here"),
        ("AP50", 0, 0, "TEST.EVAL_PERIOD is 0: nothing is measured before the end"),
        ("AP50", 5, 9, "TEST.EVAL_IMAGES 9: the best by a part of a set is not the best by the"),
    ],
)
def test_what_is_never_measured_is_refused(stated, period, images, words):
    """F37: a setting is read or refused."""
    test = {"BEST_METRIC": stated, "EVAL_PERIOD": period, "EVAL_IMAGES": images}
    cfg = SimpleNamespace(TEST=SimpleNamespace(**test))
    with pytest.raises(ConfigError, match=words):
        metric_of(cfg, {"a": ("AP50",), "b": ("AP", "AP50")})


def test_the_first_set_is_meant_where_none_is_named():
    measured = {"data/val": ("top1_error",), "data/test": ("top1_error",)}
    for stated, expected in (
        ("", ""),
        ("top1_error", "data/val/top1_error"),
        ("data/test/top1_error", "data/test/top1_error"),
    ):
        cfg = SimpleNamespace(
            TEST=SimpleNamespace(BEST_METRIC=stated, EVAL_PERIOD=5, EVAL_IMAGES=0)
        )
        assert metric_of(cfg, measured) == expected


# -- TEST.EARLY_STOP -----------------------------------------------------------------------------


def with_patience(best, patience):
    best.hook.patience = patience
    return best


@pytest.mark.parametrize(("patience", "end"), [(0, 30), (1, 10), (2, 25), (3, 30)])
def test_a_training_ends_after_so_many_evaluations_without_a_better_one(
    whole, tmp_path, patience, end
):
    """By hand from VALUES: NaN after 10 steps is no better; after 20 and 25 none is above 5."""
    best = with_patience(Best(tmp_path / "r"), patience).train()
    assert best.loop.iter == end and best.measured[-1] == min(end, 25)
    assert same(best.loop.model.state_dict(), state_after(end, tmp_path / "plain"))
    how = best.loop.how_it_ended()
    assert how == {"steps": end, "ended_by": "TEST.EARLY_STOP" if end < 30 else None}
    assert load(newest(best.run.checkpoints))["iteration"] == end


@pytest.mark.parametrize("killed_at", [12, 22, 24])
def test_a_resume_ends_where_one_go_would(tmp_path, killed_at):
    one = with_patience(Best(tmp_path / "one"), 2).train()
    first = with_patience(Best(tmp_path / "two"), 2)
    with pytest.raises(RuntimeError):
        first.train(Killed(killed_at))
    again = with_patience(Best(first.run.path), 2).resume()
    assert again.loop.iter == one.loop.iter == 25
    assert same(again.loop.model.state_dict(), one.loop.model.state_dict())


def test_a_resume_of_a_training_that_has_ended_takes_no_step_and_with_more_patience_some(tmp_path):
    ended = with_patience(Best(tmp_path / "r"), 2).train()
    again = with_patience(Best(ended.run.path), 2).resume()
    assert again.loop.iter == 25 and again.measured == []
    assert same(again.loop.model.state_dict(), ended.loop.model.state_dict())
    longer = with_patience(Best(ended.run.path), 3).resume()
    assert longer.loop.iter == 30
    assert same(longer.loop.model.state_dict(), state_after(30, tmp_path / "plain"))
