"""`train_det`: trains or scores a detector, step by step as in docs/architecture.md."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from resdet.cli.arguments import train_det as add_arguments  # noqa: F401 as all commands have
from resdet.cli.evaluate.detections import coco_table, voc_table
from resdet.cli.evaluate.ilsvrc import det_table
from resdet.cli.evaluate.proposals import recall_picture, recall_table
from resdet.cli.training import training_command
from resdet.config import (
    Config,
    data_options,
    presets,
    refuse_keys_of_other,
    refuse_late_flags,
)
from resdet.config.dependent_keys import check_dependent
from resdet.data import DataOptions, DetectionSet, catalog
from resdet.data.images.reader import ImageReader
from resdet.data.serialized import SerializedList
from resdet.detect import from_run, plan
from resdet.detect.alternating.four_steps import AlternatingTraining
from resdet.detect.alternating.step_configs import shared_stages
from resdet.detect.architecture import derived_keys
from resdet.detect.architecture.model import build_faults_as_pages, fill_from_weights_and_net
from resdet.detect.testing import expected_results
from resdet.detect.testing.curve_numbers import SetResult
from resdet.detect.testing.partial_results import Policy
from resdet.detect.trainer import DetectorTraining
from resdet.engine import processes
from resdet.engine.data_workers import lost_images_stop
from resdet.engine.profiling import profiled
from resdet.errors import (
    ConfigError,
    RunError,
)
from resdet.evaluation.proposals.recall import ProposalRecall
from resdet.printable import show
from resdet.run import layout
from resdet.run.folder import Run, write_text
from resdet.weights import Card
from resdet.weights.origins.identify import is_detectron2_detector
from resdet.weights.resolve import WeightFile
from resdet.weights.tensor_checks import refuse_norms_of_detector, refuse_not_finite

logger = logging.getLogger("resdet.detect")

FROM_SCRATCH_NOTICE = (
    "MODEL.WEIGHTS is empty: this detector starts from random weights, with live batch norm. "
    "That is no transfer, and not the paper's row. Pretrain first:\n"
    "  python tools/pretrain_cls.py --config configs/pretrain/imagenet_{net}.yaml\n"
    "then add: MODEL.WEIGHTS runs/imagenet_{net}/model.safetensors"
)


def run(args: argparse.Namespace) -> int:
    refuse_late_flags(args.opts)
    if not args.config:
        raise ConfigError(
            "train_det needs --config FILE: a path, or the name of a preset such as coco_r101 "
            "or voc07_r101."
        )
    args.config = str(presets.find(args.config))
    device = training_command.device_of(args.config, args.opts)
    return processes.run_in_processes(main, args, device)


def main(args: argparse.Namespace) -> int:
    with profiled(args, "train_det"):
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    config, name = training_command.read_config(args.config, args.opts), Path(args.config).stem
    training_command.take_output(args, config)
    source = training_command.run_of_best(args, config, name, layout.BEST_DETECTOR)
    training_command.decide_resume(args, name)
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
    _refuse_unread_sampling(cfg, eval_only=args.eval_only)
    if args.eval_only and (args.explain or args.estimate):
        raise ConfigError(
            "--explain and --estimate are about a training, and --eval-only trains nothing. Leave "
            "one of the two out."
        )
    if args.estimate and cfg.SOLVER.SCHEME == "alternating":
        raise ConfigError(
            "--estimate takes the steps of one joint training, and SOLVER.SCHEME is alternating. "
            "Leave it out, or add SOLVER.SCHEME joint for the cost of as many joint steps."
        )
    if not args.explain:  # which asks for no data
        _require_sets(cfg, eval_only=args.eval_only)
    if args.eval_only:
        start = _detector_to_score(config, training_command.folder_of(args, name), source)
    else:
        start = _start_of_training(cfg)
        _refuse_heads_of_nothing(cfg, start)
    with build_faults_as_pages(config):
        fill_from_weights_and_net(config, start.card)
    if args.explain:
        config.fill(_known_classes(cfg), "the data sets")
        with build_faults_as_pages(config):
            model = from_run.build(cfg)
        show(plan.explained(config, model, start.card))
        return 0
    masks = cfg.MODEL.MASK_ON
    options = DataOptions(**data_options(cfg), masks=masks, needs_masks=masks)
    train_sets = [] if args.eval_only else [_load(n, options) for n in cfg.DATASETS.TRAIN]
    # A test set is whole or it is no test set (F1).
    whole = dataclasses.replace(options, allow_missing=0)
    test_sets = [_load(n, whole) for n in cfg.DATASETS.TEST]
    train_sets = _in_one_order(train_sets)
    classes = train_sets[0].classes if train_sets else start.classes
    test_sets = _in_one_order(test_sets, classes)
    if start.classes:
        _refuse_other_classes(test_sets, start.classes, start.detector)
    config.fill(derived_keys.of_sets(train_sets, test_sets), "the data sets")
    leak = _refuse_leak(cfg, train_sets, test_sets)
    if args.estimate:
        args.output, args.resume = f"{training_command.folder_of(args, name)}.estimate", False
    with training_command.run_folder(args, config, "detection", name) as run:
        if leak:
            run.update(leak=leak)
        if source:
            training_command.record_best(run, source, config)
        reader = ImageReader(options)
        is_decided = "DATALOADER.FILTER_EMPTY_ANNOTATIONS" in config.stated
        if not args.eval_only and cfg.SOLVER.SCHEME == "alternating":
            steps = _steps(config, run, train_sets, reader, start, args)
            tensors = steps.train(resuming=args.resume, may_leave_out_many=is_decided)
            with build_faults_as_pages(config):
                training = DetectorTraining(cfg, run, train_sets, test_sets, reader)
            training.take_trained(tensors, samples=steps.samples, seconds=steps.seconds)
        else:
            with build_faults_as_pages(config):
                training = DetectorTraining(cfg, run, train_sets, test_sets, reader)
            _fill(training, start, run, args)
        del start  # The model has its tensors; a training need not hold them twice.
        if args.estimate:
            _estimate(training)
            return 0
        policy = Policy(resuming=args.resume, refuses_others=args.eval_only)
        if args.eval_only:
            numbers = training.evaluate(policy)
        else:
            if cfg.SOLVER.SCHEME == "joint":
                training.train(resuming=args.resume, may_leave_out_many=is_decided)
            with lost_images_stop():
                numbers = training.evaluate(policy)
        training.finish(numbers)
    if comm.is_main_process():
        _print_numbers(run, test_sets, numbers)
        expected_results.compare_with(cfg.TEST.EXPECTED_RESULTS, numbers)
    return 0


def _require_sets(cfg: Any, *, eval_only: bool) -> None:
    """Raises DataError where a set is not there, or has no annotations to train or measure with.

    With --eval-only no training set is read, and the annotations may be a server's alone.
    """
    if not eval_only:
        catalog.require(list(cfg.DATASETS.TRAIN), annotated=True)
    catalog.require(list(cfg.DATASETS.TEST), annotated=not eval_only)


def _refuse_unread_sampling(cfg: Any, *, eval_only: bool) -> None:
    """Raises ConfigError for DATASETS.ILSVRC_PER_CLASS without the set that it is of."""
    trains = () if eval_only else cfg.DATASETS.TRAIN
    if cfg.DATASETS.ILSVRC_PER_CLASS and not eval_only and not any(
        name.endswith(("ilsvrc_det_train", ":det_train")) for name in trains
    ):  # fmt: skip
        raise ConfigError(
            f"DATASETS.ILSVRC_PER_CLASS is {cfg.DATASETS.ILSVRC_PER_CLASS}, and DATASETS.TRAIN has "
            "no ilsvrc_det_train, which it is of. Set it to 0."
        )


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


def _load(name: str, options: DataOptions) -> DetectionSet:
    data = processes.one_first(lambda: catalog.load_detection(name, options=options))
    logger.info("%s: %s", name, ", ".join(f"{k} {v}" for k, v in data.counts.items()))
    for note in data.notes:
        logger.warning("%s: %s", name, note)
    if isinstance(data.records, SerializedList):
        return data
    return dataclasses.replace(data, records=SerializedList(data.records))


def _in_one_order(
    sets: list[DetectionSet], classes: tuple[str, ...] | None = None
) -> list[DetectionSet]:
    """Sets with the same class names in another order are mapped by name (F4)."""
    expected = classes or next((s.classes for s in sets), ())
    return [
        catalog.with_classes(s, expected)
        if s.classes != expected and set(s.classes) == set(expected)
        else s
        for s in sets
    ]


def _refuse_other_classes(
    sets: list[DetectionSet], classes: tuple[str, ...], detector: str
) -> None:
    """A detector is scored on the classes that it was trained for (F22)."""
    for data in sets:
        if data.classes != classes:
            odd = sorted(set(data.classes) ^ set(classes))
            raise ConfigError(
                f"{detector} was trained for {len(classes)} classes, {data.name} has "
                f"{len(data.classes)}; not in both: {', '.join(odd[:6])}"
                f"{', …' if len(odd) > 6 else ''}. Score it on a set with its own classes."
            )


@dataclasses.dataclass(frozen=True)
class _StartingPoint:
    """What the model is filled with.

    Attributes:
        card: of the classifier that the detector starts from, or started from.
        tensors: of that classifier or of a whole detector, kept so that no file is read twice.
        detector: the file of a whole detector; "" for a classifier.
        classes: those that it is to be scored on.
        head_classes: those that its predictors were trained for, where a training starts.
    """

    card: Card | None = None
    tensors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    detector: str = ""
    classes: tuple[str, ...] = ()
    head_classes: tuple[str, ...] = ()


def _classes_of_heads(name: str) -> tuple[str, ...]:
    """The classes of a registered data set; its files need not be there.

    Raises:
        ConfigError: its classes are not known.
    """
    if not name:
        return ()
    classes = MetadataCatalog.get(name).get("thing_classes") if name in DatasetCatalog else None
    if not classes:
        raise ConfigError(
            f"TRANSFER.HEAD_CLASSES is {name!r}, which is no data set with known classes. Name "
            "one, such as coco_2017_val or voc_2007_test."
        )
    return tuple(classes)


def _known_classes(cfg: Any) -> dict[str, Any]:
    """The number of classes without any file: of sets whose names are registered with theirs."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    classes = {
        tuple(MetadataCatalog.get(name).get("thing_classes") or ())
        if name in DatasetCatalog
        else ()
        for name in names
    }
    known = classes.pop() if len(classes) == 1 else ()
    return {"MODEL.ROI_HEADS.NUM_CLASSES": len(known)} if known else {}


