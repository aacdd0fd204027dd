"""Processes that are ended from outside: SIGKILL, signals, machines of a group that go.

Each function makes one run with one random generator and gives what is wrong with it, or "".

Not for: faults of disks, data and numbers (`faults`).
"""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.kills.jobs import (
    BUG,
    LAST_CHECKPOINT,
    Reference,
    Trainer,
    differences,
    make_place,
    torchrun,
    train,
)
from benchmarks.kills.starts import Attempt, send

ENDINGS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
TWO = torchrun(2)
# It was done before its moment came: no run.
NOT_KILLED = "not killed"


def finish(
    place: Path, trainer: Trainer, reference: Reference, launch: list[str], output: str = "r"
) -> str:
    """The same command until it ends with 0, at most three times; then equality."""
    for _ in range(3):
        attempt = train(place, trainer, launch=launch, output=output)
        code = attempt.end()
        if code == 0:
            return "; ".join(differences(reference.folder, place / output, trainer))
        if BUG in attempt.text():
            break
    return f"ended with {code}: {last_words(attempt)}"


def last_words(attempt: Attempt) -> str:
    return " | ".join(attempt.text().strip().splitlines()[-3:])[-300:]


def kill_9(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """One process, ended once or twice."""
    return _killed(place, trainer, reference, chance, [])


def kill_9_of_two(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random
) -> str:
    """Two processes of torchrun: the first, the second, or all at once with torchrun."""
    return _killed(place, trainer, reference, chance, TWO)


def _killed(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random, launch: list[str]
) -> str:
    make_place(place, trainer)
    kills = 0
    for _ in range(chance.choice([1, 1, 2])):
        attempt = train(place, trainer, launch=launch)
        attempt.wait_for(attempt.is_started)
        time.sleep(chance.uniform(0, reference.whole))
        victim = chance.choice([0, 1, "all"]) if launch else "all"
        if attempt.process.poll() is None:
            kills += 1
            trainers = attempt.trainers()
            if victim in trainers:
                send(trainers[victim], signal.SIGKILL)
            else:
                attempt.kill_all()
        code = attempt.end()
        if code is None or BUG in attempt.text():
            return f"ended with {code}: {last_words(attempt)}"
        if code == 0:
            break
    return finish(place, trainer, reference, launch) if kills else NOT_KILLED


def term_to_the_group(
    place: Path, trainer: Trainer, reference: Reference, chance: random.Random
) -> str:
    """SIGTERM to trainer and two loader workers at once: 143, and the state is saved."""
    make_place(place, trainer)
    workers = ("DATALOADER.NUM_WORKERS", "2")
    attempt = train(place, trainer, options=workers)
    attempt.wait_for(attempt.is_started)
    time.sleep(chance.uniform(0, reference.whole))
    if attempt.process.poll() is not None:
        return NOT_KILLED
    attempt.kill_all(signal.SIGTERM)
    return _in_order(attempt, signal.SIGTERM) or finish(place, trainer, reference, [])


def one_signal(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """SIGTERM, SIGINT or SIGHUP to the process: while it trains, or while it is scored at last."""
    make_place(place, trainer)
    number = chance.choice(list(ENDINGS))
    attempt = train(place, trainer)
    attempt.wait_for(attempt.is_started)
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, reference.training))
    else:
        last = attempt.folder / LAST_CHECKPOINT
        attempt.wait_for(last.exists, pause=0.001)
        time.sleep(chance.uniform(0, reference.whole - reference.training))
    if attempt.process.poll() is not None:
        return NOT_KILLED
    send(attempt.process.pid, number)
    return _in_order(attempt, number) or finish(place, trainer, reference, [])


def _in_order(attempt: Attempt, number: signal.Signals) -> str:
    code, page = attempt.end(), attempt.text()
    if code == 0:
        return NOT_KILLED
    # With all work done and the folder given back, a signal ends the process as any other.
    if code == -number and ("run folder: " in page or "classifier with its card" in page):
        return NOT_KILLED
    if code != ENDINGS[number] or "Traceback" in page:
        return f"{number.name} ended with {code}: {last_words(attempt)}"
    if (attempt.folder / "lock.json").exists():
        return f"{number.name} left lock.json"
    state = (attempt.folder / "run.json").read_text(encoding="utf-8")
    return (
        ""
        if '"interrupted"' in state or '"finished"' in state
        else f"{number.name} left the state {state}"
    )


# -- several machines ------------------------------------------------------------------------------


def agent_killed(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """Two agents of torchrun meet on 127.0.0.1; one machine goes; both start again."""
    make_place(place, trainer)
    one, other = both = _two_agents(place, trainer)
    one.wait_for(lambda: one.is_started() or other.is_started())
    time.sleep(chance.uniform(0, reference.whole))
    if any(agent.process.poll() is not None for agent in both):
        wrong = NOT_KILLED
    else:
        chance.choice(both).kill_all()
        wrong = ""
    wrong = wrong or _codes(both, None)
    for agent in both:
        agent.end()
    if wrong:
        return wrong
    both = _two_agents(place, trainer)
    return _codes(both, 0) or "; ".join(differences(reference.folder, place / "r", trainer))


def _codes(agents: list[Attempt], expected: int | None) -> str:
    """What is wrong with how they ended; None for any code that is no bug of ours."""
    codes = [agent.end() for agent in agents]
    pages = "".join(agent.text() for agent in agents)
    is_wrong = None in codes or BUG in pages or any(expected not in (None, c) for c in codes)
    words = " || ".join(last_words(agent) for agent in agents)
    return f"ended with {codes}: {words}" if is_wrong else ""


def _two_agents(place: Path, trainer: Trainer) -> list[Attempt]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        train(place, trainer, launch=torchrun(1, "--nnodes=2", f"--node-rank={rank}",
              "--master-addr=127.0.0.1", f"--master-port={port}"), GLOO_SOCKET_IFNAME="lo")
        for rank in (0, 1)
    ]  # fmt: skip


def elastic(place: Path, trainer: Trainer, reference: Reference, chance: random.Random) -> str:
    """`--max-restarts`: torchrun itself starts both again when one was killed."""
    make_place(place, trainer)
    attempt = train(place, trainer, launch=torchrun(2, "--max-restarts=3"))
    attempt.wait_for(attempt.is_started)
    time.sleep(chance.uniform(0, reference.whole))
    trainers = attempt.trainers()
    if attempt.process.poll() is not None or not trainers:
        return NOT_KILLED
    send(trainers[chance.choice(sorted(trainers))], signal.SIGKILL)
    if (code := attempt.end()) != 0 or BUG in attempt.text():
        return f"ended with {code}: {last_words(attempt)}"
    return "; ".join(differences(reference.folder, place / "r", trainer))


Row = Callable[[Path, Trainer, Reference, random.Random], str]
# Name: the row, whether its reference is of two processes, its share of --runs.
ROWS: dict[str, tuple[Row, bool, float]] = {
    "kill -9, one process": (kill_9, False, 1.0),
    "kill -9, two processes": (kill_9_of_two, True, 1.0),
    "SIGTERM to the group, 2 loader workers": (term_to_the_group, False, 1.0),
    "one signal, in training or final scoring": (one_signal, False, 1.0),
    "two agents on 127.0.0.1, one killed": (agent_killed, True, 1.0),
    "--max-restarts, one of two killed": (elastic, True, 1.0),
}
