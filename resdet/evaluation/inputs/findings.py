"""The result of validation: findings, each of one kind, and the page that refuses a file.

Not for: finding anything (`detections`, `validation`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resdet.errors import CheckFailed
from resdet.evaluation.inputs.arrays import IntArray

SHOWN = 5
REFUSE, WARN = "refuse", "warn"


@dataclass(frozen=True)
class Finding:
    """One kind of fault in a results file.

    rule: a stable word for scripts. count: how many entries (or images) have it. first: the
    first of them, in words. fix: what would fix it. severity: "refuse" (never scored) or
    "warn" (scored, with a warning). what: the fault as a sentence, with its share.
    """

    rule: str
    count: int
    first: list[str]
    fix: str
    severity: str
    what: str

    def to_json(self) -> dict[str, object]:
        return {"rule": self.rule, "count": self.count, "first": self.first, "fix": self.fix}

    def lines(self) -> list[str]:
        """The finding on a page: what, the first few, what to do."""
        more = [f"    … and {self.count - len(self.first):,} more"]
        return [
            self.what,
            *(f"    {line}" for line in self.first),
            *(more if self.first and self.count > len(self.first) else []),
            f"  {self.fix}",
        ]


def finding(
    rule: str,
    rows: Sequence[int] | IntArray,
    name: Callable[[int], str],
    what: str,
    fix: str,
    severity: str = REFUSE,
) -> Finding:
    """A finding on the entries `rows`, the first few of them named by `name(row)`."""
    return Finding(rule, len(rows), [name(int(r)) for r in rows[:SHOWN]], fix, severity, what)


def share(count: int, total: int, unit: str = "entries") -> str:
    """The share in messages: "14 of 36,781 entries", "1 of 1 entry"."""
    if total == 1:
        unit = {"entries": "entry", "boxes": "box", "images": "image"}.get(unit, unit)
    return f"{count:,} of {total:,} {unit}"


def refuse_if_any(title: str, findings: Sequence[Finding]) -> list[Finding]:
    """The warnings among the findings; faulty results are refused, never scored.

    Raises:
        CheckFailed: a finding refuses; the page has every refusal, then the warnings.
    """
    refusals = [f for f in findings if f.severity == REFUSE]
    warnings = [f for f in findings if f.severity != REFUSE]
    if not refusals:
        return warnings
    lines = [f"{title} is not scored:"]
    for item in [*refusals, *warnings]:
        head, *rest = item.lines()
        lines += [f"- {head}", *rest]
    raise CheckFailed("\n".join(lines))