def _start_of_training(cfg: Any) -> _StartingPoint:
    """From MODEL.WEIGHTS: a classifier with its card, a whole detector, or nothing.

    Raises:
        ConfigError: nothing to start from, and FROM_SCRATCH not set. WeightsError: a bad file.
    """
    path = cfg.MODEL.WEIGHTS
    training_command.refuse_part_of_nothing(cfg)
    if not path:
        if not cfg.TRANSFER.FROM_SCRATCH:
            raise ConfigError(
                "MODEL.WEIGHTS is empty. Give it the model.safetensors of a pretraining run, "
                "or set TRANSFER.FROM_SCRATCH True to train from random weights."
            )
        return _StartingPoint()
    file = WeightFile(path, cfg.MODEL.WEIGHTS_PART or None)
    if not path.endswith(".safetensors"):
        contents = file.contents
        refuse_not_finite(contents.tensors, path)
        if is_detectron2_detector(contents.tensors):
            classes = _classes_of_heads(cfg.TRANSFER.HEAD_CLASSES) or tuple(
                contents.beside.get("classes", ())
            )
            card = from_run.card_of_detector(Path(path))
            return _StartingPoint(card, contents.tensors, path, head_classes=classes)
    tensors, card = file.load()
    if aside := file.left_aside():
        logger.info("%s: %s", path, aside)
    return _StartingPoint(card, tensors)


