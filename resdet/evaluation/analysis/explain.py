"""The same detections under every rule that people use: what a number is made of.

Two evaluators that disagree on one file follow different rules. Each line of the table changes
one rule of its block's first line, and shows how AP50 changes, how many detections it touches and
which first, and which tool is known to follow it.

Statements on tools were read in their code or in the threads of their users (`docs/faults.md`, F51
to F60, F86, F89); where neither names a tool, the table names none.

Not for: the number to report (`coco_evaluation`, `voc_evaluation`), masks, or other overlaps than
0.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resdet import profile
from resdet.evaluation.analysis.rule_outcomes import CUT, VERDICTS, Judged, as_written
from resdet.evaluation.analysis.zero_ap import notes_on_zero
from resdet.evaluation.coco.coco_evaluation import fast_and_checked
from resdet.evaluation.coco.coco_rules import judge_coco, near_pairs
from resdet.evaluation.inputs.arrays import BoolArray, ImageId
from resdet.evaluation.inputs.detections import Columns, load_columns
from resdet.evaluation.inputs.findings import Finding, refuse_if_any
from resdet.evaluation.inputs.ground_truth import GroundTruth, read_ground_truth
from resdet.evaluation.inputs.image_ids import EXACT
from resdet.evaluation.inputs.validation import DETECTIONS_PER_IMAGE, check_columns
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.evaluation.voc.voc_rules import VocJudge, VocRule
from resdet.text_table import ruled

NAMED = 3
# pycocotools adds this to the denominator.
SAME = 1e-9

USED_BY: Mapping[str, str] = {
    "coco": "pycocotools; torchmetrics wraps it",
    "coco-per-image": "COCO's server; Detectron2 keeps 100 per image",
    "coco-crowds-false": "Ultralytics, as its users found (#17270)",
    "coco-boxes-1": "advised by COCO's format page",
    "voc-11-point": "VOC 2007 devkit",
    "voc-area": "VOC devkit, 2010 and later",
    "voc-strict": "Detectron2, py-faster-rcnn",
    "voc-float-recalls": "Detectron2",
    "voc-scores-3": "Detectron2, py-faster-rcnn",
    "voc-boxes-1": "Detectron2, py-faster-rcnn",
    "voc-ties": "Detectron2, py-faster-rcnn: unstable sort",
    "voc-absent-zero": "Detectron2",
    "voc-detectron2": "Detectron2",
}


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        key: a stable word for scripts.
        block: the key of the block that it stands in; its own for a block's first line.
        ap50: in [0, 1]; None where no class has an object to find.
        low, high: over all orders of equal scores; None where one order is meant.
        against: key of the line that `change` (of AP50) and `touched` are counted against.
        positives: objects to find. touched: detections that count otherwise. first: the first
            few of them, by falling score.
        used_by: tools that are known to follow it; "" when none is.
    """

    key: str
    block: str
    title: str
    ap50: float | None
    low: float | None
    high: float | None
    against: str | None
    change: float | None
    positives: int
    touched: int
    first: tuple[str, ...]
    used_by: str

    def to_json(self) -> dict[str, Any]:
        order = None if self.low is None else [self.low, self.high]
        return {
            "rule": self.key, "title": self.title, "AP50": self.ap50, "by_order_of_ties": order,
            "against": self.against, "change": self.change, "positives": self.positives,
            "touched": self.touched, "first": list(self.first),
            "used_by": self.used_by or None,
        }  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """All rules on one results file; `to_json` is what `resdet evaluate explain --json` prints.

    counts: detections, objects, crowds, difficult. notes: to be shown beside the numbers.
    engine: whose AP50 COCO's first line was found equal to: the fast one, and on how many images
        it was compared with pycocotools.
    accepted: faults of the results by rule (`findings.accept`).
    """

    rules: tuple[Rule, ...]
    images: Mapping[str, int]
    counts: Mapping[str, int]
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    engine: str = ""
    accepted: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Rule:
        """The line of that key."""
        for rule in self.rules:
            if rule.key == key:
                return rule
        raise KeyError(f"no rule {key!r}; there are {', '.join(r.key for r in self.rules)}")

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": "AP50 under every rule",
            "engine": self.engine,
            **self.counts,
            "rules": [rule.to_json() for rule in self.rules],
            "images": dict(self.images),
            **({"accepted": dict(self.accepted)} if self.accepted else {}),
        }


