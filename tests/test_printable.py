"""No name of data steers a terminal, breaks a table, or stops a command at what is no text."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from resdet.engine.metric_writers import PrintableFormatter
from resdet.printable import one_line, printable, show, show_json
from resdet.text_table import aligned, ruled

# What it is, as data have it, and as it is shown; by hand after ECMA-48 and Unicode's categories.
SHOWN = {
    "clears the screen": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "the same in eight bits": ("a\x9b2Jb", r"a\x9b2Jb"),
    "sets the title": ("\x1b]0;t\x07", r"\x1b]0;t\x07"),
    "writes over the line": ("a\rb", r"a\rb"),
    "takes back": ("a\x08b", r"a\x08b"),
    "turns the rest around": ("a\u202egpj", r"a\u202egpj"),
    "ends a line in Unicode": ("a\u2028b\x85", r"a\u2028b\x85"),
    "no text": ("a\udcffb", r"a\udcffb"),
    "zero": ("a\0b", r"a\x00b"),
    "joined letters stay": ("می\u200cخواهم", "می\u200cخواهم"),
    "other spaces stay": ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
    "Chinese stays": ("猫", "猫"),
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.values(), ids=SHOWN)
def test_what_steers_is_escaped_and_letters_stay(text: str, shown: str) -> None:
    assert printable(text) == one_line(text) == shown


def test_a_page_has_lines_and_a_name_has_none() -> None:
    assert printable("a\n\tb") == "a\n\tb"
    assert one_line("a\n\tb") == r"a\n\tb"


def test_a_class_with_a_line_break_is_one_row() -> None:
    """Else a name could look like a row with a number of its own."""
    assert aligned([("class", "AP"), ("cat\ndog  99", "1")]) == [
        "class         AP",
        r"cat\ndog  99   1",
    ]
    assert len(ruled(("class",), [("a\nb",)])) == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_encoding_of_a_terminal_takes_every_name(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal without UTF-8 ended in UnicodeEncodeError, and exit code 70."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    show("猫 → \udcff\x1b")
    show_json({"猫\x9b": "\ud800"})
    stream.flush()
    first, second = raw.getvalue().decode(encoding).splitlines()
    assert first == ("猫 → " if encoding == "utf-8" else r"\u732b \u2192 ") + r"\udcff\x1b"
    assert json.loads(second) == {"猫\x9b": "\ud800"} and second.isascii()


def test_lines_of_the_log_are_printable() -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, "%s: %d", ("a\x1b[2J\udcff", 3), None)
    assert PrintableFormatter("%(message)s").format(record) == r"a\x1b[2J\udcff: 3"
