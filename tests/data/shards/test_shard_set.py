"""Tar shards: the same set as class folders, by an index that is never older than they are."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import part_of
from resdet.data.shards import shard_set, storage
from resdet.data.shards.making import make_shards
from resdet.data.shards.shard_set import load_shards
from resdet.errors import DataError
from tests.support.shard_files import jpeg, sample, write_shard

pytestmark = pytest.mark.usefixtures("private_cache")
FRESH = DataOptions(cache=False)
NAMES = ("ant/b.JPEG", "ant/a-1.jpg", "ant/a.jpg", "bee/9.jpg", "bee/10.jpg", "cat/c.jpeg")


@pytest.fixture
def folders(tmp_path) -> Path:
    """Three classes, with names whose order depends on what follows the dot."""
    for seed, name in enumerate(NAMES):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(jpeg(seed))
    return tmp_path / "set"


@pytest.fixture
def shards(tmp_path) -> Path:
    """Two shards of three images, of an hour ago."""
    folder = tmp_path / "shards"
    for number in range(2):
        keys = [3 * number + k for k in range(3)]
        members = [m for k in keys for m in sample(f"s{k}", k % 3, seed=k)]
        write_shard(folder / f"a-{number:03d}.tar", members)
    (folder / "classes.txt").write_text("ant\nbee\ncat\n")
    age(folder)
    return folder


def age(folder: Path) -> None:
    for path in folder.glob("*.tar"):
        then = path.stat().st_mtime - 3600
        os.utime(path, (then, then))


def facts(data):
    names = [data.name_of(i) for i in range(len(data))]
    return data.classes, data.labels.tolist(), names, data.hash, data.notes


def scans(monkeypatch) -> list[str]:
    """Shards whose headers are gone over from here on."""
    seen: list[str] = []
    begin = shard_set.ShardScan.__init__
    monkeypatch.setattr(
        shard_set.ShardScan,
        "__init__",
        lambda self, shard, *rest: seen.append(shard) or begin(self, shard, *rest),
    )
    return seen


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("shard_mb", [0.02, 10.0])
def test_the_same_images_are_the_same_set_in_folders_and_in_any_shards(
    folders, tmp_path, seed, shard_mb
) -> None:
    """Order, labels, names, hash and pixels: so the training is the same, too."""
    data = load_folder(folders, name="mine")
    made = make_shards(data, tmp_path / "shards", shard_mb=shard_mb, seed=seed)
    again = catalog.load_classification(made.name)
    assert facts(again) == facts(data) and made.hash == data.hash
    assert (made.shards > 1) == (shard_mb < 1)
    for index in range(len(data)):
        np.testing.assert_array_equal(again.read(index), data.read(index))
        assert again.encoded.read(index) == Path(data.files[index]).read_bytes()


def test_real_photographs_are_the_same_set_in_shards(shared_data, tmp_path) -> None:
    data = load_folder(shared_data / "imagenet_sample", name="sample")
    made = make_shards(data, tmp_path / "shards", shard_mb=2.0, seed=0)
    again = load_shards(made.name.removeprefix("wds:"), name="shards")
    assert again.hash == data.hash and len(again) == 60 and made.shards == 3
    # Keys are the names of the files, and the class of each stands in its name.
    assert all(
        again.classes[label] in again.encoded.where(i) for i, label in enumerate(again.labels)
    )


def test_a_second_start_reads_two_headers_a_shard(shards, monkeypatch) -> None:
    pattern = f"{shards}/a-{{000..001}}.tar"
    first, seen = load_shards(pattern, name="mine"), scans(monkeypatch)
    asked = []
    read = storage.Handles.read
    monkeypatch.setattr(
        storage.Handles, "read",
        lambda self, number, *where: asked.append(where) or read(self, number, *where),
    )  # fmt: skip
    second = load_shards(pattern, name="mine")
    assert seen == [] and len(asked) == 4 and {length for _, length in asked} == {512}
    assert facts(second) == facts(first) == facts(load_shards(pattern, name="x", options=FRESH))
    assert second.counts == first.counts == {"images": 6, "classes": 3, "shards": 2}
    np.testing.assert_array_equal(second.read(4), first.read(4))


def change(folder: Path, how: str) -> None:
    path = folder / "a-001.tar"
    stat, whole = path.stat(), path.read_bytes()
    if how == "classes":
        (folder / "classes.txt").write_text("ant\nbee\ncow\n")
        return
    if how == "other images":
        write_shard(path, [m for k in (3, 4, 5) for m in sample(f"s{k}", k % 3, seed=k + 10)])
    elif how == "same size, time and inode":
        path.write_bytes(whole.replace(b"s3.jpg", b"s7.jpg").replace(b"s3.cls", b"s7.cls"))
        fix_checksums(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == len(whole) and path.stat().st_ino == stat.st_ino
        return
    elif how == "replaced":
        path.unlink()
        path.write_bytes(whole)
    age(folder)


def fix_checksums(path: Path) -> None:
    """Of members whose names were changed in place."""
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 512):
        if data[place + 257 : place + 262] == b"ustar":
            data[place + 148 : place + 156] = b" " * 8
            total = sum(data[place : place + 512])
            data[place + 148 : place + 156] = b"%06o\0 " % total
    path.write_bytes(data)


@pytest.mark.parametrize(
    "how", ["classes", "other images", "same size, time and inode", "replaced"]
)
def test_any_change_is_seen_at_the_next_start(shards, how, monkeypatch) -> None:
    before = load_shards(str(shards), name="mine")
    change(shards, how)
    seen = scans(monkeypatch)
    after = load_shards(str(shards), name="mine")
    assert len(seen) == 2
    assert facts(after) == facts(load_shards(str(shards), name="x", options=FRESH))
    assert (after.hash == before.hash) == (how == "replaced")


@pytest.mark.parametrize("how", ["rewritten", "gone", "cut"])
def test_a_shard_that_changes_while_it_is_used_is_named(shards, how) -> None:
    data = load_shards(str(shards), name="mine", options=FRESH)
    path = shards / "a-000.tar"
    # Loading has opened the files: as in a worker that starts later, none is open.
    data = pickle.loads(pickle.dumps(data))
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            path.read_bytes()[: 600 if how == "cut" else None] + b"\0" * (how != "cut")
        )
    with pytest.raises(DataError, match=r"a-000\.tar (changed since|cannot be read)"):
        data.read(0)


def test_a_file_that_shrinks_below_an_open_handle_is_cut_off_by_name(shards) -> None:
    data = load_shards(str(shards), name="mine", options=FRESH)
    place = next(i for i in range(6) if "s4" in data.encoded.where(i))
    data.read(place)
    os.truncate(shards / "a-001.tar", 2048)
    with pytest.raises(DataError, match=r"a-001\.tar: s4\.jpg is cut off: 0 of"):
        data.read(place)


def test_a_damaged_image_is_named_with_shard_and_member(tmp_path) -> None:
    cut = jpeg(1, (64, 48))[:700]
    write_shard(tmp_path / "a.tar", [("k.jpg", cut), ("k.cls", b"0"), *sample("l", 0)])
    data = load_shards(f"{tmp_path}/a.tar", name="mine", options=FRESH)
    with pytest.raises(DataError, match=r"a\.tar: k\.jpg is cut off: the file ends after 700"):
        data.read(0)


def test_parts_and_pickles_of_a_set_read_the_same_images(shards) -> None:
    data = load_shards(str(shards), name="mine")
    part = part_of(data, 3)
    assert [part.name_of(i) for i in range(3)] == [data.name_of(i) for i in (0, 2, 5)]
    copy = pickle.loads(pickle.dumps(part))
    for index, place in enumerate((0, 2, 5)):
        np.testing.assert_array_equal(part.read(index), data.read(place))
        np.testing.assert_array_equal(copy.read(index), data.read(place))


def test_a_worker_has_no_more_memory_of_its_own_for_a_larger_set(shards) -> None:
    """Private memory of a forked process that reads each of 600 and of 120,000 images; a list of
    as many names, by which the measure is held, becomes the process's own."""
    images = load_shards(str(shards), name="mine").encoded
    small, large = (images.chosen(np.tile(np.arange(6), n).tolist()) for n in (100, 20_000))
    texts = [f"class/{i:020d}.jpg" for i in range(120_000)]

    def each(found) -> None:
        for index in range(len(found)):
            assert found.read(index) and found.name(index) and found.where(index)

    few, many = grown(lambda: each(small)), grown(lambda: each(large))
    listed = grown(lambda: [text for text in texts if not text])
    assert listed > 4 and many - few < listed / 3, (few, many, listed)


def grown(read) -> float:
    """MB that a forked process makes its own by this."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work() -> None:
        before = private_mb()
        read()
        queue.put(private_mb() - before)

    process = context.Process(target=work)
    process.start()
    process.join()
    return queue.get()


def private_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def test_few_files_are_open_at_once_and_each_process_has_its_own(shards, monkeypatch) -> None:
    monkeypatch.setattr(storage, "MOST_OPEN", 1)
    data = load_shards(str(shards), name="mine")
    expected = [data.read(i).tobytes() for i in range(6)]
    handles = data.encoded.handles
    order = random.Random(0).sample(range(6), 6)
    assert [data.read(i).tobytes() for i in order] == [expected[i] for i in order]
    assert len(handles._open) == 1
    mine = next(iter(handles._open.values()))
    read, write = os.pipe()
    if os.fork() == 0:
        data.read(0), data.read(5)
        os.write(write, b"1" if mine not in handles._open.values() else b"0")
        os._exit(0)
    assert os.read(read, 1) == b"1" and not mine.closed
    os.close(read), os.close(write)