def explain(
    gt: Mapping[str, Any] | Path | str | GroundTruth,
    results: Sequence[Any] | Path | str,
    *,
    evaluated_ids: Sequence[ImageId] | None = None,
    accepted: Mapping[str, int] | None = None,
    image_ids: str = EXACT,
) -> Explanation:
    """AP50 of a results list under every rule, after it was validated.

    Args:
        gt: COCO's instances JSON, with `difficult` where the set has it: an object or a path.
        results: COCO's results list of boxes: dicts, or a path.
        evaluated_ids: the images that the detector saw; None when not recorded.
        accepted: by rule of the checks, exactly so many faults are accepted (`findings.accept`).
        image_ids: how the results name images, one of `image_ids.WAYS`.

    Raises:
        DataError: a path does not exist; the ground truth is faulty.
        CheckFailed: the results are refused, or the fast engine differs from pycocotools; the
            page gives the reason.
    """
    accepted = accepted or {}
    truth = read_ground_truth(gt, accepted)
    columns, findings, title = load_columns(
        results, truth.index, image_ids=image_ids, by_names=True
    )
    findings += check_columns(columns, truth.index, evaluated_ids)
    warnings = refuse_if_any(title, findings, accepted)
    table = _Table(columns)
    with profile.span("COCO's rules"):
        engine = _coco_rules(table, truth)
    with profile.span("VOC's rules"):
        _voc_rules(table, truth)
    num_images = len(truth.index.image_ids)
    return Explanation(
        tuple(table.rules),
        {"expected": num_images, "evaluated": num_images, "missing": 0},
        {
            "detections": len(columns),
            "objects": len(truth.boxes),
            "crowds": int(truth.crowd.sum()),
            "difficult": int(truth.difficult.sum()),
        },
        tuple(warnings),
        (*truth.notes, *notes_on_zero(table.heads["coco"].ap50, truth, columns)),
        engine,
        {**truth.accepted, **accepted},
    )


class _Table:
    """Makes lines from outcomes, and remembers the outcome of each block's first line."""

    def __init__(self, columns: Columns):
        self.columns = columns
        self.rules: list[Rule] = []
        self.heads: dict[str, Judged] = {}

    def head(self, key: str, title: str, judged: Judged) -> None:
        """A block's first line, set against the first of all."""
        against = next(iter(self.heads), None)
        self.heads[key] = judged
        self._append(key, key, title, judged, against, None, False)

    def add(
        self,
        word: str,
        title: str,
        judged: Judged,
        *,
        touched: BoolArray | None = None,
        any_order: bool = False,
    ) -> None:
        """One rule changed. touched: beside those with another verdict; any_order: give both."""
        block = next(reversed(self.heads))
        self._append(f"{block}-{word}", block, title, judged, block, touched, any_order)

    def _append(
        self,
        key: str,
        block: str,
        title: str,
        judged: Judged,
        against: str | None,
        also: BoolArray | None,
        any_order: bool,
    ) -> None:
        change, rows, first = None, np.zeros(0, dtype=np.int64), []
        if against is not None:
            base = self.heads[against]
            if judged.ap50 is not None and base.ap50 is not None:
                change = judged.ap50 - base.ap50
            differs = judged.verdict != base.verdict
            rows = np.flatnonzero(differs if also is None else differs | also)
            rows = rows[np.argsort(-self.columns.scores[rows], kind="stable")]
            first = [self._name(int(row), base, judged) for row in rows[:NAMED]]
        known = key.replace("-11-point-", "-").replace("-area-", "-")
        self.rules.append(
            Rule(
                key, block, title, judged.ap50,
                judged.low if any_order else None, judged.high if any_order else None,
                against, change, judged.positives, len(rows), tuple(first),
                USED_BY.get(known, ""),
            )
        )  # fmt: skip

    def _name(self, row: int, base: Judged, judged: Judged) -> str:
        before, after = VERDICTS[base.verdict[row]], VERDICTS[judged.verdict[row]]
        verdict = f"{before}, by this rule {after}" if before != after else f"{after}, in a tie"
        return f"{self.columns.name(row)}, score {self.columns.scores[row]:g}: {verdict}"


# -- COCO's ------------------------------------------------------------------------------------


