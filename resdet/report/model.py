"""What a report is: everything that the page, the Markdown file and the JSON are made from.

Not for: gathering it (`document`), or writing it (`render`).
"""

from __future__ import annotations

from dataclasses import dataclass

from resdet.report.comparison.backbone_gains import BackboneGain
from resdet.report.comparison.comparability import Comparability
from resdet.report.comparison.contrasts import Contrast
from resdet.report.comparison.error_shares import Errors
from resdet.report.comparison.gain_noise import Trust
from resdet.report.curves import Curves
from resdet.report.render.figures import MAX_BARS, Figure
from resdet.report.render.pictures import ImageSample
from resdet.report.render.tables import Table
from resdet.report.runs import Column
from resdet.report.scores import Metric, SetScores


@dataclass(frozen=True)
class SetReport:
    """One data set: scores in the order of the runs, and all that is shown of it.

    `metric` ranks the runs. Gains, and all that is made of them, are by `gain_metric`, whose noise
    is known; `gain_ranking` holds its values where it is another one. `other_gains` and
    `other_tables` are by 11 points on a set that VOC's rules score; `mask_gains` are by COCO's AP
    of masks, where all runs have these.
    """

    data_set: str
    metric: Metric
    gain_metric: Metric
    scores: tuple[SetScores, ...]
    gains: tuple[BackboneGain, ...]
    other_gains: tuple[BackboneGain, ...]
    mask_gains: tuple[BackboneGain, ...]
    trust: Trust
    curves: tuple[Curves, ...]
    ranking: Table
    gain_ranking: Table | None
    gain_table: Table | None
    tables: tuple[Table, ...]
    other_tables: tuple[Table, ...]
    beside_published: Table | None
    published: Table | None
    curve: Figure
    figures: tuple[Figure, ...]
    small_curves: tuple[tuple[str, str], ...]
    errors: Errors | None
    contrasts: tuple[Contrast, ...]
    samples: tuple[ImageSample, ...]
    notes: tuple[str, ...]

    @property
    def values(self) -> tuple[float | None, ...]:
        """The ranking number of each run."""
        return tuple(s.value(self.metric) for s in self.scores)

    @property
    def two_rules(self) -> str:
        """Which rule ranks and which one gains are by; "" where it is one, or no gain is taken."""
        if self.gain_ranking is None:
            return ""
        return (
            f"Two rules: {self.metric.title} ranks the runs, as the protocol of this set has it. "
            f"The title, the gains and their intervals are by {self.gain_metric.title}, since "
            "the noise of the 11-point number is not known."
        )

    @property
    def has_many_classes(self) -> bool:
        """The bars of one pair fill several drawings."""
        return len(self.scores[0].classes) > MAX_BARS

    @property
    def sources(self) -> str:
        """Who made the images, as their data set has it."""
        return str((self.scores[0].truth.get("info") or {}).get("sources") or "")


@dataclass(frozen=True)
class ComparisonReport:
    """Everything that the page, the Markdown file and the JSON are made from."""

    made: str
    version: str
    columns: tuple[Column, ...]
    verdict: Comparability
    sets: tuple[SetReport, ...]
    left_out: tuple[str, ...]
    headline: str
    standfirst: tuple[str, ...]
    meaning: tuple[str, ...]
    nets: Table
    differences: Table | None
    figures: tuple[Figure, ...]
