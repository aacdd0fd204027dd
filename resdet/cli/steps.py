"""Commands of resdet side by side: each in a process of its own, with one log and one ETA.

A step that is done stays; a stop asks each step to save its state, and the same command goes on.

Not for: what the steps are (`demo`, `resdet.cli.rank`).
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from resdet.cli import main
from resdet.errors import Interrupted, ResdetError, UserError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.stop_signals import StopSignals

logger = logging.getLogger("resdet.cli.steps")

POLL_SECONDS = 0.5
LINE_SECONDS = 15.0
# A training that takes longer says so by itself; the ETA of all needs a share of it to be done.
LONG = 1800.0
LOG = "output.txt"


def is_finished(folder: Path) -> bool:
    """Whether it holds a run that has ended well."""
    return (folder / layout.RUN).exists() and Run.open(folder).state == "finished"


@dataclass
class Step:
    """One training command with its run folder; starts when the steps it needs are done.

    Attributes:
        command: the words behind `resdet`, without --output and --resume.
        weight: share of the whole time, for the ETA: seconds of one core with bf16 instructions.
        log_start: where in the log this process begins; before it are those of other calls.
    """

    name: str
    title: str
    command: list[str]
    folder: Path
    weight: float
    needs: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None
    log_start: int = 0
    began: float = 0.0
    seconds: float = field(default=0.0)
    is_estimated: bool = False

    def is_done(self) -> bool:
        return is_finished(self.folder)

    def can_resume(self) -> bool:
        return (self.folder / layout.RUN).exists() and any(
            (self.folder / layout.CHECKPOINTS).glob(layout.CHECKPOINT_FILES)
        )

    def words(self) -> list[str]:
        """What is typed behind `resdet`, now."""
        name, config_flag, config, *opts = self.command
        resume = ["--resume"] if self.can_resume() else []
        return [name, config_flag, config, "--output", str(self.folder), *resume, *opts]

    def estimate(self) -> float | None:
        """Seconds that the training says it takes in all, once its first steps are measured."""
        if not (self.folder / layout.RUN).exists():
            return None
        seconds = (Run.open(self.folder).info.get("estimate") or {}).get("seconds")
        return None if seconds is None else float(seconds)

    def progress(self) -> float:
        """Share of the training steps done, from metrics.json; 1 when finished."""
        if self.is_done():
            return 1.0
        if not (self.folder / layout.RUN).exists():
            return 0.0
        run = Run.open(self.folder)
        rows = run.metrics()
        total = int(run.info.get("max_iter", 0)) or 1
        return min(0.95, (rows[-1]["iteration"] + 1) / total) if rows else 0.0


@dataclass
class FileStep(Step):
    """A command that leaves a file, by which it is known to be done."""

    makes: Path = Path()

    def is_done(self) -> bool:
        return self.makes.exists()

    def can_resume(self) -> bool:
        return False

    def words(self) -> list[str]:
        return self.command

    def progress(self) -> float:
        return float(self.is_done())


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(
    plan: Sequence[Step],
    jobs: int,
    threads: int,
    done: Callable[[Step], str] = lambda step: "",
) -> None:
    """Runs what is not done yet; a failed step stops the others, with their state saved.

    Args:
        jobs: steps side by side, one at least. threads: of each.
        done: called for each step that ends here; gives what is told of it.

    Raises:
        ResdetError: a step failed; shows the end of its log. Interrupted: a signal came; each step
            was asked to save its state.
    """
    signals = StopSignals()
    signals.install()
    try:
        _run_until(plan, jobs, threads, done, signals)
    finally:
        signals.restore()


def _run_until(
    plan: Sequence[Step],
    jobs: int,
    threads: int,
    done: Callable[[Step], str],
    signals: StopSignals,
) -> None:
    """Runs the steps until all are done, or a signal comes."""
    rest = [s for s in plan if not s.is_done()]
    for step in plan:
        if step not in rest:
            logger.info("done before: %s", step.title)
    running: list[Step] = []
    last_line = began = time.monotonic()
    share_at_start = _share(plan)
    try:
        while rest or running:
            if signals.received is not None:
                name = signal.Signals(signals.received).name
                raise Interrupted(
                    f"stopped by {name}; the same command goes on from here",
                    exit_code=128 + signals.received,
                )
            names = {s.name for s in plan if s not in rest and s not in running}
            free = max(1, jobs) - len(running)
            for step in [s for s in rest if set(s.needs) <= names][:free]:
                rest.remove(step)
                running.append(step)
                _start(step, threads)
            time.sleep(POLL_SECONDS)
            for step in [s for s in running if s.process and s.process.poll() is not None]:
                running.remove(step)
                _finish(step)
                logger.info("done: %s, %s. %s", step.title, in_words(step.seconds), done(step))
            if time.monotonic() - last_line >= LINE_SECONDS:
                last_line = time.monotonic()
                _log_progress(plan, running, last_line - began, share_at_start)
    except BaseException:
        _stop(running)
        raise


def _start(step: Step, threads: int) -> None:
    goes_on = step.can_resume()
    command = [sys.executable, *main.program, *step.words()]
    step.folder.mkdir(parents=True, exist_ok=True)
    step.log = open(step.folder / LOG, "ab")  # noqa: SIM115 lives as long as the process
    step.log_start = step.log.tell()
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    step.began = time.monotonic()
    # A session of its own: Ctrl-C reaches this process, which passes it on once.
    step.process = subprocess.Popen(
        command, stdout=step.log, stderr=step.log, env=environment, start_new_session=True
    )
    logger.info("%s: %s", "going on" if goes_on else "started", step.title)


def _finish(step: Step) -> None:
    assert step.process is not None and step.log is not None
    step.log.close()
    step.seconds = time.monotonic() - step.began
    code = step.process.returncode
    if code:
        with open(step.folder / LOG, "rb") as log:
            log.seek(step.log_start)
            text = log.read().decode("utf-8", errors="replace")
        tail = "\n".join(text.strip().splitlines()[-15:]) or "(it wrote nothing)"
        # What was typed or given is wrong: the same command would end here again.
        goes_on = "When that is mended, the" if code == UserError.exit_code else "The same"
        error = ResdetError(
            f"{step.title} {_ending(code)}:\n{tail}\n"
            f"The whole log: {step.folder / LOG}. {goes_on} command goes on from here."
        )
        error.exit_code = max(1, code)
        raise error


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    name = next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
    likely = {
        "SIGKILL": ", as the system ends what takes the last of the memory (--jobs 1 needs less)",
        "SIGBUS": ", as where a disk or the shared memory is full",
    }
    return f"was ended by {name}{likely.get(name, '')}"


def _share(plan: Sequence[Step]) -> float:
    return sum(s.weight * s.progress() for s in plan) / sum(s.weight for s in plan)


def _log_progress(
    plan: Sequence[Step], running: Sequence[Step], elapsed: float, share_at_start: float
) -> None:
    if not running:
        return
    _tell_long(running)
    share = _share(plan)
    gained = share - share_at_start
    eta = f", about {in_words(elapsed / gained * (1 - share))} to go" if gained > 0.02 else ""
    now = ", ".join(f"{s.name} {100 * s.progress():.0f} %" for s in running)
    logger.info("%3.0f %%%s (%s)", 100 * share, eta, now)


def _tell_long(running: Sequence[Step]) -> None:
    """What the first steps of a long training say of all of it, once."""
    for step in running:
        if step.is_estimated or (seconds := step.estimate()) is None:
            continue
        step.is_estimated = True
        if seconds > LONG:
            logger.info("%s takes about %s by its first steps", step.title, in_words(seconds))


def _stop(running: Sequence[Step]) -> None:
    """Asks every step to save its state and waits for it."""
    for step in running:
        if step.process and step.process.poll() is None:
            step.process.send_signal(signal.SIGTERM)
    for step in running:
        if step.process:
            try:
                step.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                step.process.kill()


def in_words(seconds: float) -> str:
    """A length of time for people.

    Example:
        >>> in_words(40), in_words(210), in_words(18_720), in_words(181_440)
        ('40 s', '3.5 min', '5.2 h', '2.1 days')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
