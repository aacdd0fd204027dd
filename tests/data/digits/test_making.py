"""The embedded set is made once, whole or not at all, and never touches the net."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from resdet.data import digits
from resdet.data.digits import build, manifest, processes
from resdet.errors import DataError
from tests.support import children
from tests.support.digit_sets import TINY, contents

pytestmark = pytest.mark.usefixtures("one_studio")


def test_two_workers_write_the_same_bytes_as_one(tmp_path: Path, tiny: Path):
    """Every picture has its own stream of draws, whoever paints it."""
    other = digits.make(tmp_path / "by two", sizes=TINY, workers=2)
    assert contents(other) == contents(tiny)


def test_a_whole_set_is_used_again(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "_rebuild", lambda *a: pytest.fail("made again"))
    monkeypatch.setattr(build, "locate", lambda: pytest.fail("looked for the wheels"))
    assert digits.make(tiny, sizes=TINY) == tiny
    assert digits.make(tiny, sizes=TINY, verify=True) == tiny


def test_a_lost_file_makes_the_set_anew(tiny: Path):
    before = contents(tiny)
    (tiny / "voc" / "Annotations" / "000001.xml").unlink()
    assert "Annotations holds 5 files instead of 6" in digits.what_is_wrong(tiny, TINY)
    digits.make(tiny, sizes=TINY, workers=1)
    assert contents(tiny) == before


def test_a_changed_file_is_seen_by_verify(tiny: Path):
    """The cheap check counts files, `verify` reads them."""
    (tiny / "voc" / "Annotations" / "000001.xml").write_text("<annotation/>", encoding="utf-8")
    assert digits.what_is_wrong(tiny, TINY) is None
    assert digits.what_is_wrong(tiny, TINY, verify=True) == "files were changed since"


def test_a_set_of_another_recipe_is_made_anew(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    """F10: a folder's name and age prove nothing; the hashes of the recipe do."""
    monkeypatch.setattr(manifest, "PUBLISHED", {"crops_train": "another"})
    assert digits.what_is_wrong(tiny, TINY) == "it was made by another version"


def test_a_foreign_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match="something that resdet did not make"):
        digits.make(tmp_path, sizes=TINY, workers=1)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "precious"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whole or not at all; the next call starts afresh."""
    monkeypatch.setattr(build, "write_manifest", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        digits.make(tmp_path / "set", sizes=TINY, workers=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.lock"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path):
    (tmp_path / "set.12345.tmp" / "crops").mkdir(parents=True)
    digits.make(tmp_path / "set", sizes=TINY, workers=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "set.lock"]


def test_two_processes_at_once_make_one_set(tmp_path: Path, tiny: Path):
    """The second waits for the first and uses what it made."""
    code = (
        "import sys; from resdet.data import digits; from resdet.data.digits import build\n"
        "made = []; old = build._rebuild\n"
        "build._rebuild = lambda *a: (made.append(1), old(*a))\n"
        f"digits.make(sys.argv[1], sizes={TINY!r}, workers=1); sys.stdout.write(str(len(made)))"
    )
    path = os.pathsep.join(os.path.abspath(p) for p in sys.path)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "set")],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(2)
    ]
    made = sorted(process.communicate()[0] for process in running)
    assert made == [b"0", b"1"]
    assert contents(tmp_path / "set") == contents(tiny)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    """A file where the parent folder should be."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"file/set cannot be written: .*RESDET_CACHE"):
        digits.make(tmp_path / "file" / "set", sizes=TINY)


def test_a_full_disk_is_reported_before_painting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=50 << 20)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="has 50 MB free, the embedded digits need 400"):
        digits.make(tmp_path / "set")


def test_a_failing_worker_ends_with_its_sentence(tmp_path: Path):
    """The worker finds no folder to write into: its own message, not a traceback."""
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match=r"No such file or directory: .*set/"):
        processes.paint(tmp_path / "set", TINY, workers=2, progress=None)


def test_progress_counts_up_to_all_pictures(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    digits.make(
        tmp_path / "set",
        sizes=TINY,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (12, 12) and seen == sorted(seen)


def test_another_jpeg_library_is_reported(caplog: pytest.LogCaptureFixture, tiny: Path):
    """A warning, not an error: everything works, numbers may differ in the last digits."""
    noted = {
        **digits.read_manifest(tiny),
        "first_jpeg": "other",
        "differing_sources": ["china.jpg"],
    }
    assert digits.differences(noted) == [
        "china.jpg decode to other pixels",
        "JPEG is encoded or decoded to other pixels",
    ]
    with caplog.at_level(logging.WARNING):
        manifest.warn_of_differences(noted)
    assert "not comparable to RESULTS.md" in caplog.text


def test_the_cache_folder_follows_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path))
    assert digits.cache_folder() == tmp_path
    monkeypatch.delenv("RESDET_CACHE")
    assert digits.cache_folder() == Path.home() / ".cache" / "resdet"


def test_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With sockets blocked, in a fresh process: no net, and none of the packages is imported."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('the net was touched')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from resdet.data import digits\n"
        f"digits.make(sys.argv[1], sizes={TINY!r}, workers=1)\n"
        "bad = {'sklearn', 'skimage', 'matplotlib', 'pooch', 'detectron2', 'cv2'}\n"
        "sys.stdout.write(str(sorted(bad & set(sys.modules))))"
    )
    assert children.printed_by(code, tmp_path / "set") == "[]"
    assert socket.socket is not None


def test_preview_draws_a_sheet(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from resdet.data.digits import contact_sheet

    monkeypatch.setattr(contact_sheet, "make", lambda folder: folder)
    path = digits.preview(tmp_path / "sheet.png", tiny, columns=2, rows=1, zoom=1)
    with Image.open(path) as sheet:
        assert sheet.size == (2 * 147 + 3, 147 + 3)


@pytest.mark.slow
def test_the_whole_set_has_the_published_hashes(tmp_path: Path):
    """PUBLISHED, over all 23,900 pictures; and JPEG decodes to the known pixels."""
    root = digits.make(tmp_path / "set")
    noted = digits.read_manifest(root)
    assert noted["hashes"] == digits.PUBLISHED
    assert digits.differences(noted) == []
    assert digits.what_is_wrong(root, verify=True) is None
