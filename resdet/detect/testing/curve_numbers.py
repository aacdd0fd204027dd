"""The numbers of a detector that a curve shows, and that the best one is chosen by.

Not for: how they are measured (`resdet.evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping

from resdet.data.records import DetectionSet
from resdet.evaluation.inputs.result_folder import FolderResult
from resdet.evaluation.proposals.recall import ProposalRecall

# Of a detector, or of an RPN alone.
SetResult = FolderResult | ProposalRecall
# Of an RPN alone; the other recalls are in recall.json.
OF_PROPOSALS = ("AR100", "AR1000")


def curve_numbers(result: SetResult) -> dict[str, float]:
    """The numbers of a set that a curve shows, in percent."""
    numbers: dict[str, float | None] = {}
    if isinstance(result, ProposalRecall):
        numbers = {key: result.numbers[key] for key in OF_PROPOSALS}
        return {key: 100 * value for key, value in numbers.items() if value is not None}
    if result.coco:
        numbers |= {key: result.coco.numbers[key] for key in ("AP", "AP50")}
    if result.segm:
        numbers |= {f"segm_{key}": result.segm.numbers[key] for key in ("AP", "AP50")}
    if result.voc:
        numbers["AP50"] = result.voc.primary.mean_ap
    if result.ilsvrc:
        numbers["mAP"] = result.ilsvrc.mean_ap
    return {key: 100 * value for key, value in numbers.items() if value is not None}


def scalars_of(numbers: Mapping[str, SetResult | None]) -> dict[str, float]:
    """The same of several sets, by SET/NAME; sets without numbers are left out."""
    return {
        f"{name}/{key}": value
        for name, result in numbers.items()
        if result is not None
        for key, value in curve_numbers(result).items()
    }


def curve_names(data: DetectionSet, is_rpn_alone: bool = False) -> tuple[str, ...]:
    """The names that `curve_numbers` has for this set."""
    if is_rpn_alone:
        return OF_PROPOSALS
    names = ("AP", "AP50") if "coco" in data.evaluators else ("AP50",)
    if "coco" in data.evaluators and data.has_masks:
        names = (*names, "segm_AP", "segm_AP50")
    return (*names, "mAP") if "ilsvrc" in data.evaluators else names
