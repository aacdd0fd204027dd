"""What a page tells to type lets the set pass, beside what was stated for others."""

from __future__ import annotations

import shlex

import pytest

from resdet.data import catalog
from resdet.data.options import DataOptions, count_for, to_type
from resdet.errors import DataError

pytestmark = pytest.mark.usefixtures("private_cache")

KEY = "DATASETS.DROP_ORPHANS"


def test_a_number_is_for_every_set_and_names_are_for_those_alone() -> None:
    """By the definition of the key in resdet/config/keys.py."""
    assert [count_for(3, name) for name in ("a", "b")] == [3, 3]
    assert [count_for({"a": 3}, name) for name in ("a", "b")] == [3, 0]


@pytest.mark.parametrize(
    ("stated", "name", "expected"),
    [
        (0, "mine", {"mine": 3}),
        (2, "mine", {"mine": 3}),
        ({"mine": 2}, "mine", {"mine": 3}),
        ({"other": 2}, "mine", {"other": 2, "mine": 3}),
        (0, "coco:/my data/a=b.json:/it's $HOME", {"coco:/my data/a=b.json:/it's $HOME": 3}),
        ({"a": 1}, 'voc:C:\\x:$(ls) `ls` "it\'s"', {"a": 1, 'voc:C:\\x:$(ls) `ls` "it\'s"': 3}),
    ],
)
def test_what_a_page_tells_to_type_passes_shell_and_config(stated, name: str, expected) -> None:
    """Through a POSIX shell's quoting (shlex) and the strict reader of configs."""
    pytest.importorskip("detectron2")
    from resdet.config import data_options, resolve

    typed = to_type(KEY, stated, name, 3)
    words = shlex.split(typed)
    assert data_options(resolve(None, words).cfg)["drop_orphans"] == expected


def test_what_a_page_tells_to_type_reads_easily() -> None:
    """The two common forms, as the pages show them."""
    assert to_type(KEY, 0, "mine", 3) == f"{KEY} mine=3"
    assert to_type(KEY, {"a": 1}, "mine", 3) == f"{KEY} \"('a=1', 'mine=3')\""


def test_two_sets_of_a_run_may_have_different_numbers(coco_tree) -> None:
    """F7: one has 1 annotation of a missing image, the other 2; one number cannot fit both."""
    pytest.importorskip("detectron2")
    from resdet.config import data_options, resolve

    names = []
    coco_tree.image(1)
    for split in ("train", "val"):
        coco_tree.annotation(image_id=70)
        json_file, images = coco_tree.write()
        kept = json_file.rename(json_file.with_name(f"{split}.json"))
        names.append(f"coco:{kept}:{images}")
    counts = f"('{names[0]}=1', '{names[1]}=2')"
    options = DataOptions(**data_options(resolve(None, [KEY, counts]).cfg))
    dropped = [
        catalog.load_detection(name, options=options).counts[
            "annotations of missing images, dropped"
        ]
        for name in names
    ]
    assert dropped == [1, 2]
    for number in (1, 2):
        with pytest.raises(DataError, match=f"DROP_ORPHANS 'coco:.*={3 - number}'"):
            for name in names:
                catalog.load_detection(name, options=DataOptions(drop_orphans=number))