def _coco_rules(table: _Table, truth: GroundTruth) -> str:
    """COCO's lines; gives the name of the engine that their first was compared with."""
    columns = table.columns
    near = near_pairs(truth, columns)
    base = judge_coco(truth, columns, near=near)
    used = np.ones(len(truth.index.image_ids), dtype=np.bool_)
    counted, engine = fast_and_checked(truth, columns, used, "bbox")
    ap50 = float(counted.numbers[1])
    # The lines below are counted here, so check here that the counting is COCO's.
    if abs((-1.0 if base.ap50 is None else base.ap50) - ap50) > SAME:
        raise RuntimeError(f"AP50 is {ap50} by the engine {engine}, but counted as {base.ap50}")
    table.head("coco", "COCO: pycocotools, overlap >= 0.5", base)
    table.add(
        "per-image", "best 100 per image, not per image and category",
        _best_per_image(truth, columns, base),
    )  # fmt: skip
    ordinary = without_crowds = base
    if truth.crowd.any():
        nothing = np.zeros_like(truth.crowd)
        ordinary = judge_coco(dataclasses.replace(truth, crowd=nothing), columns)
        without_crowds = judge_coco(_objects(truth, ~truth.crowd), columns)
    table.add("crowds-ordinary", "crowds as ordinary objects (iscrowd lost)", ordinary)
    table.add("crowds-false", "detections on crowds are wrong", without_crowds)
    table.add("strict", "overlap > 0.5 for >=", judge_coco(truth, columns, strict=True, near=near))
    rounded = dataclasses.replace(columns, scores=as_written(columns.scores, 3))
    judged = base
    if (rounded.scores != columns.scores).any():
        judged = judge_coco(truth, rounded, exact=columns.scores, near=near)
    table.add(
        "scores-3", "scores rounded to 3 decimals", judged, touched=judged.merged, any_order=True
    )
    rounded = dataclasses.replace(columns, boxes=as_written(columns.boxes, 1))
    judged = base
    if (rounded.boxes != columns.boxes).any():
        judged = judge_coco(truth, rounded)
    table.add("boxes-1", "boxes rounded to 1 decimal", judged)
    table.add("ties", "equal scores in any order", base, touched=base.tied, any_order=True)
    return engine


def _best_per_image(truth: GroundTruth, columns: Columns, base: Judged) -> Judged:
    """COCO's, after each image was cut to its best 100 of all categories."""
    order = np.lexsort((-columns.scores, columns.image))
    images = columns.image[order]
    place = np.arange(len(order)) - np.searchsorted(images, images, side="left")
    kept = np.sort(order[place < DETECTIONS_PER_IMAGE])
    if len(kept) == len(order):
        return base
    cut = Columns(
        columns.image[kept], columns.category[kept], columns.boxes[kept], columns.scores[kept],
        columns.name,
    )  # fmt: skip
    judged = judge_coco(truth, cut)
    verdict = np.full(len(columns), CUT, dtype=np.int8)
    verdict[kept] = judged.verdict
    return dataclasses.replace(judged, verdict=verdict)


def _objects(truth: GroundTruth, kept: BoolArray) -> GroundTruth:
    """The set with these of its objects alone."""
    rows = np.flatnonzero(kept)
    return dataclasses.replace(
        truth,
        image=truth.image[rows], category=truth.category[rows], boxes=truth.boxes[rows],
        area=truth.area[rows], crowd=truth.crowd[rows], difficult=truth.difficult[rows],
        segmentations=[truth.segmentations[row] for row in rows], members={},
    )  # fmt: skip


# -- VOC's -------------------------------------------------------------------------------------


Pair = dict[str, Judged]  # by either way to average


def _voc_rules(table: _Table, truth: GroundTruth) -> None:
    """VOC's two blocks; which detections are right is the same in both."""
    objects = voc.ground_truth_from_coco(truth)
    judge = VocJudge(objects, table.columns)

    def judged(rule: VocRule, difficult: BoolArray | None = None) -> Pair:
        return judge.judge(rule, voc.AP_RULES, difficult)

    none_is = np.zeros_like(truth.difficult)
    every = voc.ground_truth_from_coco(dataclasses.replace(truth, difficult=none_is))
    pairs = {
        "base": judged(VocRule()),
        "no-pixel": judged(VocRule(pixel=0.0)),
        "two-pixels": judged(VocRule(pixel=2.0)),
        "strict": judged(VocRule(strict=True)),
        "float-recalls": judged(VocRule(float_recalls=True)),
        "scores-3": judged(VocRule(score_decimals=3)),
        "boxes-1": judged(VocRule(box_decimals=1)),
        "difficult": judged(VocRule(), every.difficult),
        "detectron2": judged(
            VocRule(strict=True, float_recalls=True, score_decimals=3, box_decimals=1)
        ),
    }
    for ap in voc.AP_RULES:
        _voc_block(table, objects, ap, {word: pair[ap] for word, pair in pairs.items()})


