"""Atomic checkpoints: written aside, verified, renamed; the newest whole one is loaded.

A checkpoint is a torch file of tensors, numbers and text, so it loads under torch's strict rule.
It holds model, optimizer, schedule and the number of steps done. Sample order and random numbers
need no state: they follow from seed and step (`resdet.data.order`, `resdet.engine.loop`).

`Checkpoints` is the hook that writes them while a `Loop` trains and answers signals; `resume`
brings the newest back.

Not for: weights that go elsewhere (`resdet.weights`).
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from resdet import profile
from resdet.engine import machine_limits
from resdet.engine.starts.start_checks import size_in_words
from resdet.errors import Interrupted, RunError, TrainingStopped
from resdet.run import layout
from resdet.run.folder import Run, atomic_path, write_text
from resdet.stop_signals import StopSignals

if TYPE_CHECKING:
    from resdet.engine.loop import Loop

logger = logging.getLogger("resdet.engine.checkpoint")

NAME = re.compile(layout.CHECKPOINT_NAME)
DISK_POLL_SECONDS = 5.0


def save(
    folder: Path,
    state: dict[str, Any],
    *,
    keep: int,
    wait: float = 0.0,
    is_asked_to_end: Callable[[], bool] = lambda: False,
) -> Path:
    """Writes `state` (with "iteration" = steps done) and removes older ones beyond `keep`.

    Args:
        wait: ENGINE.DISK_WAIT, the seconds for which a full disk may be freed.
        is_asked_to_end: ends the wait where it gives True.

    Raises:
        TrainingStopped: the disk is full; the last good checkpoint is named and untouched.
    """
    path = folder / layout.checkpoint_name(state["iteration"])
    failed = _write(path, state)
    need, until = _bytes_in(state), time.monotonic() + wait
    if failed and wait > 0 and _free(folder) < need:
        logger.warning(
            "%s could not be written: %s needed, %s free. Waiting at most %g s (ENGINE.DISK_WAIT) "
            "for space.",
            path,
            size_in_words(need),
            size_in_words(_free(folder)),
            wait,
        )
        while failed and time.monotonic() < until and not is_asked_to_end():
            time.sleep(min(DISK_POLL_SECONDS, max(0.0, until - time.monotonic())))
            if _free(folder) >= need:
                failed = _write(path, state)
    if failed:
        last, free = newest(folder), _free(folder)
        is_full = free < need or machine_limits.is_full(RuntimeError(failed))
        raise TrainingStopped(
            f"checkpoint {path} could not be written ({size_in_words(need)} needed, "
            f"{size_in_words(free)} free): {failed}. Last good: {last.name if last else 'none'}. "
            f"{'Free space' if is_full else 'Repair that'} and run the same command with "
            "--resume."
        )
    for old in _numbered(folder)[: -max(keep, 2)]:
        old.unlink()
    return path


def _write(path: Path, state: Mapping[str, Any]) -> str:
    """Writes, verifies and names a checkpoint; gives why it failed, or ""."""
    failed = ""
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
            if broken := _broken_member(temporary):
                raise OSError(f"{broken} fails its checksum right after writing")
        write_text(path.parent / layout.NEWEST_CHECKPOINT, path.name + "\n")
    except (OSError, RuntimeError) as error:
        # The text alone: the error keeps torch's writer, and its open file keeps the space.
        failed = str(error) or type(error).__name__
    return failed


def _bytes_in(state: Any) -> int:
    """Of all tensors in a state, however deep."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, Mapping) else state
    return sum(map(_bytes_in, parts)) if isinstance(state, Mapping | list | tuple) else 0


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint. One that does not verify is renamed to .bad, with a warning.

    Raises:
        RunError: the newest may not be read, whole or not.
    """
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in reversed(_numbered(folder)):
        if is_whole(path):
            return path
        bad = path.with_suffix(".bad")
        path.rename(bad)
        logger.warning(
            "%s is damaged; set aside as %s, going back to the one before", path, bad.name
        )
    return None


def load(path: Path) -> dict[str, Any]:
    """Raises RunError where the file holds more than tensors, numbers and text."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(f"{path} is not a checkpoint of resdet: {error}") from None
    return dict(state)


def _numbered(folder: Path) -> list[Path]:
    paths = [p for p in folder.glob(layout.CHECKPOINT_FILES) if NAME.fullmatch(p.name)]
    return sorted(paths, key=lambda p: int(NAME.fullmatch(p.name)[1]))  # type: ignore[index]


