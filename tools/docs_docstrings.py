"""Our docstrings as griffe reads them: it is the parser behind the site's API reference.

    one line for several arguments    `size, resized: before and after.` applies to each
    Example:                          Examples:, whose lines with >>> are then code
    lines with >>> by themselves      the same

Not for: a docstring that is wrong; griffe's warnings stop the build of the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import griffe

ARGUMENTS = re.compile(r"(?:Args|Attributes):")
SEVERAL = re.compile(r"    (\w+(?:, \w+)+):( .*)?")


def for_griffe(text: str) -> str:
    lines = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE).split("\n")
    return "\n".join(with_examples(list(with_each_argument(lines))))


def with_each_argument(lines: list[str]) -> Iterator[str]:
    """`a, b: text` as `a: text` and `b: text`, with the lines that go on below."""
    inside = False
    for at, line in enumerate(lines):
        if line and not line.startswith(" "):
            inside = bool(ARGUMENTS.fullmatch(line))
        several = SEVERAL.fullmatch(line) if inside else None
        if several:
            *others, last = several[1].split(", ")
            for name in others:
                yield f"    {name}:{several[2] or ''}"
                yield from takewhile(lambda below: below.startswith("     "), lines[at + 1 :])
            yield f"    {last}:{several[2] or ''}"
        else:
            yield line


def with_examples(lines: list[str]) -> Iterator[str]:
    """Doctests that stand in no section get one; they end at a blank line, as for doctest."""
    inside = False
    for line in lines:
        if line.startswith(">>>") and not inside:
            yield from ("", "Examples:")
        inside = bool(line) and (inside or line.startswith(">>>"))
        yield f"    {line}" if inside else line


class PlainDocstrings(griffe.Extension):
    """Called by griffe for every module, class and function."""

    def on_object(self, *, obj: Any, **_kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = for_griffe(obj.docstring.value)