def _voc_block(
    table: _Table, objects: voc.VocGroundTruth, ap: str, judged: Mapping[str, Judged]
) -> None:
    base = judged["base"]
    table.head(f"voc-{ap}", f"VOC {ap}: overlap >= 0.5, +1 pixel", base)
    for word, title in (
        ("no-pixel", "without the +1 pixel"),
        ("two-pixels", "the pixel added twice (to boxes that need none)"),
        ("strict", "overlap > 0.5 for >="),
    ):
        table.add(word, title, judged[word])
    if ap == "11-point":
        table.add("float-recalls", "recalls compared as floats", judged["float-recalls"])
    merged = judged["scores-3"].merged
    table.add(
        "scores-3", "scores rounded to 3 decimals", judged["scores-3"], touched=merged,
        any_order=True,
    )  # fmt: skip
    table.add("boxes-1", "boxes rounded to 1 decimal", judged["boxes-1"])
    table.add("difficult", "difficult objects count", judged["difficult"])
    table.add("ties", "equal scores in any order", base, touched=base.tied, any_order=True)
    table.add("absent-zero", "classes without an object count as 0", _over_all(base, objects))
    d2, title = judged["detectron2"], "all of Detectron2's at once"
    if ap == "area" and _absent_found(objects, table.columns):
        d2 = dataclasses.replace(d2, ap50=None, low=None, high=None)
        title += ": NaN, as a class without an object was detected"
    table.add("detectron2", title, _over_all(d2, objects), touched=d2.merged, any_order=True)


def _over_all(judged: Judged, objects: voc.VocGroundTruth) -> Judged:
    """The mean over all classes; those without an object to find count as 0 (F89)."""
    share = judged.num_classes / len(objects.classes)
    ap50, low, high = (
        None if value is None else value * share for value in (judged.ap50, judged.low, judged.high)
    )
    return dataclasses.replace(judged, ap50=ap50, low=low, high=high)


def _absent_found(objects: voc.VocGroundTruth, columns: Columns) -> bool:
    there = np.unique(objects.label[~objects.difficult])
    return bool((~np.isin(columns.category, there)).any())


# -- for people --------------------------------------------------------------------------------


def explain_table(result: Explanation) -> str:
    """The rules in percent, and below them the first detections that each touches."""
    counts = result.counts
    lines = [
        f"AP50 of the same {counts['detections']:,} detections on "
        f"{result.images['evaluated']:,} images, in percent. {counts['objects']:,} objects, of "
        f"them {counts['crowds']:,} crowds and {counts['difficult']:,} difficult.",
        "Each line changes one rule of its block's first line; those are set against COCO's.",
        f"COCO's first line equals that of the engine {result.engine}.",
        "",
        *ruled(_HEAD, [*map(_cells, result.rules)], left=(0, len(_HEAD) - 1)),
    ]
    named: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for rule in result.rules:
        title = rule.title if rule.key != rule.block else f"against {rule.against}"
        named.setdefault((title, rule.first), []).append(rule.block)
    if any(first for _, first in named):
        lines += ["", "Touched first: detections that count otherwise, or stand in a tie."]
    for (title, first), blocks in named.items():
        if first:
            lines += [f"  {', '.join(blocks)}: {title}", *(f"    {text}" for text in first)]
    return "\n".join(lines)


_HEAD = ("rule", "AP50", "change", "to find", "touched", "used by")


def _cells(rule: Rule) -> tuple[str, ...]:
    change = ""
    if rule.change is not None and rule.ap50 is not None:
        change = _span(rule, "+.2f", rule.ap50 - rule.change)
    return (
        rule.title if rule.key == rule.block else f"  {rule.title}",
        _span(rule, ".2f"),
        change,
        f"{rule.positives:,}",
        "" if rule.against is None else f"{rule.touched:,}",
        rule.used_by,
    )


def _span(rule: Rule, form: str, base: float = 0.0) -> str:
    """The number less `base` in percent; from the least to the largest where order matters."""
    if rule.ap50 is None:
        return "-"
    values = [rule.ap50] if rule.low is None or rule.high is None else [rule.low, rule.high]
    # Rounded first, so that nothing is -0.00.
    rounded = [round(100 * (value - base), 2) + 0.0 for value in values]
    return " to ".join(dict.fromkeys(f"{value:{form}}" for value in rounded))
