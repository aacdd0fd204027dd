"""Starts of one command, each with all the processes that belong to it.

Imports take longer than these trainings. So a start is a fork of this process, which has imported
everything, with a session, folder, output and environment of its own; torchrun's own agent runs in
such a fork, too, and forks the trainers. With `COLD` each start is what a user types, instead.

Not for: what is started (`jobs`).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed.run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api as launcher

from resdet.cli.main import run_command

ROOT = Path(__file__).resolve().parents[2]
# Set by --cold.
COLD: list[bool] = []
# torchrun waits up to 300 s at its end for agents that are gone; here, where its processes have
# ended by then and are looked at, as long as this.
LONGEST_SECONDS = 400.0
LAST_WAIT_SECONDS = 30.0


class Forked:
    """A child made by `os.fork`, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int):
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (timeout or LONGEST_SECONDS)
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("resdet", timeout or LONGEST_SECONDS)
            time.sleep(0.005)
        return code


@dataclass
class Attempt:
    """A started command.

    Attributes:
        process: what was started; its number is that of the session of all that belongs to it.
        output: the file that everything is printed to. folder: the run folder.
        mark: in the environment of each process, for those that have a session of their own.
    """

    process: Forked | subprocess.Popen[bytes]
    output: Path
    folder: Path
    mark: str

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        """Every process of this start that lives, also one that lost its parent."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                fields = _stat(int(path.name))
                marked = self.mark.encode() in (path / "environ").read_bytes()
            except OSError:
                continue
            if fields[0] != "Z" and (int(fields[3]) == self.process.pid or marked):
                found.append(int(path.name))
        return found

    def trainers(self) -> dict[int, int]:
        """Processes that train: rank to number."""
        ranks = Path(f"{self.output}.ranks")
        if not ranks.exists():
            return {0: self.process.pid}
        alive = set(self.pids())
        pairs = [map(int, line.split()) for line in ranks.read_text(encoding="utf-8").splitlines()]
        return {rank: pid for rank, pid in pairs if pid in alive}

    def loader_workers(self) -> list[int]:
        trainers = set(self.trainers().values())
        return [pid for pid in self.pids() if parent(pid) in trainers]

    def is_started(self) -> bool:
        """What is printed comes after the lock, so this start holds the run folder."""
        text = self.text()
        return "speed: " in text or "images train; without objects" in text

    def wait_for(self, condition: Callable[[], bool], pause: float = 0.005) -> bool:
        """Whether it came before the process ended."""
        until = time.monotonic() + LONGEST_SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            if condition():
                return True
            time.sleep(pause)
        return False

    def end(self) -> int | None:
        """Its exit code; None where it hung, and was ended by force."""
        try:
            return self.process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill_all()

    def kill_all(self, number: int = signal.SIGKILL) -> None:
        for pid in self.pids():
            send(pid, number)
        if number == signal.SIGKILL:
            self.process.wait()


def send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return 0


def _stat(pid: int) -> list[str]:
    """State, parent, group, session, …"""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def start(
    words: Sequence[str],
    place: Path,
    output: str,
    *,
    launch: Sequence[str] = (),
    first: Callable[[], None] = lambda: None,
    cold: bool = False,
    **environment: str,
) -> Attempt:
    """`resdet WORDS` in the folder `place`.

    Args:
        output: the run folder's name, as in WORDS.
        launch: torchrun's words, where there are several processes.
        cold: as a user types it, not forked.
        first: what each training process does before, such as a fault of its own; not if cold.
    """
    number = len(list(place.glob("output_*.txt")))
    printed = place / f"output_{number:02d}.txt"
    printed.touch()
    mark = uuid.uuid4().hex
    environment |= {
        "PYTHONPATH": str(ROOT),
        "RESDET_CACHE": str(place / "cache"),
        "RESDET_KILLS": mark,
        "RESDET_KILLS_RANKS": f"{printed}.ranks",
    }
    make = _typed if cold or COLD else _forked
    process = make(words, place, printed, launch, first, environment)
    return Attempt(process, printed, place / output, mark)


def _typed(
    words: Sequence[str], place: Path, printed: Path, launch: Sequence[str], first: Any, env: Any
) -> subprocess.Popen[bytes]:
    program = ["-m", "torch.distributed.run", *launch] if launch else []
    with open(printed, "wb") as file:
        return subprocess.Popen(
            [sys.executable, *program, "-m", "benchmarks.kills.starts", *words],
            cwd=place,
            env={**os.environ, **env},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def _forked(
    words: Sequence[str],
    place: Path,
    printed: Path,
    launch: Sequence[str],
    first: Callable[[], None],
    environment: dict[str, str],
) -> Forked:
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return Forked(pid)
    code: Any = 70
    try:
        os.setsid()
        os.chdir(place)
        for stream, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_APPEND)):
            os.dup2(os.open(printed if stream else os.devnull, mode), stream)
        os.dup2(1, 2)
        os.environ.update(environment)
        code = _agent(launch, words, first) if launch else _train(words, first)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        # As an interpreter ends; without the rest of this program, which it is a copy of.
        atexit._run_exitfuncs()
        threading._shutdown()  # type: ignore[attr-defined]
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _agent(launch: Sequence[str], words: Sequence[str], first: Callable[[], None]) -> int:
    """torchrun, whose trainers are forks instead of commands."""
    # Their names are replaced, which are not for others to import.
    run: Any = torch.distributed.run
    api: Any = launcher
    made = run.elastic_launch

    def with_forks(config: Any, entrypoint: Any) -> Any:
        config.start_method = "fork"
        return made(config, lambda *_: sys.exit(_train(words, first)))

    run.elastic_launch = with_forks
    api.LocalElasticAgent = functools.partial(
        api.LocalElasticAgent, exit_barrier_timeout=LAST_WAIT_SECONDS
    )
    try:
        run.main([*launch, "resdet"])
    except ChildFailedError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


def _train(words: Sequence[str], first: Callable[[], None]) -> int:
    if "RANK" in os.environ:
        with open(os.environ["RESDET_KILLS_RANKS"], "a", encoding="utf-8") as file:
            file.write(f"{os.environ['RANK']} {os.getpid()}\n")
    # Those of the agent that this process was forked from.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first()
    sys.argv = ["resdet", *words]
    return run_command(words[0], words[1:])


if __name__ == "__main__":
    sys.exit(_train(sys.argv[1:], lambda: None))