def is_whole(path: Path) -> bool:
    """Whether a file of torch can be loaded; raises RunError where it may not be read."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Make it readable.") from None
    try:
        if not zipfile.is_zipfile(path) or _broken_member(path) is not None:
            return False
        return isinstance(torch.load(path, map_location="cpu", weights_only=True, mmap=True), dict)
    except Exception:  # zip, pickle and torch each have errors of their own for damage
        return False


def _broken_member(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


# -- of a training -------------------------------------------------------------------------------


class Checkpoints(HookBase):
    """A checkpoint every `period` steps, at a signal, and at the end; watches for signals (F75).

    A signal (`resdet.stop_signals`) ends the training after the step that runs; a second one
    at once.
    """

    def __init__(self, run: Run, period: int, *, keep: int = 2, disk_wait: float = 0.0):
        self.run = run
        self.disk_wait = disk_wait
        self.period = period
        self.keep = keep
        self._signals = StopSignals()

    def before_train(self) -> None:
        self._signals.install()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        asked = (
            any(comm.all_gather(self._signals.received is not None))
            if comm.get_world_size() > 1
            else self._signals.received
        )
        last = done == self.trainer.max_iter
        if asked or last or (self.period > 0 and done % self.period == 0):
            self.save(done, is_step_over=False)
        if asked:
            self._end(done)

    def _end(self, done: int) -> None:
        number = signal.Signals(self._signals.received or signal.SIGTERM)
        if comm.is_main_process():
            self.run.update(state="interrupted")
        raise Interrupted(
            f"stopped by {number.name} after step {done}; go on with --resume",
            exit_code=128 + number,
        )

    def on_stop(self) -> None:
        """Keeps the state before the step that could not be taken.

        A process that stops alone knows no statistics of the others; the last checkpoint has them.
        """
        loop = self.trainer
        if loop.is_alone and comm.get_world_size() > 1 and loop.statistics:
            return
        self.save(loop.iter, is_step_over=True)
        if self._signals.received:  # what failed may have been the signal's doing, to a worker
            self._end(loop.iter)

    def after_train(self) -> None:
        loop = self.trainer
        if loop.has_ended and loop.iter > loop.start_iter:
            self.save(loop.iter, is_step_over=True)
        self._signals.restore()

    def save(self, steps_done: int, *, is_step_over: bool) -> None:
        """Writes a checkpoint; `is_step_over` is `Loop.recorded`'s."""
        self.run.require()
        loop, several = self.trainer, comm.get_world_size() > 1
        more: dict[str, Any] = {"run": self.run.info["id"], "processes": comm.get_world_size()}
        if several and loop.statistics and not loop.is_alone:
            # Each process has its own until the end; the model in the file has the first's.
            more["statistics"] = comm.gather([b.cpu() for b in loop.statistics])
        if comm.is_main_process():
            more["best"] = self.run.info.get("best")
            more["record"] = loop.recorded(is_step_over=is_step_over)
            more["metrics_bytes"] = _size_of(self.run.path / layout.METRICS)
            state = {**loop.state_dict(), **more, "iteration": steps_done}
            with profile.span("checkpoint"):
                save(
                    self.run.checkpoints,
                    state,
                    keep=self.keep,
                    wait=self.disk_wait,
                    is_asked_to_end=lambda: self._signals.received is not None,
                )


def resume(loop: Loop, run: Run) -> int:
    """Loads the newest whole checkpoint; gives the number of steps done.

    metrics.json becomes what it was when the checkpoint was written. With several processes the
    main one alone looks for the checkpoint and writes.

    Raises:
        RunError: there is no checkpoint to go on from (F40), or it is of another run.
    """
    path = newest(run.checkpoints) if comm.is_main_process() else None
    if comm.get_world_size() > 1:
        path = comm.all_gather(path)[0]
    if path is None:
        start = "To start there, leave out --resume."
        if not run.is_empty():
            start = "It holds results all the same: start with another --output, or move it away."
        raise RunError(f"{run.path} has no whole checkpoint to resume. {start}")
    state = load(path)
    if state.get("run", run.info["id"]) != run.info["id"]:
        raise RunError(
            f"{path} is a checkpoint of another run (id {state['run']}, this one is "
            f"{run.info['id']}). Move it away, or resume the run that it belongs to."
        )
    loop.load_state_dict(state)
    _load_statistics(loop, state, path)
    if comm.is_main_process():
        _forget_metrics(run.path / layout.METRICS, loop.start_iter, state.get("metrics_bytes"))
    logger.info("resumed from %s: %d steps done", path, loop.start_iter)
    return int(loop.start_iter)


def _load_statistics(loop: Loop, state: Mapping[str, Any], path: Path) -> None:
    """Each process's own statistics of its live norms, where as many processes saved them."""
    before, now = state.get("processes", 1), comm.get_world_size()
    if before == now:
        own = state["statistics"][comm.get_rank()] if "statistics" in state else []
        for buffer, tensor in zip(loop.statistics, own, strict=bool(own)):
            buffer.copy_(tensor)
    else:
        logger.warning(
            "%s was written by %d processes, %d go on: same images in the same steps, but not the "
            "same to the bit.",
            path,
            before,
            now,
        )


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget_metrics(path: Path, step: int, size: int | None) -> None:
    """Leaves the lines that were there when the checkpoint was written: `size` bytes.

    Where the file does not have them whole, and for checkpoints of before: lines of steps below
    `step`.
    """
    raw = path.read_bytes() if path.exists() else b""
    if size is not None and len(raw) < size:
        logger.warning(
            "%s had %d bytes at the checkpoint and has %d: the curve has a gap before step %d.",
            path,
            size,
            len(raw),
            step,
        )
    if not raw:
        return
    if size is not None and len(raw) >= size and (size == 0 or raw[size - 1 : size] == b"\n"):
        write_text(path, raw[:size].decode("utf-8", "replace"))
        return
    kept = []
    for line in raw.decode("utf-8", "replace").splitlines(keepends=True):
        try:
            if json.loads(line).get("iteration", 0) < step:
                kept.append(line)
        except (ValueError, AttributeError, TypeError, RecursionError):
            continue  # cut off by the kill, or damaged
    write_text(path, "".join(kept))
