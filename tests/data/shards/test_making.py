"""Shards from sets: the same bytes each time, gone on with, never written over."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import ClassificationSet
from resdet.data.shards import making
from resdet.data.shards.making import make_shards
from resdet.errors import DataError
from tests.support import children
from tests.support.shard_files import jpeg

pytestmark = pytest.mark.usefixtures("private_cache")
FRESH = DataOptions(cache=False)


def in_folders(root: Path, names) -> ClassificationSet:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(seed))
    return load_folder(root, name=str(root), options=FRESH)


@pytest.fixture
def data(tmp_path) -> ClassificationSet:
    return in_folders(
        tmp_path / "set", [f"{c}/{c}{i}.jpg" for c in ("ant", "bee") for i in range(5)]
    )


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def make(data, folder, **options):
    return make_shards(data, folder, **{"shard_mb": 0.02, "options": FRESH, **options})


def test_the_same_images_give_the_same_bytes_and_another_seed_another_order(data, tmp_path) -> None:
    one, two = (make(data, tmp_path / name, seed=3) for name in "ab")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert one.hash == two.hash == data.hash and one.shards > 3
    other = make(data, tmp_path / "c", seed=4)
    assert digests(tmp_path / "c") != digests(tmp_path / "a") and other.hash == data.hash
    plain = make(data, tmp_path / "d", shard_mb=1.0)
    with tarfile.open(tmp_path / "d" / "train-000000.tar") as tar:
        keys = [f"{c}{i}" for c in ("ant", "bee") for i in range(5)]
        assert tar.getnames() == [f"{k}.{f}" for k in keys for f in ("jpg", "cls", "json")]
        facts = json.loads(tar.extractfile("bee2.json").read())
        assert facts == {"filename": "bee2.jpg", "label": 1, "class": "bee"}
        assert tar.extractfile("bee2.cls").read() == b"1"
    assert plain.name == f"wds:{tmp_path}/d/train-000000.tar" and plain.shards == 1


def test_no_shard_is_larger_than_stated(data, tmp_path) -> None:
    made = make(data, tmp_path / "a")
    sizes = [p.stat().st_size for p in (tmp_path / "a").glob("*.tar")]
    assert len(sizes) == made.shards and sum(sizes) == made.size
    assert max(sizes) <= 0.02 * 2**20


def test_it_goes_on_after_a_kill_and_ends_with_the_same_bytes(data, tmp_path, monkeypatch) -> None:
    make(data, tmp_path / "whole", seed=1)
    written, write = [], making._write

    def killed(path, *rest):
        if len(written) == 2:
            path.write_bytes(b"half a shard")
            raise KeyboardInterrupt
        written.append(path)
        write(path, *rest)

    monkeypatch.setattr(making, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        make(data, tmp_path / "a", seed=1)
    assert len([*(tmp_path / "a").glob("*.tar")]) == 2
    (tmp_path / "a" / "train-000002.tar.99.tmp").write_bytes(b"of a process that was killed")
    monkeypatch.setattr(making, "_write", write)
    made = make(data, tmp_path / "a", seed=1)
    assert made.written == made.shards - 2
    (tmp_path / "a" / "train-000002.tar.99.tmp").unlink()
    assert digests(tmp_path / "a") == digests(tmp_path / "whole")
    assert make(data, tmp_path / "a", seed=1).written == 0


def test_nothing_is_written_over(data, tmp_path) -> None:
    make(data, tmp_path / "a", seed=1)
    before = digests(tmp_path / "a")
    for change, found in (
        ({"seed": 2}, "seed differ"), ({"shard_mb": 0.03}, "shard_mb"), ({"stem": "val"}, "stem"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=found):
            make(data, tmp_path / "a", **{"seed": 1, **change})
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is not empty \(mine\.txt\)"):
        make(data, tmp_path / "taken")
    assert digests(tmp_path / "a") == before
    assert [*digests(tmp_path / "taken")] == ["mine.txt"]


@pytest.mark.parametrize("what", ["source", "shard", "more in a shard"])
def test_what_is_not_equal_to_its_source_is_refused(data, tmp_path, what) -> None:
    make(data, tmp_path / "a")
    shard = tmp_path / "a" / "train-000001.tar"
    if what == "source":
        # Of the same size, so that nothing but its bytes tells.
        path = Path(data.files[3])
        path.write_bytes(path.read_bytes()[:-2] + b"\0\0")
    elif what == "shard":
        whole = bytearray(shard.read_bytes())
        whole[600] ^= 1
        shard.write_bytes(whole)
    else:
        with tarfile.open(shard, "a") as tar:
            tar.addfile(tarfile.TarInfo("more.jpg"))
    with pytest.raises(DataError, match=r"train-00000\d\.tar does not hold what its source has"):
        make(data, tmp_path / "a")


def test_keys_are_file_names_where_these_are_unique_and_plain(tmp_path) -> None:
    for folder, names, keys in (
        ("plain", ("a/x.jpg", "b/y.JPEG"), ["x", "y"]),
        ("twice", ("a/1.jpg", "b/1.jpg"), ["00000000", "00000001"]),
        ("dots", ("a/x.1.jpg", "b/y.jpg"), ["00000000", "00000001"]),
        ("blanks", ("a/x y.jpg", "b/é.jpg"), ["00000000", "00000001"]),
    ):
        data = in_folders(tmp_path / folder, names)
        made = make(data, tmp_path / f"{folder} shards")
        again = catalog.load_classification(made.name)
        assert [m.partition(".")[0] for m in again.encoded.members] == keys
        assert [again.name_of(i) for i in range(2)] == list(names) and again.hash == data.hash


def test_images_in_memory_and_in_shards_can_be_sources(data, tmp_path) -> None:
    first = make(data, tmp_path / "a", seed=1)
    second = make(catalog.load_classification(first.name), tmp_path / "b", seed=2)
    assert first.hash == second.hash == data.hash
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    memory = ClassificationSet("cifar", np.array([1, 0, 1, 0]), ("a", "b"), images=pixels)
    again = catalog.load_classification(make(memory, tmp_path / "c").name)
    for index, place in enumerate((1, 3, 0, 2)):  # by class, then by number
        np.testing.assert_array_equal(again.read(index), pixels[place])


def test_a_full_disk_is_known_before_anything_is_written(data, tmp_path, monkeypatch) -> None:
    nothing = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(making.shutil, "disk_usage", lambda _: nothing)
    with pytest.raises(DataError, match="of room, and the shards need"):
        make(data, tmp_path / "a")
    assert os.listdir(tmp_path / "a") == []


@pytest.mark.parametrize("name", [" ant", "a\nb"])
def test_classes_that_are_no_lines_are_refused(tmp_path, name) -> None:
    data = in_folders(tmp_path / "set", [f"{name}/1.jpg", "bee/2.jpg"])
    with pytest.raises(DataError, match="names of classes cannot be lines"):
        make(data, tmp_path / "a")


def test_the_command_makes_them_and_prints_their_name(data, tmp_path) -> None:
    words = ("make_shards", "set", "out", "--shard-mb", "0.02", "--shuffle", "7")
    done = children.run_cli(*words, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert page["images"] == 10 and page["hash"] == data.hash
    assert catalog.load_classification(page["name"]).hash == data.hash
    refused = children.run_cli(*words[:-1], "8", cwd=tmp_path)
    assert refused.returncode == 2 and "Nothing is written over" in refused.stderr
