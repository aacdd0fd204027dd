"""Text for a terminal, a log and a page, whatever a data set calls its classes and files.

A name is any text. Printed as it is, it could clear the screen, write over a number, turn the rest
of a line around, or stop a command on half a pair of UTF-16. What a command prints goes through
`show` or `show_json`.

Not for: names as file names (`resdet.file_names`), or markup (`resdet.report.render`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

# Between letters of Persian, of Indian scripts and in emoji; they move nothing.
_JOINERS = "\u200c\u200d"
_SPACES = "\u00a0\u3000"


def printable(text: str) -> str:
    r"""A page without what steers a terminal: each such character is written as Python has it.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return _escaped(text, "\n\t")


def one_line(text: object) -> str:
    r"""The same for one name, a row of a table or an item of a list: it has no line break, either.

    >>> print(one_line("cat\n100.0"))
    cat\n100.0
    """
    return _escaped(str(text), "")


def _escaped(text: str, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    taken = kept + _JOINERS + _SPACES
    return "".join(
        c if c.isprintable() or c in taken else c.encode("unicode-escape").decode() for c in text
    )


def counted(number: int, noun: str) -> str:
    """A number and its noun, which gets an s, or es behind ch, unless there is one.

    >>> counted(1, "image"), counted(1200, "image"), counted(0, "batch")
    ('1 image', '1,200 images', '0 batches')
    """
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def listed(words: Sequence[str]) -> str:
    """Words in a sentence.

    Example:
        >>> listed(["A"]), listed(["A", "B"]), listed(["A", "B", "C"])
        ('A', 'A and B', 'A, B and C')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def show(text: str = "", *, error: bool = False) -> None:
    """Prints a page and a line break on standard output, or on standard error.

    What the stream's encoding lacks is escaped, too.
    """
    stream = sys.stderr if error else sys.stdout
    stream.write(f"{_encodable(printable(text), stream)}\n")


def show_json(value: Any, *, indent: int | None = None) -> None:
    """Prints JSON in ASCII, as the standard has it: NaN and Infinity raise ValueError."""
    sys.stdout.write(json.dumps(value, allow_nan=False, indent=indent) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in UTF-8, names as they are; in ASCII where one is no text. Raises as `show_json`."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, allow_nan=False)
    return text


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
