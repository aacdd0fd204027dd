"""One process at a time in a run folder, whatever the lock's last owner came to."""

import json
import multiprocessing
import os
import socket
import sys
import time

import pytest

from resdet.errors import RunError
from resdet.run import lock
from resdet.run.lock import held


def left_by(path, **changes):
    """A lock as this process would write it, changed."""
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": None, "since": "then"}
    path.write_text(json.dumps({**owner, **changes}), encoding="utf-8")


def test_a_number_that_came_again_is_not_the_owner(tmp_path):
    """In a container every first process has the number 1: what counts is when it started."""
    path = tmp_path / "lock.json"
    left_by(path, started=12345)
    with held(path, "now"):
        assert json.loads(path.read_text(encoding="utf-8"))["since"] == "now"
    assert not path.exists()
    left_by(path, started=lock._started(os.getpid()))
    with pytest.raises(
        RunError, match=rf"process {os.getpid()} on .* since then.*remove .*lock.json"
    ):
        held(path, "now").__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what has ended")
def test_an_owner_that_ended_and_that_nobody_asked_for_holds_nothing(tmp_path):
    """A zombie: in a container whose first process reaps none it stays for ever."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    path = tmp_path / "lock.json"
    left_by(path, pid=pid, started=lock._started(pid))
    try:
        with held(path, "now"):
            assert json.loads(path.read_text(encoding="utf-8"))["since"] == "now"
    finally:
        os.waitpid(pid, 0)


def test_another_host_lives_as_long_as_it_shows(tmp_path, monkeypatch):
    path = tmp_path / "lock.json"
    left_by(path, host="elsewhere")
    with pytest.raises(RunError, match="on elsewhere since then"):
        held(path, "now").__enter__()
    before = time.time() - lock.STALE_SECONDS - 1
    os.utime(path, (before, before))
    with held(path, "now"):
        pass
    # Waiting for it instead: here until the third look.
    left_by(path, host="elsewhere")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            os.utime(path, (before, before))

    monkeypatch.setattr(lock.time, "sleep", sleep)
    with held(path, "now", wait=True):
        assert looks == [lock.WAIT_SECONDS] * 3
    # One on this host is not waited for: it may train for days.
    left_by(path)
    with pytest.raises(RunError, match="in use"):
        held(path, "now", wait=True).__enter__()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", "7", '{"pid": "1", "host": "x"}', '{"pid": true, "host": 3}', "\0"],
)
def test_a_damaged_lock_holds_for_seconds_alone(tmp_path, text):
    path = tmp_path / "lock.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match="by a process that starts"):
        held(path, "now").__enter__()
    before = time.time() - lock.WRITTEN_SECONDS - 1
    os.utime(path, (before, before))
    with held(path, "now"):
        pass


def test_without_hard_links_it_holds_as_well(tmp_path, monkeypatch):
    def no_links(*args):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "lock.json"
    with held(path, "now"), pytest.raises(RunError, match="in use"):
        held(path, "later").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_made_since_is_not_taken_away(tmp_path):
    """Two find a dead lock; the second removes what is now the first's, and puts it back."""
    path = tmp_path / "lock.json"
    path.write_text("the first's", encoding="utf-8")
    lock._take_away(path, "the dead one's")
    assert path.read_text(encoding="utf-8") == "the first's"
    assert [p.name for p in tmp_path.iterdir()] == ["lock.json"]


def compete(path, ready, inside, most, wins):
    ready.wait()
    try:
        with held(path, "now"):
            with inside.get_lock():
                inside.value += 1
                most.value = max(most.value, inside.value)
                wins.value += 1
            time.sleep(0.02)
            with inside.get_lock():
                inside.value -= 1
    except RunError:
        pass


def test_of_many_that_start_at_once_one_holds_it(tmp_path):
    """With a dead lock in their way; thirty rounds of four."""
    context = multiprocessing.get_context("fork")
    inside, most, wins = (context.Value("i", 0) for _ in range(3))
    for number in range(30):
        path = tmp_path / f"{number}.json"
        left_by(path, started=1)
        ready = context.Barrier(4)
        starters = [
            context.Process(target=compete, args=(path, ready, inside, most, wins))
            for _ in range(4)
        ]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join()
    assert most.value == 1 and wins.value >= 30
