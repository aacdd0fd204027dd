"""The run folder: atomic, owned by one run, refused with words where it is not one."""

import ast
import datetime
import json
import os
import time
from pathlib import Path

import pytest

from resdet.errors import RunError
from resdet.run import layout
from resdet.run.folder import Run, atomic_path, read_json, write_json
from tests.support import children


def make(path):
    return Run.create(path, kind="detection", config_text="A: 1\n", command=["x"], seed=1)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    """F46."""
    run = make(tmp_path / "r")
    run.checkpoints.mkdir()
    (run.checkpoints / "step_0000001.pth").write_bytes(b"x")
    with pytest.raises(
        RunError, match=r"holds a created detection run of .*Choose another --output"
    ):
        make(tmp_path / "r")


def test_a_run_that_never_got_anywhere_makes_room(tmp_path):
    """No checkpoint, weights or result: its lines of metrics.json are gone with it (F46)."""
    run = make(tmp_path / "r")
    (run.path / "metrics.json").write_text('{"iteration": 4}\n', encoding="utf-8")
    (run.path / "notes.txt").write_text("mine", encoding="utf-8")
    again = make(tmp_path / "r")
    assert again.info["id"] != run.info["id"]
    assert again.metrics() == []
    assert (run.path / "notes.txt").exists()


@pytest.mark.parametrize("name", ["digits_test", "voc:/data/parts:test", "coco:C:\\a.json:b c"])
def test_any_name_of_a_data_set_is_one_folder(tmp_path, name):
    """A set named by its path is found again under that name."""
    run = make(tmp_path / "r")
    write_json(run.results(name) / "images.json", {})
    assert run.results(name).parent == run.path / "results"
    assert run.result_sets() == [name]


def test_a_long_name_of_a_data_set_is_a_short_folder_that_states_what_it_is(tmp_path):
    """File systems take 255 bytes a name: 57 slashes of 3 bytes and 84 letters, and no more."""
    run = make(tmp_path / "r")
    just, over = "/" * 57 + "a" * 84, "/" * 57 + "a" * 85
    deep = "coco:/" + "é ".join("deep/" * 60) + "/{}.json:/images"
    names = [just, over, deep.format("train"), deep.format("val")]
    for name in names:
        write_json(run.results(name) / "images.json", {"data_set": name})
    folders = [run.results(name).name for name in names]
    assert (len(folders[0]), folders[0][-1]) == (255, "a")
    assert all(len(folder.encode()) < 130 for folder in folders[1:])
    assert folders[3].startswith("coco_d") and "_val.json_images+" in folders[3]
    assert run.detected_sets() == run.result_sets() == sorted(names)


def test_a_short_folder_with_the_wrong_name_in_it_is_refused(tmp_path):
    """Its own name no longer gives the set."""
    run = make(tmp_path / "r")
    for content in ({}, {"data_set": "other"}, []):
        write_json(run.results("x" * 300) / "images.json", content)
        with pytest.raises(RunError, match="has data_set .*which is not the set of this folder"):
            run.detected_sets()


