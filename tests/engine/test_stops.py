"""What stops a training keeps a true state: signals to the group, full disks, lost images."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.atomic import atomic_path
from resdet.engine import checkpoint, machine_limits
from resdet.engine.checkpoint import resume
from resdet.errors import DataError, Interrupted, RunError, TrainingStopped
from resdet.run.folder import Run
from resdet.stop_signals import SIGNALS
from tests.support import children, tiny, trainings
from tests.support.loops import Stopped, make_loop, make_run, train


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    """The step after it was taken: a second try must not keep it under the number before."""
    run = make_run(tmp_path / "r")
    save = checkpoint.save

    def full_at_ten(folder, state, **options):
        if state["iteration"] == 10:
            raise TrainingStopped("no space left")
        return save(folder, state, **options)

    monkeypatch.setattr(checkpoint, "save", full_at_ten)
    with pytest.raises(TrainingStopped, match="no space left"):
        train(make_loop(), run, 0, 20)
    assert [p.name for p in run.checkpoints.glob("*.pth")] == ["step_0000005.pth"]
    reference = make_loop()
    train(reference, make_run(tmp_path / "reference"), 0, 5)
    again = make_loop()
    assert resume(again, run) == 5
    expected, output = reference.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(output[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("a.jpg ends too early"), "a.jpg ends too early"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "pid 7.*Killed"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (RuntimeError("DataLoader timed out after 300 seconds"), "timed out after 300 seconds"),
        (EOFError(), "a loader worker was gone while it handed images over"),
        (
            DataError(
                "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent "
                'call last):\n  File "x.py"\nresdet.errors.DataError: b.jpg has no rows\n'
            ),
            "b.jpg has no rows\n",
        ),
    ],
)
def test_images_that_cannot_be_read_stop_before_the_step(tmp_path, error, words):
    """Exit code 3, as for all that stops a training, with the message alone and the state kept."""
    loop = make_loop()
    batches = loop.batches

    def broken(start):
        for number, batch in enumerate(batches(start), start):
            if number == 3:
                raise error
            yield batch

    loop.batches = broken
    run = make_run(tmp_path / "r")
    with pytest.raises(TrainingStopped, match=rf"(?s)of step 3 could not be read: .*{words}"):
        train(loop, run, 0, 10)
    again, reference = make_loop(), make_loop()
    assert resume(again, run) == 3
    train(reference, make_run(tmp_path / "reference"), 0, 3)
    expected, output = reference.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(output[name], expected[name]) for name in expected)


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="this system has no SIGCHLD")
def test_a_second_worker_that_ends_does_not_cut_the_saving_short(tmp_path, monkeypatch):
    """torch raises from a signal's handler, wherever the process is: as here, while the statistics
    go back and the checkpoint is written."""

    def died(number, frame):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    before = signal.signal(signal.SIGCHLD, died)
    loop = make_loop()
    batches, undo, save = loop.batches, loop._undo_statistics, checkpoint.save

    def broken(start):
        yield from itertools.islice(batches(start), 3)
        os.kill(os.getpid(), signal.SIGCHLD)

    def another(work):
        def noticed(*args, **options):
            os.kill(os.getpid(), signal.SIGCHLD)
            return work(*args, **options)

        return noticed

    loop.batches, loop._undo_statistics = broken, another(undo)
    monkeypatch.setattr(checkpoint, "save", another(save))
    run = make_run(tmp_path / "r")
    try:
        with pytest.raises(TrainingStopped, match="of step 3 could not be read: .*pid 7"):
            train(loop, run, 0, 10)
        assert signal.getsignal(signal.SIGCHLD) is died
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert resume(make_loop(), run) == 3


def test_a_worker_that_the_signal_ended_is_no_fault(tmp_path):
    """Workers may die of the signal that the trainer has noted: it is what ends the training."""
    loop = make_loop()
    batches = loop.batches

    def broken(start):
        for number, batch in enumerate(batches(start), start):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")
            yield batch

    loop.batches = broken
    run = make_run(tmp_path / "r")
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 3") as error:
        train(loop, run, 0, 10)
    assert error.value.exit_code == 143
    assert resume(make_loop(), run) == 3


def test_boxes_that_are_not_finite_stop_with_images_and_state(tmp_path):
    """Detectron2 raises FloatingPointError within its forward pass."""
    loop = make_loop()
    losses = loop.losses

    def diverged(x):
        if loop.iter == 2:
            raise FloatingPointError("Predicted boxes or scores contain Inf/NaN.")
        return losses(x)

    loop.losses = diverged
    run = make_run(tmp_path / "r")
    with pytest.raises(TrainingStopped, match=r"contain Inf/NaN\. at step 2 \(images image 7; lr"):
        train(loop, run, 0, 10)
    assert resume(make_loop(), run) == 2


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other")
    train(make_loop(), one, 0, 5)
    path = next(one.checkpoints.glob("*.pth"))
    other.checkpoints.mkdir(exist_ok=True)
    path.rename(other.checkpoints / path.name)
    with pytest.raises(RunError, match="is a checkpoint of another run"):
        resume(make_loop(), other)


def test_an_unreadable_checkpoint_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    run = make_run(tmp_path / "r")
    train(make_loop(), run, 0, 5)

    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(RunError, match="cannot be read: Permission denied"):
        checkpoint.newest(run.checkpoints)
    monkeypatch.undo()
    assert checkpoint.newest(run.checkpoints).name == "step_0000005.pth"


@pytest.mark.parametrize("position", [0, 30, 300, 5000, -40, -2])
def test_a_flipped_byte_is_either_seen_or_harmless(tmp_path, position):
    """Headers, names, tensors and the directory of the zip: the one before, or the same state."""
    state = {"model": {"w": torch.arange(2000.0)}, "iteration": 5}
    checkpoint.save(tmp_path, state, keep=2)
    path = checkpoint.save(tmp_path, {**state, "iteration": 10}, keep=2)
    data = bytearray(path.read_bytes())
    data[position] ^= 0x55
    path.write_bytes(data)
    newest = checkpoint.newest(tmp_path)
    loaded = checkpoint.load(newest)
    assert loaded["iteration"] == (10 if newest == path else 5)
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), "disk of x.json.*Free space"),
        (MemoryError(), "memory is not enough: MemoryError.*IMAGES_PER_PASS 1"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "CUDA out of memory.*IMS_PER_BATCH"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate"),
    ],
)
def test_a_machine_that_is_too_small_is_a_page(error, words):
    with (
        pytest.raises(TrainingStopped, match=f"(?s){words}"),
        machine_limits.as_pages("runs/r"),
    ):
        raise error


@pytest.fixture
def small_files():
    """A process that may write 64 KB to a file and gets an error for more, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_weights_that_cannot_be_written_are_a_page(tmp_path, small_files):
    """F38: torch raises a RuntimeError without a number, for the best and the last model alike."""
    with (
        pytest.raises(TrainingStopped, match="no space is left.*Free space"),
        machine_limits.as_pages(tmp_path),
        atomic_path(tmp_path / "model_best.pth") as temporary,
    ):
        torch.save({"w": torch.zeros(1 << 20), "v": torch.zeros(1 << 20)}, temporary)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("number", [errno.EISDIR, errno.EACCES, errno.EROFS])
