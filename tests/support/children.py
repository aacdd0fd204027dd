"""Python in a process of its own, as users and scripts start it, from this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Runs a command and dies by SIGKILL when the given step begins, as a machine that loses power.
KILLED = """
import os, signal, sys
from resdet.engine.loop import Loop
step, run_step = int(sys.argv[1]), Loop.run_step
def killed(self):
    if self.iter == step:
        os.kill(os.getpid(), signal.SIGKILL)
    run_step(self)
Loop.run_step = killed
from resdet.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def python(
    *words: object, cwd: Path = ROOT, processes: int = 1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python WORDS`, or several of them by torchrun; `environment` is added to this process's."""
    launch = []
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *launch, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def printed_by(code: str, *arguments: object, without: Iterable[str] = ()) -> str:
    """What a piece of code prints in a fresh process, which must end well.

    Args:
        without: modules that cannot be imported there.
    """
    done = python("-c", unimportable(without) + code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unimportable(modules: Iterable[str]) -> str:
    """Code after which an import of these modules fails."""
    return f"import sys; sys.modules.update(dict.fromkeys({[*modules]!r}))\n"


def run_cli(
    *args: str, cwd: Path, kill_at: int | None = None, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """`resdet ARGS` by one thread; killed when a step begins, or in several processes."""
    start = ["-m", "resdet"] if kill_at is None else ["-c", KILLED, str(kill_at)]
    return python(
        *start,
        *args,
        cwd=cwd,
        processes=processes,
        OMP_NUM_THREADS="1",
        RESDET_CACHE=str(cwd / "cache"),
    )
