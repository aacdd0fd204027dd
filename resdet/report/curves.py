"""Precision against recall, computed from the result files.

Not for: VOC's rules (`resdet.evaluation.voc`), or resampling (`analysis.image_noise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from resdet.report.scores import SetScores

# COCO's 101 recalls; VOC's curves are read off at the same places.
RECALL = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Curves:
    """Class name to the best precision at each of `RECALL` or beyond, (101,), in [0, 1]."""

    classes: Mapping[str, npt.NDArray[np.float64]]

    def mean(self) -> npt.NDArray[np.float64]:
        """Over the classes that have objects; zeros where there is none."""
        if not self.classes:
            return np.zeros(len(RECALL))
        return np.asarray(np.mean(list(self.classes.values()), axis=0))


def at_recalls(
    recall: npt.NDArray[np.float64], precision: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The best precision at each of `RECALL` or beyond; 0 where the recall is never reached.

    Args:
        recall, precision: after each detection by falling score; recall ascending.

    Example:
        >>> at_recalls(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3]))[[0, 50, 51, 100]]
        array([1.        , 1.        , 0.66666667, 0.66666667])
    """
    if not len(recall):
        return np.zeros(len(RECALL))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # A recall of 0.3 reached as 3/10 counts as reached.
    first = np.searchsorted(recall, RECALL - 1e-12, side="left")
    return np.append(best, 0.0)[first]


def curves_of(scores: SetScores) -> Curves:
    """The curves of the classes that have objects, at IoU 0.5; VOC's where there are VOC's."""
    result = scores.result
    if result.voc is not None:
        voc_curves = result.voc.primary.curves.items()
        return Curves({name: at_recalls(c.recall, c.precision) for name, c in voc_curves})
    assert result.coco is not None
    curves = {name: result.coco.curve(name)[1] for name in result.coco.per_category}
    return Curves({name: precision for name, precision in curves.items() if len(precision)})
