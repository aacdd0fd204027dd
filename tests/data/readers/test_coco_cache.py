"""A COCO set that is kept: the same as read anew, and never an older one."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resdet.data import array_cache
from resdet.data.options import DataOptions
from resdet.data.readers import coco_cache, coco_reader
from resdet.data.readers.coco_reader import load_coco

pytestmark = pytest.mark.usefixtures("private_cache")
OPTIONS = DataOptions(masks=False)


@pytest.fixture
def tree(tmp_path, shared_data, monkeypatch) -> tuple[Path, Path]:
    """The JSON file and images of the real sample; all of long ago. Every set is large enough."""
    monkeypatch.setattr(coco_cache, "MIN_IMAGES", 1)
    shutil.copytree(shared_data / "coco" / "val2017", tmp_path / "val2017")
    shutil.copy(shared_data / "coco/annotations/instances_val2017.json", tmp_path / "val.json")
    then = os.stat(tmp_path).st_mtime - 3600
    for path in [*(tmp_path / "val2017").iterdir(), tmp_path / "val2017", tmp_path / "val.json"]:
        os.utime(path, (then, then))
    return tmp_path / "val.json", tmp_path / "val2017"


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """JSON files that are read from here on."""
    files: list[Path] = []
    read = coco_reader.read_json
    monkeypatch.setattr(coco_reader, "read_json", lambda path: files.append(path) or read(path))
    return files


def contents(data) -> dict:
    fields = {f.name: getattr(data, f.name) for f in dataclasses.fields(data)}
    return {**fields, "records": [*data.records], "counts": dict(data.counts)}


def load(tree, options: DataOptions = OPTIONS, **more):
    return load_coco(*tree, name="mine", options=options, **more)


def test_a_second_start_reads_no_json_and_has_the_same_set(tree, monkeypatch) -> None:
    """Every record, number, note and the hash; crowds keep their masks."""
    first, files = load(tree), parsed(monkeypatch)
    second = load(tree)
    assert files == []
    fresh = load(tree, DataOptions(masks=False, cache=False))
    assert contents(first) == contents(second) == contents(fresh)
    assert len(second) == 100 and second.counts["crowd"] > 0
    assert any("segmentation" in a for r in second.records for a in r["annotations"])


def change(tree: tuple[Path, Path], how: str) -> None:
    file, images = tree
    one = sorted(images.iterdir())[7]
    if how == "a box":
        content = json.loads(file.read_text())
        content["annotations"][3]["bbox"][2] -= 0.5
        file.write_text(json.dumps(content))
    elif how == "an image of another size":
        shutil.copy(sorted(images.iterdir())[0], one)
    elif how == "an image gone":
        one.unlink()
    else:
        os.utime(one)


CHANGES = ("a box", "an image of another size", "an image gone", "an image touched")


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_is_seen(tree, how, monkeypatch) -> None:
    load(tree)
    change(tree, how)
    files = parsed(monkeypatch)

    def outcome(options: DataOptions) -> object:
        try:
            return contents(load(tree, options))
        except Exception as error:
            return str(error)

    kept = outcome(OPTIONS)
    assert files == [tree[0]]
    assert kept == outcome(dataclasses.replace(OPTIONS, cache=False))
    assert isinstance(kept, str) == (how in CHANGES[1:3])


@pytest.mark.parametrize(
    "other",
    [
        {"options": dataclasses.replace(OPTIONS, clip_boxes=2.0)},
        {"options": dataclasses.replace(OPTIONS, exif="ignore")},
        {"is_published": True},
        {"evaluators": ("voc", "coco")},
    ],
)
def test_what_is_read_otherwise_is_read_anew(tree, monkeypatch, other) -> None:
    load(tree)
    files = parsed(monkeypatch)
    load(tree, **other)
    assert files == [tree[0]]


def test_another_version_of_the_code_reads_anew(tree, monkeypatch) -> None:
    load(tree)
    files = parsed(monkeypatch)
    monkeypatch.setattr(array_cache, "code_version", lambda: "of tomorrow")
    load(tree)
    assert files == [tree[0]]


class _Harm:
    def __reduce__(self):
        return os.mkdir, ("made by a pickle",)


def test_a_kept_file_cannot_run_anything(tree, private_cache, tmp_path, monkeypatch) -> None:
    """Someone else's file in the cache: it is not used, and nothing in it is executed."""
    monkeypatch.chdir(tmp_path)
    first = load(tree)
    (path,) = (private_cache / "coco").iterdir()
    arrays = dict(np.load(path))
    harm = np.frombuffer(pickle.dumps(_Harm()), dtype=np.uint8)
    arrays |= {"records": harm, "ends": np.array([0, len(harm)])}
    np.savez(path, **arrays)
    assert contents(load(tree)) == contents(first)
    assert not (tmp_path / "made by a pickle").exists()


def test_what_changes_while_it_is_read_is_not_kept(tree, monkeypatch) -> None:
    """F10: the cache would have the old boxes with the times of the new file."""
    now = time.time()
    read = coco_reader.read_json

    def meanwhile(path: Path):
        content = read(path)
        change(tree, "a box")
        os.utime(path, (now - 900, now - 900))
        return content

    with monkeypatch.context() as reading:
        reading.setattr(coco_reader, "read_json", meanwhile)
        clock = SimpleNamespace(time=lambda: now - 1800)
        reading.setattr(array_cache, "time", clock)
        before = load(tree)
    assert load(tree).hash != before.hash


def test_small_sets_are_not_kept(tree, private_cache, monkeypatch) -> None:
    monkeypatch.setattr(coco_cache, "MIN_IMAGES", 101)
    assert isinstance(load(tree).records, list)
    assert not (private_cache / "coco").exists()