def _refuse_heads_of_nothing(cfg: Any, start: _StartingPoint) -> None:
    """Raises ConfigError where predictors are to be copied by name, and none come."""
    if cfg.TRANSFER.HEADS == "by_name" and not start.detector:
        what = f"{cfg.MODEL.WEIGHTS} is a classifier" if start.card else "MODEL.WEIGHTS is empty"
        raise ConfigError(
            f"TRANSFER.HEADS is by_name, and {what}, so there are no predictors to copy. Give a "
            "whole detector, such as MODEL.WEIGHTS runs/coco_r101/model_final.pth, or set "
            "TRANSFER.HEADS new."
        )


def _detector_to_score(config: Config, folder: Path, source: Run | None) -> _StartingPoint:
    """The detector of --eval-only: the run's own, as it was made, or another into a new folder.

    Args:
        folder: of the run.
        source: with --best, the run whose best detector it is.

    Raises:
        RunError: there is nothing to score, or the folder is another detector's.
        WeightsError: MODEL.WEIGHTS holds no detector.
    """
    cfg, own = config.cfg, folder / layout.DETECTOR
    training_command.refuse_part_of_nothing(cfg)
    run = source or training_command.run_to_score(
        config, folder, layout.DETECTOR, layout.BEST_DETECTOR
    )
    path, is_own = (
        from_run.file_of(run, best=source is not None)
        if run
        else (Path(cfg.MODEL.WEIGHTS or own), False)
    )
    if not path.exists():
        raise RunError(
            f"{path} does not exist: nothing to score. Finish the run, or give MODEL.WEIGHTS."
        )
    part = cfg.MODEL.WEIGHTS_PART if str(path) == cfg.MODEL.WEIGHTS else ""
    detector = from_run.read_detector(path, part=part or None, own=own, run=run if is_own else None)
    if not detector.classes:
        logger.warning(
            "%s does not name its classes: those of DATASETS.TEST are taken to be its own, in "
            "their order.",
            path,
        )
    return _StartingPoint(detector.card, detector.tensors, str(path), detector.classes)


