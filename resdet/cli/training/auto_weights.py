"""MODEL.WEIGHTS auto: the pretraining run of the net, else its public weights, else a page.

    runs/imagenet_NET/model.safetensors    of `pretrain_cls --config imagenet_NET`, when finished
    weights of the same name               published by others, fetched or found in a cache
    neither                                refused, with what to type; random weights are asked for

    runs/coco_NET/model_final.pth          where TRANSFER.HEADS by_name asks for a whole detector

TRANSFER.FROM_SCRATCH True asks for random weights, unless it stands in a file and auto is typed.
What was found stands in the run's config, so that --resume and a comparison see a file's name.

Not for: reading the file (`starting_point`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import yaml
from detectron2.utils import comm

from resdet.cli.training.stored_config import config_of, stored_keys
from resdet.config import Config, flatten, get_cfg, get_key, presets
from resdet.errors import ConfigError, RunError, UserError, WeightsError
from resdet.nets.families import depth_and_ending, family_of
from resdet.nets.vgg import VGG
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights.addresses.download import cache_alone
from resdet.weights.addresses.fetch import fetch
from resdet.weights.addresses.public_weights import PublicWeights, public_weights

logger = logging.getLogger("resdet.detect")

AUTO, COMMAND_LINE = "auto", "command line"
WEIGHTS, FROM_SCRATCH = "MODEL.WEIGHTS", "TRANSFER.FROM_SCRATCH"
NET, SHORTCUT, POOLED_SIZE = "MODEL.NET.", "MODEL.NET.SHORTCUT", "MODEL.NET.POOLED_SIZE"
# What a card sets, or a detector alone has: these do not make another net of the weights.
_FREE = ("MODEL.NET.NAME", "MODEL.NET.NORM", "MODEL.NET.NORM_EPS", "MODEL.NET.STRIDE_IN_1X1",
         "MODEL.NET.RES5_DILATION", "MODEL.NET.DROP_PATH", "MODEL.NET.DROPOUT",
         "MODEL.NET.IMAGE_SIZE")  # fmt: skip


def settle(config: Config, folder: Path, args: argparse.Namespace) -> bool:
    """Puts what MODEL.WEIGHTS auto means into the config; another value stays as it is.

    Args:
        folder: of the run; one that is gone on with, or scored, has what it began with.

    Returns:
        Whether the weights are there to be read; --explain alone goes without them.

    Raises:
        ConfigError: there is nothing to start from; the page has what to type.
    """
    if config.cfg.MODEL.WEIGHTS != AUTO:
        return True
    where = config.stated.pop(WEIGHTS, "")
    if args.eval_only:
        config.fill({WEIGHTS: ""}, "auto: nothing is trained")
        return True
    if args.resume and (folder / layout.RUN).exists():
        config.fill({WEIGHTS: _stored(folder)}, f"auto: what {folder} began with")
        return True
    # A preset that trains without weights, too, does not answer who types auto.
    auto_alone_typed = where == COMMAND_LINE and config.stated.get(FROM_SCRATCH, "") != COMMAND_LINE
    if config.cfg.TRANSFER.FROM_SCRATCH and not auto_alone_typed:
        config.fill({WEIGHTS: ""}, f"auto, and {FROM_SCRATCH} is True")
        return True
    try:
        # To be read, nothing has to be there, and nothing is fetched.
        with cache_alone() if args.explain else contextlib.nullcontext():
            value, meaning = _found_by_first(config.cfg)
    except ConfigError:
        if not args.explain or not (expected := _expected(config.cfg)):
            raise
        logger.warning("%s\nExplained as from %s. What its card sets is not known.", *expected)
        config.fill({WEIGHTS: expected[1]}, "auto: not here yet")
        return False
    logger.info("MODEL.WEIGHTS auto is %s: %s", value, meaning)
    config.fill({WEIGHTS: value}, f"auto: {meaning}")
    return True


def _expected(cfg: Any) -> tuple[str, str] | None:
    """What to do until auto finds something, and what that is; None where nothing can be there."""
    pretraining, public = pretraining_of(cfg), public_of(cfg)
    if public:
        why = f"{pretraining.lacks(cfg) if pretraining else 'no preset pretrains this net'}, and"
        return (
            f"MODEL.WEIGHTS auto: {why} --explain fetches nothing. A training takes "
            f"{public.address}: {public.meaning}.",
            public.address,
        )
    if pretraining:
        file = str(pretraining.folder / pretraining.file)
        return f"MODEL.WEIGHTS auto: {pretraining.lacks(cfg)}. First: {pretraining.typed}", file
    return None


def _stored(folder: Path) -> str:
    """MODEL.WEIGHTS of a run; raises RunError where its config holds none."""
    return str(config_of(Run.open(folder))["MODEL"]["WEIGHTS"])


@dataclasses.dataclass(frozen=True)
class StartingRun:
    """The run that makes what a detector starts from.

    Attributes:
        words: the command with its arguments, as typed behind `resdet`.
        preset: its config; the run folder has this name.
        file: of the run folder (`layout`).
        meaning: of that file, in words.
        alike: prefixes of the keys in which the run must be as the detector.
    """

    words: tuple[str, ...]
    preset: str
    file: str
    meaning: str
    alike: tuple[str, ...] = (NET,)

    @property
    def folder(self) -> Path:
        return Path("runs") / self.preset

    @property
    def typed(self) -> str:
        command, *words = self.words
        return f"python tools/{command}.py {' '.join(words)}"

    def lacks(self, cfg: Any) -> str:
        """Why a detector with this config cannot start from the run; "" where it can."""
        if not (self.folder / layout.RUN).exists():
            return f"{self.folder} is not there"
        try:
            return self._lacks(Run.open(self.folder), cfg)
        except RunError as error:  # it is damaged
            return str(error)

    def _lacks(self, run: Run, cfg: Any) -> str:
        if run.state != "finished" or not (self.folder / self.file).exists():
            return f"{self.folder} is {run.state}: finish it with {self.typed} --resume"
        # Both as a file has them: a tuple and a list of the same values are one.
        there, here = stored_keys(run), dict(flatten(yaml.safe_load(cfg.dump())))
        odd = [
            f"{key} is {there[key]} there, {here[key]} here"
            for key in here
            if key.startswith(self.alike)
            and not _is_free(key, cfg)
            and _meant(key, there[key], cfg) != _meant(key, here[key], cfg)
        ]
        return f"{self.folder} is of another net: {', '.join(odd)}" if odd else ""


def _found_by_first(cfg: Any) -> tuple[str, str]:
    """As `_found`: the main process looks for all, whose machines may hold different files."""
    if comm.get_world_size() == 1:
        return _found(cfg)
    found: tuple[str, str] | UserError | None = None
    if comm.is_main_process():
        try:
            found = _found(cfg)
        except UserError as error:
            found = error
    found = comm.all_gather(found)[0]
    if isinstance(found, UserError):
        raise found
    assert found is not None
    return found


def _found(cfg: Any) -> tuple[str, str]:
    """The weights and what they are; raises ConfigError with what to type where there are none."""
    net, options = cfg.MODEL.NET.NAME, _options_of_its_own(cfg)
    if not net:
        raise ConfigError(
            "MODEL.WEIGHTS is auto, which follows from the net, and MODEL.NET.NAME is empty. Name "
            "a net, or give MODEL.WEIGHTS a file."
        )
    named = " ".join((net, *(["with", ", ".join(options)] if options else ["under that name"])))
    pretraining, public = pretraining_of(cfg), public_of(cfg)
    lacks = [pretraining.lacks(cfg) if pretraining else f"no preset pretrains a {named}"]
    if pretraining and lacks == [""]:
        return str(pretraining.folder / pretraining.file), pretraining.meaning
    if public:
        try:
            fetch(public.address)
            return public.address, public.meaning
        except WeightsError as error:
            lacks.append(str(error))
    elif _is_whole(cfg):
        lacks.append("nobody publishes a detector with these anchors and heads")
    else:
        lacks.append(f"nobody publishes weights of a {named}")
    raise ConfigError(_page(pretraining, lacks, is_whole=_is_whole(cfg)))


def pretraining_of(cfg: Any) -> StartingRun | None:
    """The run that a detector with this config starts from; None where no preset makes it."""
    return _detector_of_coco(cfg) if _is_whole(cfg) else _classifier(cfg)


def public_of(cfg: Any) -> PublicWeights | None:
    """The public weights of its net; None where nobody publishes such."""
    return (
        None if _options_of_its_own(cfg) or _is_whole(cfg) else public_weights(cfg.MODEL.NET.NAME)
    )


def _is_whole(cfg: Any) -> bool:
    """Whether it starts from a whole detector, whose predictors it takes."""
    return bool(cfg.TRANSFER.HEADS == "by_name")


def _classifier(cfg: Any) -> StartingRun | None:
    """Of the net, with its options; None where no preset pretrains it."""
    options = _options_of_its_own(cfg)
    preset = f"imagenet_{cfg.MODEL.NET.NAME}"
    # One whose preset has the option itself.
    if (of_shortcut := f"{preset}_{cfg.MODEL.NET.SHORTCUT.lower()}") in presets.names("pretrain"):
        preset = of_shortcut
        options = [option for option in options if not option.startswith(SHORTCUT)]
    if preset not in presets.names("pretrain"):
        return None
    words = ("pretrain_cls", "--config", preset, *options)
    return StartingRun(words, preset, layout.CLASSIFIER, "trained here on ImageNet")


def _detector_of_coco(cfg: Any) -> StartingRun | None:
    """The paper's detector around the net, with global context where the config has it."""
    short = cfg.MODEL.NET.NAME.replace("resnet", "r")
    preset = f"coco_{short}{'_context' if cfg.MODEL.REGION_HEADS.CONTEXT else ''}"
    is_papers = cfg.MODEL.BACKBONE.NAME == "build_net_backbone"
    if _options_of_its_own(cfg) or not is_papers or preset not in presets.names():
        return None
    return StartingRun(
        ("train_det", "--config", preset),
        preset,
        layout.DETECTOR,
        "a detector trained here on COCO",
        (NET, "MODEL.ANCHOR_GENERATOR.", "MODEL.REGION_HEADS."),
    )


