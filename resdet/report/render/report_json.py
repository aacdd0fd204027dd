"""report.json: all numbers of the report, for programs.

Fractions in [0, 1]; null where a number does not exist. Runs are named by their letters.

Not for: people; they have the page.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from resdet.report.comparison.backbone_gains import BackboneGain
from resdet.report.comparison.gain_noise import Bet
from resdet.report.comparison.published_numbers import ProtocolMatch, matches_for
from resdet.report.model import ComparisonReport, SetReport
from resdet.report.runs import Column
from resdet.report.scores import Metric
from resdet.run import layout


def to_json(report: ComparisonReport) -> dict[str, Any]:
    """The report as one JSON object."""
    verdict, letters = report.verdict, [c.letter for c in report.columns]
    return {
        "made": report.made,
        "resdet": report.version,
        "headline": report.headline,
        "verdict": verdict.stamp,
        "across_recipes": verdict.across_recipes,
        "across_starts": verdict.across_starts,
        "reasons": list(verdict.reasons),
        "cautions": list(verdict.cautions),
        "notes": list(verdict.notes),
        "config_differences": [
            {
                "key": d.key,
                "kind": d.kind,
                "values": dict(zip(letters, map(_plain, d.values), strict=True)),
            }
            for d in verdict.differences
        ],
        "runs": {c.letter: _run(c) for c in report.columns},
        "sets": {s.data_set: _set(report, s) for s in report.sets},
    }


def _run(column: Column) -> dict[str, Any]:
    card = column.card if column.pretrained else {}
    info = column.run.info
    return {
        "path": str(column.run.path),
        "id": info.get("id"),
        "label": column.label,
        "net": column.net,
        "pretrained": column.pretrained,
        "start": column.start,
        "recipe": _recipe(column),
        "state": column.run.state,
        "seed": column.seed,
        "parameters": column.parameters,
        "samples_seen": column.samples_seen,
        "training_seconds": column.seconds,
        "pretraining": {
            "data": card.get("data") or {},
            "metrics": card.get("metrics") or {},
            "training": card.get("training") or {},
        },
        "transfer": _transfer(column.run.read(layout.TRANSFER)),
        "versions": info.get("versions") or {},
        "device": info.get("device"),
        "host": info.get("host"),
        "created": info.get("created"),
        "command": info.get("command"),
    }


def _recipe(column: Column) -> dict[str, Any] | None:
    """The run's recipe; None of results alone."""
    if column.foreign:
        return None
    recipe = column.recipe
    departures = {k: {"value": v, "recipe": own} for k, (v, own) in recipe.departures.items()}
    return {
        "name": recipe.name or None,
        "stated": recipe.is_stated,
        "departures": departures,
        "words": recipe.words,
    }


def _transfer(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """transfer.json as it is written now; "head_classes" had another name at first."""
    if not stored or "carried" not in stored:
        return stored
    return {("head_classes" if k == "carried" else k): v for k, v in stored.items()}


def _set(report: ComparisonReport, one: SetReport) -> dict[str, Any]:
    letters = [c.letter for c in report.columns]
    scores = dict(zip(letters, one.scores, strict=True))
    first = one.scores[0]
    return {
        "metric": _metric(one.metric),
        "gain_metric": _metric(one.gain_metric),
        "images": {
            letter: {
                "expected": len(set(s.expected)),
                "evaluated": len(set(s.evaluated)),
                "missing": len(set(s.expected) - set(s.evaluated)),
            }
            for letter, s in scores.items()
        },
        "classes": list(first.classes),
        "absent_classes": first.absent(one.metric),
        "ground_truth_sha256": {letter: s.truth_hash for letter, s in scores.items()},
        "published": {
            column.letter: {key: _match(match) for key, match in matches.items()}
            for column, s in zip(report.columns, one.scores, strict=True)
            if (matches := matches_for(column, s))
        },
        "values": {letter: s.value(one.metric) for letter, s in scores.items()},
        "per_class": {letter: s.per_class(one.metric) for letter, s in scores.items()},
        "voc": {letter: s.voc for letter, s in scores.items()},
        "coco": {letter: s.coco for letter, s in scores.items()},
        "ilsvrc": {letter: s.ilsvrc for letter, s in scores.items()},
        "segm": {letter: s.of_masks.coco if s.of_masks else None for letter, s in scores.items()},
        "gains": [_gain(report, g) for g in _every_gain(one)],
        "errors": one.errors.to_json(report.columns) if one.errors else None,
        "precision_recall": {
            letter: {"recall_step": 0.01, "mean_precision": [round(float(v), 6) for v in c.mean()]}
            for letter, c in zip(letters, one.curves, strict=True)
        },
    }


def _match(match: ProtocolMatch) -> dict[str, Any]:
    """A published number, null where it may not stand beside the run's."""
    return {
        "outcome": match.outcome,
        "value": match.value if match.shown else None,
        "paper": match.paper,
        "source": match.source,
        "departures": [dataclasses.asdict(d) for d in match.departures],
    }


def _metric(metric: Metric) -> dict[str, str]:
    return {"key": metric.key, "protocol": metric.rule, "title": metric.title}


def _every_gain(one: SetReport) -> list[BackboneGain]:
    """By the rule whose noise is known, by VOC's 11 points, by masks, and those of bets alone."""
    gains = [*one.gains, *one.other_gains, *one.mask_gains]
    return gains + [bet.gain for bet in one.trust.bets if bet.gain not in gains]


def _gain(report: ComparisonReport, g: BackboneGain) -> dict[str, Any]:
    before, after = (
        [report.columns[i].letter for i in places] for places in (g.pair.before, g.pair.after)
    )
    return {
        "before": before[0] if len(before) == 1 else before,
        "after": after[0] if len(after) == 1 else after,
        "kind": g.pair.kind,
        "metric": g.metric.title,
        "protocol": g.metric.rule,
        "before_value": g.before,
        "after_value": g.after,
        "absolute": g.absolute,
        "relative": g.relative,
        "interval": g.interval.to_json() if g.interval else None,
        "noise": Bet(g).to_json(),
        "per_class": {c.name: {"absolute": c.absolute, "relative": c.relative} for c in g.classes},
    }


def _plain(value: Any) -> Any:
    """A config value that JSON can hold; dates and the like of YAML become text."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
