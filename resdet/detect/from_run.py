"""A run folder, or a file with a detector, to a detector that is built and filled.

The one way to it, whoever detects: `train_det --eval-only`, the export, ensembles, pictures.
Weights, preprocessing and fast form are those that the run evaluates with, so boxes are its own to
the bit.

Not for: detecting on a data set (`inference`), or weights that a training starts from
(`starting_weights`).
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from resdet.config import Config, data_options, get_key, presets, resolve
from resdet.data import DataOptions
from resdet.data.images.reader import ImageReader
from resdet.detect import starting_weights
from resdet.detect.architecture.model import (
    build_faults_as_pages,
    fill_from_weights_and_net,
    is_rpn_alone,
    refuse_parts,
)
from resdet.detect.detecting_form import check_form, form_for_detecting, mapper_for_detecting
from resdet.detect.fast.fast_training import speed_up
from resdet.detect.loading import Mapper
from resdet.detect.paper.image_views import PyramidMapper
from resdet.detect.profile_hooks import watch
from resdet.detect.starting_weights import Tensors, page_of_no_detector
from resdet.engine.speed.precision import Precision
from resdet.engine.starts.start_checks import settle_device
from resdet.errors import ConfigError, RunError, WeightsError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.run.renamed_keys import RENAMED
from resdet.weights import Card
from resdet.weights.addresses.fetch import local_path
from resdet.weights.cards import path_beside
from resdet.weights.eps import with_its_eps
from resdet.weights.origins.identify import is_detectron2_detector
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.detect")


@dataclass(frozen=True)
class DetectorFile:
    """A whole detector as it lies on disk, read once.

    Attributes:
        classes: those that its predictors were trained for; () where the file does not name them.
        card: of the classifier that it started from; None where there is none beside it.
    """

    path: Path
    tensors: Tensors
    classes: tuple[str, ...] = ()
    card: Card | None = None


@dataclass(frozen=True)
class BuiltDetector:
    """A detector in evaluation mode, with all that belongs to it.

    Attributes:
        model: as it was trained, on `cfg.MODEL.DEVICE`, each parameter and buffer from the file.
        config: resolved, with what was stated on top of the run's own.
        classes: names, in the order of `pred_classes`.
        file: where the weights come from.
        run: the folder that has the config; None where the config was given beside a file.
        changed: dotted key to (value of the run, value here), of what was stated otherwise, but
            for the device.
    """

    model: nn.Module
    config: Config
    classes: tuple[str, ...]
    file: Path
    run: Run | None = None
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def cfg(self) -> Any:
        return self.config.cfg

    @cached_property
    def reader(self) -> ImageReader:
        """Reads images as the config has it, and counts what it fixed."""
        return ImageReader(DataOptions(**data_options(self.cfg)))

    @cached_property
    def members(self) -> list[BuiltDetector]:
        """The further detectors of TEST.ENSEMBLE; raises as `paper.members`."""
        from resdet.detect.paper.members import members_of  # which builds them here

        return members_of(self.cfg)

    @cached_property
    def mapper(self) -> Mapper | PyramidMapper:
        """A record with `file_name` to what the model takes, at the size of INPUT.*_TEST."""
        return mapper_for_detecting(self.cfg, self.reader, self.members)

    @cached_property
    def for_detecting(self) -> nn.Module:
        """What the run evaluates with: fast, and tested as TEST's keys have it."""
        from resdet.detect.paper.members import orders_of_classes

        orders = orders_of_classes(self.members, self.classes)
        return form_for_detecting(self.model, self.cfg, self.members, orders)


def built_detector(
    source: Path | str,
    opts: Sequence[str] = (),
    *,
    best: bool = False,
    config_file: Path | str | None = None,
    classes: Sequence[str] = (),
) -> BuiltDetector:
    """The detector of a run folder, or of a file of ours or Detectron2's, ready to detect.

    Torch's generator of random numbers stays as it is: no tensor of the detector is new.

    Args:
        source: a run folder; one of its two models; or, with `config_file`, any such file or its
            address.
        opts: KEY VALUE pairs on top of the run's config. MODEL.DEVICE is "auto" without one.
        best: the best model that the run kept (TEST.BEST_METRIC), not its last.
        config_file: a path or the name of a preset, for a file outside of a run.
        classes: names, in the order of the predictor, of a file that has none.

    Raises:
        RunError: no such run or file, a run of a classifier, or one without that model.
        ConfigError: a key that `resolve` refuses, a config where none belongs or none where one
            does, classes that nobody names, or an RPN or Fast R-CNN alone.
        WeightsError: the file holds no detector, or not the one of the config.
    """
    source = local_path(source)
    run, best = _run_at(source, best)
    if run is None:
        config, detector, changed = _of_file(source, opts, best, config_file)
    else:
        config, detector, changed = _of_run(run, opts, best, config_file)
    refuse_parts(config.cfg, str(source))
    with build_faults_as_pages(config):
        fill_from_weights_and_net(config, detector.card)
    names = _class_names(config.cfg, detector, tuple(classes))
    config.fill({"MODEL.ROI_HEADS.NUM_CLASSES": len(names)}, f"the classes of {detector.path}")
    with torch.random.fork_rng(), build_faults_as_pages(config):
        model = build(config.cfg)
    starting_weights.load_detector(model, detector.tensors, str(detector.path))
    return BuiltDetector(model.eval(), config, names, detector.path, run, changed)


