"""What any value of a config may be, whatever its key: what can be computed with and written.

Not for: what a key expects (`ranges`), or words (`keys.ALLOWED`).
"""

from __future__ import annotations

import math
from typing import Any

# What torch, numpy and YAML's other readers hold of a whole number.
LARGEST = 2**63 - 1
# A list of lists is the deepest that a key has.
DEEPEST = 3


def misfit(value: Any, default: Any = None) -> str:
    """What is wrong with a value, as a predicate; "" where nothing is.

    Args:
        default: of the key. What stands in its lists is of one kind: numbers, text or truth values.

    >>> misfit([0.5, float("inf")])
    'has inf, expected a finite number'
    >>> misfit(["res4", 4], ["res4"])
    "has 4, expected str in its list, such as 'res4'"
    """
    found = list(_leaves(value))
    if None in [depth for _, depth in found]:
        return f"is nested deeper than {DEEPEST} lists"
    for leaf, depth in found:
        verb = "has" if depth else "is"
        if isinstance(leaf, int) and not -LARGEST <= leaf <= LARGEST:
            return f"{verb} a number of {len(str(abs(leaf))):,} digits, expected one below 2**63"
        if isinstance(leaf, float) and not math.isfinite(leaf):
            return f"{verb} {leaf}, expected a finite number"
        if isinstance(leaf, str) and not _can_be_written(leaf):
            return f"{verb} {leaf!a}, expected text without NUL that UTF-8 can hold"
    example = next((leaf for leaf, depth in _leaves(default) if depth), None)
    if example is None:
        return ""
    deepest = max(depth or 0 for _, depth in _leaves(default))
    for leaf, depth in found:
        if depth and (_kind(leaf) is not _kind(example) or depth > deepest):
            kind = _kind(example).__name__
            return f"has {leaf!a}, expected {kind} in its list, such as {example!r}"
    return ""


def _leaves(value: Any, depth: int = 0) -> Any:
    """(leaf, depth) of each value in nested lists; an empty list is none."""
    if not isinstance(value, list | tuple):
        yield value, depth
    elif depth >= DEEPEST:
        yield value, None
    else:
        for part in value:
            yield from _leaves(part, depth + 1)


def _kind(leaf: Any) -> type:
    """Whole numbers and fractions are one kind: 1 may stand for 1.0."""
    return float if type(leaf) is int else type(leaf)


def _can_be_written(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
