"""Tables in plain text: aligned columns, for terminals and logs.

Not for: Markdown or HTML (`resdet.report.render`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from resdet.printable import one_line

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """One line per row: the columns in `left` to the left, the others to the right.

    A line break in a cell is escaped, as everything that a terminal would not print.

    Args:
        rows: all of one length.

    Example:
        >>> aligned([("class", "AP"), ("cat", "61.5")])
        ['class    AP', 'cat    61.5']
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
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
    return [max(len(one_line(cell)) for cell in column) for column in zip(*rows, strict=True)]