def build(cfg: Any) -> nn.Module:
    """The model of a resolved config, its new layers random: the same for every backbone.

    Raises:
        ConfigError: TEST asks for what this detector has no part for.
    """
    # One seed for all new layers (RPN, predictors).
    torch.manual_seed(cfg.SEED)
    model: Any = build_model(cfg)
    if is_rpn_alone(cfg):
        # Its proposals in training go nowhere; losses do not depend on how many there are.
        model.proposal_generator.pre_nms_topk[True] = 1
    if cfg.ENGINE.FAST_TRAINING == "on":
        speed_up(model, Precision.of_config(cfg))
    check_form(model, cfg)
    watch(model)
    built: nn.Module = model
    return built


# -- which file ----------------------------------------------------------------------------


def file_of(run: Run, *, best: bool = False) -> tuple[Path, bool]:
    """The detector of a run, and whether the run wrote it itself: one that was scored is foreign.

    Raises:
        RunError: the run is a classifier's, or the file is not there.
    """
    if run.kind != "detection":
        raise RunError(
            f"{run.path} is a {run.kind} run, and a detector is expected. Give a folder that "
            "train_det wrote."
        )
    own, kept = run.path / layout.DETECTOR, run.path / layout.BEST_DETECTOR
    if best:
        if not kept.exists():
            raise RunError(
                f"{run.path} kept no best model. A training keeps one, as {kept.name}, with "
                "TEST.BEST_METRIC and TEST.EVAL_PERIOD."
            )
        return kept, True
    if scored := run.scored_file:
        own = scored
    if not own.exists():
        resume = shlex.join(["resdet", "train_det", "--output", str(run.path), "--resume"])
        is_lost = scored or run.state == "finished"
        fix = "Bring it back." if is_lost else f"Finish it: {resume}."
        best_kept = f" It kept a best model: {kept}." if kept.exists() else ""
        raise RunError(f"{own} does not exist: the run is {run.state}. {fix}{best_kept}")
    return own, not scored


def part_of_detector(path: Path, cfg: Any, run: Run | None) -> str | None:
    """Of a file with several nets the one that is meant; None for a file with one.

    Args:
        run: whose detector `file_of` gave; None where the file is MODEL.WEIGHTS.
    """
    if run is not None and path == run.scored_file:
        return run.info.get("scored_part") or None
    is_stated = run is None or str(path) == cfg.MODEL.WEIGHTS
    return (is_stated and cfg.MODEL.WEIGHTS_PART) or None


def read_detector(path: Path | str, *, part: str | None = None, own: Path | None = None,
                  run: Run | None = None) -> DetectorFile:  # fmt: skip
    """The whole detector in a file, as a run or Detectron2 saved it.

    Args:
        part: of a file that holds several nets.
        own: the detector of the run that is meant, which need not be there; for messages.
        run: that wrote the file, unless it was replaced.

    Raises:
        WeightsError: the file holds something else; states what, and what to type.
        RunError: another run wrote it.
    """
    file = WeightFile(path, part)
    contents = file.contents
    if file.has_card_inside or not is_detectron2_detector(contents.tensors):
        raise WeightsError(page_of_no_detector(file, own or Path(layout.DETECTOR)))
    if run is not None:
        run.refuse_weights_of_another(path, contents.beside.get("run"))
    classes = tuple(contents.beside.get("classes", ()))
    return DetectorFile(Path(path), contents.tensors, classes, card_of_detector(Path(path)))


def card_of_detector(model: Path) -> Card | None:
    """The card of the weights that a detector started from; None where there is none beside it."""
    path = model.parent / layout.CARD
    if path_beside(model).exists():
        path = path_beside(model)
    if not path.exists():
        return None
    return with_its_eps(Card.read(path), str(model))


