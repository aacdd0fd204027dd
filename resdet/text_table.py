"""Tables in plain text: aligned columns, for terminals and logs.

Not for: Markdown or HTML (`resdet.report.render`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """One line per row: the columns in `left` to the left, the others to the right.

    Args:
        rows: all of one length.

    Example:
        >>> aligned([("class", "AP"), ("cat", "61.5")])
        ['class    AP', 'cat    61.5']
    """
    widths = column_widths(rows)
    return [
        GAP.join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def ruled(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)
) -> list[str]:
    """The same with a line of dashes below the head.

    Example:
        >>> ruled(("class", "AP"), [("cat", "61.5")])
        ['class    AP', '-----  ----', 'cat    61.5']
    """
    first, *others = aligned([head, *rows], left=left)
    return [first, rule([head, *rows]), *others]


def rule(rows: Sequence[Sequence[str]]) -> str:
    """Dashes as wide as each column."""
    return GAP.join("-" * width for width in column_widths(rows))


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
