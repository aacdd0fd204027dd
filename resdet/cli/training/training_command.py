"""What all training commands begin with: the config, the process, where to write, resume.

Not for: what is trained (`pretrain_cls`, `train_det`), or the run folder (`run_folder`).
"""

from __future__ import annotations

import argparse
import logging
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

from resdet.bounded_files import open_file
from resdet.config import (
    Config,
    check_reference_batch,
    presets,
    refuse_late_flags,
    resolve,
    unread,
)
from resdet.config.config import OF_A_RUN
from resdet.engine.data_workers import Loader, usable_cores
from resdet.engine.metric_writers import start_log
from resdet.engine.processes import refuse_long_disk_wait, run_in_processes
from resdet.engine.speed.cpu_features import instruction_limits
from resdet.engine.speed.kept_memory import keep_freed
from resdet.engine.speed.precision import describe_arithmetic, set_arithmetic
from resdet.engine.starts.start_checks import processes_here, raise_open_files, settle_device
from resdet.errors import ConfigError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.run.renamed_keys import RENAMED

logger = logging.getLogger("resdet.cli.training.training_command")

AUTO, COMMAND_LINE = "auto", "command line"


def run_with_config(
    main: Callable[[argparse.Namespace], int], args: argparse.Namespace, *, name: str, example: str
) -> int:
    """Runs `main` in the processes of the command, --config made a path; gives the exit code.

    Args:
        name: of the command. example: of its presets.

    Raises:
        ConfigError: no --config, where no run is gone on with or scored, or one that is neither a
            file nor a preset; a flag behind a key; as `device_of` and `run_in_processes`.
    """
    refuse_late_flags(args.opts)
    if not args.config and args.output and (args.resume or args.eval_only):
        own = Path(args.output) / layout.CONFIG
        if own.exists():
            args.config = str(own)  # the run goes on, or is scored, as it was made
        elif args.resume != AUTO:
            raise ConfigError(
                f"{own} does not exist, so {args.output} is no run that could go on or be scored "
                "by its own config. Name the folder of a run, or add --config FILE."
            )
    if not args.config:
        raise ConfigError(
            f"{name} needs --config FILE: a path, or the name of a preset such as {example}."
        )
    args.config = str(presets.find(args.config))
    return run_in_processes(main, args, device_of(args.config, args.opts))


def device_of(config_file: str | Path | None, opts: list[str]) -> str:
    """MODEL.DEVICE as stated, else "auto", before any process starts.

    Raises:
        ConfigError: what `resolve` refuses.
    """
    config = resolve(config_file, opts, renamed=_renamed(config_file))
    return str(config.cfg.MODEL.DEVICE) if "MODEL.DEVICE" in config.stated else "auto"


def _is_of_run(config_file: str | Path | None) -> bool:
    """Whether this is a run's own config, with every value that the run had, or a copy of it."""
    if config_file is None:
        return False
    path = Path(config_file)
    # Of the first runs it has no such line.
    return (path.parent / layout.RUN).exists() or _first_line(path) == OF_A_RUN.encode()


def _first_line(path: Path) -> bytes:
    """Of a file that may be missing, or anything: what is wrong with it, its reader says. A stream
    can be read once, so nothing is taken from it here."""
    try:
        if not path.is_file():
            return b""
        with open_file(path) as file:
            return file.readline(len(OF_A_RUN) + 2).rstrip()
    except (OSError, ValueError):
        return b""


def _renamed(config_file: str | Path | None) -> Mapping[str, str]:
    """The older names that keys may have in a run's own config; of a file of a user's none."""
    return RENAMED if _is_of_run(config_file) else {}


def _scaled_to(config: Config, config_file: str | Path | None) -> int:
    """The batch to which the schedule of a run's own config was scaled when the run began; 0 where
    it was not."""
    if not _is_of_run(config_file) or config.stated.get("SOLVER.REFERENCE_BATCH") == COMMAND_LINE:
        return 0
    solver = resolve(config_file, renamed=_renamed(config_file)).cfg.SOLVER
    return int(solver.IMS_PER_BATCH) if solver.SCALE_LR == "linear" else 0


