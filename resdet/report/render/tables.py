"""The tables of a report, made once: the page, the Markdown file and the terminal show the same.

A table holds one rule of AP. VOC's 11-point and area numbers of the same detections differ, and
side by side they would be compared (`docs/faults.md` F54); so would COCO's.

Not for: how a table looks in HTML (`templates/`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.evaluation.published.departures import value_text
from resdet.evaluation.published.published_protocols import of_every_run
from resdet.evaluation.published.published_tables import published as published_numbers
from resdet.printable import counted, printable
from resdet.report.comparison.backbone_gains import (
    BackboneGain,
    duration,
    letters,
    percent,
    points,
    relative_percent,
    side,
)
from resdet.report.comparison.comparability import Comparability
from resdet.report.comparison.published_numbers import (
    OTHER,
    SAME,
    ProtocolMatch,
    matches_for,
    numbers_for,
)
from resdet.report.comparison.recipe_differences import RECIPE
from resdet.report.comparison.start_differences import START
from resdet.report.runs import Column, net_title
from resdet.report.scores import COCO_METRICS, Metric, SetScores, rule_title
from resdet.text_table import aligned


@dataclass(frozen=True)
class Cell:
    """`text` is what stands there, `note` a smaller second line; `run` the place of a run.

    No cell is marked as the best: whether a difference is larger than its noise is stated in words.
    """

    text: str
    note: str = ""
    run: int | None = None
    is_text: bool = False


@dataclass(frozen=True)
class Table:
    """`head` and each row have the same length; the first cell of a row names it."""

    title: str
    head: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


def run_cell(columns: Sequence[Column], place: int, *, short: bool = False) -> Cell:
    column = columns[place]
    return Cell(column.letter if short else column.label, run=place, is_text=True)


def ranking(columns: Sequence[Column], scores: Sequence[SetScores], metric: Metric) -> Table:
    """One row per run by one metric, with the paper's number where there is one."""
    values = [s.value(metric) for s in scores]
    papers = [
        numbers_for(c, s).get(metric.key) if s.metric == metric else None
        for c, s in zip(columns, scores, strict=True)
    ]
    head = [_head("run"), _titled(metric)]
    if any(papers):
        head.append(_head("paper"))
    rows = []
    for i, value in enumerate(values):
        row = [run_cell(columns, i), Cell(percent(value))]
        if any(papers):
            paper = papers[i]
            row.append(Cell(percent(paper.value), _where(paper)) if paper else Cell("–"))
        rows.append(tuple(row))
    caption = f"Percent. {mean_caption(scores[0], metric)}"
    if any(papers):
        named = " and ".join(dict.fromkeys(paper.paper for paper in papers if paper))
        caption += f" Paper: {named}, same data, images and rule; what else differs is listed."
    return Table(f"{metric.title} on {scores[0].data_set}", tuple(head), tuple(rows), caption)


def beside_published(columns: Sequence[Column], scores: Sequence[SetScores]) -> Table | None:
    """Each run of a published net: the paper's number if it may be shown, and what differs."""
    rows = []
    for place, (column, given) in enumerate(zip(columns, scores, strict=True)):
        matches = list(matches_for(column, given).values())
        if not matches:
            continue
        outcome, listed = _together(matches)
        first = matches[0]
        number = ", ".join(percent(m.value) for m in matches) if outcome != OTHER else "not shown"
        rows.append((
            run_cell(columns, place),
            Cell(number, f"{first.paper}, {first.source}", is_text=True),
            Cell(outcome, is_text=True),
            Cell("; ".join(listed) or "–", is_text=True),
        ))  # fmt: skip
    if not rows:
        return None
    head = tuple(_head(text) for text in ("run", "paper", "outcome", "what differs"))
    always = "; ".join(f"{d.what}: {d.here} (paper: {d.paper})" for d in of_every_run())
    caption = (
        "The run against what the number was had with, key by key. An experiment is another one "
        f"where data, net, start, scale, pooling or length differ. So in every run: {always}."
    )
    return Table("Beside the published number", head, tuple(rows), caption)


