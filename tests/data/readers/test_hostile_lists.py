"""Entries of VOC's lists, and names of splits, are text: a page, or a file that is counted.

What loads is read by the loader and by the evaluator alike; neither ends in another error.
"""

import shutil

import pytest

from resdet.data.readers.voc_reader import load_voc
from resdet.errors import ResdetError
from resdet.evaluation.voc import voc_arrays
from tests.support import tiny

ENTRIES = {
    "above": "../../etc/passwd",
    "far above": "../" * 40 + "etc/passwd",
    "absolute": "/etc/passwd",
    "a device": "/dev/zero",
    "NUL": "a\0b",
    "long": "n" * 5000,
    "long with folders": "n/" * 5000,
    "carriage return": "000002\ra",
    "line of Unicode": "000002\u2028000003",
    "above itself": "..",
    "the folder": ".",
    "the root": "/",
    "a folder's": "000002/",
    "home": "~",
    "escape": "a\x1b[2Jb",
    "bidi": "a\u202egpj",
    "format": "%s%n{0}",
    "a command": "$(touch x)",
    "an option": "-rf",
    "of Windows": "C:\\x",
    "BOM": "\ufeff",
    "a pattern": "*",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    return tiny.voc_tree(tmp_path / "deep" / "voc", images=4)


def outcome(read):
    """The page, or what was read; any other error is one of the test."""
    try:
        return read()
    except ResdetError as error:
        return str(error)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_of_a_list_is_a_page_or_a_file(tree, entry):
    path = tree / "ImageSets" / "Main" / "test.txt"
    for before in ("", "000002\n"):
        path.write_text(f"{before}{entry}\n", encoding="utf-8", newline="")
        for read in (
            lambda: load_voc(tree, "test", name="n", classes=None),
            lambda: voc_arrays.read_devkit_ground_truth(tree, "test"),
        ):
            found = outcome(read)
            if not isinstance(found, str):  # what the entry says is one of the tree's files
                assert entry in {"000002\u2028000003", "\ufeff"}
            assert "root:" not in str(found)  # of /etc/passwd


@pytest.mark.parametrize("split", ENTRIES.values(), ids=ENTRIES)
def test_a_split_that_is_none_is_a_page(tree, split):
    assert isinstance(outcome(lambda: load_voc(tree, split, name="n", classes=None)), str)
    assert isinstance(outcome(lambda: voc_arrays.read_devkit_ground_truth(tree, split)), str)


def test_files_outside_the_folder_are_read_and_counted_by_both(tree):
    """As somebody may have laid them; nothing is written there."""
    for folder, name in (("JPEGImages", "000003.jpg"), ("Annotations", "000003.xml")):
        (tree.parent / folder).mkdir()
        shutil.move(tree / folder / name, tree.parent / folder / name)
    path = tree / "ImageSets" / "Main" / "test.txt"
    for entry in ("../../{}/000003", str(tree.parent / "{}" / "000003")):
        listed = entry.format("Annotations")
        path.write_text(f"000002\n{listed}\n", encoding="utf-8")
        (note,) = voc_arrays.read_devkit_ground_truth(tree, "test").notes
        assert note.startswith("1 listed annotations lie outside the folder given")
    (tree.parent / "both").mkdir()
    for folder, name in (("JPEGImages", "000003.jpg"), ("Annotations", "000003.xml")):
        shutil.copy(tree.parent / folder / name, tree.parent / "both" / name)
    path.write_text("000002\n../../both/000003\n", encoding="utf-8")
    data = load_voc(tree, "test", name="n", classes=None)
    assert data.counts["images outside the folder"] == 1
    assert data.counts["annotations outside the folder"] == 1
