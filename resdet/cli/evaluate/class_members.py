"""`resdet evaluate cls`: weight files and run folders to files of scores, made once and kept.

    <folder>/scores/<net>-<set>-<protocol>-<hash>.npz   the hash is of all that decides the numbers

The folder is --output; without it RUN/cls of a run folder, and runs/cls_<name> of a weight file.

Not for: tables and pages (`classifiers`), or how an image is scored (`resdet.pretrain.protocols`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.utils import comm

from resdet.config import data_options, get_cfg, set_key
from resdet.data import DataOptions, catalog
from resdet.data.records import ClassificationSet
from resdet.detect.architecture import derived_keys
from resdet.engine.data_workers import usable_cores
from resdet.engine.speed.precision import Precision
from resdet.engine.versions import versions
from resdet.errors import ConfigError, DataError, RunError
from resdet.evaluation.classification.score_files import (
    SUFFIX,
    ClassScores,
    load_scores,
    save_scores,
)
from resdet.evaluation.ilsvrc.ilsvrc_synsets import sorted_wnids
from resdet.file_names import file_name
from resdet.nets import Net
from resdet.pretrain.file_scores import crops_of, load_net
from resdet.pretrain.protocols.class_order import with_outputs
from resdet.pretrain.protocols.scoring import score_images
from resdet.pretrain.protocols.view_protocol import RESIZES, ViewProtocol, make_protocol
from resdet.pretrain.recipe.mean_image import MeanImage, require_square
from resdet.pretrain.set_scores import Preparation
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights import Card
from resdet.weights.addresses.fetch import is_address, local_path, name_of
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.pretrain")

# Keys of a training's config that decide how its images are read.
_READING = ("INPUT.SIXTEEN_BIT", "INPUT.ALPHA_OVER", "INPUT.MAX_PIXELS")


@dataclass(frozen=True)
class Member:
    """One classifier of the command line.

    Attributes:
        title: how tables call it, another one for each.
        path: as it was given.
        weights: the file with its tensors.
        folder: where its scores are kept without --output.
    """

    title: str
    path: Path
    weights: Path
    folder: Path


def member_of(title: str, path: Path) -> Member:
    """A weight file or its address, or the classifier in a run folder.

    Raises:
        RunError: the folder is no run of a classifier, or has none yet.
    """
    if is_address(path):
        folder = Path("runs") / f"cls_{file_name(name_of(path))}"
        return Member(title, path, local_path(path), folder)
    if not path.is_dir():
        return Member(title, path, path, Path("runs") / f"cls_{file_name(path.stem)}")
    run_of_classifier(path)
    weights = path / layout.CLASSIFIER
    if not weights.exists():
        raise RunError(f"{path} has no {layout.CLASSIFIER} yet: finish it with --resume.")
    return Member(title, path, weights, path / layout.CLASSIFIER_SCORES)


def run_of_classifier(path: Path) -> Run:
    """The run folder of a classifier, finished or not.

    Raises:
        RunError: it is no run, or one of a detector or of scores alone.
    """
    run = Run.open(path)
    if run.kind != "classification":
        raise RunError(f"{path} is a {run.kind} run, and no classifier's.")
    if "scored_file" in run.info:
        raise RunError(
            f"{path} holds the scores of another's file and no classifier. Give that file: "
            f"{run.scored_file}"
        )
    return run


def score_members(members: Sequence[Member], args: argparse.Namespace) -> list[Path]:
    """The file of scores of each member, made now where it is not there yet.

    Every process calls it; on return the files are whole.

    Raises:
        WeightsError, ConfigError, DataError, RunError: what cannot be scored, before it starts.
        Interrupted, TrainingStopped: what is finished is kept.
        CheckFailed: an image was seen twice or never.
    """
    device = device_of(args.device)
    sets: dict[DataOptions, ClassificationSet] = {}
    return [_scored(member, args, device, sets) for member in members]


def load_set(name: str, options: DataOptions | None = None) -> ClassificationSet:
    """The images of --data."""
    return catalog.load_classification(name, options=options, needs_classes=False)


def _scored(
    member: Member,
    args: argparse.Namespace,
    device: str,
    sets: dict[DataOptions, ClassificationSet],
) -> Path:
    file = WeightFile(member.weights, args.part)
    net, card = load_net(file)
    protocol = protocol_of(card, args)
    options = reading_of(card)
    if options not in sets:
        sets[options] = load_set(args.data, options)
    data = with_outputs(
        sets[options],
        card,
        net.num_classes,
        where=file.where,
        classes=args.classes,
        known={"ImageNet (sorted wnids)": sorted_wnids()},
    )
    if card.input.mean_image:
        require_square(data)
    fingerprint = _fingerprint(file, card, data, protocol, options)
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
    stem = f"{member.title}-{short_name(data.name)}-{protocol.tag}-{digest[:12]}"
    folders = [Path(args.output) / "scores"] if args.output else []
    folders.append(member.folder / "scores")
    for folder in folders:
        path = folder / f"{file_name(stem)}{SUFFIX}"
        if not args.again and comm.all_gather(path.exists())[0]:
            if comm.is_main_process():
                _require_own(path, fingerprint)
                logger.info("%s: scores of %s are there: %s", member.title, data.name, path)
            return path
    path = folders[0] / f"{file_name(stem)}{SUFFIX}"
    _score(net.to(device), card, data, protocol, path, fingerprint, args, device, member)
    return path


def _score(
    net: Net,
    card: Card,
    data: ClassificationSet,
    protocol: ViewProtocol,
    path: Path,
    fingerprint: dict[str, Any],
    args: argparse.Namespace,
    device: str,
    member: Member,
) -> None:
    if args.again and comm.is_main_process():
        path.unlink(missing_ok=True)
    logger.info("%s on %s: %s", member.title, data.name, protocol.words())
    table, parts = score_images(
        net,
        data,
        protocol,
        preparation_of(card, device),
        path.with_suffix(".parts"),
        fingerprint,
        mean_image=MeanImage.of_input(card.input),
        batch_size=args.batch_size,
        workers=workers_for(args.workers, data, device),
    )
    if comm.is_main_process():
        scores = ClassScores(
            table,
            data.labels,
            image_names(data),
            data.classes,
            data.name,
            data.hash,
            net={"name": card.net, "title": member.title, "file": str(member.weights),
                 "versions": versions(), **fingerprint},
            protocol=protocol.to_dict() | {"words": protocol.words(), "tag": protocol.tag},
        )  # fmt: skip
        try:
            save_scores(path, scores)
        except OSError as error:
            raise RunError(
                f"{path} could not be written: {error.strerror}. Free space and run the same "
                "command again: finished images are kept."
            ) from None
        parts.remove()
    comm.synchronize()


def protocol_of(card: Card, args: argparse.Namespace) -> ViewProtocol:
    """The protocol of the options, with the sizes of the card where none are stated."""
    crops = crops_of(card)
    return make_protocol(
        args.protocol,
        crop=crops["PRETRAIN.CROP"],
        side=crops["PRETRAIN.TEST_SIDE"],
        sizes=args.sizes,
        stated_side=args.side,
        pad=args.pad,
        flip=False if args.no_flip else None,
        average=args.average,
        resize=args.resize or _resize(card),
    )


def _resize(card: Card) -> str:
    """The filter of timm's record; bilinear for all others, as torchvision's presets."""
    stated = card.data.get("timm", {}).get("interpolation")
    return stated if stated in RESIZES else "bilinear"


def image_names(data: ClassificationSet) -> tuple[str, ...]:
    """class/file of class folders, the file's name without them, "record 7" of CIFAR.

    Raises:
        DataError: two images have one name.
    """
    names = tuple(
        data.name_of(i) if data.classes and (data.labels >= 0).all() else Path(f).name
        for i, f in enumerate(data.files)
    ) or tuple(map(data.name_of, range(len(data))))
    if len(set(names)) < len(names):
        raise DataError(f"{data.name}: images of one name in one class folder; rename them.")
    return names


def short_name(data_set: str) -> str:
    """The last part of a path, or the name itself."""
    return Path(data_set.rstrip("/")).name or data_set


def _fingerprint(
    file: WeightFile,
    card: Card,
    data: ClassificationSet,
    protocol: ViewProtocol,
    options: DataOptions,
) -> dict[str, Any]:
    """All that decides the numbers, but for the versions of libraries and the device."""
    facts = {
        "tensors": file.digest,
        "net": card.net,
        "net_options": card.net_options,
        "input": _input_facts(card),
        "classes": hashlib.sha256(json.dumps(data.classes).encode()).hexdigest(),
        "data_hash": data.hash,
        "protocol": protocol.to_dict(),
        "reading": {"sixteen_bit": options.sixteen_bit, "alpha_over": options.alpha_over},
    }
    return dict(json.loads(json.dumps(facts)))


def _input_facts(card: Card) -> dict[str, Any]:
    facts = dict(card.to_dict()["input"])
    if card.input.mean_image:
        # Its digest is enough, and short.
        facts["mean_image"] = hashlib.sha256(card.input.mean_image.encode()).hexdigest()
    return facts


def _require_own(path: Path, fingerprint: dict[str, Any]) -> None:
    """Raises DataError where a file of this name is of something else, or damaged."""
    there = load_scores(path).net
    other = [key for key, value in fingerprint.items() if there.get(key) != value]
    if other:
        raise DataError(
            f"{path} has the name of these scores and is of another {', '.join(other)}. Move it "
            "away, or score again: --again."
        )


def reading_of(card: Card) -> DataOptions:
    """How the net's images were read in training, as far as its card states it."""
    cfg = get_cfg()
    set_key(cfg, "INPUT.EXIF", card.input.exif)
    try:
        stated = yaml.safe_load(card.config) or {}
        for key in _READING:
            section, name = key.split(".")
            if name in stated.get(section, {}):
                set_key(cfg, key, type(cfg[section][name])(stated[section][name]))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        pass  # no config of ours
    return DataOptions(**data_options(cfg))


def preparation_of(card: Card, device: str) -> Preparation:
    """The input of a card's net, from RGB images."""
    cfg = get_cfg()
    for key, value in {**derived_keys.of_card(card), "MODEL.DEVICE": device}.items():
        if not key.startswith("MODEL.NET."):
            set_key(cfg, key, value)
    return Preparation(cfg, Precision(device))


def device_of(asked: str) -> str:
    """Raises ConfigError for a GPU that is not there."""
    there = torch.cuda.is_available()
    if asked == "auto":
        return "cuda" if there else "cpu"
    if asked.startswith("cuda") and not there:
        raise ConfigError(f"--device is {asked}, and torch finds no GPU here. Leave it out.")
    return asked


def workers_for(asked: int | None, data: ClassificationSet, device: str) -> int:
    """Processes that read images: as many as asked for, else by device and cores."""
    if asked is not None:
        return asked
    if data.images is not None or device == "cpu":
        return 0
    return max(0, min(8, usable_cores() // comm.get_world_size() - 1))
