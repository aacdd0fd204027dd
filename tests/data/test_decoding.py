"""`resdet doctor --decode SET`: every image that does not decode, named on one page."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

from resdet.cli.main import run_command
from resdet.data import DataOptions, catalog
from resdet.data.checks import decoding
from resdet.data.images import scan
from resdet.errors import DataError
from tests.support import tiny
from tests.support.shard_files import jpeg, sample, write_shard

# What the page states of each that cannot be read.
BROKEN = {
    "000001.jpg": "is cut off: the file ends after",
    "000002.jpg": "is empty (0 bytes)",
    "000003.jpg": "text of 13 bytes",
    "000004.jpg": "has 16 bits per channel",
}


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images: whole, cut off, empty, text, a PNG of 16 bits, and CMYK, which can be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    images = tiny.voc_tree(tmp_path / "voc") / "JPEGImages"
    raw = (images / "000001.jpg").read_bytes()
    (images / "000001.jpg").write_bytes(raw[: len(raw) // 2])
    (images / "000002.jpg").write_bytes(b"")
    (images / "000003.jpg").write_text("not a picture", encoding="utf-8")
    deep = np.full((72, 96), 40_000, np.uint16)
    Image.fromarray(deep).save(images / "000004.jpg", format="PNG")
    Image.open(images / "000005.jpg").convert("CMYK").save(images / "000005.jpg")
    names = "".join(f"{n:06d}\n" for n in range(6))
    (tmp_path / "voc" / "ImageSets" / "Main" / "all.txt").write_text(names, encoding="utf-8")
    return images


def test_every_broken_image_is_on_one_page(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F31: a training would stop at the first one, hours in."""
    assert run_command("doctor", ["--decode", "voc:voc:all"]) == 1
    *page, last = capsys.readouterr().out.splitlines()
    assert len(page) == len(BROKEN)
    for line, (file, words) in zip(page, BROKEN.items(), strict=True):
        assert file in line and words in line
    assert last.startswith("voc:voc:all: looked at 6 of 6 images, 4 cannot be read; CMYK: 1")


def test_json_has_the_same(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys of the config decide what can be read, as in the trainers."""
    words = ["--decode", "voc:voc:all", "--workers", "2", "--json", "INPUT.SIXTEEN_BIT"]
    assert run_command("doctor", [*words, "high_byte"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [Path(f["file"]).name for f in found["faults"]] == list(BROKEN)[:3]
    assert found["images"] == {"expected": 6, "evaluated": 6, "missing": 0}
    assert found["ok"] is False
    assert found["repairs"]["CMYK"] == 1


def test_a_whole_set_ends_with_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class folders, too, by one thread and by several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    tiny.class_folders(tmp_path / "data")
    for workers in ("1", "3"):
        assert run_command("doctor", ["--decode", "data/train", "--workers", workers]) == 0


def test_a_folder_in_the_place_of_an_image_is_named_among_the_others(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc / "000000.jpg").unlink()
    (voc / "000000.jpg").mkdir()
    assert run_command("doctor", ["--decode", "voc:voc:all"]) == 1
    first, *rest = capsys.readouterr().out.splitlines()
    assert "000000.jpg is a folder, not an image" in first
    assert len(rest) == len(BROKEN) + 1


def test_a_set_that_is_not_there_and_bad_arguments_are_pages(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("doctor", ["--decode", "voc:voc:none"]) == 2
    assert run_command("doctor", ["--decode", "voc:voc:all", "--workers", "0"]) == 2
    assert run_command("doctor", ["--workers", "2"]) == 2
    assert "add --decode SET" in capsys.readouterr().err


def test_a_signal_ends_it_with_what_is_known(
    voc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """143, as everywhere; the broken ones so far are shown."""
    monkeypatch.setattr(decoding, "_BETWEEN_LOOKS", 1)
    read = decoding.ImageReader.read

    def read_and_stop(self: decoding.ImageReader, path: str) -> np.ndarray:
        if "000002" in path:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, path)

    monkeypatch.setattr(decoding.ImageReader, "read", read_and_stop)
    assert run_command("doctor", ["--decode", "voc:voc:all", "--workers", "1"]) == 143
    shown = capsys.readouterr()
    assert "000001.jpg" in shown.out and "000003.jpg" not in shown.out
    assert "stopped after 3 of 6 images" in shown.err


def test_a_long_one_shows_how_long_it_will_take(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with an ETA, as scans of headers have."""
    monkeypatch.setattr(scan, "FIRST_LINE_SECONDS", 0.0)
    lines: list[str] = []
    monkeypatch.setattr(decoding.logger, "info", lambda text, *words: lines.append(text % words))
    decoding.decode_all([str(voc / "000000.jpg")] * 3, DataOptions(), workers=1)
    assert lines[0].startswith("decoded: 1 of 3, eta")


def test_images_in_shards_are_decoded_by_their_names_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    cut = jpeg(1, (64, 48))[:700]
    members = [*sample("a", 0), ("k.jpg", cut), ("k.cls", b"1"), *sample("c", 1, seed=2)]
    write_shard(tmp_path / "s.tar", members)
    assert run_command("doctor", ["--decode", f"wds:{tmp_path}/s.tar"]) == 1
    page, last = capsys.readouterr().out.splitlines()
    assert "s.tar: k.jpg is cut off: the file ends after 700 bytes" in page
    assert "3 of 3 images, 1 cannot be read" in last


def test_a_detector_has_no_use_for_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wds:x is a classification set; a detector needs boxes"):
        catalog.load_detection("wds:x")
