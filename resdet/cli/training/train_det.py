"""`train_det`: trains or scores a detector, step by step as in docs/architecture.md."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.utils import comm

from resdet.cli.arguments import train_det as add_arguments  # noqa: F401 as all commands have
from resdet.cli.evaluate.detections import coco_table, voc_table
from resdet.cli.evaluate.ilsvrc import det_table
from resdet.cli.evaluate.proposals import recall_picture, recall_table
from resdet.cli.training import (
    auto_weights,
    scored_run,
    starting_point,
    training_command,
)
from resdet.cli.training.detection_sets import DetectionSets, load_sets, require_sets
from resdet.cli.training.run_folder import run_folder
from resdet.cli.training.starting_point import StartingPoint
from resdet.config import Config, data_options, flatten, refuse_keys_of_other
from resdet.config.key_checks.dependent_keys import check_dependent
from resdet.config.recipes.transfer_recipes import recipe_of
from resdet.data import DataOptions, DetectionSet
from resdet.data.images.reader import ImageReader
from resdet.detect import from_run, plan
from resdet.detect.alternating.four_steps import AlternatingTraining
from resdet.detect.alternating.step_configs import shared_stages
from resdet.detect.architecture import derived_keys
from resdet.detect.architecture.model import (
    build_faults_as_pages,
    fill_from_weights_and_net,
)
from resdet.detect.testing import expected_results
from resdet.detect.testing.curve_numbers import SetResult
from resdet.detect.testing.partial_results import Policy
from resdet.detect.trainer import DetectorTraining
from resdet.engine.data_workers import lost_images_stop
from resdet.engine.profiling import profiled
from resdet.errors import ConfigError
from resdet.evaluation.proposals.recall import ProposalRecall
from resdet.printable import show
from resdet.run import layout
from resdet.run.folder import Run, write_text

logger = logging.getLogger("resdet.detect")


def run(args: argparse.Namespace) -> int:
    return training_command.run_with_config(
        main, args, name="train_det", example="coco_r101 or voc07_r101"
    )


def main(args: argparse.Namespace) -> int:
    with profiled(args, "train_det"):
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    config, name = (
        training_command.read_config(args.config, args.opts),
        Path(args.config).stem,
    )
    training_command.take_output(args, config)
    if args.eval_only:  # before it is asked what --eval-only scores; nothing is fetched
        auto_weights.settle(config, training_command.folder_of(args, name), args)
    source = scored_run.run_of_best(args, config, name, layout.BEST_DETECTOR)
    training_command.decide_resume(args, name)
    _refuse(config, args)
    if not args.explain:  # which asks for no data
        require_sets(config.cfg, eval_only=args.eval_only)
    start = _start(config, training_command.folder_of(args, name), args, source)
    if args.explain:
        return _explain(config, start)
    masks = config.cfg.MODEL.MASK_ON
    options = DataOptions(**data_options(config.cfg), masks=masks, needs_masks=masks)
    sets = load_sets(
        config.cfg, options, trains=not args.eval_only, classes=start.classes,
        detector=start.detector,
    )  # fmt: skip
    config.fill(derived_keys.of_sets(sets.train, sets.test), "the data sets")
    if args.estimate:
        args.output, args.resume = (
            f"{training_command.folder_of(args, name)}.estimate",
            False,
        )
    with run_folder(args, config, "detection", name) as run:
        if sets.leak:
            run.update(leak=sets.leak)
        if not args.eval_only:
            logger.info("recipe: %s", recipe_of(dict(flatten(config.cfg)), config.by_net).words)
        if config.by_net:
            run.update(recipe={"name": config.cfg.TRANSFER.RECIPE, "by_net": config.by_net})
        if source:
            scored_run.record_best(run, source, config)
        training = _filled(config, run, sets, ImageReader(options), start, args)
        del start  # The model has its tensors; a training need not hold them twice.
        if args.estimate:
            _estimate(training)
            return 0
        numbers = _numbers_of(training, config, args)
    if comm.is_main_process():
        _print_numbers(run, sets.test, numbers)
        expected_results.compare_with(config.cfg.TEST.EXPECTED_RESULTS, numbers)
    return 0


def _refuse(config: Config, args: argparse.Namespace) -> None:
    """Raises ConfigError for keys and flags that do not fit each other, or a detector."""
    cfg = config.cfg
    refuse_keys_of_other(config, "train_det")
    check_dependent(config)
    expected_results.check_form(
        cfg.TEST.EXPECTED_RESULTS, cfg.DATASETS.TEST, masks=cfg.MODEL.MASK_ON
    )
    if cfg.ENGINE.COMPILE == "on":
        raise ConfigError(
            "ENGINE.COMPILE is on, which is for classifiers (pretrain_cls). For a detector set "
            "it to off; ENGINE.FAST_TRAINING on is what makes its steps faster."
        )
    if cfg.ENGINE.ACTIVATION_CHECKPOINTING == "on":
        raise ConfigError(
            "ENGINE.ACTIVATION_CHECKPOINTING is on, which is for classifiers (pretrain_cls). For a "
            "detector set it to off; ENGINE.IMAGES_PER_PASS is what makes its steps smaller."
        )
    if not args.eval_only and not cfg.DATASETS.TRAIN:
        raise ConfigError(
            "DATASETS.TRAIN is empty, so there is nothing to train on. Name a set, such as "
            "('voc_2007_trainval',), or add --eval-only to score a detector."
        )
    if cfg.DATASETS.ILSVRC_PER_CLASS and not args.eval_only and not any(
        name.endswith(("ilsvrc_det_train", ":det_train")) for name in cfg.DATASETS.TRAIN
    ):  # fmt: skip
        raise ConfigError(
            f"DATASETS.ILSVRC_PER_CLASS is {cfg.DATASETS.ILSVRC_PER_CLASS}, and DATASETS.TRAIN has "
            "no ilsvrc_det_train, which it is of. Set it to 0."
        )
    training_command.refuse_test_without_steps(args)
    if args.estimate and cfg.SOLVER.SCHEME == "alternating":
        raise ConfigError(
            "--estimate takes the steps of one joint training, and SOLVER.SCHEME is alternating. "
            "Leave it out, or add SOLVER.SCHEME joint for the cost of as many joint steps."
        )


def _start(
    config: Config, folder: Path, args: argparse.Namespace, source: Run | None
) -> StartingPoint:
    """What the model will be filled with; the config gets what follows from it and from the net.

    Args:
        folder: of the run.
        source: with --best, the run whose best detector is scored.
    """
    if args.eval_only:
        start = starting_point.detector_to_score(config, folder, source)
    else:
        is_here = auto_weights.settle(config, folder, args)
        resumed = starting_point.start_of_resumed(config.cfg, folder) if args.resume else None
        start = resumed or (
            starting_point.start_of_training(config.cfg)
            if is_here
            else starting_point.start_to_explain(config.cfg)
        )
        starting_point.refuse_unfit(config.cfg, start)
    with build_faults_as_pages(config):
        fill_from_weights_and_net(config, start.card)
    return start


def _explain(config: Config, start: StartingPoint) -> int:
    """Prints what would be done and why."""
    config.fill(starting_point.known_classes(config.cfg), "the data sets")
    with build_faults_as_pages(config):
        model = from_run.build(config.cfg)
    starting_point.try_backbone(config.cfg, model, start)
    if comm.is_main_process():
        show(plan.explained(config, model, start.card, is_here=start.is_here))
    return 0


def _filled(
    config: Config,
    run: Run,
    sets: DetectionSets,
    reader: ImageReader,
    start: StartingPoint,
    args: argparse.Namespace,
) -> DetectorTraining:
    """The detector with the weights that its training or its test begins with.

    Of SOLVER.SCHEME alternating, which trains in steps of its own, those that it ends with.
    """
    tensors = None
    if not args.eval_only and config.cfg.SOLVER.SCHEME == "alternating":
        starting_point.record(start, run, args)
        steps = _steps(config, run, sets.train, reader, start)
        tensors = steps.train(resuming=args.resume, may_leave_out_many=_may_leave_out_many(config))
    with build_faults_as_pages(config):
        training = DetectorTraining(config.cfg, run, sets.train, sets.test, reader)
    if tensors is not None:
        training.take_trained(tensors, samples=steps.samples, seconds=steps.seconds)
    else:
        starting_point.fill(training, start, run, args)
    return training


def _numbers_of(
    training: DetectorTraining, config: Config, args: argparse.Namespace
) -> dict[str, SetResult | None]:
    """Trains, where there is something to train, measures, and notes the end in the run."""
    policy = Policy(resuming=args.resume, refuses_others=args.eval_only)
    if args.eval_only:
        numbers = training.evaluate(policy)
    else:
        if config.cfg.SOLVER.SCHEME == "joint":
            training.train(resuming=args.resume, may_leave_out_many=_may_leave_out_many(config))
        with lost_images_stop():
            numbers = training.evaluate(policy)
    training.finish(numbers)
    return numbers


def _may_leave_out_many(config: Config) -> bool:
    """Whether it was decided that images without objects do not train, however many they are."""
    return "DATALOADER.FILTER_EMPTY_ANNOTATIONS" in config.stated


def _steps(
    config: Config,
    run: Run,
    train_sets: Sequence[DetectionSet],
    reader: ImageReader,
    start: StartingPoint,
) -> AlternatingTraining:
    """The four steps of SOLVER.SCHEME alternating."""
    cfg = config.cfg

    def fill(training: DetectorTraining) -> None:
        starting_point.fill_again(training, start, run)

    return AlternatingTraining(cfg, run, train_sets, reader, fill, shared_stages(cfg))


def _estimate(training: DetectorTraining) -> None:
    """Prints the plan and what a few steps show."""
    planned, found = training.estimate()
    comm.synchronize()
    if comm.is_main_process():
        training.run.discard()
        show("\n".join([*planned.lines(), *plan.detector_lines(training.cfg, training.model)]))
        show(found.line())


def _print_numbers(
    run: Run, sets: Sequence[DetectionSet], numbers: Mapping[str, SetResult | None]
) -> None:
    for data in sets:
        result = numbers[data.name]
        show(f"\n{data.name}")
        if result is None:
            show(_next_step(run, data))
            continue
        if isinstance(result, ProposalRecall):
            show(recall_table(result))
            write_text(run.results(data.name) / layout.RECALL_PICTURE, recall_picture(result))
            continue
        if result.ilsvrc:
            show("\n".join(det_table(result.ilsvrc, data.classes)))
        if result.voc:
            show(voc_table(result.voc.primary))
        if result.coco:
            show(coco_table(result.coco))
        if result.segm:
            show(coco_table(result.segm))
    show(f"\nrun folder: {run.path}")


def _next_step(run: Run, data: DetectionSet) -> str:
    """What to type after detecting on a set that only its server can score."""
    kind = "coco" if "coco" in data.evaluators else "voc"
    if "ilsvrc" in data.evaluators:
        kind = "ilsvrc-det"
    name = " --algorithm NAME" if kind == "coco" else ""
    what = shlex.join([kind, str(run.path), "--set", data.name])
    return (
        f"{len(data):,} images, not scored: this set has no annotations. For its server:\n"
        f"  python tools/submit.py {what}{name}"
    )
