"""A classifier or a whole detector into a detector that is built, every tensor counted.

Not for: reading files (`resdet.weights`), or which tensors a net has (`architecture`).
"""

from __future__ import annotations

import fnmatch
import logging
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resdet import nets, weights
from resdet.detect.architecture.backbone import net_part, trunk_of
from resdet.errors import WeightsError
from resdet.nets.timm_maps import TimmMaps
from resdet.weights.origins.identify import kind_of_detector
from resdet.weights.predictors import row_lengths
from resdet.weights.resolve import WeightFile
from resdet.weights.tensor_checks import refuse_untrained_norms
from resdet.weights.transfer import ADVICE

logger = logging.getLogger("resdet.detect")

Tensors = Mapping[str, torch.Tensor]
MASK_HEAD = "roi_heads.mask_head."
# Of a detector, beside its backbone.
PARTS = ("proposal_generator", "roi_heads")
PIXEL_STATISTICS = ("pixel_mean", "pixel_std")


def load_backbone(
    model: nn.Module, tensors: Tensors, where: str, declared_new: Sequence[str]
) -> weights.Transfer:
    """A classifier's tensors into trunk and tail.

    Args:
        where: the file, for messages. declared_new: patterns of TRANSFER.NEW.

    Raises:
        WeightsError: one is missing, of another shape or left over, or no norm was ever trained.
    """
    refuse_untrained_norms(tensors, where)
    # Detectron2's own ResNet leaves the last layer behind, and in an RPN alone res5, too.
    is_rpn_alone = not hasattr(model, "roi_heads")
    stock = ("linear.*", "res5.*") if is_rpn_alone else ("linear.*",)
    left_behind = getattr(trunk_of(model), "left_behind", stock)
    if is_rpn_alone:
        # What is new in the tail alone is not there.
        declared_new = [p for p in declared_new if not fnmatch.filter(left_behind, p)]
    net = net_part(model)
    resampled = net.resampled(tensors) if isinstance(net, TimmMaps) else {}
    received = weights.transfer(
        net,
        {**tensors, **resampled},
        where=where,
        declared_new=tuple(declared_new),
        optional=left_behind,
    )
    received = replace(received, resampled=tuple(n for n in received.arrived if n in resampled))
    logger.info("%s: %s\n%s", where, received, received.table())
    return received


def load_detector(
    model: nn.Module,
    tensors: Tensors,
    where: str,
    fit: Callable[[Tensors, Tensors], weights.Heads] | None = None,
    declared_new: Sequence[str] = (),
) -> tuple[weights.Transfer, weights.Heads]:
    """A whole detector, as a run or Detectron2 saved it.

    Of a whole one an RPN alone takes its part and leaves the region heads behind, counted; so does
    Fast R-CNN alone.

    Args:
        where: the file, for messages.
        fit: the file's tensors and the model's to predictors for the model's classes; None: it is
            to be scored, and nothing may be new.
        declared_new: patterns of TRANSFER.NEW; those of the mask head count, so that a detector of
            boxes can start one of masks. A file's mask head stays behind where masks are off.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape, or the pixel statistics
            are others.
    """
    _refuse_other_pixels(model, tensors, where)
    given = {k: v for k, v in tensors.items() if k not in PIXEL_STATISTICS and not _is_anchor(k)}
    receiver = without_buffers(model)
    own = receiver.state_dict()
    fitted = fit(given, own) if fit else weights.Heads()
    has_masks, file_has_masks = (
        any(n.startswith(MASK_HEAD) for n in names) for names in (own, given)
    )
    advice = ADVICE if fit else _advice_to_score(given)
    if has_masks and not file_has_masks:
        advice = (
            "The file has no mask head: "
            + (
                f"to start a new one, add TRANSFER.NEW \"('{MASK_HEAD}*',)\". "
                if fit
                else "score its boxes with MODEL.MASK_ON False. "
            )
            + advice
        )
    advice = _advice_on_context(given, own) + advice
    absent = [f"{part}.*" for part in PARTS if getattr(model, part, None) is None]
    received = weights.transfer(
        receiver,
        {**given, **fitted.tensors},
        where=where,
        declared_new=(*fitted.new, *(p for p in declared_new if p.startswith(MASK_HEAD))),
        optional=(*absent, *(() if has_masks else (f"{MASK_HEAD}*",))),
        advice=advice,
    )
    logger.info("%s: %s\n%s", where, received, received.table())
    return received, fitted


