"""The result of a VOC evaluation: numbers, curves, JSON, and the notes beside them.

Not for: computing anything (`voc_evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resdet.evaluation.inputs.findings import Finding
from resdet.evaluation.voc.class_scores import ClassScore, Curve
from resdet.printable import counted

# A tie, or a recall on a threshold, is worth a note when it moves AP by this much: 0.1 points.
WORTH_A_NOTE = 0.001


@dataclass(frozen=True)
class VocResult:
    """VOC's AP per class and their mean; `to_json` is what `resdet evaluate voc --json` prints."""

    ap_rule: str  # "11-point" or "area"
    iou: float
    style: str  # "d2" or "devkit"
    classes: Mapping[str, ClassScore]
    images: Mapping[str, int]  # expected, evaluated, missing
    warnings: tuple[Finding, ...] = ()
    causes: tuple[str, ...] = ()  # of an AP50 close to zero (`zero_ap`)
    accepted: Mapping[str, int] = field(default_factory=dict)  # faults, by rule (`findings.accept`)

    @property
    def protocol(self) -> str:
        return f"VOC {self.ap_rule}"

    @property
    def scored(self) -> tuple[str, ...]:
        """The classes that the mean is over."""
        return tuple(name for name, score in self.classes.items() if score.ap is not None)

    @property
    def mean_ap(self) -> float | None:
        values = [s.ap for s in self.classes.values() if s.ap is not None]
        return float(np.mean(values)) if values else None

    @property
    def curves(self) -> dict[str, Curve]:
        """The precision-recall curve of each class that has an AP."""
        return {name: s.curve for name, s in self.classes.items() if s.curve is not None}

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "iou": self.iou,
            "mean_ap": self.mean_ap,
            "classes": {
                name: {"ap": s.ap, "positives": s.positives, "detections": s.detections}
                for name, s in self.classes.items()
            },
            "images": dict(self.images),
            **({"without_a_file": self._unread} if self._unread else {}),
            **({"accepted": dict(self.accepted)} if self.accepted else {}),
        }

    @property
    def _unread(self) -> list[str]:
        """Classes with objects that nobody gave a file for; they are in no mean."""
        return [n for n, s in self.classes.items() if s.detections is None and s.positives]

    @property
    def notes(self) -> list[str]:
        """Sentences without which the number would be misread."""
        notes = []
        expected, evaluated = self.images["expected"], self.images["evaluated"]
        if evaluated < expected:
            notes.append(f"On {evaluated:,} of {expected:,} images.")
        absent = [n for n, s in self.classes.items() if s.positives == 0]
        if absent or self._unread:
            notes.append(self._mean_over(absent, self._unread))
        if not any(s.detections for s in self.classes.values()):
            notes.append(no_detections(evaluated))
        if not self.scored:
            notes.append("AP is undefined: no class has both objects and detections to score.")
        return [*notes, *self.causes, *self._class_notes()]

    def _mean_over(self, absent: Sequence[str], unread: Sequence[str]) -> str:
        text = f"Mean of {len(self.scored)} of {len(self.classes)} classes"
        for what, names in (("no object to find of", absent), ("no detections file for", unread)):
            if names:
                text += f"; {what}: {', '.join(names)}"
        return f"{text}."

    def _class_notes(self) -> list[str]:
        notes = []
        for name, s in self.classes.items():
            if s.difficult > s.positives:
                total = s.difficult + s.positives
                notes.append(f"{name}: {s.difficult:,} of {total:,} objects are difficult.")
            if s.tie_spread >= WORTH_A_NOTE:
                notes.append(
                    f"{name}: detections of equal score are right and wrong; their order alone "
                    f"moves AP by up to {100 * s.tie_spread:.1f} points."
                )
            if s.ap is None or s.other_style is None:
                continue
            if abs(s.other_style - s.ap) >= WORTH_A_NOTE:
                other = "devkit" if self.style == "d2" else "d2"
                notes.append(
                    f"{name}: a recall lies on one of the 11 points; compared as style {other} "
                    f"does, AP is {100 * s.other_style:.1f} instead of {100 * s.ap:.1f}."
                )
        return notes


def no_detections(images: int) -> str:
    """The sentence that a zero comes with (F60)."""
    return (
        f"0 detections on {counted(images, 'image')}: AP is 0. Is the score threshold too "
        "high, or were weights not loaded?"
    )
