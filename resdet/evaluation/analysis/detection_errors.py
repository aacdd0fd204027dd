"""What a detector does wrong, and what each kind of error costs; and, of two detectors, which
errors the second removed or added.

After TIDE (Bolya et al. 2020, arXiv:2008.08115), written from the paper's definitions. A false
positive, at overlaps t_f = 0.5 and t_b = 0.1 with the objects that are to be found, is

    localisation    its largest overlap with its own class is t_b to t_f
    classification  its overlap with another class is t_f or more
    duplicate       its overlap with its own class is t_f or more, but another has that object
    background      it overlaps nothing by more than t_b
    both            the rest: it overlaps another class by t_b to t_f

the first of these that holds, and an object is missed when no detection has it and no
classification or localisation error means it. The gain of an error is what AP50 would gain if
all of its kind were fixed and nothing else was:

    classification, localisation   the detection is right; of several with one object the best
                                   in score stays, the others go
    both, duplicate, background    the detection goes
    missed                         the object need not be found

Gains do not add up to 1 - AP50. AP50 is COCO's, over all sizes, best 100 per image and class.

Where the paper's own code (tidecv 1.0.1) does otherwise, as in its source and in our tests:

- A false positive that means an object which another detection has goes, even with the higher
  score; and of one object's classification and localisation errors together it fixes only the
  best, even where it fixes one kind. RULES has "tidecv" for figures that compare with published
  ones; "paper" is what stands above.
- What lies in a crowd is neither right nor wrong to AP, and yet counted as an error, and fixed
  into a right one. Here it is no error.
- A class with detections and no object counts as AP 0 in the mean. Here it is left out, as by
  COCO; its detections are errors all the same.
- Best 100 detections of an image, over all classes; a gain below 0 is shown as 0; equal overlaps
  go to the first object, not the last; only more than t_f lies in a crowd.
- Sizes are those of boxes, and a duplicate has its own. Here an error has the COCO area of the
  object that it means, where it means one.

Terms: M detections that count, by falling score; G objects, rows of the ground truth; K classes.

Not for: masks, or the number of record (`coco_evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from resdet.evaluation.analysis.error_kinds import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    ERRORS,
    LOCALISATION,
    MISSED,
    NEITHER,
    RIGHT,
    SIZES,
    STATES,
    Verdicts,
    judge,
)
from resdet.evaluation.coco import matching
from resdet.evaluation.inputs.arrays import BoolArray, FloatArray, ImageId, IntArray
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth

__all__ = [
    "BACKGROUND", "BOTH", "CLASSIFICATION", "DUPLICATE", "ERRORS", "LOCALISATION", "MISSED",
    "NEITHER", "RIGHT", "RULES", "SIZES", "STATES", "Anatomy", "PairedAnatomy", "compare",
    "dissect",
]  # fmt: skip

RULES = ("paper", "tidecv")
# Largest area of a small and of a medium object, in pixels.
_SIZE_ENDS = (32**2, 96**2)


@dataclass(frozen=True)
class Anatomy:
    """The errors of one detector.

    Attributes:
        ap50: as it is; None without an object to find.
        gains: of each error, in AP50; None without an object to find. Of sizes: only the errors
            of that size are fixed. Of classes: the gain of that class's own AP.
        counts: of detections; for "missed" of objects. Of classes: the class that a detection
            claims, or that a missed object has.
        rows: (M,) rows of the detections. kinds: (M,) places in ERRORS, RIGHT or NEITHER.
        meant: (M,) row of the object that a detection has, doubles or means; -1 for none.
        states: (G,) places in STATES; -1 for objects that need not be found.
    """

    truth: GroundTruth
    ap50: float | None
    gains: Mapping[str, float | None]
    gains_by_size: Mapping[str, Mapping[str, float | None]]
    gains_by_class: Mapping[str, Mapping[str, float | None]]
    counts: Mapping[str, int]
    counts_by_size: Mapping[str, Mapping[str, int]]
    counts_by_class: Mapping[str, Mapping[str, int]]
    rows: IntArray
    kinds: npt.NDArray[np.int8]
    meant: IntArray
    states: npt.NDArray[np.int8]
    rule: str = "paper"

    def confusions(self, columns: Columns) -> list[tuple[str, str, int]]:
        """(class of the object, class claimed, times) of the classification errors, most first."""
        wrong = self.kinds == CLASSIFICATION
        names = self.truth.index.category_names
        true = self.truth.category[self.meant[wrong]]
        pairs, times = np.unique(
            np.stack([true, columns.category[self.rows[wrong]]]), axis=1, return_counts=True
        )
        order = np.argsort(-times, kind="stable")
        return [(names[pairs[0, i]], names[pairs[1, i]], int(times[i])) for i in order]

    def to_json(self) -> dict[str, Any]:
        return {
            "ap50": self.ap50,
            "rule": self.rule,
            "objects": int((self.states >= 0).sum()),
            "errors": {
                error: {
                    "gain": self.gains[error],
                    "count": self.counts[error],
                    "by_size": {
                        size: {
                            "gain": self.gains_by_size[error][size],
                            "count": self.counts_by_size[error][size],
                        }
                        for size in SIZES
                    },
                    "by_class": {
                        name: {
                            "gain": self.gains_by_class[error][name],
                            "count": self.counts_by_class[error][name],
                        }
                        for name in self.truth.index.category_names
                    },
                }
                for error in ERRORS
            },
        }


def dissect(
    truth: GroundTruth,
    columns: Columns,
    *,
    foreground: float = 0.5,
    background: float = 0.1,
    subset: Sequence[ImageId] | None = None,
    rule: str = "paper",
    ignore_difficult: bool = False,
) -> Anatomy:
    """The errors of a detector, from its results on a set.

    Args:
        truth, columns: read and validated (`read_ground_truth`, `read_columns`).
        foreground, background: TIDE's t_f and t_b, 0 < t_b < t_f <= 1.
        subset: the images that were scored, when not all.
        rule: how errors are fixed, "paper" or "tidecv", see the module.
        ignore_difficult: difficult objects need not be found, as by VOC's rules; AP50 is COCO's
            without them.

    Raises:
        ValueError: an overlap or the rule is not one of these.
    """
    if not 0 < background < foreground <= 1:
        raise ValueError(
            f"foreground is {foreground} and background {background}, expected "
            "0 < background < foreground <= 1"
        )
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}, expected one of {RULES}")
    used = matching.used_images(truth.index, subset)
    judged = judge(truth, columns, used, foreground, background, ignore_difficult)
    return _Mender(truth, columns, judged, rule).anatomy()


# -- what each error costs --------------------------------------------------------------------


class _Mender:
    """AP50 as it is, and with some errors fixed."""

    def __init__(self, truth: GroundTruth, columns: Columns, judged: Verdicts, rule: str):
        self.truth = truth
        self.judged = judged
        self.rule = rule
        self.names = truth.index.category_names
        self.category = columns.category[judged.rows]
        self.is_missed = judged.states == STATES.index("missed")
        to_find = truth.category[judged.states >= 0]
        self.positives = np.bincount(to_find, minlength=len(self.names))
        has_object = np.isin(judged.kinds, (CLASSIFICATION, LOCALISATION, DUPLICATE))
        area = columns.boxes[judged.rows, 2] * columns.boxes[judged.rows, 3]
        area[has_object] = truth.area[judged.meant[has_object]]
        self.size = np.searchsorted(_SIZE_ENDS, area, side="left")
        self.object_size = np.searchsorted(_SIZE_ENDS, truth.area, side="left")
        self.ap = self._ap(np.ones(len(area), np.bool_), judged.kinds == RIGHT, self.category)

    def anatomy(self) -> Anatomy:
        fixed = {error: self._fixed(kind, None) for kind, error in enumerate(ERRORS)}
        by_size = {
            error: {size: self._gain(self._fixed(kind, s)) for s, size in enumerate(SIZES)}
            for kind, error in enumerate(ERRORS)
        }
        by_class = {
            error: {
                name: None if np.isnan(change) else float(change)
                for name, change in zip(self.names, ap - self.ap, strict=True)
            }
            for error, ap in fixed.items()
        }
        counts_by_size = {error: self._counts(kind, SIZES) for kind, error in enumerate(ERRORS)}
        counts_by_class = {
            error: self._counts(kind, self.names) for kind, error in enumerate(ERRORS)
        }
        return Anatomy(
            self.truth,
            _mean(self.ap),
            {error: self._gain(ap) for error, ap in fixed.items()},
            by_size,
            by_class,
            {error: sum(counts.values()) for error, counts in counts_by_size.items()},
            counts_by_size,
            counts_by_class,
            self.judged.rows,
            self.judged.kinds,
            self.judged.meant,
            self.judged.states,
            self.rule,
        )

    def _counts(self, kind: int, names: Sequence[str]) -> dict[str, int]:
        """How many errors of a kind there are of each size or class."""
        if kind == MISSED:
            groups = (self.object_size if names is SIZES else self.truth.category)[self.is_missed]
        else:
            groups = (self.size if names is SIZES else self.category)[self.judged.kinds == kind]
        return dict(zip(names, np.bincount(groups, minlength=len(names)).tolist(), strict=True))

    def _gain(self, fixed: FloatArray) -> float | None:
        before, after = _mean(self.ap), _mean(fixed)
        return None if before is None or after is None else after - before

    def _fixed(self, kind: int, size: int | None) -> FloatArray:
        """(K,) AP with the errors of a kind fixed: all of them, or those of one size."""
        right = self.judged.kinds == RIGHT
        if kind == MISSED:
            gone = self.is_missed if size is None else self.is_missed & (self.object_size == size)
            fewer = np.bincount(self.truth.category[gone], minlength=len(self.names))
            return self._ap(np.ones(len(right), np.bool_), right, self.category, fewer)
        chosen = self.judged.kinds == kind
        if size is not None:
            chosen &= self.size == size
        kept, category = ~chosen, self.category.copy()
        if kind in (CLASSIFICATION, LOCALISATION):
            winners, losers = self._corrected(np.flatnonzero(chosen))
            kept[winners], right[winners] = True, True
            category[winners] = self.truth.category[self.judged.meant[winners]]
            kept[losers] = False
        return self._ap(kept, right, category)

    def _corrected(self, chosen: IntArray) -> tuple[IntArray, IntArray]:
        """Which errors have their object once they are fixed, and which detections lose it."""
        meant, finder = self.judged.meant, self.judged.finder
        if self.rule == "tidecv":
            fixable = np.isin(self.judged.kinds, (CLASSIFICATION, LOCALISATION))
            fixable[fixable] = finder[meant[fixable]] < 0
            rivals = np.flatnonzero(fixable)
            _, firsts = np.unique(meant[rivals], return_index=True)
            return np.intersect1d(rivals[firsts], chosen), chosen[:0]
        objects, firsts = np.unique(meant[chosen], return_index=True)
        best, holder = chosen[firsts], finder[objects]
        wins = (holder < 0) | (best < holder)
        return best[wins], holder[wins & (holder >= 0)]

    def _ap(
        self,
        kept: BoolArray,
        right: BoolArray,
        category: IntArray,
        fewer: IntArray | int = 0,
    ) -> FloatArray:
        """(K,) AP of the kept detections; NaN for a class without an object.

        A class whose objects were all missed and need not be found keeps AP 0 if it has false
        positives: they are all it is known by. Without any it has no AP.
        """
        counted = np.flatnonzero(kept & (self.judged.kinds != NEITHER))
        by_class = counted[np.argsort(category[counted], kind="stable")]
        ends = np.searchsorted(category[by_class], np.arange(len(self.names) + 1))
        ap = np.full(len(self.names), np.nan)
        positives = self.positives - fewer
        for k in np.flatnonzero(self.positives):
            mine = by_class[ends[k] : ends[k + 1]]
            if positives[k]:
                ap[k] = matching.interpolated_ap(right[mine], int(positives[k]))
            elif len(mine):
                ap[k] = 0.0
        return ap


def _mean(ap: FloatArray) -> float | None:
    defined = ap[~np.isnan(ap)]
    return float(defined.mean()) if defined.size else None


# -- two detectors ----------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedAnatomy:
    """Two detectors on the same objects: which errors did the second remove, which did it add?

    Attributes:
        moves: (4, 4) objects by their state before (row) and after (column), see STATES: [0, 0]
            are found by both, [3, 0] were missed before and are found after.
        moves_by_size, moves_by_class: the same of a part of the objects.
    """

    before: Anatomy
    after: Anatomy
    moves: IntArray
    moves_by_size: Mapping[str, IntArray]
    moves_by_class: Mapping[str, IntArray]

    def to_json(self) -> dict[str, Any]:
        """Objects by who found them and why the other did not; errors with both gains."""
        return {
            "objects": _moves_json(self.moves),
            "by_size": {size: _moves_json(m) for size, m in self.moves_by_size.items()},
            "by_class": {name: _moves_json(m) for name, m in self.moves_by_class.items()},
            "errors": {
                error: {
                    "gain": {"before": self.before.gains[error], "after": self.after.gains[error]},
                    "count": {
                        "before": self.before.counts[error], "after": self.after.counts[error]
                    },
                }
                for error in ERRORS
            },
        }  # fmt: skip

    def sentences(self, before: str, after: str) -> list[str]:
        """The same for people, with the names of the two."""
        objects = _moves_json(self.moves)
        total = int(self.moves.sum())
        sentences = [f"Both find {objects['both']:,} of {total:,} objects, {_none_of(objects)}."]
        for finder, loser, key in ((after, before, "only_after"), (before, after, "only_before")):
            part = objects[key]
            if part["total"]:
                sentences.append(
                    f"{finder} alone finds {part['total']:,}; {loser} {_causes(part)}."
                )
        return sentences


def compare(before: Anatomy, after: Anatomy) -> PairedAnatomy:
    """Two anatomies of the same set, object by object.

    Raises:
        ValueError: they are not of the same objects, or their errors were fixed by two rules.
    """
    if before.rule != after.rule:
        raise ValueError(
            f"errors are fixed by rule {before.rule!r} before and {after.rule!r} after; dissect "
            "both by one"
        )
    a, b = before.truth, after.truth
    if a is not b and not (
        a.index.image_ids == b.index.image_ids
        and a.index.category_names == b.index.category_names
        and all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for name in ("image", "category", "boxes", "crowd")
        )
    ):
        raise ValueError(f"{a.index.title} and {b.index.title} do not have the same objects")
    asked = before.states >= 0
    if not np.array_equal(asked, after.states >= 0):
        raise ValueError("the two were not scored on the same images")
    size = np.searchsorted(_SIZE_ENDS, a.area, side="left")

    def moves(chosen: BoolArray) -> IntArray:
        pairs = before.states[chosen] * len(STATES) + after.states[chosen]
        return np.bincount(pairs, minlength=len(STATES) ** 2).reshape(len(STATES), -1)

    return PairedAnatomy(
        before,
        after,
        moves(asked),
        {name: moves(asked & (size == s)) for s, name in enumerate(SIZES)},
        {name: moves(asked & (a.category == k)) for k, name in enumerate(a.index.category_names)},
    )


def _moves_json(moves: IntArray) -> dict[str, Any]:
    def causes(counts: IntArray) -> dict[str, int]:
        return {"total": int(counts.sum()), **dict(zip(STATES[1:], counts.tolist(), strict=True))}

    return {
        "both": int(moves[0, 0]),
        "only_before": causes(moves[0, 1:]),
        "only_after": causes(moves[1:, 0]),
        "neither": {
            "total": int(moves[1:, 1:].sum()),
            "before": dict(zip(STATES[1:], moves[1:, 1:].sum(axis=1).tolist(), strict=True)),
            "after": dict(zip(STATES[1:], moves[1:, 1:].sum(axis=0).tolist(), strict=True)),
        },
    }


def _none_of(objects: Mapping[str, Any]) -> str:
    count = objects["neither"]["total"]
    return f"neither {count:,}" if count else "and there is none that neither finds"


def _causes(part: Mapping[str, int]) -> str:
    phrases = {
        "classification": f"gave {part['classification']:,} another class",
        "localisation": f"boxed {part['localisation']:,} badly",
        "missed": f"missed {part['missed']:,}",
    }
    return ", ".join(words for cause, words in phrases.items() if part[cause])
