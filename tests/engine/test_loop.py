"""The loop: exact to the bit across a stop, guarded before a step, stopped by signals."""

import json
import signal
import time

import pytest
import torch

pytest.importorskip("detectron2")


from resdet.engine import checkpoint
from resdet.engine.checkpoint import resume
from resdet.engine.loop import Loop, passes
from resdet.engine.speed.precision import Precision
from resdet.errors import Interrupted, RunError, TrainingStopped
from resdet.run.folder import Run
from tests.support.loops import Killed, Stopped, make_loop, make_run, train


def test_five_steps_and_five_after_a_resume_equal_ten(tmp_path):
    """F36, to the bit, dropout, momentum, BN statistics and schedule included."""
    one = make_loop()
    train(one, make_run(tmp_path / "one"), 0, 10)
    run = make_run(tmp_path / "two")
    first = make_loop()
    with pytest.raises(RuntimeError, match="killed"):
        train(first, run, 0, 10, Killed(6))  # a checkpoint after 5; the sixth step is lost
    second = make_loop()
    train(second, run, resume(second, run), 10)
    a, b = one.state_dict(), second.state_dict()
    assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"])
    assert a["scheduler"] == b["scheduler"]
    momenta = [s["momentum_buffer"] for s in a["optimizer"]["state"].values()]
    again = [s["momentum_buffer"] for s in b["optimizer"]["state"].values()]
    assert all(torch.equal(x, y) for x, y in zip(momenta, again, strict=True))


def test_metrics_of_lost_steps_are_forgotten(tmp_path, monkeypatch):
    """A resumed run's metrics.json holds every step once, also where it is not as it was left."""
    monkeypatch.setattr(checkpoint, "_size_of", lambda path: 10_000)
    run = make_run(tmp_path / "r")
    with pytest.raises(RuntimeError, match="killed"):
        train(make_loop(), run, 0, 10, Killed(6))
    rows = [json.dumps({"iteration": i}) for i in range(8)]
    (run.path / "metrics.json").write_text("\n".join(rows) + "\n{cut", encoding="utf-8")
    assert resume(make_loop(), run) == 5
    assert [r["iteration"] for r in run.metrics()] == [0, 1, 2, 3, 4]


def test_parts_of_a_batch_add_up_to_its_gradients():
    """A mean over 6 images is the mean of parts of 4 and 2 by their shares; no norm, no dropout."""
    from detectron2.utils.events import EventStorage

    weights = []
    for per_pass in (0, 4):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1).double()
        loop = Loop(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            None,
            lambda x, model=model: {"loss": model(x).square().mean(), "metric/n": x.sum()},
            lambda start: iter([torch.arange(24.0, dtype=torch.double).reshape(6, 4) / 24]),
            seed=1,
            split=lambda x, n=per_pass: [(share, x[part]) for share, part in passes(len(x), n)],
        )
        loop.iter = 0
        with EventStorage(0) as loop.storage:
            loop.run_step()
            recorded = {k: v[0] for k, v in loop.storage.latest().items()}
        weights.append((model.weight.detach(), recorded["total_loss"]))
    torch.testing.assert_close(weights[0][0], weights[1][0], rtol=0, atol=1e-14)
    assert weights[0][1] == pytest.approx(weights[1][1], abs=1e-14)


@pytest.mark.parametrize(("images", "per_pass"), [(5, 2), (4, 2), (1, 3), (6, 0), (0, 2)])
def test_every_image_passes_once(images, per_pass):
    """Shares add up to 1, slices to the batch; a process without an image still makes a pass."""
    parts = passes(images, per_pass)
    assert sum(share for share, _ in parts) == pytest.approx(1)
    assert [i for _, part in parts for i in range(images)[part]] == list(range(images))


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    """F35: names step, image and rate; the weights are those before the step."""
    loop = make_loop(spoil_at=3)
    reference = make_loop()
    train(reference, make_run(tmp_path / "reference"), 0, 3)
    run = make_run(tmp_path / "r")
    with pytest.raises(
        TrainingStopped, match=r"loss became nan at step 3 \(images image 7; lr 0\.01"
    ):
        train(loop, run, 0, 10)
    again = make_loop()
    assert resume(again, run) == 3
    # Statistics of the norm, too, which the spoiled batch has been through.
    for name, tensor in reference.model.state_dict().items():
        assert name.endswith("batches_tracked") or torch.equal(
            again.model.state_dict()[name], tensor
        )


