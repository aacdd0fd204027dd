"""Commands in processes of their own, forked from one that has imported all they need.

Starting Python with torch and Detectron2 takes longer than a tiny training. `run_forked` starts one
process, which forks for each command; a command may die by SIGKILL without harm to the next.

python forked.py < JOBS.json > RESULTS.json
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import children


@dataclass(frozen=True)
class Forked:
    """A command, and where it dies.

    Attributes:
        words: of `resdet`.
        dies_in: "step" (of any training) or "image" (of any proposing); "" for one that lives.
        after: how many of these are begun before.
    """

    words: Sequence[str]
    dies_in: str = ""
    after: int = 0


@dataclass(frozen=True)
class Ended:
    """How it ended; `returncode` is negative for a signal."""

    returncode: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)


def run_forked(jobs: Sequence[Forked], cwd: Path) -> list[Ended]:
    """The commands one after the other, whatever became of those before."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.json"
        path.write_text(json.dumps([vars(job) for job in jobs]), encoding="utf-8")
        done = children.python(
            Path(__file__), path, cwd=cwd, OMP_NUM_THREADS="1", RESDET_CACHE=str(cwd / "cache")
        )
        assert done.returncode == 0, done.stderr
        return [Ended(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _dies_in(owner: Any, name: str, after: int) -> None:
    whole, left = getattr(owner, name), [after]

    def method(self: Any, *args: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return whole(self, *args)

    setattr(owner, name, method)


def _in_child(job: dict[str, Any], folder: Path) -> None:
    from resdet.cli.main import main
    from resdet.detect.alternating import proposal_making
    from resdet.engine.loop import Loop

    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = os.fdopen(number, "wb", 0)
        setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", write_through=True))
    # A part after each image, so that a kill has something to leave.
    proposal_making.PART_IMAGES = 1
    places = {"step": (Loop, "run_step"), "image": (proposal_making.ProposalParts, "add")}
    if job["dies_in"]:
        _dies_in(*places[job["dies_in"]], job["after"])
    sys.argv = ["resdet", *job["words"]]
    code = 1
    try:
        code = main(job["words"])
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(path: Path) -> None:
    import resdet.cli.training.train_det  # noqa: F401 once for all

    ended = []
    with tempfile.TemporaryDirectory() as folder:
        for job in json.loads(path.read_text(encoding="utf-8")):
            pid = os.fork()
            if pid == 0:
                _in_child(job, Path(folder))
            _, status = os.waitpid(pid, 0)
            out, err = (
                (Path(folder) / name).read_text(encoding="utf-8", errors="replace")
                for name in ("out", "err")
            )
            code = os.waitstatus_to_exitcode(status)
            ended.append({"returncode": code, "stdout": out, "stderr": err})
    path.write_text(json.dumps(ended), encoding="utf-8")


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
