"""The installer of Detectron2: its edits, its wheel, what it leaves alone; nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import sys
import venv
import zipfile

import pytest


def files_for_edits(installer, edits) -> dict[str, bytes]:
    """The least files in which every edit of the table occurs as often as it states."""
    files: dict[str, bytes] = {}
    for edit in edits:
        files[edit.file] = files.get(edit.file, b"") + edit.old.encode() * edit.times
    return files


def test_every_edit_of_the_table_is_made_and_its_file_marked_as_changed(installer):
    """Apache-2.0, 4(b): modified files carry a notice. 15 files."""
    files = files_for_edits(installer, installer.EDITS)
    changed = installer.apply_edits(files)
    assert len(changed) == 15
    for edit in installer.EDITS:
        text = changed[edit.file].decode()
        first, _, rest = text.partition("\n")
        assert first.startswith("# Changed for resdet") and edit.reason in first
        assert rest.count(edit.new) >= edit.times or not edit.new


@pytest.mark.parametrize("times", [0, 2], ids=["absent", "too often"])
def test_an_edit_that_matches_another_number_of_times_stops_the_installation(installer, times):
    """Each edit must match exactly as often as expected, else stop."""
    edit = installer.Edit("a.py", "np.int\n", "int\n", 1, "numpy")
    with pytest.raises(installer.InstallError, match=rf"a.py.*stands {times} times, expected 1"):
        installer.apply_edits({"a.py": b"np.int\n" * times}, [edit])


def test_an_edit_of_a_file_that_is_not_there_stops_the_installation(installer):
    """The same rule for the file itself."""
    edit = installer.Edit("gone.py", "a", "b", 1, "why")
    with pytest.raises(installer.InstallError, match=r"gone.py is not in the archive"):
        installer.apply_edits({}, [edit])


def test_an_archive_with_another_hash_is_refused_before_it_is_opened(installer, tmp_path):
    """The archive is code of others: only the examined one may run."""
    archive = tmp_path / "other.tar.gz"
    archive.write_bytes(b"not a tar")
    with pytest.raises(installer.InstallError, match=f"expected {installer.SHA256}"):
        installer.install(sys.executable, archive)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("detectron2/engine/hooks.py", "detectron2/engine/hooks.py"),
        ("projects/DeepLab/deeplab/loss.py", "detectron2/projects/deeplab/loss.py"),
        ("LICENSE", "LICENSE"),
        ("tools/train_net.py", None),
        ("setup.py", None),
    ],
)
def test_the_stray_top_level_tools_stay_out(installer, name, place):
    """A stray tools/ in the archive would shadow ours."""
    assert installer.wheel_place(name) == place


def test_the_wheel_holds_the_license_true_hashes_and_init_last(installer, tmp_path):
    """RECORD by the wheel specification; __init__ last, so that half a copy does not import."""
    files = {"LICENSE": b"Apache", "detectron2/__init__.py": b"v", "detectron2/z.py": b"z"}
    with zipfile.ZipFile(installer.write_wheel(files, tmp_path)) as wheel:
        names = wheel.namelist()
        record = wheel.read(names[0]).decode()
        assert names[-1] == "detectron2/__init__.py"
        info = f"detectron2-{installer.VERSION}.dist-info"
        assert wheel.read(f"{info}/LICENSE") == b"Apache"
        lines = [line.split(",") for line in record.splitlines() if "sha256=" in line]
        assert len(lines) == len(names) - 1
        for name, digest, size in lines:
            data = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            assert (digest, int(size)) == (f"sha256={expected.decode()}", len(data))


def test_a_detectron2_that_works_stays(installer, monkeypatch, capsys):
    """A user's own build wins where it is found."""
    monkeypatch.setattr(installer, "installed", lambda python: "0.6 /own/detectron2/__init__.py")
    monkeypatch.setattr(installer, "install", lambda *a: pytest.fail("installed over it"))
    assert installer.main([]) == 0
    assert "stays: 0.6 /own/" in capsys.readouterr().out


def test_half_a_detectron2_does_not_count_as_installed(installer, tmp_path):
    """A folder without __init__.py imports as a namespace, as after an interrupted copy."""
    venv.create(tmp_path / "env", with_pip=False)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    (site / "detectron2" / "engine").mkdir(parents=True)
    assert installer.installed(str(tmp_path / "env" / "bin" / "python")) is None


def test_missing_operators_give_their_name_when_called_and_not_before(installer):
    """The op states what is missing when called."""
    scope: dict[str, object] = {}
    exec(installer.ADDED_FILES["detectron2/_no_operators.py"], scope)
    operators = scope["_C"]
    with pytest.raises(RuntimeError, match=r"detectron2._C.nms_rotated is a compiled operator"):
        getattr(operators, "nms_" + "rotated")
    assert not hasattr(operators, "__wrapped__")