def _together(matches: Sequence[ProtocolMatch]) -> tuple[str, list[str]]:
    """The outcome of all numbers of a run, and what differs, each once."""
    others = [m for m in matches if not m.shown]
    used = others or list(matches)
    return used[0].outcome, list(dict.fromkeys(str(d) for m in used for d in m.listed))


def _where(match: ProtocolMatch) -> str:
    """The table that has the number, and how much is not as it was there."""
    if match.outcome == SAME:
        return match.source
    number = len(match.departures)
    return f"{match.source}, but for {number} {'thing' if number == 1 else 'things'}"


def gains(columns: Sequence[Column], gains: Sequence[BackboneGain]) -> Table | None:
    """What each pair gained, by one metric; None without a pair."""
    if not gains:
        return None
    has_interval = any(g.interval for g in gains)
    head = [_head("gain"), _head("points"), _head("relative")]
    head += [Cell("95 % interval", "points", is_text=True)] * has_interval
    rows = []
    for g in gains:
        row = [
            Cell(_question(columns, g), _arrow(columns, g), is_text=True),
            Cell(points(g.absolute)),
            Cell(relative_percent(g.relative)),
        ]
        if has_interval:
            limits = g.interval and f"{points(g.interval.low)} to {points(g.interval.high)}"
            row.append(Cell(limits or "–"))
        rows.append(tuple(row))
    title = f"Gains in {gains[0].metric.title}"
    return Table(title, tuple(head), tuple(rows), f"Differences of {gains[0].metric.title}.")


def _question(columns: Sequence[Column], g: BackboneGain) -> str:
    before, after = columns[g.pair.before[0]], columns[g.pair.after[0]]
    if g.pair.kind == "pretraining":
        return f"{after.net}: pretraining{', as a detector' if after.from_detector else ''}"
    if g.pair.kind == "net" and len({c.start for c in columns}) > 1 and before.start == after.start:
        return f"{before.net} → {after.net}, {after.start}"
    return f"{side(columns, g.pair.before)} → {side(columns, g.pair.after)}"


def mean_caption(scores: SetScores, metric: Metric) -> str:
    """The mean with its count (F89), and on how many images."""
    per_class = scores.per_class(metric)
    absent = scores.absent(metric)
    of = f"{len(per_class) - len(absent)} of {len(per_class)}" if absent else f"{len(per_class)}"
    words = f"Mean of {of} classes on {counted(len(set(scores.evaluated)), 'image')}"
    if missing := len(set(scores.expected) - set(scores.evaluated)):
        words += f" ({missing:,} of {len(set(scores.expected)):,} not evaluated)"
    return words + (f"; no objects of: {', '.join(absent)}." if absent else ".")


def eleven_points(scores: Sequence[SetScores]) -> Metric | None:
    """VOC 2007's rule, by which no gain is taken; None for a set that VOC's rules do not score."""
    if any(s.voc is None for s in scores):
        return None
    return Metric("mean_ap", "VOC 11-point", rule_title("VOC 11-point"))


def coco(
    columns: Sequence[Column], scores: Sequence[SetScores], *, masks: bool = False
) -> Table | None:
    """COCO's twelve numbers, one per row; None where a run has none.

    Args:
        masks: they are of masks (`SetScores.of_masks`), for which no published number is held.
    """
    if any(s.coco is None for s in scores):
        return None
    tables = [s.coco or {} for s in scores]
    papers = [{} if masks else numbers_for(c, s) for c, s in zip(columns, scores, strict=True)]
    rows = []
    for key, title in COCO_METRICS:
        cells = [Cell(percent(t.get(key))) for t in tables]
        for i, paper in enumerate(papers):
            if key in paper:
                text = f"paper {percent(paper[key].value)}, {_where(paper[key])}"
                cells[i] = Cell(cells[i].text, text)
        rows.append((Cell(title, is_text=True), *cells))
    engines = sorted({str(t.get("engine", "not known")) for t in tables})
    return Table(
        "COCO, masks" if masks else "COCO",
        (
            _head("COCO segm" if masks else "COCO bbox"),
            *(run_cell(columns, i, short=True) for i in range(len(columns))),
        ),
        tuple(rows),
        f"Percent, at most 100 detections per image and class; engine: {', '.join(engines)}.",
    )


