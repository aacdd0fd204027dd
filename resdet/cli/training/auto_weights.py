"""MODEL.WEIGHTS auto: the pretraining run of the net, else its public weights, else a page.

    runs/imagenet_NET/model.safetensors    of `pretrain_cls --config imagenet_NET`, when finished
    weights of the same name               published by others, fetched or found in a cache
    neither                                refused, with what to type; random weights are asked for

TRANSFER.FROM_SCRATCH True asks for random weights, unless it stands in a file and auto is typed.
What was found stands in the run's config, so that --resume and a comparison see a file's name.

Not for: reading the file (`starting_point`).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from resdet.cli.training.stored_config import config_of
from resdet.config import Config, flatten, get_cfg, get_key, presets
from resdet.errors import ConfigError, WeightsError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights.addresses.fetch import fetch
from resdet.weights.addresses.public_weights import public_weights

logger = logging.getLogger("resdet.detect")

AUTO, COMMAND_LINE = "auto", "command line"
WEIGHTS, FROM_SCRATCH = "MODEL.WEIGHTS", "TRANSFER.FROM_SCRATCH"
# What a card sets, or a detector alone has: these do not make another net of the weights.
_FREE = ("MODEL.NET.NAME", "MODEL.NET.NORM", "MODEL.NET.NORM_EPS", "MODEL.NET.STRIDE_IN_1X1",
         "MODEL.NET.RES5_DILATION")  # fmt: skip


def settle(config: Config, folder: Path, args: argparse.Namespace) -> None:
    """Puts what MODEL.WEIGHTS auto means into the config; another value stays as it is.

    Args:
        folder: of the run; one that is gone on with, or scored, has what it began with.

    Raises:
        ConfigError: there is nothing to start from; the page has what to type.
    """
    if config.cfg.MODEL.WEIGHTS != AUTO:
        return
    where = config.stated.pop(WEIGHTS, "")
    if args.eval_only:
        config.fill({WEIGHTS: ""}, "auto: nothing is trained")
        return
    if args.resume and (folder / layout.RUN).exists():
        config.fill({WEIGHTS: _stored(folder)}, f"auto: what {folder} began with")
        return
    # A preset that trains without weights, too, does not answer who types auto.
    auto_alone_typed = where == COMMAND_LINE and config.stated.get(FROM_SCRATCH, "") != COMMAND_LINE
    if config.cfg.TRANSFER.FROM_SCRATCH and not auto_alone_typed:
        config.fill({WEIGHTS: ""}, f"auto, and {FROM_SCRATCH} is True")
        return
    try:
        value, meaning = _found(config.cfg)
    except ConfigError as error:
        if not args.explain:
            raise
        # To be read, nothing has to be there.
        logger.warning("%s\nExplained as from random weights.", error)
        config.stated.pop(FROM_SCRATCH, None)
        config.fill({WEIGHTS: "", FROM_SCRATCH: True}, "auto: nothing is here to start from")
        return
    logger.info("MODEL.WEIGHTS auto is %s: %s", value, meaning)
    config.fill({WEIGHTS: value}, f"auto: {meaning}")


def _stored(folder: Path) -> str:
    """MODEL.WEIGHTS of a run; raises RunError where its config holds none."""
    return str(config_of(Run.open(folder))["MODEL"]["WEIGHTS"])


def _found(cfg: Any) -> tuple[str, str]:
    """The weights and what they are; raises ConfigError with what to type where there are none."""
    net = cfg.MODEL.NET.NAME
    pretraining = Path("runs") / f"imagenet_{net}"
    is_usual = not _options_of_its_own(cfg)
    lacks = [f"{pretraining} is not there"]
    if is_usual and (pretraining / layout.RUN).exists():
        state = Run.open(pretraining).state
        if state == "finished" and (pretraining / layout.CLASSIFIER).exists():
            return str(pretraining / layout.CLASSIFIER), "trained here on ImageNet"
        lacks = [f"{pretraining} is {state}: finish it with pretrain_cls --resume"]
    public = public_weights(net) if is_usual else None
    if public:
        try:
            fetch(public.address)
            return public.address, public.meaning
        except WeightsError as error:
            lacks.append(str(error))
    elif not is_usual:
        lacks.append(
            f"nobody publishes weights of a {net} with {', '.join(_options_of_its_own(cfg))}"
        )
    else:
        lacks.append(f"nobody publishes weights of a {net} under that name")
    raise ConfigError(_page(net, lacks))


def _options_of_its_own(cfg: Any) -> list[str]:
    """Keys of MODEL.NET that make another net than the usual one of this name."""
    usual = dict(flatten(get_cfg()))
    return [
        f"{key} {get_key(cfg, key)}"
        for key in usual
        if key.startswith("MODEL.NET.") and key not in _FREE and get_key(cfg, key) != usual[key]
    ]


def _page(net: str, lacks: list[str]) -> str:
    own = f"imagenet_{net}"
    pretrain = [f"pretrain it             python tools/pretrain_cls.py --config {own}"]
    lines = [
        "MODEL.WEIGHTS is auto, and there is nothing to start from:",
        *(f"  {line}" for line in lacks),
        "One of these does:",
        *(f"  {line}" for line in pretrain if own in presets.names()),
        "  a file or an address    add to this command: MODEL.WEIGHTS FILE",
        f"  random weights          add to this command: {FROM_SCRATCH} True (that is no transfer)",
    ]
    return "\n".join(lines)
