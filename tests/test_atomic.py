"""Files that are written whole."""

import os

import pytest

from resdet.atomic import atomic_path


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_file_has_the_mode_of_any_new_file_whoever_writes_it(tmp_path):
    """safetensors leaves a file for its owner alone (0600), which a group could not read."""
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_path(tmp_path / "written") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "written").stat().st_mode == plain.stat().st_mode


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]