def per_class(
    columns: Sequence[Column],
    scores: Sequence[SetScores],
    metric: Metric,
    gains: Sequence[BackboneGain],
) -> Table:
    """AP of every class for every run, and the gain of every pair; by the first pair's gain."""
    aps = [s.per_class(metric) for s in scores]
    papers = [
        numbers_for(c, s).get(metric.key) if s.metric == metric else None
        for c, s in zip(columns, scores, strict=True)
    ]
    names = list(aps[0])
    if gains:
        order = {c.name: i for i, c in enumerate(gains[0].classes)}
        names.sort(key=lambda name: order.get(name, len(order)))
    head = [_head("class"), *(run_cell(columns, i, short=True) for i in range(len(columns)))]
    head += [_head(_arrow(columns, g)) for g in gains]
    rows = []
    for name in names:
        row = [Cell(name, is_text=True), *(Cell(percent(ap.get(name))) for ap in aps)]
        for i, paper in enumerate(papers):
            if paper and name in paper.per_class:
                text = f"paper {percent(paper.per_class[name])}"
                row[i + 1] = Cell(row[i + 1].text, text)
        for g in gains:
            change = next((c for c in g.classes if c.name == name), None)
            row.append(
                Cell(points(change.absolute), relative_percent(change.relative))
                if change
                else Cell("–")
            )
        rows.append(tuple(row))
    caption = f"{metric.title} of each class, percent."
    if gains:
        caption += " Gains in points, below them relative; largest gain first."
    return Table(f"Per class, {metric.title}", tuple(head), tuple(rows), caption)


def nets(columns: Sequence[Column], scores: Sequence[SetScores]) -> Table:
    """What was compared and what it took, one run per column."""

    def row(title: str, of: Callable[[int, Column], str]) -> tuple[Cell, ...]:
        cells = [Cell(of(i, c), is_text=True) for i, c in enumerate(columns)]
        return (Cell(title, is_text=True), *cells)

    def card(c: Column, part: str, key: str) -> Any:
        return (c.card.get(part) or {}).get(key) if c.pretrained else None

    def detector(c: Column, part: str) -> Any:
        return getattr(c.detector, part) if c.detector else None

    rows = [
        row("net", lambda _, c: c.full_net),
        row("start", lambda _, c: c.start),
        row("recipe", lambda _, c: "–" if c.foreign else c.recipe.words),
        row("pretraining data", lambda _, c: str(card(c, "data", "name") or "–")),
        row("pretraining images seen", lambda _, c: count(card(c, "training", "samples"))),
        row("pretraining time", lambda _, c: duration(card(c, "training", "seconds"))),
        row("pretraining top-1 error", lambda _, c: error(card(c, "metrics", "top1_error"))),
        row("then as a detector, data", lambda _, c: str(detector(c, "data") or "–")),
        row("then as a detector, images seen", lambda _, c: count(detector(c, "samples"))),
        row("then as a detector, time", lambda _, c: duration(detector(c, "seconds"))),
        row("parameters of the detector", lambda _, c: count(c.parameters)),
        row("detection images seen", lambda _, c: count(c.samples_seen)),
        row("detection training time", lambda _, c: duration(c.seconds)),
        row("test time per image", lambda i, _: _per_image(scores[i])),
        row("seed", lambda _, c: "–" if c.seed is None else str(c.seed)),
    ]
    empty = "–"
    rows = [r for r in rows if any(cell.text != empty for cell in r[1:])]
    head = [run_cell(columns, i, short=True) for i in range(len(columns))]
    return Table("Nets and cost", (_head(""), *head), tuple(rows))