def _run_at(source: Path, best: bool) -> tuple[Run | None, bool]:
    """The run that a path names, by its folder or by one of its models; and whether its best."""
    if source.is_dir():
        return Run.open(source), best
    if not source.exists():
        raise RunError(
            f"{source} does not exist. Give a run folder that train_det wrote, such as "
            "runs/voc07_r101, or a file with a detector."
        )
    is_best = source.name == layout.BEST_DETECTOR
    if (is_best or source.name == layout.DETECTOR) and (source.parent / layout.RUN).exists():
        return Run.open(source.parent), best or is_best
    return None, best


_Source = tuple[Config, DetectorFile, dict[str, tuple[Any, Any]]]


def _of_run(run: Run, opts: Sequence[str], best: bool, config_file: Path | str | None) -> _Source:
    path, is_own = file_of(run, best=best)
    if config_file is not None:
        raise ConfigError(
            f"{run.path} has its own config: leave --config {config_file} out. Keys that shall "
            "differ can be stated, KEY VALUE, at the end."
        )
    _ = run.config_text  # where it is missing or no text, the run is not complete
    before = resolve(run.path / layout.CONFIG, renamed=RENAMED)
    config = resolve(run.path / layout.CONFIG, opts, renamed=RENAMED)
    if "TEST.ENSEMBLE" not in opts[::2]:
        config.cfg.TEST.ENSEMBLE = run.further_detectors(config.cfg.TEST.ENSEMBLE)
    if old := [name for name, key in RENAMED.items() if name in config.stated.get(key, "")]:
        names = ", ".join(f"{name} as {RENAMED[name]}" for name in old)
        logger.warning("%s was made with an older resdet: %s.", run.path, names)
    changed = {
        key: (get_key(before.cfg, key), get_key(config.cfg, key))
        for key in opts[::2]
        if key != "MODEL.DEVICE" and get_key(before.cfg, key) != get_key(config.cfg, key)
    }
    _settle(config, opts)
    detector = read_detector(
        path,
        part=part_of_detector(path, config.cfg, run),
        own=run.path / layout.DETECTOR,
        run=run if is_own else None,
    )
    return config, detector, changed


def _of_file(
    path: Path, opts: Sequence[str], best: bool, config_file: Path | str | None
) -> _Source:
    if best:
        raise ConfigError(f"--best is for run folders, and {path} is a file. Leave it out.")
    if config_file is None:
        raise ConfigError(
            f"{path} lies in no run folder, so its config is not known. Give --config FILE, a "
            "path or the name of a preset, or the run folder that it comes from."
        )
    config = resolve(presets.find(config_file), opts)
    _settle(config, opts)
    # A config of Detectron2's names the classifier that its training starts from.
    config.stated.pop("MODEL.WEIGHTS", None)
    config.fill({"MODEL.WEIGHTS": str(path)}, "the file that was given")
    return config, read_detector(path, part=config.cfg.MODEL.WEIGHTS_PART or None), {}


def _settle(config: Config, opts: Sequence[str]) -> None:
    """Device and seed as `train_det --eval-only` has them."""
    if "MODEL.DEVICE" not in opts[::2]:
        # The run's own was that of its machine.
        config.cfg.MODEL.DEVICE = "auto"
    settle_device(config)
    if config.cfg.SEED < 0:
        config.stated.pop("SEED", None)
        config.fill({"SEED": 0}, "a run must be repeatable")


def _class_names(cfg: Any, detector: DetectorFile, given: tuple[str, ...]) -> tuple[str, ...]:
    """The file's own; where it has none those that were given, or of the sets of the config."""
    path = detector.path
    if detector.classes:
        if given and given != detector.classes:
            raise ConfigError(
                f"{path} names {len(detector.classes)} classes ({', '.join(detector.classes[:4])}, "
                f"…), and {len(given)} others were given. Leave them out."
            )
        return detector.classes
    if given:
        return given
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        classes = MetadataCatalog.get(name).get("thing_classes") if name in DatasetCatalog else None
        if classes:
            logger.warning(
                "%s does not name its classes: those of %s are taken to be its own, in their "
                "order.",
                path,
                name,
            )
            return tuple(classes)
    raise ConfigError(
        f"{path} does not name its classes, and no set of the config does. State them: --classes "
        "FILE, a name a line (in Python classes=[…]), or a set that has them: DATASETS.TEST "
        "\"('coco_2017_val',)\"."
    )
