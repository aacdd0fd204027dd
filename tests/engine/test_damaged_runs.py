"""A training killed after a checkpoint whose run folder is then damaged: it goes on, or a page.

Whatever a file holds, what goes on ends with the weights of a training in one go, to the bit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.engine.checkpoint import resume
from resdet.engine.data_hashes import hold_against
from resdet.errors import ResdetError, RunError
from resdet.run import layout
from resdet.run.folder import Run, write_json
from tests.support import loops
from tests.support.damages import TEXTS, damages, put

SETS = [{"name": "a", "hash": "1", "images": 3, "files": "2"}]
NEWEST = f"{layout.CHECKPOINTS}/{layout.checkpoint_name(5)}"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[torch.Tensor]]:
    """A run killed in its seventh step, with a checkpoint of the fifth; the weights of ten."""
    whole = loops.make_loop()
    loops.train(whole, loops.make_run(tmp_path_factory.mktemp("whole") / "run"), 0, 10)
    run = loops.make_run(tmp_path_factory.mktemp("killed") / "run")
    best = {"metric": "a/AP", "value": 0.5, "step": 5, "data": "1", "run": run.info["id"]}
    run.update(train_sets=SETS, best=best, derived={"SEED": 1}, evaluated_as={"a/AP": 0.5})
    (run.path / layout.METRICS).write_text('{"iteration": 4, "total_loss": 1.0}\n', "utf-8")
    with contextlib.suppress(RuntimeError):
        loops.train(loops.make_loop(), run, 0, 10, loops.Killed(7))
    # Of a process with this number that is gone: it started before this one.
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": 1, "since": "then"}
    write_json(run.path / layout.LOCK, owner)
    return run.path, list(whole.model.state_dict().values())


def go_on(path: Path) -> list[torch.Tensor]:
    run = Run.open(path)
    with run.lock():
        hold_against(run, SETS, changed_allowed=False)
        loop = loops.make_loop()
        loops.train(loop, run, resume(loop, run), 10)
        run.update(state="finished")
        run.metrics()
    return list(loop.model.state_dict().values())


def damages_of(path: Path) -> Iterator[tuple[str, bytes | None]]:
    yield from damages(path)
    raw = path.read_bytes()
    yield (
        "flipped",
        raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 255]) + raw[len(raw) // 2 + 1 :],
    )
    yield "longer", raw + b"x"


@pytest.mark.parametrize(
    "name", [layout.RUN, layout.METRICS, layout.LOCK, f"{layout.CHECKPOINTS}/last", NEWEST]
)
def test_a_damaged_file_is_a_page_or_makes_no_difference(
    killed: tuple[Path, list[torch.Tensor]], name: str, tmp_path: Path
) -> None:
    origin, expected = killed
    wrong, pages, count = [], 0, 0
    for damage, content in damages_of(origin / name):
        copy = tmp_path / "run"
        shutil.copytree(origin, copy)
        put(copy / name, content)
        if content is not None:
            os.utime(copy / name, (1, 1))  # a lock of now may be one that is being written
        count += 1
        try:
            if not all(map(torch.equal, go_on(copy), expected)):
                wrong.append(f"{damage}: other weights")
        except ResdetError as error:
            pages += 1
            str(error).encode()
        except Exception as error:
            wrong.append(f"{damage}: {error!r}"[:300])
        shutil.rmtree(copy)
    assert count > 15
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)
    # The curve and the name of the newest checkpoint are no part of the weights.
    if name != layout.LOCK:  # a damaged number may be that of a process that lives
        assert (pages > 0) is (name in (layout.RUN, NEWEST))


def test_a_curve_that_lost_lines_is_named(
    killed: tuple[Path, list[torch.Tensor]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint states how many bytes metrics.json had."""
    shutil.copytree(killed[0], tmp_path / "run")
    (tmp_path / "run" / layout.METRICS).unlink()
    go_on(tmp_path / "run")
    assert (
        "had 36 bytes at the checkpoint and has 0: the curve has a gap before step 5" in caplog.text
    )


def test_advice_about_a_lost_checkpoint_can_be_followed(
    killed: tuple[Path, list[torch.Tensor]], tmp_path: Path
) -> None:
    """A folder with results is not started in again; one without is."""
    run = shutil.copytree(killed[0], tmp_path / "run")
    put(run / NEWEST, TEXTS["binary"])
    (run / layout.RESULTS).mkdir()
    with pytest.raises(RunError, match="no whole checkpoint .* start with another --output, or"):
        go_on(run)
    options = {"kind": "detection", "config_text": "", "command": [], "seed": 1}
    with pytest.raises(RunError, match="Choose another --output"):
        Run.create(run, **options)
    (run / layout.RESULTS).rmdir()
    with pytest.raises(RunError, match="no whole checkpoint .* leave out --resume"):
        go_on(run)
    assert Run.create(run, **options).state == "created"


def test_a_folder_that_lost_its_run_is_not_started_in(
    killed: tuple[Path, list[torch.Tensor]], tmp_path: Path
) -> None:
    """Checkpoints of then would be taken for newer ones, and push those of now out."""
    run = shutil.copytree(killed[0], tmp_path / "run")
    (run / layout.RUN).unlink()
    with pytest.raises(RunError, match=r"holds checkpoints, .* and no run.json. Bring it back"):
        loops.make_run(run)
    assert (run / NEWEST).exists()
