"""The result of validation: findings, each of one kind, and the page that refuses a file.

Not for: finding anything (`detections`, `validation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from resdet.errors import CheckFailed, ConfigError
from resdet.evaluation.inputs.arrays import IntArray

SHOWN = 5
REFUSE, WARN = "refuse", "warn"
# Of rules that are about the ground truth; all others are about results.
TRUTH = "gt-"
# Not stated beside entries that are left out: these may be all that the images have.
OF_ENTRIES_LEFT_OUT = ("images-without-detections",)


@dataclass(frozen=True)
class Finding:
    """One kind of fault in a results file.

    rule: a stable word for scripts. count: how many entries (or images) have it. first: the
    first of them, in words. fix: what would fix it. severity: "refuse" (never scored) or
    "warn" (scored, with a warning). what: the fault as a sentence, with its share. leaves_out:
    its entries are in no number, also where it is accepted. total: entries of the file, 0 where
    it is not known.
    """

    rule: str
    count: int
    first: list[str]
    fix: str
    severity: str
    what: str
    leaves_out: bool = False
    total: int = 0

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
    *,
    leaves_out: bool = False,
) -> Finding:
    """A finding on the entries `rows`, the first few of them named by `name(row)`."""
    first = [name(int(r)) for r in rows[:SHOWN]]
    return Finding(rule, len(rows), first, fix, severity, what, leaves_out)


def findings_on(
    rule: str,
    rows: Sequence[int] | IntArray,
    name: Callable[[int], str],
    what: str,
    fix: str,
    severity: str = REFUSE,
) -> list[Finding]:
    """One `finding`, or none where there are no such entries."""
    return [finding(rule, rows, name, what, fix, severity)] if len(rows) else []


def share(count: int, total: int, unit: str = "entries") -> str:
    """The share in messages: "14 of 36,781 entries", "1 of 1 entry"."""
    if total == 1:
        unit = {"entries": "entry", "boxes": "box", "images": "image"}.get(unit, unit)
    return f"{count:,} of {total:,} {unit}"


def without_consequences(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, but for those that may follow from others: a page has no false sentence."""
    if not any(f.leaves_out and f.severity == REFUSE for f in findings):
        return list(findings)
    return [f for f in findings if f.rule not in OF_ENTRIES_LEFT_OUT]


def accepted_counts(words: Sequence[str]) -> dict[str, int]:
    """RULE=COUNT words as a mapping.

    >>> accepted_counts(["duplicates=3"])
    {'duplicates': 3}

    Raises:
        ConfigError: a word has another form, or a rule stands twice.
    """
    counts: dict[str, int] = {}
    for word in words:
        rule, sign, number = word.partition("=")
        if not sign or not rule or not number.isdecimal() or int(number) == 0:
            raise ConfigError(
                f'--accept "{word}": give RULE=COUNT, as the page of a refusal names it, such as '
                "--accept duplicates=3."
            )
        if rule in counts:
            raise ConfigError(f"--accept {rule} is given twice. Give one count.")
        counts[rule] = int(number)
    return counts


def accept_words(counts: Mapping[str, int]) -> str:
    """What to type so that these are accepted.

    >>> accept_words({"size": 2, "corners": 1})
    '--accept size=2 --accept corners=1'
    """
    return " ".join(f"--accept {rule}={count}" for rule, count in counts.items())


def note_on_accepted(counts: Mapping[str, int]) -> list[str]:
    """The sentence that stands beside a number; none where nothing was accepted.

    >>> note_on_accepted({"size": 2})
    ['Accepted by rule and count: size=2.']
    """
    listed = ", ".join(f"{rule}={count}" for rule, count in counts.items())
    return [f"Accepted by rule and count: {listed}."] if listed else []


def of_results(accepted: Mapping[str, int] | None) -> dict[str, int]:
    """The counts of faults in results, without those of the ground truth."""
    return {r: n for r, n in (accepted or {}).items() if not r.startswith(TRUTH)}


def accept(findings: Sequence[Finding], counts: Mapping[str, int], title: str) -> list[Finding]:
    """The findings, those of accepted rules as warnings.

    Args:
        counts: by rule, how many entries or images are accepted: exactly so many.

    Raises:
        CheckFailed: there are more or fewer; shows both numbers and every rule that is there.
    """
    there: dict[str, int] = {}
    for item in findings:
        there[item.rule] = there.get(item.rule, 0) + item.count
    for rule, count in counts.items():
        if there.get(rule, 0) != count:
            listed = ", ".join(f"{r}={n}" for r, n in there.items()) or "none"
            raise CheckFailed(
                f"{title} is not scored: --accept {rule}={count}, and it has "
                f"{there.get(rule, 0):,} of {rule}. What was found: {listed}. Give the exact "
                "number, or leave it out."
            )
    return [
        replace(f, severity=WARN, fix=_accepted(f)) if f.rule in counts else f for f in findings
    ]


def _accepted(item: Finding) -> str:
    return f"Accepted: {'left out' if item.leaves_out else 'scored as they stand'}."


class ResultsRefused(CheckFailed):
    """Results that are not scored.

    page: every refusal, then the warnings. counts: what would have to be accepted; empty where
    the caller has no way to state it, or nothing would be left. left_out: entries among them.
    """

    def __init__(self, page: str, counts: Mapping[str, int], left_out: int, words: str):
        super().__init__(f"{page}\n{how_to_accept(left_out, words)}" if words else page)
        self.page, self.counts, self.left_out = page, dict(counts), left_out
        self.words = words

    def __reduce__(self) -> tuple[type[ResultsRefused], tuple[object, ...]]:
        return ResultsRefused, (self.page, self.counts, self.left_out, self.words)


def refuse_if_any(
    title: str, findings: Sequence[Finding], accepted: Mapping[str, int] | None = None
) -> list[Finding]:
    """The warnings among the findings; faulty results are refused, never scored.

    Args:
        accepted: `accept`'s counts, and those of the ground truth, which are not looked at; None
            where the caller has no way to state them, and the page names none.

    Raises:
        ResultsRefused: a finding refuses; the page has every refusal, then the warnings.
        CheckFailed: another number of faults was accepted than there is.
    """
    findings = without_consequences(accept(findings, of_results(accepted), title))
    refusals = [f for f in findings if f.severity == REFUSE]
    warnings = [f for f in findings if f.severity != REFUSE]
    if not refusals:
        return warnings
    lines = [f"{title} is not scored:"]
    for item in [*refusals, *warnings]:
        head, *rest = item.lines()
        lines += [f"- {head}", *rest]
    counts, left_out = to_accept(refusals)
    words = accept_words({**(accepted or {}), **counts}) if accepted is not None and counts else ""
    raise ResultsRefused("\n".join(lines), counts, left_out, words)


def to_accept(refusals: Sequence[Finding]) -> tuple[dict[str, int], int]:
    """What would have to be accepted, by rule; empty where nothing would be left to score.

    Also how many entries are left out then.
    """
    left_out = sum(f.count for f in refusals if f.leaves_out)
    if left_out and left_out >= max(f.total for f in refusals):
        return {}, left_out
    counts: dict[str, int] = {}
    for item in refusals:
        counts[item.rule] = counts.get(item.rule, 0) + item.count
    return counts, left_out


def how_to_accept(left_out: int, words: str, aim: str = "To score it") -> str:
    """The last line of a refusal: `words` is what to type."""
    how = "as they stand"
    if left_out:
        how = f"without {left_out:,} {'entry' if left_out == 1 else 'entries'} named above"
    return f"{aim} all the same, {how}, with this stated beside the number: {words}"
