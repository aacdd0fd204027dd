"""How a training command ends: signals where no loop takes them, full disks, what is left."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch

from resdet.cli.main import run_command
from resdet.cli.training import run_folder
from resdet.engine import data_hashes, machine_limits, processes
from resdet.errors import TrainingStopped
from resdet.pretrain import trainer as pretraining
from resdet.run.folder import Run
from tests.support import children, tiny, trainings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.class_folders(tmp_path / "data", per_class=2)
    text = trainings.classifier({"SOLVER.MAX_ITER": 1})
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    return tmp_path


def pretrain() -> int:
    return run_command("pretrain_cls", ["--config", "c.yaml", "--output", "r", "--resume", "auto"])


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_a_signal_in_the_final_scoring_ends_in_order(place, monkeypatch, capsys, number, code):
    """No loop takes it there: the lock is given back, and the same command goes on."""
    before = signal.getsignal(signal.SIGTERM)
    score = pretraining.score_sets

    def signalled(*args):
        os.kill(os.getpid(), number)
        return score(*args)

    monkeypatch.setattr(pretraining, "score_sets", signalled)
    assert pretrain() == code
    assert f"stopped by {number.name}; go on with --resume" in capsys.readouterr().err
    assert not list(Path("r").glob("lock*"))
    assert Run.open("r").state == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    os.chdir(place)
    assert pretrain() == 0
    assert Run.open("r").state == "finished"


@pytest.mark.parametrize(
    "text", ["[null]", "5", "MODEL: 5", "MODEL: {WEIGHTS: []}", "a: &a [*a", ""]
)
def test_a_config_that_is_none_is_a_page(place, capsys, text):
    assert pretrain() == 0
    (Path("r") / "config.yaml").write_text(text, encoding="utf-8")
    for door in (["--resume", "auto"], ["--eval-only"]):
        assert run_command("pretrain_cls", ["--config", "c.yaml", "--output", "r", *door]) == 2
        assert "config.yaml is damaged: it holds no config" in capsys.readouterr().err


def test_a_signal_after_the_work_leaves_a_finished_run(place, monkeypatch):
    update = Run.update

    def signalled(self, **values):
        update(self, **values)
        if values.get("state") == "finished":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "update", signalled)
    assert pretrain() == 143
    assert Run.open("r").state == "finished" and not list(Path("r").glob("lock*"))


def full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "target",
    [
        "resdet.run.folder.write_json",
        "resdet.cli.training.run_folder.set_up_log",
        "resdet.engine.metric_writers.JSONWriter.write",
        "resdet.engine.checkpoint.write_text",
        "resdet.engine.checkpoint.torch.save",
        "safetensors.torch.save_file",
        "resdet.pretrain.trainer.weights.save",
        "resdet.pretrain.trainer.Pretraining._hand_over",
    ],
)
def test_a_full_disk_is_a_page_wherever_it_strikes(place, monkeypatch, capsys, target):
    """Creation, log, metrics, checkpoint, the final file, results: 3, and it goes on afterwards."""
    monkeypatch.setattr(target, full)
    code = pretrain()
    page = capsys.readouterr().err
    if target != "safetensors.torch.save_file":  # another writer may be in use
        assert code == 3 and "No space left on device" in page, page[-1500:]
        assert "Free space" in page
    assert "Traceback" not in page
    assert not list(Path("r").glob("lock*"))
    monkeypatch.undo()
    os.chdir(place)
    assert pretrain() == 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/3: file write"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
    ],
)
def test_every_writers_word_for_a_full_disk_is_known(error):
    """torch's, safetensors', a quota's, a limit's on the size of files."""
    with pytest.raises(TrainingStopped, match="no space is left"), machine_limits.as_pages("r"):
        raise error


def test_what_a_killed_process_left_half_is_removed(place):
    assert pretrain() == 0
    left = [Path("r") / "model.safetensors.99.tmp", Path("r") / "checkpoints" / "last.99.tmp"]
    for path in left:
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    assert pretrain() == 0
    assert not any(path.exists() for path in left)


def test_another_number_of_threads_is_said(place, caplog):
    assert pretrain() == 0
    run = Run.open("r")
    run.update(threads=torch.get_num_threads() + 1)
    with caplog.at_level("WARNING"):
        run_folder.logger.propagate = True
        assert pretrain() == 0
    page = (Path("r") / "log.txt").read_text(encoding="utf-8")
    assert "threads so far" in page and "not the same to the bit" in page


def test_processes_that_cannot_meet_end_with_a_page(monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)

    def refused(backend, **options):
        raise RuntimeError("Gloo connectFullMesh failed with Connection refused\nmore")

    monkeypatch.setattr(torch.distributed, "init_process_group", refused)
    with pytest.raises(TrainingStopped, match="2 processes could not be connected: Gloo connect"):
        processes.run_in_processes(lambda args: 0, None, "cpu")


def test_files_are_known_by_size_and_a_few_by_content(tmp_path):
    files = []
    for number in range(200):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(bytes([number]) * 10)
        files.append(str(path))

    def known() -> str:
        return data_hashes.hash_of_files(len(files), files.__getitem__)

    before = known()
    assert before == known()
    Path(files[0]).write_bytes(b"y" * 10)
    same_size = known()
    Path(files[77]).write_bytes(b"y" * 11)
    other_size = known()
    Path(files[77]).unlink()
    assert len({before, same_size, other_size, known()}) == 4


@pytest.mark.parametrize("count", [0, 1, 8_192, 8_193, 1_281_167])
def test_files_of_a_large_set_are_looked_at_here_and_there(count):
    """From the first to the last; a start must not wait for a million files on a shared disk."""
    asked: list[int] = []
    data_hashes.hash_of_files(count, lambda place: asked.append(place) or "no such file")
    assert len(asked) == len(set(asked)) == min(count, 8_192)
    assert not count or (asked[0], asked[-1]) == (0, count - 1)


def test_pixels_that_were_replaced_are_refused_on_a_resume(tmp_path):
    run = Run.create(tmp_path / "r", kind="detection", config_text="", command=[], seed=1)
    sets = [{"name": "voc", "hash": "a", "images": 3, "files": "x"}]
    run.update(train_sets=sets)
    data_hashes.hold_against(run, sets, changed_allowed=False)
    changed = [{**sets[0], "files": "y"}]
    with pytest.raises(Exception, match="voc has the same names and annotations, but other image"):
        data_hashes.hold_against(run, changed, changed_allowed=False)
    run.update(train_sets=[{k: v for k, v in sets[0].items() if k != "files"}])
    data_hashes.hold_against(run, changed, changed_allowed=False)


def test_one_of_several_processes_alone_writes(tmp_path):
    run = Run.create(tmp_path / "r", kind="detection", config_text="", command=[], seed=1)
    second = Run.open(tmp_path / "r")
    second.writes = False
    run.update(state="training", versions={"torch": "2"})
    second.update(state="stopped")
    second.write("card.json", {"net": "resnet18"})
    info = json.loads((tmp_path / "r" / "run.json").read_text(encoding="utf-8"))
    assert info["state"] == "training" and info["versions"] == {"torch": "2"}
    assert not (tmp_path / "r" / "card.json").exists()


# Beginning of a row of the table in docs/commands.md: its exit codes, and the tests that hold it.
ROWS = {
    "SIGTERM, SIGINT, SIGHUP or SIGUSR1": (
        "143, 130, 129, 138",
        "test_a_signal_in_the_final_scoring_ends_in_order "
        "test_a_signal_to_the_group_saves_and_ends",
    ),
    "`kill -9`": ("137 or none", "test_one_command_starts_goes_on_and_ends"),
    "a loss or gradient": ("3", "test_two_processes_stop_together_and_go_on_to_the_bit"),
    "an image that cannot": (
        "3",
        "test_images_that_cannot_be_read_stop_before_the_step "
        "test_images_lost_in_an_evaluation_stop_with_the_state_kept",
    ),
    "another process": ("3", "test_two_processes_stop_together_and_go_on_to_the_bit"),
    "the processes cannot": ("3", "test_processes_that_cannot_meet_end_with_a_page"),
    "no space": ("3", "test_a_full_disk_is_a_page_wherever_it_strikes"),
    "a file of the run folder cannot": ("3", "test_a_place_that_cannot_be_used_is_a_page"),
    "memory of": ("3", "test_a_machine_that_is_too_small_is_a_page"),
    "the run folder is removed": ("3", "test_a_folder_that_was_removed_is_not_made_again"),
    "a checkpoint is damaged": ("0", "test_a_flipped_byte_is_either_seen_or_harmless"),
    "another file of": (
        "2", "test_a_damaged_file_is_read_or_refused test_the_command_ends_with_a_page"
    ),
    "images, sizes": ("2", "test_one_command_starts_goes_on_and_ends"),
    "the folder is in use": ("2", "test_a_folder_in_use_is_refused_and_a_dead_lock_taken_over"),
}  # fmt: skip


def test_the_table_of_ends_is_that_of_the_tests() -> None:
    """docs/commands.md: each row with its codes, and tests of these names are there."""
    page = (children.ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("| what happens | exit code | what is kept |")
    rows = [line for line in rest.partition("\n\n")[0].splitlines() if not line.startswith("| ---")]
    rows = [line for line in rows if line]
    files = [*children.ROOT.glob("tests/**/test_*.py")]
    tests = "".join(path.read_text(encoding="utf-8") for path in files)
    assert len(rows) == len(ROWS)
    for row, (start, (codes, names)) in zip(rows, ROWS.items(), strict=True):
        what, code, kept = (cell.strip() for cell in row.strip("|").split(" | "))
        assert what.startswith(start) and code == codes and kept
        assert all(f"def {name}" in tests for name in names.split()), row