def read_config(config_file: str | Path | None, opts: list[str]) -> Config:
    """The resolved config with what every training needs: device, seed, schedule.

    Raises:
        ConfigError: what `resolve` refuses; a GPU asked for that is not there; a wait for the disk
            that other processes do not share.
    """
    start_log()
    config = resolve(config_file, opts, renamed=_renamed(config_file))
    cfg = config.cfg
    refuse_long_disk_wait(cfg.ENGINE.DISK_WAIT)
    settle_device(config)
    if cfg.SEED < 0:
        # Detectron2's default -1 means "another one each time", on main even a fixed data order.
        config.stated.pop("SEED", None)
        config.fill({"SEED": 0}, "a run must be repeatable")
    if "DATALOADER.NUM_WORKERS" not in config.stated:
        # On a CPU the net needs every core; a GPU needs data workers.
        spare = usable_cores() // processes_here(comm.get_world_size()) - 1
        workers = max(0, min(4, spare)) if cfg.MODEL.DEVICE.startswith("cuda") else 0
        config.fill({"DATALOADER.NUM_WORKERS": workers}, "the cores found here")
    for note in unread(config):
        logger.warning(note.text)
    check_reference_batch(config, scaled_to=_scaled_to(config, config_file))
    if cfg.SOLVER.WARMUP_ITERS * 10 > cfg.SOLVER.MAX_ITER:
        logger.warning(
            "SOLVER.WARMUP_ITERS %d is more than a tenth of SOLVER.MAX_ITER %d: the rate may never "
            "reach SOLVER.BASE_LR.",
            cfg.SOLVER.WARMUP_ITERS,
            cfg.SOLVER.MAX_ITER,
        )
    prepare_process(cfg)
    return config


def prepare_process(cfg: Any) -> None:
    """Threads, memory, arithmetic, limits and GPU of this process, as the config has them."""
    if cfg.ENGINE.THREADS > 0:
        torch.set_num_threads(cfg.ENGINE.THREADS)
    raise_open_files()
    Loader.silent_seconds = cfg.ENGINE.WORKER_TIMEOUT
    keep_freed(cfg.ENGINE.KEEP_MEMORY)
    set_arithmetic(cfg.ENGINE.TF32, cfg.ENGINE.DETERMINISTIC, cfg.CUDNN_BENCHMARK)
    if cfg.MODEL.DEVICE.startswith("cuda"):
        logger.info("%s: %s", device_name(cfg.MODEL.DEVICE), describe_arithmetic())
        if (index := torch.device(cfg.MODEL.DEVICE).index) is not None:
            # What waits for "the" GPU, or pins memory for it, then means this one.
            torch.cuda.set_device(index)


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device).index)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"CPU, {platform.machine()}, {capability}{instruction_limits()}"


def decide_resume(args: argparse.Namespace, name: str) -> None:
    """Makes args.resume True or False: "auto" goes on where there is something to go on from.

    The main process decides for all, before it makes the folder.

    Raises:
        ConfigError: beside --estimate, which goes on with nothing.
    """
    if args.resume and getattr(args, "estimate", False):
        raise ConfigError(
            "--estimate takes steps from the start and keeps nothing, and --resume goes on with a "
            "run, whose log and run.json have its own estimate. Leave one of the two out."
        )
    args.waits_for_lock = args.resume == AUTO
    if args.resume == AUTO:
        path = folder_of(args, name)
        goes_on = (path / layout.RUN).exists() and not Run.open(path).is_empty()
        args.resume = comm.all_gather(goes_on)[0] if comm.get_world_size() > 1 else goes_on
        logger.info("--resume auto: %s %s", path, "goes on" if args.resume else "starts anew")
    args.resume = bool(args.resume)


def refuse_test_without_steps(args: argparse.Namespace) -> None:
    """Raises ConfigError for --explain or --estimate beside --eval-only."""
    for flag in ("explain", "estimate"):
        if args.eval_only and getattr(args, flag, False):
            raise ConfigError(
                f"--{flag} is about a training, and --eval-only trains nothing. Leave one of the "
                "two out."
            )


def refuse_part_of_nothing(cfg: Any) -> None:
    """Raises ConfigError for MODEL.WEIGHTS_PART without a file that it could be a part of."""
    if cfg.MODEL.WEIGHTS_PART and not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            f"MODEL.WEIGHTS_PART is {cfg.MODEL.WEIGHTS_PART}, and MODEL.WEIGHTS is empty: give the "
            "file, or leave both out."
        )


def take_output(args: argparse.Namespace, config: Config) -> None:
    """OUTPUT_DIR, where it is stated, is --output; --output goes before that of a config file.

    Raises:
        ConfigError: the command line states both, and they differ.
    """
    where = config.stated.get("OUTPUT_DIR")
    if not where:
        return
    stated = str(config.cfg.OUTPUT_DIR)
    if args.output and where == COMMAND_LINE and Path(args.output) != Path(stated):
        raise ConfigError(
            f"--output is {args.output}, and OUTPUT_DIR {stated}: both name the run folder. Leave "
            "one of them out."
        )
    args.output = args.output or stated


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """The run folder that the command is about."""
    return Path(args.output or f"runs/{name}")
