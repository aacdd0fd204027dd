"""A stranger's zip is unpacked as far as a results file goes, and no further."""

import warnings
import zipfile
from pathlib import Path

import pytest

from resdet.errors import CheckFailed
from resdet.submission.archive import FREE_BYTES, MAX_INFLATION, extract, names_in_zip, write_zip


def test_a_bomb_is_stopped_before_it_fills_the_disk(tmp_path: Path) -> None:
    """Zeros shrink a thousandfold: 64 MB of them are 65 KB."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r.json", bytes(64 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckFailed, match="r.json unpacks to more than"):
        extract(path, "r.json", tmp_path / "out")
    most = FREE_BYTES + MAX_INFLATION * path.stat().st_size
    assert (tmp_path / "out").stat().st_size <= most


def test_results_that_shrink_well_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    text = b'{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},' * 5000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r.json", text)
    extract(path, "r.json", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == text


def test_no_byte_of_a_zip_leads_anywhere_but_to_a_page(tmp_path: Path) -> None:
    """Each byte another: the places of members, too, of which one was sought before the file."""
    write_zip(tmp_path / "whole.zip", "r.json", b"[1, 2, 3]")
    whole = (tmp_path / "whole.zip").read_bytes()
    path, refused = tmp_path / "r.zip", 0
    for place in range(len(whole)):
        for change in (0x55, 0xFF):
            changed = bytes([whole[place] ^ change])
            path.write_bytes(whole[:place] + changed + whole[place + 1 :])
            try:
                for name in names_in_zip(path):
                    extract(path, name, tmp_path / "to")
            except CheckFailed:
                refused += 1
    assert refused > len(whole) / 2
    assert {p.name for p in tmp_path.iterdir()} == {"whole.zip", "r.zip", "to"}


MEMBERS = {
    "absolute": "/tmp/victim.json",
    "above": "../../victim.json",
    "of Windows": "..\\..\\victim.json",
    "NUL": "a\0b.json",
    "escape": "a\x1b[2J.json",
    "long": "n" * 5000 + ".json",
    "twice": "r.json",
    "a link": "link.json",
}


@pytest.mark.parametrize("name", MEMBERS.values(), ids=MEMBERS)
def test_a_member_is_written_to_the_path_given_whatever_it_is_called(
    tmp_path: Path, name: str
) -> None:
    """Also a link, which is its text; of a name that stands twice the last one."""
    path, place = tmp_path / "r.zip", tmp_path / "a" / "b"
    place.mkdir(parents=True)
    entry = zipfile.ZipInfo(name)
    if name == "link.json":
        entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "r.json":
            file.writestr(name, b"old")
        file.writestr(entry, b"/etc/passwd")
    names = names_in_zip(path)
    extract(path, names[-1], place / "results.json")
    assert (place / "results.json").read_bytes() == b"/etc/passwd"
    assert not (place / "results.json").is_symlink()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["r.zip", "results.json"]
