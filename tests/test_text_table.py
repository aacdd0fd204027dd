"""Plain text tables, against lines written by hand."""

from __future__ import annotations

import pytest

from resdet.text_table import aligned, ruled


def test_first_column_to_the_left_the_others_to_the_right() -> None:
    assert ruled(
        ("class", "AP", "objects"), [("cat", "61.5", "7"), ("diningtable", "-", "1,204")]
    ) == [
        "class          AP  objects",
        "-----------  ----  -------",
        "cat          61.5        7",
        "diningtable     -    1,204",
    ]


def test_words_at_the_end_to_the_left_without_trailing_spaces() -> None:
    assert ruled(("rule", "%", "used by"), [("a", "1.25", "x"), ("bb", "3", "")], left=(0, 2)) == [
        "rule     %  used by",
        "----  ----  -------",
        "a     1.25  x",
        "bb       3",
    ]


def test_a_head_alone_and_an_empty_head() -> None:
    assert ruled(("class", "AP"), []) == ["class  AP", "-----  --"]
    assert aligned([("", "%"), ("AP", "5.0")]) == ["      %", "AP  5.0"]


def test_rows_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        aligned([("a", "b"), ("c",)])