def test_a_place_that_cannot_be_used_is_a_page(tmp_path, number):
    """In the run folder alone: any other place is a matter of who opened it."""
    words = os.strerror(number)
    renamed = OSError(number, words, str(tmp_path / "a.tmp"), None, str(tmp_path / "r/card.json"))
    for error in (OSError(number, words, str(tmp_path / "r/log.txt")), renamed):
        with (
            pytest.raises(TrainingStopped, match=rf"r/\w+\.\w+ cannot be used: {words}. Move"),
            machine_limits.as_pages(tmp_path / "r"),
        ):
            raise error
    with pytest.raises(OSError, match=words), machine_limits.as_pages(tmp_path / "r"):
        raise OSError(number, words, str(tmp_path / "r2"))


def test_other_errors_stay_what_they_are():
    for error in (
        RuntimeError("sizes differ"),
        FileNotFoundError(errno.ENOENT, "none"),
        ValueError(),
    ):
        with pytest.raises(type(error)), machine_limits.as_pages("r"):
            raise error


def test_two_processes_stop_together_and_go_on_to_the_bit(tmp_path: Path) -> None:
    """Killed after 7 of 10 steps and resumed, live norms included, which differ; and a loss that is
    not finite on the second process alone stops both, with the state before it."""
    script = children.ROOT / "tests" / "support" / "two_processes.py"
    done = children.python(script, tmp_path, processes=2, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    one, other = sorted(lines, key=lambda line: line["rank"])
    assert one["equal"] and other["equal"]
    assert one["begun"] == other["begun"] == 5
    assert one["mean"] != other["mean"]
    for line in lines:
        assert "loss became nan at step 3 (images image 7; lr" in line["page"]
        assert line["kept"] == ["step_0000003.pth"]


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system has no sigwaitinfo")
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("pretrain_cls", signal.SIGUSR1, 138), ("train_det", signal.SIGTERM, 143)],
)
def test_a_signal_to_the_group_saves_and_ends(
    tmp_path: Path, command: str, number: signal.Signals, code: int
) -> None:
    """As systemd, SLURM and a shell send it: to the workers of the loader, too."""
    more = {"SOLVER.MAX_ITER": 10_000, "SOLVER.CHECKPOINT_PERIOD": 2, "DATALOADER.NUM_WORKERS": 2}
    if command == "pretrain_cls":
        tiny.class_folders(tmp_path / "data")
        text = trainings.classifier(more)
    else:
        tiny.voc_tree(tmp_path / "voc")
        text = trainings.detector(trainings.FROM_SCRATCH, more)
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with open(tmp_path / "output.txt", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "resdet", command, "--config", "c.yaml", "--output", "r"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(children.ROOT), "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: any((tmp_path / "r" / "checkpoints").glob("*.pth")), process)
        os.killpg(process.pid, number)
        ended = process.wait(timeout=120)
    finally:
        process.kill()
    text = (tmp_path / "output.txt").read_text(encoding="utf-8")
    assert ended == code, text[-3000:]
    assert f"stopped by {number.name} after step" in text
    assert Run.open(tmp_path / "r").state == "interrupted"
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(process.pid, 0)


def test_a_signal_that_is_sent_on_does_not_cut_the_first_one_short(tmp_path, monkeypatch):
    """A scheduler signals all processes, and torchrun's agent its trainers once more: while the
    checkpoint is written, and behind the loop."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    before = {number: signal.getsignal(number) for number in SIGNALS}
    save = checkpoint.save

    def signalled(folder, state, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return save(folder, state, **options)

    monkeypatch.setattr(checkpoint, "save", signalled)
    run = make_run(tmp_path / "r")
    try:
        with pytest.raises(Interrupted, match="after step 3"):
            train(make_loop(), run, 0, 10, Stopped(2))
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(machine_limits.SignalCame), machine_limits.signals_raised():
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert resume(make_loop(), run) == 3


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < until
        time.sleep(0.05)
