"""Commands side by side: what a page shows of one that failed."""

import pytest

from resdet.cli import main, steps
from resdet.cli.steps import FileStep, run_all
from resdet.errors import ResdetError
from tests.support.fabricate import fabricate_run


@pytest.fixture(autouse=True)
def python_as_the_program(monkeypatch):
    """A step's one word is Python code, instead of a command of resdet."""
    monkeypatch.setattr(main, "program", ["-c"])
    monkeypatch.setattr(steps, "POLL_SECONDS", 0.01)


def step(folder, code: str, name: str = "a") -> FileStep:
    return FileStep(name, f"making {name}", [code], folder, 1.0, makes=folder / name)


def test_a_page_shows_what_its_own_process_wrote_and_not_an_earlier_one(tmp_path):
    (tmp_path / steps.LOG).write_text("KeyError of yesterday\n")
    with pytest.raises(ResdetError) as error:
        run_all([step(tmp_path, "print('of today'); raise SystemExit(2)")], 1, 1)
    assert "ended with exit code 2:\nof today\n" in str(error.value)
    assert str(error.value).endswith("When that is mended, the command goes on from here.")
    assert "yesterday" not in str(error.value) and error.value.exit_code == 2
    assert (tmp_path / steps.LOG).read_text().startswith("KeyError of yesterday")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (9, "was ended by SIGKILL, as the system ends what takes the last of the memory"),
        (7, "was ended by SIGBUS, as where a disk or the shared memory is full"),
        (15, "was ended by SIGTERM:"),
    ],
)
def test_what_a_signal_ended_is_told_by_its_name(tmp_path, number, words):
    code = f"import os; os.kill(os.getpid(), {number})"
    with pytest.raises(ResdetError) as error:
        run_all([step(tmp_path, code)], 1, 1)
    assert words in str(error.value) and "(it wrote nothing)" in str(error.value)
    assert error.value.exit_code == 1
    assert str(error.value).endswith("The same command goes on from here.")


def test_a_long_training_says_once_what_it_takes_by_its_first_steps(tmp_path, caplog, monkeypatch):
    """A finalist of 2.1 days showed 0 % for as long as anybody looked. None yet, short, long."""
    monkeypatch.setattr(steps, "LINE_SECONDS", 0.0)
    wait = "import time; time.sleep(0.3)"
    plan = [step(tmp_path / name, f"{wait}; open(r'{tmp_path / name / name}', 'w')", name)
            for name in ("none", "short", "long")]  # fmt: skip
    for name, seconds in (("short", 60.0), ("long", 181_440.0)):
        fabricate_run(tmp_path / name, num_images=2, info={"estimate": {"seconds": seconds}})
    with caplog.at_level("INFO", "resdet.cli.steps"):
        run_all(plan, 3, 1)
    told = [r.getMessage() for r in caplog.records if "by its first steps" in r.getMessage()]
    assert told == ["making long takes about 2.1 days by its first steps"]


def test_fewer_than_one_step_side_by_side_is_one(tmp_path):
    """`demo --jobs -1` waited for ever."""
    plan = [step(tmp_path, f"open(r'{tmp_path / name}', 'w')", name) for name in "ab"]
    run_all(plan, -1, 1)
    assert all(one.is_done() for one in plan)
