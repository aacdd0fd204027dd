"""F92: every fault of a shard is named with shard and key; no sample is passed over in silence."""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resdet.data import catalog
from resdet.data.checks.faults import BrokenSet
from resdet.data.options import DataOptions
from resdet.data.shards.shard_set import load_shards
from resdet.errors import DataError
from tests.support.shard_files import jpeg, sample, write_shard

pytestmark = pytest.mark.usefixtures("private_cache")
FRESH = DataOptions(cache=False)
A, B = sample("a", 0), sample("b", 1, seed=1)


def load(folder: Path, pattern: str = "*.tar"):
    return load_shards(f"{folder}/{pattern}", name="mine", options=FRESH)


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(BrokenSet) as broken:
        load(folder)
    return list(broken.value.faults)


# What lies in the one shard beside two whole samples, and the fault's line.
IN_SAMPLES = {
    "no .cls": ([("k.jpg", jpeg())], "s.tar: k: .jpg without .cls"),
    "no image": ([("k.cls", b"0")], "s.tar: k: has a label and no image"),
    "a .json with a label and no image": (
        [("k.json", b'{"label": 0}')], "s.tar: k: has a label and no image",
    ),
    "an image that is not read": (
        [("k.heic", b"x"), ("k.cls", b"0")],
        "s.tar: k: has a label and no image that can be read here (there is .heic)",
    ),
    "repeated image": ([("a.jpg", jpeg())], "s.tar: a: a second .jpg of this key"),
    "repeated image side by side": (
        [("k.jpg", jpeg()), ("k.jpg", jpeg()), ("k.cls", b"0")],
        "s.tar: k: a second .jpg of this key",
    ),
    "repeated label": ([("a.cls", b"1")], "s.tar: a: a second .cls of this key"),
    "two images": (
        [("k.jpg", jpeg()), ("k.png", jpeg()), ("k.cls", b"0")], "s.tar: k: has .jpg and .png",
    ),
    "label in words": (
        [("k.jpg", jpeg()), ("k.cls", b"tench")], "s.tar: k: its .cls holds 'tench', not a number",
    ),
    "label below 0": (
        [("k.jpg", jpeg()), ("k.cls", b"-1")], "s.tar: k: its .cls holds '-1', not a number",
    ),
    "label with a point": (
        [("k.jpg", jpeg()), ("k.cls", b"1.0")], "s.tar: k: its .cls holds '1.0', not a number",
    ),
    "label of many bytes": (
        [("k.jpg", jpeg()), ("k.cls", b"1" * 99)],
        "s.tar: k: its .cls holds '11111111111111111111', not a number",
    ),
    "no label in .cls": (
        [("k.jpg", jpeg()), ("k.cls", b"")], "s.tar: k: its .cls holds '', not a number",
    ),
    "label out of range": (
        [("k.jpg", jpeg()), ("k.cls", b"2")],
        "labels are 0 to 2, and classes.txt has 2 classes, 0 to 1",
    ),
    "two labels": (
        [("k.jpg", jpeg()), ("k.cls", b"0"), ("k.json", b'{"label": 1}')],
        "s.tar: k: its .cls holds 0 and its .json 1",
    ),
    "negative label in .json": (
        [("k.jpg", jpeg()), ("k.json", b'{"label": -1}')], "s.tar: k: has the label -1",
    ),
    "damaged .json": (
        [("k.jpg", jpeg()), ("k.cls", b"0"), ("k.json", b"{")],
        "s.tar: k: its .json is no JSON object of below 1 MB",
    ),
    "list in .json": (
        [("k.jpg", jpeg()), ("k.cls", b"0"), ("k.json", b"[]")],
        "s.tar: k: its .json is no JSON object of below 1 MB",
    ),
    "empty image": ([("k.jpg", b""), ("k.cls", b"0")], "s.tar: k: .jpg is empty (0 bytes)"),
    "dots in keys": (
        [("k.1.jpg", jpeg()), ("k.1.cls", b"0")], "s.tar: k: has .1.jpg, and no image of its own",
    ),
    "no image inside": (
        [("k.jpg", b"some words"), ("k.cls", b"0")],
        "s.tar: k.jpg is text of 10 bytes, not an image. Replace it.",
    ),
    "another class of the same label": (
        [("k.jpg", jpeg()), ("k.cls", b"0"), ("k.json", b'{"class": "ant"}'),
         ("l.jpg", jpeg()), ("l.cls", b"0"), ("l.json", b'{"class": "bee"}')],
        "s.tar: l: has label 0 and is bee, but s.tar: k has it and is ant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_SAMPLES)
def test_a_fault_of_a_sample_is_named(tmp_path, case) -> None:
    members, line = IN_SAMPLES[case]
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    write_shard(tmp_path / "s.tar", [*A, *members, *B])
    (found,) = faults_of(tmp_path)
    assert found.startswith(line), found


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def cut(place: int):
    return lambda path: os.truncate(path, place)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[512 + 1024 + 20] ^= 0xFF  # in the name of the second header
    path.write_bytes(data)


def joined(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def one_block_of_zeros(path: Path) -> None:
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data.ljust(-(-len(data) // 512) * 512, b"\0") + bytes(512))


ON_SHARDS = {
    "gzip": (packed, "s.tar is packed by gzip, so that no image in it can be read alone"),
    "cut inside an image": (cut(600), r"s.tar is cut off inside a.jpg: 88 of \d+ bytes"),
    "cut inside a header": (cut(100), "s.tar ends after 100 bytes, behind its beginning"),
    "cut at a member": (cut(512 + 1024), "s.tar ends after 1,536 bytes, behind a.jpg, without an"),
    "no end": (
        one_block_of_zeros,
        "s.tar ends behind b.cls with one block of zeros instead of two",
    ),
    "nothing": (cut(0), r"s.tar is empty \(0 bytes\). Fetch it again"),
    "damaged": (damage, "s.tar has no header at byte 1,536, behind a.jpg"),
    "joined": (joined, r"s.tar has [\d,]+ bytes behind its end, after b.cls"),
    "words": (lambda p: p.write_text("hello " * 200), "s.tar is text of 512 bytes, not a tar"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html>" * 99), "s.tar is a web page, not a tar"),
    "no member": (lambda p: write_shard(p, []), "s.tar is a tar without a member"),
    "no sample": (lambda p: write_shard(p, [("x.txt", b"")]), "s.tar has no image with a label"),
}


@pytest.mark.parametrize("case", ON_SHARDS)
def test_a_fault_of_a_shard_is_named(tmp_path, case) -> None:
    change, line = ON_SHARDS[case]
    change(write_shard(tmp_path / "s.tar", [*A, *B]))
    assert (tmp_path / "s.tar").exists()
    found = faults_of(tmp_path)
    assert len(found) == 1 and re.match(line, found[0]), found


def test_a_gzip_is_refused_with_the_command_that_unpacks_it(tmp_path) -> None:
    packed(write_shard(tmp_path / "s.tar", A))
    with pytest.raises(DataError, match="gunzip -k SHARD"):
        load(tmp_path)


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_any_damaged_byte_of_a_header_is_a_fault_or_changes_no_sample(tmp_path, tar_format) -> None:
    """Each byte of the headers in turn, and cuts: a page, or the set as it was; never a crash."""
    long = "d" * 90 + "/" + "e" * 60 if tar_format != tarfile.USTAR_FORMAT else "d"
    members = [*sample(f"{long}/a", 0), *sample("b", 1, seed=1)]
    path = write_shard(tmp_path / "s.tar", members, tar_format)
    whole, names = path.read_bytes(), ["0/a.jpg", "1/b.jpg"]
    contents = sorted((whole.index(c), len(c)) for _, c in members if len(c) > 9)
    places = [p for p in range(len(whole) - 9216) if not any(s <= p < s + n for s, n in contents)]
    generator = np.random.default_rng(0)
    options = DataOptions(cache=False, check_images=False)
    refused = 0
    for place in generator.choice(places, 250, replace=False).tolist():
        data = bytearray(whole)
        data[place] ^= int(generator.integers(1, 256))
        path.write_bytes(data)
        try:
            found = load_shards(str(path), name="mine", options=options)
        except DataError:
            refused += 1
            continue
        assert [found.name_of(i) for i in range(2)] == names
    assert refused > 50
    # Two blocks of zeros end it; the rest is padding.
    end = -(-len(whole.rstrip(b"\0")) // 512) * 512 + 1024
    for length in [*generator.choice(end, 60).tolist(), end - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            load_shards(str(path), name="mine", options=options)


def test_faults_of_several_shards_come_on_one_page(tmp_path) -> None:
    write_shard(tmp_path / "a.tar", [*A, ("k.jpg", jpeg())])
    write_shard(tmp_path / "b.tar", [*B, ("l.cls", b"1")])
    cut(700)(write_shard(tmp_path / "c.tar", sample("c", 0)))
    page = "".join(faults_of(tmp_path))
    assert all(text in page for text in ("a.tar: k:", "b.tar: l:", "c.tar is cut off"))


def test_a_key_in_two_shards_is_named_with_both(tmp_path) -> None:
    write_shard(tmp_path / "a.tar", [*A, *B])
    write_shard(tmp_path / "b.tar", sample("b", 1, seed=5))
    (found,) = faults_of(tmp_path)
    assert found == f"b.tar: b: is in {tmp_path}/a.tar, too".replace(f"{tmp_path}/", "")


def special(kind: bytes, **facts) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("k.jpg")
    entry.type = kind
    for name, value in facts.items():
        setattr(entry, name, value)
    return entry


LINKS = {
    "hard link": special(tarfile.LNKTYPE, linkname="a.jpg"),
    "symbolic link": special(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "device": special(tarfile.CHRTYPE),
    "pipe": special(tarfile.FIFOTYPE),
    "of the kind b'V', which is not known": special(b"V"),
}


@pytest.mark.parametrize("what", LINKS)
def test_what_is_no_file_is_refused_by_name(tmp_path, what) -> None:
    """tarfile's readers, and webdataset, pass over these."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, content in A:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        tar.addfile(LINKS[what])
    (found,) = faults_of(tmp_path)
    assert found.startswith("s.tar k.jpg is ") and what.split()[-1] in found


@pytest.mark.parametrize("how", ["gnu", "posix"])
def test_sparse_members_of_gnu_tar_are_refused(tmp_path, how) -> None:
    with (tmp_path / "k.jpg").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"x" * 4096)
    done = subprocess.run(
        ["tar", f"--format={how}", "--sparse", "-cf", "s.tar", "k.jpg"], cwd=tmp_path, check=False
    )
    if done.returncode:
        pytest.skip("no GNU tar here")
    (found,) = faults_of(tmp_path)
    assert found == "s.tar k.jpg is a sparse file"


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_long_and_foreign_names_are_read_in_every_format(tmp_path, tar_format) -> None:
    """As tarfile, by which they are written, reads them."""
    length = 60 if tar_format == tarfile.USTAR_FORMAT else 180
    folder = f"{'d' * length}/{'e' * 50}"
    names = [f"{folder}/k{'é' if tar_format != tarfile.USTAR_FORMAT else 'e'}{i}" for i in range(3)]
    members = [m for i, name in enumerate(names) for m in sample(name, i, seed=i)]
    write_shard(tmp_path / "s.tar", members, tar_format)
    data = load(tmp_path)
    with tarfile.open(tmp_path / "s.tar") as tar:
        for index in range(3):
            member = data.encoded.members[index]
            assert member == f"{names[index]}.jpg"
            assert data.encoded.read(index) == tar.extractfile(member).read()


def test_members_that_lie_by_kind_make_the_same_samples(tmp_path) -> None:
    """All images, then all labels, then all facts, as a sort by suffix leaves them."""
    members = [m for i in range(4) for m in sample(f"k{i}", i % 2, seed=i)]
    members += [(f"k{i}.json", b'{"filename": "n%d.JPEG"}' % i) for i in range(4)]
    write_shard(tmp_path / "a" / "s.tar", members[:8] + members[8:])
    by_kind = sorted(members, key=lambda m: ("jpg", "cls", "json").index(m[0].partition(".")[2]))
    write_shard(tmp_path / "b" / "s.tar", by_kind)
    assert load(tmp_path / "b").name_of(0) == "0/n0.JPEG" and len(load(tmp_path / "b")) == 4
    # Here the facts come after samples that were whole.
    (found, *_) = faults_of(tmp_path / "a")
    assert found == "s.tar: k0: a .json that stands twice, or apart from the other members"


def test_members_of_gnu_tar_are_found_wherever_they_lie(tmp_path) -> None:
    """`tar -cf` takes them in the folder's order, with ./ before names and folders among them."""
    (tmp_path / "in" / "part").mkdir(parents=True)
    for i in range(4):
        for name, content in sample(f"k{i}", i % 2, seed=i):
            (tmp_path / "in" / "part" / name).write_bytes(content)
    order = ["./part", *(f"./part/k{i}.jpg" for i in range(4)),
             *(f"./part/k{i}.cls" for i in (2, 0, 3, 1))]  # fmt: skip
    subprocess.run(
        ["tar", "-cf", "../s.tar", "--no-recursion", *order], cwd=tmp_path / "in", check=True
    )
    data = load(tmp_path)
    assert [data.name_of(i) for i in range(4)] == ["0/k0.jpg", "0/k2.jpg", "1/k1.jpg", "1/k3.jpg"]
    assert [data.encoded.read(i) for i in range(4)] == [jpeg(seed) for seed in (0, 2, 1, 3)]


def test_a_name_in_a_tar_is_no_path(tmp_path) -> None:
    """Nothing is written for it, and nothing outside the tar is read by it."""
    (tmp_path / "set").mkdir()
    (tmp_path / "victim.jpg").write_bytes(b"mine")
    names = ("../victim", "/etc/victim", "a/../../victim2")
    members = [m for i, name in enumerate(names) for m in sample(name, i, seed=i)]
    write_shard(tmp_path / "set" / "s.tar", members)
    before = sorted(tmp_path.rglob("*"))
    data = load(tmp_path / "set")
    assert sorted(tmp_path.rglob("*")) == before
    assert [data.encoded.read(i) for i in range(3)] == [jpeg(i) for i in range(3)]
    assert [data.name_of(i) for i in range(3)] == ["0/victim.jpg", "1/victim.jpg", "2/victim2.jpg"]


def test_other_members_are_left_out_and_counted(tmp_path) -> None:
    others = [("__meta__/x.jpg", b""), ("._a.jpg", b""), ("notes", b""), ("readme.txt", b"")]
    write_shard(tmp_path / "s.tar", [*A, ("a.txt", b"beside"), ("a.seg.png", b""), *others])
    data = load(tmp_path)
    assert len(data) == 1 and data.counts["members of other kinds ignored"] == 4


def test_an_image_of_more_bytes_than_any_is_refused_unread(tmp_path) -> None:
    """A hole of a file costs no disk, and would fill the memory."""
    huge = b"k.jpg", tarfile.TarInfo("k.jpg")
    huge[1].size = 2 << 30
    path = write_shard(tmp_path / "s.tar", [*A, ("k.cls", b"0")])
    end = 512 * (2 * 3 + 0) + 512 * (-(-len(A[0][1]) // 512) - 1)
    with path.open("r+b") as file:
        file.seek(end)
        file.write(huge[1].tobuf(tarfile.GNU_FORMAT))
        file.truncate(end + 512 + (2 << 30) + 1024)
    (found,) = faults_of(tmp_path)
    assert found == "s.tar: k.jpg has 2,147,483,648 bytes; an image has 1,507,108,864 at most"


def test_labels_may_stand_in_json_alone(tmp_path) -> None:
    facts = (b'{"label": 1, "filename": "train/n1.JPEG"}', b'{"label": 0}')
    members = [m for i, f in enumerate(facts) for m in ((f"{i}.jpg", jpeg(i)), (f"{i}.json", f))]
    write_shard(tmp_path / "s.tar", members)
    data = load(tmp_path)
    assert [data.name_of(i) for i in range(2)] == ["0/1.jpg", "1/n1.JPEG"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a-{000..002}.tar", r"1 of 3 shards are not there:\n.*a-002\.tar"),
        ("{b,c}-*.tar", "no shard is named by"),
        ("a-{002..000}.tar", "must go from a number to a higher one"),
        ("a-{000..002.tar", "a brace is not closed"),
        ("{a-{0..1}}.tar", "stands inside another"),
        ("{a,a}-000.tar", "twice"),
        ("a-{0..9999999}.tar", "1,000,000 at most"),
        ("{0..99999}{0..99999}.tar", "more than 1,000,000 shards"),
        ("none", r"1 of 1 shards are not there"),
    ],
)
def test_a_pattern_that_names_no_shards_is_refused_before_anything(
    tmp_path, pattern, found
) -> None:
    for number in range(2):
        write_shard(tmp_path / f"a-{number:03d}.tar", sample(f"k{number}", 0))
    with pytest.raises(DataError, match=found):
        catalog.require([f"wds:{tmp_path}/{pattern}"])


def test_every_way_to_name_shards_gives_the_same_set(tmp_path) -> None:
    for number in range(11):
        write_shard(tmp_path / f"a-{number:02d}.tar", sample(f"k{number:02d}", number % 2, number))
    (tmp_path / "list.txt").write_text("".join(f"a-{n:02d}.tar\n" for n in range(11)))
    patterns = ("a-{00..10}.tar", "a-*.tar", "", "list.txt", "*.tar",
                "a-{00,01,02,03,04,05,06,07,08,09,10}.tar", "a-0[0-9].tar")  # fmt: skip
    sets = [load(tmp_path, p) for p in patterns]
    assert {data.hash for data in sets[:-1]} == {sets[0].hash} and len(sets[0]) == 11
    assert len(sets[-1]) == 10
    name = f"wds:{tmp_path.as_uri()}/a-{{00..10}}.tar"
    assert catalog.load_classification(name).hash == sets[0].hash


def test_of_a_brace_as_many_digits_as_are_written() -> None:
    from resdet.data.shards.patterns import shards_of

    for braces, names in (
        ("{8..11}", ["8", "9", "10", "11"]), ("{08..11}", ["08", "09", "10", "11"]),
        ("{0..2}{a,}", ["0a", "0", "1a", "1", "2a", "2"]), ("{000..001}", ["000", "001"]),
    ):  # fmt: skip
        assert shards_of(f"/x/{braces}.tar") == [f"/x/{name}.tar" for name in names]


def test_labels_fit_the_pixels_that_webdataset_finds(tmp_path) -> None:
    """The reference reader on the same shards, where it is installed."""
    webdataset = pytest.importorskip("webdataset")
    for number in range(2):
        keys = range(3 * number, 3 * number + 3)
        members = [m for k in keys for m in sample(f"k{k}", k % 3, seed=k)]
        write_shard(tmp_path / f"a-{number}.tar", members)
    theirs = webdataset.WebDataset(f"{tmp_path}/a-{{0..1}}.tar", shardshuffle=False).decode("rgb8")
    found = {s["__key__"]: (s["cls"], s["jpg"]) for s in theirs}
    data = load(tmp_path)
    assert len(found) == len(data) == 6
    for index in range(6):
        label, pixels = found[data.encoded.members[index].removesuffix(".jpg")]
        assert label == data.labels[index]
        np.testing.assert_array_equal(pixels, data.read(index))
