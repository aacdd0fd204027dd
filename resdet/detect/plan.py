"""What a detector's training will be, and where it departs from the paper, before a step is taken.

Not for: the estimate from a few steps (`engine.starts.start_estimate`), or a run against a
published number (`report.comparison`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from resdet import nets
from resdet.config import Config, flatten
from resdet.config.recipes.transfer_recipes import recipe_of
from resdet.data.set_sizes import sizes_of
from resdet.detect.alternating.proposal_room import with_proposals
from resdet.detect.alternating.step_configs import schedule_of_rpn
from resdet.detect.alternating.step_plans import lines_of_steps
from resdet.detect.architecture.backbone import net_part, parts_of_net
from resdet.detect.architecture.model import is_rpn_alone
from resdet.engine.starts.start_checks import DiskNeed
from resdet.engine.starts.start_estimate import Plan, scorings
from resdet.errors import ConfigError
from resdet.evaluation.published.departures import (
    Departure,
    nearest_experiment,
    of_schedule,
    of_settings,
    of_weights,
)
from resdet.evaluation.published.published_protocols import of_every_run
from resdet.printable import counted
from resdet.weights import Card


def plan_of_detector(
    cfg: Any,
    model: nn.Module,
    *,
    start: int = 0,
    images: int | None = None,
    images_source: str = "",
    tested: Sequence[int] | None = None,
) -> Plan:
    """Of a resolved config.

    Args:
        start: steps that are done. images: that train; tested: of each test set.
        images_source: as of `Plan`.
    """
    scored = None
    if tested is not None:
        every = sum(tested)
        while_training = cfg.TEST.EVAL_IMAGES * len(cfg.DATASETS.TEST) or every
        # Losses on them are a pass of its own.
        passes = scorings(cfg, start) * (1 + cfg.TEST.VALIDATION_LOSS)
        scored = every + passes * min(while_training, every)
    plan = Plan.of_solver(
        cfg, model, start=start, images=images, images_source=images_source, scored_images=scored
    )
    return dataclasses.replace(plan, disk=disk_of_detector(cfg, model, tested))


def disk_of_detector(cfg: Any, model: nn.Module, tested: Sequence[int] | None) -> DiskNeed:
    """What a training writes; arguments as of `plan_of_detector`."""
    need = DiskNeed.of_training(cfg, model)
    if not (tested and is_rpn_alone(cfg)):
        return need
    return with_proposals(need, cfg, model, tested, as_in_training=False)


def detector_lines(cfg: Any, model: nn.Module) -> list[str]:
    """Anchors, proposals, regions, and what is frozen, of a built detector."""
    rpn, heads = cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS
    lines = []
    if generator := getattr(getattr(model, "proposal_generator", None), "anchor_generator", None):
        sizes = [_numbers(row) for row in cfg.MODEL.ANCHOR_GENERATOR.SIZES]
        ratios = _numbers(cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0])
        per_cell = sorted(set(generator.num_anchors))
        maps = ", ".join(
            f"{name} (stride {stride})"
            for name, stride in zip(rpn.IN_FEATURES, generator.strides, strict=True)
        )
        lines.append(
            f"anchors    {_numbers(per_cell)} a cell of {maps}: sides {' / '.join(sizes)}, "
            f"ratios {ratios}"
        )
        lines.append(
            f"proposals  {rpn.POST_NMS_TOPK_TRAIN:,} in training, {rpn.POST_NMS_TOPK_TEST:,} in "
            f"test; {heads.BATCH_SIZE_PER_IMAGE} regions of an image train"
        )
    return [*lines, *_frozen(model)]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _frozen(model: nn.Module) -> list[str]:
    """Stages without a parameter that trains, and the kinds of norm."""
    try:
        stages = parts_of_net(model)
    except ConfigError:  # a backbone that is neither ours nor a ResNet
        return []
    with_parameters = {n: s for n, s in stages.items() if nets.parameters(s)}
    frozen = [
        name
        for name, stage in with_parameters.items()
        if not any(p.requires_grad for p in stage.parameters())
    ]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    kinds = {type(module).__name__ for module in net_part(model).modules()}
    norms = sorted(kind for kind in kinds if "Norm" in kind)
    return [
        f"frozen     {', '.join(frozen) or 'no stage'}; {trained:,} parameters train; norms of the "
        f"net: {', '.join(norms) or 'none'}"
    ]


def departures(cfg: Any) -> tuple[str, list[Departure]]:
    """The published experiment on these sets, in words, and where the config is not its own.

    ("", []) where the papers have none on these sets.
    """
    config, net = dict(flatten(cfg)), str(cfg.MODEL.NET.NAME)
    experiment = nearest_experiment(cfg.DATASETS.TEST, cfg.DATASETS.TRAIN, config, net)
    if experiment is None:
        return "", []
    number = experiment.numbers[0]
    # Table 9 has several rows of one net.
    row = f", {number.system}" if number.system.startswith("+") else ""
    words = f"{number.paper}, {number.source}{row}: {' + '.join(number.train)}"
    found = []
    if sorted(cfg.DATASETS.TRAIN) != sorted(number.train):
        found.append(
            Departure(
                "training sets", " + ".join(number.train), " + ".join(cfg.DATASETS.TRAIN) or "none",
                number.source, "DATASETS.TRAIN", decides=True,
            )
        )  # fmt: skip
    if cfg.DATASETS.TEST and experiment.test not in cfg.DATASETS.TEST:
        found.append(
            Departure(
                "test set", experiment.test, " + ".join(cfg.DATASETS.TEST), number.source,
                "DATASETS.TEST", decides=True,
            )
        )  # fmt: skip
    if not cfg.MODEL.WEIGHTS:
        found.append(
            Departure(
                "start", "pretrained on ImageNet", "random weights", "He appendix A",
                "MODEL.WEIGHTS", decides=True,
            )
        )  # fmt: skip
    found += of_weights(cfg.MODEL.WEIGHTS)
    found += of_schedule(config, experiment)
    found += of_settings(config, experiment, net)
    return words, found


def explained(config: Config, model: nn.Module, card: Card | None, *, is_here: bool = True) -> str:
    """What would be done and why, without loading data: the plan, what departs from the paper, and
    every key that is not a default, with its reason.

    Args:
        is_here: the weights are; else what their card sets is not known.
    """
    cfg = config.cfg
    lines = [
        f"Train {cfg.MODEL.NET.NAME or cfg.MODEL.BACKBONE.NAME} on "
        f"{', '.join(cfg.DATASETS.TRAIN)}: {_schedule_of(cfg)}, on {cfg.MODEL.DEVICE}; "
        + (
            f"test on {', '.join(cfg.DATASETS.TEST)}."
            if cfg.DATASETS.TEST
            else "DATASETS.TEST is empty, so nothing is scored."
        ),
        f"Weights: {cfg.MODEL.WEIGHTS or 'none, from scratch'}"
        + (f" ({card.net}, trained on {card.data.get('name', 'unknown data')})" if card else "")
        + ("" if is_here else " (not here yet)"),
        f"Recipe: {recipe_of(dict(flatten(cfg)), config.by_net).words}",
        *_plan_lines(cfg, model),
        *detector_lines(cfg, model),
        *(
            ["Time and memory: the same command with --estimate instead of --explain."]
            if cfg.SOLVER.SCHEME == "joint"
            else []
        ),
        "",
        *_departure_lines(cfg),
        "",
        config.explain(),
    ]
    key = "MODEL.ROI_HEADS.NUM_CLASSES"
    if key not in config.derived and key not in config.stated:
        lines.append(f"{key:45} {'?':32} the data sets, which are not read here")
    return "\n".join([*lines, *([] if is_here else lines_of_absent_card(config))])


def _plan_lines(cfg: Any, model: nn.Module) -> list[str]:
    """The plan, with the images that are here, or were published with the sets."""
    trained, tested = sizes_of(cfg.DATASETS.TRAIN), sizes_of(cfg.DATASETS.TEST)
    images, source = (trained.images, trained.source()) if trained else (None, "")
    if cfg.SOLVER.SCHEME != "joint":
        return lines_of_steps(cfg, images, source)
    plan = plan_of_detector(
        cfg,
        model,
        images=sum(images) if images else None,
        images_source=source,
        tested=tested.images if tested else None,
    )
    return plan.lines()


def lines_of_absent_card(config: Config) -> list[str]:
    """A line for each key that the card of weights which are not here will set."""
    return [
        f"{key:45} {'?':32} the card of the weights, which are not here"
        for key in ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD")
        if key not in config.stated
    ]


def _schedule_of(cfg: Any) -> str:
    """The steps of a training; of SOLVER.SCHEME alternating those of all four."""
    solver = cfg.SOLVER
    own = f"{counted(solver.MAX_ITER, 'step')} of {counted(solver.IMS_PER_BATCH, 'image')}"
    if cfg.SOLVER.SCHEME == "joint":
        return own
    rpn = schedule_of_rpn(cfg)
    images = f"{rpn.IMS_PER_BATCH} image{'' if rpn.IMS_PER_BATCH == 1 else 's'}"
    return (
        f"in four, RPN {rpn.MAX_ITER} steps of {images}, Fast R-CNN {own}, and both again with the "
        "shared stages fixed"
    )


def _departure_lines(cfg: Any) -> list[str]:
    """Where this is not the papers' experiment; what makes it another one comes first."""
    experiment, found = departures(cfg)
    if not experiment:
        return ["The papers have no experiment on these sets."]
    found = sorted(found, key=lambda d: not d.decides)
    always = [f"  {d.what}: {d.here} (paper: {d.paper}, {d.source})" for d in of_every_run()]
    return [
        f"Not as in {experiment} (* makes it another experiment):",
        *(f"{'*' if d.decides else ' '} {d}" for d in found),
        "and, as in every run:",
        *always,
    ]