def test_what_is_no_run_folder_is_refused_with_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match=r"no run\.json \(it holds notes\.txt\)"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="is not a folder"):
        Run.open(tmp_path / "none")


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path):
    """F38, F39: temporary name, then rename."""
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_nan_is_never_written(tmp_path):
    """F80."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"AP": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_packed_file_is_the_same_every_time(tmp_path):
    for name in ("a.json.gz", "b.json.gz"):
        write_json(tmp_path / name, {"a": [1, 2]})
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert read_json(tmp_path / "a.json.gz") == {"a": [1, 2]}


def test_an_unfinished_last_line_of_metrics_is_left_out(tmp_path):
    """F39: a kill can cut the last line, and only the last."""
    run = make(tmp_path / "r")
    path = run.path / "metrics.json"
    path.write_text('{"iteration": 19}\n{"iteration": 3', encoding="utf-8")
    assert run.metrics() == [{"iteration": 19}]
    path.write_text('{"iterat\n{"iteration": 39}\n', encoding="utf-8")
    with pytest.raises(RunError, match="line 1 is damaged: it is not JSON"):
        run.metrics()


def test_a_folder_in_use_is_refused_and_a_dead_lock_taken_over(tmp_path):
    """F72."""
    run = make(tmp_path / "r")
    held = pytest.raises(RunError, match=f"in use by process {os.getpid()}")
    with run.lock(), held, run.lock():
        pass
    dead = children.printed_by("import os; print(os.getpid())")
    owner = {"host": os.uname().nodename, "pid": int(dead), "since": "then"}
    (run.path / "lock.json").write_text(json.dumps(owner), encoding="utf-8")
    with run.lock():
        assert (
            json.loads((run.path / "lock.json").read_text(encoding="utf-8"))["pid"] == os.getpid()
        )
    assert not (run.path / "lock.json").exists()


def test_a_lock_that_is_not_written_yet_counts_as_held(tmp_path):
    """Its process is between creating and writing it; one that died there is taken over later."""
    run = make(tmp_path / "r")
    lock = run.path / "lock.json"
    lock.touch()
    with pytest.raises(RunError, match=r"in use by a process that starts\. Try again in 10 s"):
        run.lock().__enter__()
    before = time.time() - 11
    os.utime(lock, (before, before))
    with run.lock():
        assert json.loads(lock.read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_a_name_that_is_no_json_file_is_refused(tmp_path):
    """Without its ending a name would read as a file that is not there, whatever is there."""
    run = make(tmp_path / "r")
    run.write("card.json", {"net": "resnet18"})
    assert read_json(run.path / "card.json") == run.read("card.json") == {"net": "resnet18"}
    with pytest.raises(ValueError, match="name is 'card', expected a JSON file"):
        run.read("card", {})


def test_the_names_come_without_any_other_module():
    """So that evaluation may take names from `layout` and still knows no run folder."""
    tree = ast.parse(Path(layout.__file__).read_text(encoding="utf-8"))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not names and layout.checkpoint_name(800) == "step_0000800.pth"


def test_ids_are_random_and_times_have_a_zone(tmp_path):
    """F50: two runs of one second are two runs; a stored time is UTC and states it."""
    infos = [make(tmp_path / name).info for name in ("a", "b")]
    assert len({info["id"] for info in infos}) == 2
    for info in infos:
        created = datetime.datetime.fromisoformat(info["created"])
        assert created.utcoffset() == datetime.timedelta(0)


@pytest.mark.parametrize("value", [5, "ape"])
def test_predictors_that_arrived_are_a_list(tmp_path, value):
    """As train_det writes them; anything else is a damaged file, which is a page."""
    run = make(tmp_path / "r")
    write_json(run.path / "transfer.json", {"file": "x.pth", "head_classes": value})
    with pytest.raises(RunError, match=r"transfer\.json is damaged: head_classes is .*a list"):
        run.read("transfer.json")


def test_a_file_that_was_scored_is_found_from_every_folder(tmp_path, monkeypatch):
    """A path as it is typed, relative to one folder, is another file in the next; both may move."""
    (tmp_path / "a" / "runs").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    run = make(Path("runs/scored"))
    assert run.scored_file is None
    run.note_scored_file("runs/other/model_final.pth", "student")
    run.note_scored_file(run.scored_file)  # as when it is scored again
    assert run.scored_file == Path("runs/other/model_final.pth")
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "a").rename(tmp_path / "b")
    again = Run.open(tmp_path / "b" / "runs" / "scored")
    assert again.scored_file == tmp_path / "b/runs/other/model_final.pth"
    assert again.info["scored_part"] == "student"
    again.note_scored_file("/weights/x.pth")
    assert again.scored_file == Path("/weights/x.pth") and again.info["scored_part"] == ""
