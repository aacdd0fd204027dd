"""Which files a word means; the folders are made by hand."""

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.detect.pictures.image_files import image_files
from resdet.errors import DataError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ("b.JPG", "a.png", "c.heic", "notes.txt", ".hidden.jpg", "deep/d.jpg", "deep/e.gif",
             "other/x.pdf", "od[d].jpg")  # fmt: skip
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*words: str, recursive: bool = False) -> list[str]:
    return [path.as_posix() for path in image_files(words, recursive=recursive).paths]


def test_of_a_folder_the_images_in_the_order_of_names(place: Path) -> None:
    assert names(".") == ["a.png", "b.JPG", "od[d].jpg"]
    assert names(".", recursive=True) == ["a.png", "b.JPG", "deep/d.jpg", "deep/e.gif", "od[d].jpg"]
    files = image_files(["."])
    assert dict(files.left_out) == {".heic": 1, ".txt": 1}
    assert "2 files without the suffix of a format that is read (.heic 1, .txt 1)" in (
        files.sentence()
    )
    assert image_files(["deep"]).sentence() == ""


def test_a_named_file_is_taken_whatever_it_is_called(place: Path) -> None:
    assert names("notes.txt", "od[d].jpg") == ["notes.txt", "od[d].jpg"]


def test_patterns_go_through_folders_with_two_stars(place: Path) -> None:
    assert names("*.png") == ["a.png"]
    assert names("**/*.[gj]*") == ["deep/d.jpg", "deep/e.gif", "od[d].jpg"]


def test_a_file_is_taken_once(place: Path) -> None:
    (place / "link.png").symlink_to("a.png")
    assert names("a.png", "*.png", str(place / "a.png")) == ["a.png"]


def test_of_a_file_and_a_link_to_it_the_file_is_taken_and_that_is_told(place: Path) -> None:
    """The link's name comes first; its would stand in the output, and the file's nowhere."""
    (place / "0.png").symlink_to("a.png")
    found = image_files(["*.png"])
    assert [str(path) for path in found.paths] == ["a.png"]
    assert found.sentence() == "1 further name of the same files left out."
    assert names("0.png") == ["0.png"]


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("gone.jpg", r"gone\.jpg does not exist"),
        ("gone*.jpg", r"the pattern gone\*\.jpg matches nothing"),
        ("*.txt", "matches 1 names, none of an image"),
        ("none", "none is empty"),
        ("other", r"other has no image: 1 files of other kinds \(\.pdf 1\)"),
    ],
)
def test_what_has_no_image_has_a_page(place: Path, word: str, page: str) -> None:
    with pytest.raises(DataError, match=page):
        image_files([word])


def test_images_below_a_folder_are_offered(place: Path) -> None:
    (place / "deeper" / "two").mkdir(parents=True)
    (place / "deeper" / "two" / "z.png").touch()
    with pytest.raises(DataError, match="1 in folders below it. Add --recursive"):
        image_files(["deeper"])