def differences(columns: Sequence[Column], verdict: Comparability) -> Table | None:
    """All config keys that differ, those that matter first; None where there are none."""
    order = ("other", RECIPE, "backbone", START, "net", "card", "bookkeeping")
    titles = {
        "other": "NOT ALLOWED",
        RECIPE: "recipe" if verdict.across_recipes else "NOT ALLOWED",
        "backbone": "backbone",
        START: "start",
        "net": "follows from it",
        "card": "set by the card",
    }
    rows = [
        (
            Cell(d.key, is_text=True),
            *(Cell(value_text(v), is_text=True) for v in d.values),
            Cell(titles.get(kind, "no effect"), is_text=True),
        )
        for kind in order
        for d in verdict.of_kind(kind)
    ]
    if not rows:
        return None
    head = [run_cell(columns, i, short=True) for i in range(len(columns))]
    return Table("Config keys that differ", (_head("key"), *head, _head("what")), tuple(rows))


def published(data_set: str) -> Table | None:
    """All published detection numbers on this set that resdet knows; None where there is none."""
    rows = []
    for number in published_numbers(data_set=data_set, unit="percent"):
        system = number.system + (f", {net_title(number.net)}" if number.net else "")
        rows.append((
            Cell(system, number.protocol, is_text=True),
            Cell(", ".join(number.train) or "–", is_text=True),
            Cell(number.metric, is_text=True),
            Cell(f"{number.value:g}"),
            Cell(number.source, f"{number.paper}, {number.status}", is_text=True),
        ))  # fmt: skip
    head = tuple(_head(title) for title in ("system", "trained on", "metric", "percent", "source"))
    caption = (
        "As printed. They were measured under other protocols than these runs, unless a cell above "
        "names its paper; they are no targets. stated: in the paper; read: on the official page; "
        "secondary: quoted by others; recalled: not checked again."
    )
    return Table(f"Published numbers on {data_set}", head, tuple(rows), caption) if rows else None


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def error(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"


def _per_image(scores: SetScores) -> str:
    if not scores.seconds or not scores.evaluated:
        return "–"
    return f"{scores.seconds / len(scores.evaluated) * 1000:.0f} ms"


def _head(text: str) -> Cell:
    return Cell(text, is_text=True)


def _titled(metric: Metric) -> Cell:
    """ "AP50 (VOC 2007, 11 points)" as a head whose second half may stand below the first."""
    name, _, rule = metric.title.partition(" (")
    return Cell(name, rule.rstrip(")"), is_text=True)


def _arrow(columns: Sequence[Column], g: BackboneGain) -> str:
    return f"{letters(columns, g.pair.before)} → {letters(columns, g.pair.after)}"


# -- as text -------------------------------------------------------------------------------


def to_markdown(table: Table, columns: Sequence[Column]) -> str:
    """A pipe table; names are escaped so that they can neither break it nor become HTML."""

    def cell_text(cell: Cell) -> str:
        text = cell.text
        if cell.run is not None and text != columns[cell.run].letter:
            text = f"{columns[cell.run].letter}: {text}"
        if cell.note:
            text = f"{text} ({cell.note})"
        return escape_markdown(text)

    lines = [[cell_text(c) for c in table.head]]
    lines.append(["---" if c.is_text and not i else "---:" for i, c in enumerate(table.head)])
    lines += [[cell_text(c) for c in row] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def escape_markdown(text: str) -> str:
    """Text that is neither markup nor a second line; what cannot be printed is escaped."""
    text = printable(text)
    for character, replacement in (
        ("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"),
        ("*", "\\*"), ("_", "\\_"), ("[", "\\["), ("]", "\\]"), ("\n", " "),
    ):  # fmt: skip
        text = text.replace(character, replacement)
    return text


def to_text(table: Table, columns: Sequence[Column]) -> str:
    """Aligned columns for a terminal; the first to the left, the rest to the right."""

    def cell_text(cell: Cell) -> str:
        text = cell.text
        if cell.run is not None and text != columns[cell.run].letter:
            text = f"{columns[cell.run].letter}  {text}"
        return f"{text} ({cell.note})" if cell.note else text

    lines = [[cell_text(c) for c in row] for row in (table.head, *table.rows)]
    return "\n".join(aligned(lines))