def test_a_resume_replays_the_step_that_was_not_finite(tmp_path):
    """F35: the images and the random numbers are those of (seed, step), so nothing is kept aside;
    dropout draws the same."""
    run = make_run(tmp_path / "r")
    pages, inputs = [], []
    for resuming in (False, True):
        loop = make_loop()

        def spoiled(x, loop=loop):
            if loop.iter < 3:
                return {"loss": loop.model(x).square().mean()}
            inputs.append((x, torch.random.get_rng_state()))
            return {"loss": loop.model(x).square().mean() * float("nan")}

        loop.losses = spoiled
        start = resume(loop, run) if resuming else 0
        with pytest.raises(TrainingStopped) as error:
            train(loop, run, start, 10)
        pages.append(str(error.value).partition(";")[0])
    assert pages[0] == pages[1] == "loss became nan at step 3 (images image 7"
    assert "--resume runs the same step again" in str(error.value)
    (x, random), (x_again, random_again) = inputs
    assert torch.equal(x, x_again) and torch.equal(random, random_again)


def test_a_gradient_that_is_not_finite_stops_without_clipping_too(tmp_path):
    """F35: the square root has an infinite slope at 0, its value is 0."""
    loop = make_loop()
    loop.losses = lambda x: {"loss": (loop.model(x) * 0).sum().abs().sqrt()}
    with pytest.raises(TrainingStopped, match="gradient norm became nan at step 0"):
        train(loop, make_run(tmp_path / "r"), 0, 2)


def test_a_clock_that_is_set_changes_nothing(tmp_path, monkeypatch):
    """F50: time.time jumps back a day at every look; weights and checkpoints are the same."""
    reference = make_loop()
    train(reference, make_run(tmp_path / "reference"), 0, 5)
    now = [1.8e9]

    def jumps():
        now[0] -= 86_400
        return now[0]

    monkeypatch.setattr(time, "time", jumps)
    loop, run = make_loop(), make_run(tmp_path / "r")
    train(loop, run, 0, 5)
    assert resume(make_loop(), run) == 5
    expected = reference.model.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in loop.model.state_dict().items())


def test_a_whole_training_ends_with_a_checkpoint(tmp_path):
    """So that a finished run can grow, and a stopped measurement costs no step."""
    run = make_run(tmp_path / "r")
    train(make_loop(), run, 0, 7)
    assert resume(make_loop(), run) == 7


def test_a_signal_ends_after_the_step_with_a_checkpoint(tmp_path):
    """F75: SIGTERM, exit code 143, and the next start goes on from there."""
    run = make_run(tmp_path / "r")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        Interrupted, match="stopped by SIGTERM after step 3; go on with --resume"
    ) as error:
        train(make_loop(), run, 0, 10, Stopped(2))
    assert error.value.exit_code == 143
    assert Run.open(run.path).state == "interrupted"
    assert resume(make_loop(), run) == 3
    assert signal.getsignal(signal.SIGTERM) == before


def test_resume_without_a_checkpoint_is_refused(tmp_path):
    """F40."""
    with pytest.raises(RunError, match="has no whole checkpoint to resume"):
        resume(make_loop(), make_run(tmp_path / "r"))


def test_precision_off_is_the_stock_path():
    """Off leaves tensors and layout alone; an unknown value lists the known ones."""
    off = Precision.of("cpu", "off", "off")
    x = torch.randn(1, 3, 4, 4)
    assert off.is_stock and off.input(x) is x
    with off.autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert Precision.of("cpu", "on", "auto").channels_last
    with pytest.raises(ValueError, match=r"ENGINE\.BF16 is 'yes', expected off, on or auto"):
        Precision.of("cpu", "yes", "off")