def _fill(
    training: DetectorTraining, start: _StartingPoint, run: Run, args: argparse.Namespace
) -> None:
    """Puts the weights into the model, and the card beside the run that they start."""
    cfg = training.cfg
    if args.eval_only and start.detector != str(run.path / layout.DETECTOR):
        run.update(scored_file=start.detector)
    if start.detector:
        heads = None if args.eval_only else start.head_classes
        if not args.eval_only:
            refuse_norms_of_detector(start.tensors, start.detector, cfg.MODEL.NET.NORM)
        training.load_detector(start.tensors, start.detector, heads)
    elif start.card is not None and not args.resume:
        training.load_backbone(start.tensors, cfg.MODEL.WEIGHTS)
    elif start.card is None:
        logger.warning(FROM_SCRATCH_NOTICE.format(net=cfg.MODEL.NET.NAME))
    if start.card is not None and comm.is_main_process():
        run.write(layout.CARD, start.card.to_dict())


def _steps(
    config: Config,
    run: Run,
    train_sets: Sequence[DetectionSet],
    reader: ImageReader,
    start: _StartingPoint,
    args: argparse.Namespace,
) -> AlternatingTraining:
    """The four steps of SOLVER.SCHEME alternating.

    Raises:
        ConfigError: MODEL.WEIGHTS is a whole detector.
    """
    cfg = config.cfg
    if start.detector:
        raise ConfigError(
            f"SOLVER.SCHEME is alternating, and {start.detector} holds a whole detector: steps 1 "
            "and 2 each begin with a classifier. Give a classifier, or set SOLVER.SCHEME joint."
        )
    if start.card is not None and comm.is_main_process():
        run.write(layout.CARD, start.card.to_dict())

    def fill(training: DetectorTraining) -> None:
        if start.card is None:
            logger.warning(FROM_SCRATCH_NOTICE.format(net=cfg.MODEL.NET.NAME))
        else:
            training.load_backbone(start.tensors, cfg.MODEL.WEIGHTS)

    return AlternatingTraining(cfg, run, train_sets, reader, fill, shared_stages(cfg))


def _estimate(training: DetectorTraining) -> None:
    """Prints the plan and what a few steps show."""
    planned, found = training.estimate()
    comm.synchronize()
    if comm.is_main_process():
        training.run.discard()
        show("\n".join([*planned.lines(), *plan.detector_lines(training.cfg, training.model)]))
        show(found.line())


def _refuse_leak(cfg: Any, train: list[DetectionSet], test: list[DetectionSet]) -> str:
    """Training images among the test images are refused, unless EVAL.ALLOW_LEAK (F6).

    The run and its report then contain the returned sentence. Raises DataError otherwise.
    """
    if not train or not test:
        return ""
    if not cfg.EVAL.ALLOW_LEAK:
        catalog.overlap(train, test)
        return ""
    same = sorted({s.name for s in train} & {s.name for s in test})
    if same:
        sentence = (
            f"trained and tested on the same images ({', '.join(same)}): the AP means nothing"
        )
        logger.warning(sentence)
        return sentence
    return "test images may be training images (EVAL.ALLOW_LEAK)"
