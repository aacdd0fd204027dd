"""TEST.EXPECTED_RESULTS: results held against stated ones, as Detectron2's regression tests do.

    TEST.EXPECTED_RESULTS "[['bbox', 'AP', 38.5, 0.2]]"

Not for: whether two runs differ by more than noise (`resdet compare`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from resdet.detect.testing.curve_numbers import SetResult
from resdet.errors import CheckFailed, ConfigError
from resdet.evaluation.coco.coco_evaluation import NUMBERS
from resdet.evaluation.proposals.recall import ProposalRecall

KEY = "TEST.EXPECTED_RESULTS"


def check_form(rows: Sequence[Any], test_sets: Sequence[str], *, masks: bool = False) -> None:
    """Raises ConfigError for rows that could not be held against anything, before a training.

    Args:
        masks: MODEL.MASK_ON; rows of "segm" are for masks.
    """
    tasks = ("bbox", "segm") if masks else ("bbox",)
    if rows and len(test_sets) != 1:
        raise ConfigError(f"{KEY} is for one test set, DATASETS.TEST has {len(test_sets)}.")
    for row in rows:
        well_formed = (
            isinstance(row, list | tuple)
            and len(row) == 4
            and row[0] in tasks
            and row[1] in NUMBERS
            and all(isinstance(v, Real) and not isinstance(v, bool) for v in row[2:])
        )
        if not well_formed:
            only = "" if masks else "; segm goes with MODEL.MASK_ON True alone"
            raise ConfigError(
                f"{KEY} has {row!r}, expected [{' or '.join(map(repr, tasks))}, METRIC, percent, "
                f"tolerance] with one of {', '.join(NUMBERS)}{only}. "
                f"Leave it out, or add: {KEY} ()"
            )


def compare_with(rows: Sequence[Any], results: Mapping[str, SetResult | None]) -> None:
    """Holds the results of the one test set against the rows.

    Raises:
        CheckFailed: a number is further off than its tolerance, or is not there; lists all.
    """
    if not rows:
        return
    ((name, result),) = results.items()
    measured = {"bbox": _percent, "segm": _percent_of_masks}
    faults = []
    for task, metric, expected, tolerance in rows:
        value = measured[task](result).get(metric)
        metric = metric if task == "bbox" else f"{task} {metric}"
        if value is None:
            faults.append(f"{metric} of {name} is not defined, expected {expected:g}")
        elif not abs(value - expected) <= tolerance:
            faults.append(
                f"{metric} of {name} is {value:.3f}, expected {expected:g} within {tolerance:g}"
            )
    if faults:
        raise CheckFailed(f"{KEY}: {'; '.join(faults)}.")


def _percent(result: SetResult | None) -> dict[str, float | None]:
    """COCO's numbers; of a VOC set Detectron2's AP50, by the set's own rule."""
    if result is None or isinstance(result, ProposalRecall):
        return {}
    if result.voc is not None:
        value = result.voc.primary.mean_ap
        return {"AP50": None if value is None else 100.0 * value}
    assert result.coco is not None
    return {name: None if v is None else 100.0 * v for name, v in result.coco.numbers.items()}


def _percent_of_masks(result: SetResult | None) -> dict[str, float | None]:
    if result is None or isinstance(result, ProposalRecall) or result.segm is None:
        return {}
    return {name: None if v is None else 100.0 * v for name, v in result.segm.numbers.items()}