def page_of_no_detector(file: WeightFile, own: Path) -> str:
    """What a file is that --eval-only cannot score, and what to type instead.

    Args:
        own: the detector of the run folder, which need not be there.
    """
    where, typed = file.where, shlex.quote(file.where)
    names = [*file.contents.tensors, *file.contents.left_aside]
    if kind := _torchvision_detector(names):
        return (
            f"{where} holds a detector of torchvision, {kind}, whose layers are others than "
            "Detectron2's. Let torchvision write its detections as a COCO results file, and score "
            "that: resdet evaluate coco RESULTS.json --gt INSTANCES.json --task bbox. The net in "
            "it can start a training: leave --eval-only out."
        )
    try:
        tensors, card = file.load()
    except WeightsError as error:
        return f"{where} holds no detector of Detectron2 or of a run. {error}"
    try:
        is_whole = nets.classes_in(tensors, card.net, **card.net_options) is not None
    except ValueError:  # a net that is not registered here
        is_whole = False
    page = (
        f"{where} holds a classifier, {card.net}{'' if is_whole else ', without its last layer'}; "
        "--eval-only needs a detector. Train one that starts from it: leave --eval-only out."
    )
    if is_whole:
        page += (
            " To score the classifier itself: resdet pretrain_cls --eval-only MODEL.WEIGHTS "
            f"{typed} PRETRAIN.VAL SET."
        )
    return f"{page} The run's own is {own}: leave MODEL.WEIGHTS out." if own.exists() else page


def _torchvision_detector(names: Iterable[str]) -> str:
    """The kind of torchvision's detector with these names; "" for other files."""
    parts = {".".join(name.split(".")[:2]) for name in names}
    if "rpn.head" in parts and "roi_heads.box_head" in parts:
        return "a Faster, Mask or Keypoint R-CNN"
    if {"head.classification_head", "head.regression_head"} <= parts:
        return "one without regions (RetinaNet, FCOS or SSD)"
    return ""


def _advice_to_score(tensors: Tensors) -> str:
    """For a whole detector in a config of another one."""
    kind = kind_of_detector(tensors)
    scores = tensors.get("roi_heads.box_predictor.cls_score.weight")
    classes = f" for {len(scores) - 1} classes" if scores is not None else ""
    return (
        f"The file holds a detector of the {kind} kind{classes}, and --eval-only leaves no layer "
        f"new: give a --config of that kind with the file's net (Detectron2's own are named "
        f"faster_rcnn_R_50_{kind}_1x.yaml and the like), and a DATASETS.TEST with its classes."
    )


def _advice_on_context(given: Tensors, own: Tensors) -> str:
    """Where the predictors of one of the two take the whole image's feature, too."""
    theirs, ours = row_lengths(given), row_lengths(own)
    if not theirs or theirs == ours:
        return ""
    if theirs == [2 * length for length in ours]:
        return "The file was trained with MODEL.REGION_HEADS.CONTEXT True, which is False here. "
    if ours == [2 * length for length in theirs]:
        return (
            "MODEL.REGION_HEADS.CONTEXT is True, and the file was trained without it: set it "
            "False, or take a detector that was trained with it, as configs/context has them. "
        )
    return ""


def _refuse_other_pixels(model: nn.Module, tensors: Tensors, where: str) -> None:
    for name in PIXEL_STATISTICS:
        own = getattr(model, name, None)
        if name in tensors and own is not None and tensors[name].numel() == 3:
            stated, ours = tensors[name].flatten(), own.flatten().cpu()
            if not torch.allclose(stated.float(), ours.float(), atol=1e-3):
                raise WeightsError(
                    f"{where} was trained with {name} {stated.tolist()}, the config has "
                    f"{ours.tolist()}. Set MODEL.{name.upper()} and INPUT.FORMAT as it was "
                    "trained."
                )


def _is_anchor(name: str) -> bool:
    return "anchor_generator" in name


def without_buffers(model: nn.Module) -> nn.Module:
    """What a file's tensors are counted against: the model's, but for anchors and pixels."""
    return _WithoutBuffers(model)


class _WithoutBuffers(nn.Module):
    """A model whose state is only what files hold: no anchors, no pixel statistics."""

    def __init__(self, model: nn.Module):
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        return {k: v for k, v in state.items() if not _is_anchor(k)}