def _options_of_its_own(cfg: Any) -> list[str]:
    """Keys of MODEL.NET that make another net than the usual one of this name, with values."""
    return [
        f"{key} {value}"
        for key, off in _defaults().items()
        if key.startswith(NET)
        and not _is_free(key, cfg)
        and _meant(key, value := get_key(cfg, key), cfg) != _meant(key, off, cfg)
    ]


@functools.cache
def _defaults() -> dict[str, Any]:
    return dict(flatten(get_cfg()))


def _meant(key: str, value: Any, cfg: Any) -> Any:
    """The value of a key of the net, and where the key is off, what the family then has: whoever
    types that means the same net."""
    family, variant = family_of(cfg.MODEL.NET.NAME), depth_and_ending(cfg.MODEL.NET.NAME)
    if family is None or variant is None or not key.startswith(NET):
        return value
    is_off = value == _defaults()[key]
    return family.usual(variant[1]).get(key.removeprefix(NET).lower(), value) if is_off else value


def _is_free(key: str, cfg: Any) -> bool:
    family = family_of(cfg.MODEL.NET.NAME)
    # Of ours only VGG's fc6 has weights for each cell of a region.
    return key in _FREE or (key == POOLED_SIZE and family is not None and family.net is not VGG)


def _page(pretraining: StartingRun | None, lacks: list[str], *, is_whole: bool) -> str:
    ways = [("pretrain it", pretraining.typed)] if pretraining else []
    if is_whole:
        ways += [
            ("another detector", f"add to this command: {WEIGHTS} FILE"),
            ("a classifier instead", "add to this command: TRANSFER.HEADS new"),
        ]
    else:
        ways += [
            ("a file or an address", f"add to this command: {WEIGHTS} FILE"),
            ("random weights", f"add to this command: {FROM_SCRATCH} True (that is no transfer)"),
        ]
    lines = [
        "MODEL.WEIGHTS is auto, and there is nothing to start from:",
        *(f"  {line}" for line in lacks),
        "One of these does:",
        *(f"  {way:24}{what}" for way, what in ways),
    ]
    return "\n".join(lines)
