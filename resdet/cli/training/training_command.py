"""What both training commands share: arguments, the run folder, the device, resume.

Not for: what is trained (`resdet.cli.training.pretrain_cls`, `resdet.cli.training.train_det`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.utils import comm

from resdet.config import (
    Config,
    check_reference_batch,
    flatten,
    get_cfg,
    resolve,
    set_key,
    unread,
)
from resdet.config.keys import COUNTS
from resdet.engine import machine_limits
from resdet.engine.data_workers import Loader, usable_cores
from resdet.engine.metric_writers import set_up_log, start_log
from resdet.engine.processes import refuse_long_disk_wait
from resdet.engine.profiling import left_in
from resdet.engine.speed.cpu_features import instruction_limits
from resdet.engine.speed.kept_memory import keep_freed
from resdet.engine.speed.precision import describe_arithmetic, set_arithmetic
from resdet.engine.starts.start_checks import processes_here, raise_open_files, settle_device
from resdet.engine.versions import versions
from resdet.errors import (
    ConfigError,
    Interrupted,
    RunError,
    TrainingStopped,
    UserError,
    first_few,
)
from resdet.run import layout
from resdet.run.folder import Run, write_text

logger = logging.getLogger("resdet.cli.training.training_command")

AUTO = "auto"
# Keys that may change between a run and its --resume: they do not shape the training.
FREE_ON_RESUME = ("OUTPUT_DIR", "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.", "EVAL.",
                  "DATALOADER.NUM_WORKERS", "ENGINE.KEEP_CHECKPOINTS", "ENGINE.THREADS",
                  "ENGINE.WORKERS", "ENGINE.FUSED_OPTIMIZER", "ENGINE.COMPILE",
                  "ENGINE.ACTIVATION_CHECKPOINTING", "ENGINE.KEEP_MEMORY",
                  "ENGINE.ALLOW_CHANGED_DATA", "ENGINE.WORKER_TIMEOUT", "ENGINE.DISK_WAIT",
                  "DATASETS.TEST", "LOC.SCORES", "LOC.RCNN_BATCH")  # fmt: skip
# Keys that may differ when a finished run is scored again: they do not shape what it detects.
FREE_ON_EVAL = ("OUTPUT_DIR", "DATASETS.TEST", "PRETRAIN.VAL", "PRETRAIN.TEST", "EVAL.SAMPLES",
                "EVAL.ENGINE", "EVAL.ALLOW_LEAK", "TEST.EVAL_IMAGES", "TEST.EVAL_PERIOD",
                "TEST.BEST_METRIC", "TEST.EARLY_STOP", "TEST.VALIDATION_LOSS",
                "TEST.EXPECTED_RESULTS", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "ENGINE.THREADS",
                "ENGINE.WORKERS", "ENGINE.FUSED_OPTIMIZER", "ENGINE.COMPILE", "ENGINE.KEEP_MEMORY",
                "ENGINE.ACTIVATION_CHECKPOINTING", "ENGINE.WORKER_TIMEOUT",
                "ENGINE.DISK_WAIT", "LOC.TEST", "LOC.SIZES", "LOC.SCORES",
                "LOC.RCNN_BATCH")  # fmt: skip


def device_of(config_file: str | Path | None, opts: list[str]) -> str:
    """MODEL.DEVICE as stated, else "auto", before any process starts.

    Raises:
        ConfigError: what `resolve` refuses.
    """
    config = resolve(config_file, opts)
    return str(config.cfg.MODEL.DEVICE) if "MODEL.DEVICE" in config.stated else "auto"


def read_config(config_file: str | Path | None, opts: list[str]) -> Config:
    """The resolved config with what every training needs: device, seed, schedule.

    Raises:
        ConfigError: what `resolve` refuses; a GPU asked for that is not there; a wait for the disk
            that other processes do not share.
    """
    start_log()
    config = resolve(config_file, opts)
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
    check_reference_batch(config)
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
        logger.info("%s: %s", _device_name(cfg.MODEL.DEVICE), describe_arithmetic())
        if (index := torch.device(cfg.MODEL.DEVICE).index) is not None:
            # What waits for "the" GPU, or pins memory for it, then means this one.
            torch.cuda.set_device(index)


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
    if args.output and where == "command line" and Path(args.output) != Path(stated):
        raise ConfigError(
            f"--output is {args.output}, and OUTPUT_DIR {stated}: both name the run folder. Leave "
            "one of them out."
        )
    args.output = args.output or stated


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """The run folder that the command is about."""
    return Path(args.output or f"runs/{name}")


def run_of_best(args: argparse.Namespace, config: Config, name: str, file: str) -> Run | None:
    """--best: the run whose best model is scored, as the run was made; args.output is DIR_best.

    Args:
        file: the run's best model (`layout`).

    Returns:
        None without --best.

    Raises:
        ConfigError: --best without --eval-only, or beside MODEL.WEIGHTS of something else.
        RunError: there is no such run, it is not finished, or it kept no best model.
    """
    if not args.best:
        return None
    if not args.eval_only:
        raise ConfigError("--best states what --eval-only scores. Add --eval-only.")
    run = Run.open(folder_of(args, name))
    path, stated = run.path / file, config.cfg.MODEL.WEIGHTS
    if stated and stated not in (config_of(run)["MODEL"]["WEIGHTS"], str(path)):
        raise ConfigError(
            f"MODEL.WEIGHTS is {stated}, and --best scores {path}. Leave one of the two out."
        )
    if not path.exists() or not run.info.get("best"):
        raise RunError(
            f"{run.path} kept no best model. A training keeps one, as {file}, with "
            "TEST.BEST_METRIC and TEST.EVAL_PERIOD."
        )
    if run.state != "finished":
        raise RunError(
            f"{run.path} is {run.state}: its best model is not known yet. Finish it with --resume, "
            f"or score the best so far: --output DIR MODEL.WEIGHTS {path}"
        )
    as_in_run(config, run)
    args.output = f"{run.path}_best"
    return run


def record_best(run: Run, source: Run, config: Config) -> None:
    """States in the run which training its model is the best of and by what; call in its lock."""
    run.update(
        **source.facts_of_training(), best_of={**source.info["best"], "folder": str(source.path)}
    )
    if run.writes:
        # The training may have gone on since its best was scored before.
        write_text(run.path / layout.CONFIG, config.to_yaml())


def run_to_score(config: Config, folder: Path, own: str, best: str) -> Run | None:
    """The run in the folder of --eval-only, whose values the config takes; None for a new folder.

    Args:
        own, best: its models (`layout`).

    Raises:
        RunError: MODEL.WEIGHTS is another file than its own, or a stated key differs.
    """
    if not (folder / layout.RUN).exists():
        return None
    run, stated = Run.open(folder), config.cfg.MODEL.WEIGHTS
    made_from = config_of(run)["MODEL"]["WEIGHTS"]
    if stated == str(folder / best) != made_from:
        raise RunError(
            f"MODEL.WEIGHTS is {stated}, the best model of this run. Leave it out and add --best: "
            f"the results of {folder} are those of its last model."
        )
    if stated and stated not in (made_from, str(folder / own)):
        raise RunError(
            f"MODEL.WEIGHTS is {stated}, but {folder} is the run of another model, made from "
            f"{made_from or 'random weights'}. Leave MODEL.WEIGHTS out, or score that file into a "
            "folder of its own: --output DIR."
        )
    as_in_run(config, run)
    return run


def as_in_run(config: Config, run: Run) -> None:
    """Gives the config the values that the run was made with, to score it as it is.

    Raises:
        RunError: a stated key differs, and it is not one of `FREE_ON_EVAL`.
    """
    stored = _stored_keys(run)
    now = dict(flatten(yaml.safe_load(config.to_yaml())))
    odd = [
        f"{key} is {now[key]!r} ({where}), the run was made with {stored.get(key)!r}"
        for key, where in sorted(config.stated.items())
        if now[key] != stored.get(key)
        and not key.startswith((*FREE_ON_EVAL, *COUNTS, "SOLVER.", "MODEL.WEIGHTS"))
    ]
    if odd:
        raise RunError(
            f"{run.path}: {first_few(odd, indent='')}\nIts results would be those of another "
            "detector. Use the old values, or score its weights into a new folder: "
            f"MODEL.WEIGHTS {run.path}/… with another --output."
        )
    for key, value in stored.items():
        # Another test set has other faults; where these are not stated, the run's values hold.
        is_restated = key in COUNTS and key in config.stated
        if key in now and not key.startswith(FREE_ON_EVAL) and not is_restated:
            set_key(config.cfg, key, value)


@contextlib.contextmanager
def run_folder(args: argparse.Namespace, config: Config, kind: str, name: str) -> Iterator[Run]:
    """The run folder of this command, new or resumed, locked; its state records how it ended.

    With --resume auto it is held as soon as the lock of a process that died elsewhere is stale.

    A folder that was made here is removed when the command is refused before it trains.

    Raises:
        RunError: it is taken, in use, of another kind, or its config differs on --resume.
    """
    path = folder_of(args, name)
    config.cfg.OUTPUT_DIR = str(path)
    with _signals_as_pages(), machine_limits.as_pages(path):
        # --resume of --eval-only is about images, not steps.
        resuming = args.resume and not args.eval_only
        is_new = not resuming and not (args.eval_only and (path / layout.RUN).exists())
        run = _open_or_create(path, config, kind, is_new=is_new, resuming=resuming)
        comm.synchronize()
        if not comm.is_main_process():
            run = Run.open(path)
            run.writes = False
            yield run
            return
        try:
            with run.lock(wait=args.waits_for_lock):
                _remove_leftovers(path)
                if not args.eval_only:
                    # What may change on --resume (F36): the file has the run's current values.
                    write_text(path / layout.CONFIG, config.to_yaml())
                    run.update(max_iter=config.cfg.SOLVER.MAX_ITER)
                if is_new or resuming:
                    _note_machine(run, config)
                set_up_log(path)
                with _state_recorded(run, is_new=is_new, trains=is_new or resuming):
                    yield run
        finally:
            if is_new and not (path / layout.RUN).exists():
                with contextlib.suppress(OSError):
                    path.rmdir()


@contextlib.contextmanager
def _signals_as_pages() -> Iterator[None]:
    """Signals between the work and its end; those within have written the run's state."""
    try:
        with machine_limits.signals_raised():
            yield
    except machine_limits.SignalCame as error:
        raise Interrupted(
            f"stopped by {error.number.name}; go on with --resume", exit_code=128 + error.number
        ) from None


def _open_or_create(path: Path, config: Config, kind: str, *, is_new: bool, resuming: bool) -> Run:
    """The run; where it is new, made by the main process. Raises RunError as `run_folder`."""
    if not is_new:
        run = Run.open(path)
        if run.kind != kind:
            raise RunError(f"{path} is a {run.kind} run, this command makes {kind} runs.")
        if resuming:
            _refuse_other_config(run, config)
        return run
    if not comm.is_main_process():
        return Run(path, {})
    return Run.create(
        path,
        kind=kind,
        config_text=config.to_yaml(),
        command=sys.argv,
        seed=config.cfg.SEED,
    )


@contextlib.contextmanager
def _state_recorded(run: Run, *, is_new: bool, trains: bool) -> Iterator[None]:
    """Writes how the block ended into run.json, and gives signals and limits their pages."""
    try:
        try:
            with left_in(run), machine_limits.as_pages(run.path):
                yield
        except machine_limits.SignalCame as error:
            kept = "nothing was to be saved yet" if run.is_empty() else "go on with --resume"
            page = f"stopped by {error.number.name}; {kept}"
            raise Interrupted(page, exit_code=128 + error.number) from None
    except (TrainingStopped, Interrupted) as error:
        # A finished run stays one, whatever stopped it afterwards.
        if trains and run.state != "finished":
            state = "interrupted" if isinstance(error, Interrupted) else "stopped"
            # The disk may be what stopped it, or the folder that is gone.
            with contextlib.suppress(OSError, TrainingStopped):
                run.update(state=state)
        raise
    except UserError:
        if is_new and run.state == "created" and run.is_empty():
            run.discard()
        raise


def _remove_leftovers(path: Path) -> None:
    """Removes temporary files of a process that was killed while it wrote; the lock is held."""
    now = time.time()
    for leftover in path.rglob("*.tmp"):
        # Not those of processes that begin with this one, or ask for the lock.
        if not leftover.name.startswith(layout.LOCK):
            with contextlib.suppress(OSError):
                if leftover.stat().st_mtime < now:
                    leftover.unlink()


def _note_machine(run: Run, config: Config) -> None:
    """What the run is made with, in run.json; another number of threads is a warning."""
    threads, before = torch.get_num_threads(), run.info.get("threads")
    if before not in (None, threads):
        logger.warning(
            "%s was made with %s threads so far, %d go on: same images in the same steps, but not "
            "the same to the bit. ENGINE.THREADS sets them.",
            run.path,
            before,
            threads,
        )
    run.update(
        derived=config.derived,
        versions=versions(),
        device=_device_name(config.cfg.MODEL.DEVICE),
        threads=threads,
    )


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device).index)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"CPU, {platform.machine()}, {capability}{instruction_limits()}"


def _stored_keys(run: Run) -> dict[str, Any]:
    """Key to value of the run's config; a key that is newer than the run is off, as it was then."""
    return {**dict(flatten(get_cfg())), **dict(flatten(config_of(run)))}


def config_of(run: Run) -> dict[str, Any]:
    """The run's config.yaml as a tree; raises RunError where it holds none."""
    try:
        tree = yaml.safe_load(run.config_text)
    except (yaml.YAMLError, ValueError, RecursionError):
        tree = None
    # One key, by which weights are told from those that a command states, stands for the rest.
    model = tree.get("MODEL") if isinstance(tree, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("WEIGHTS"), str):
        raise RunError(
            f"{run.path / layout.CONFIG} is damaged: it holds no config of a run. Bring back a "
            "copy of it, or make the run again."
        )
    assert isinstance(tree, dict)
    return tree


def _refuse_other_config(run: Run, config: Config) -> None:
    before = _stored_keys(run)
    after = dict(flatten(yaml.safe_load(config.to_yaml())))
    free: tuple[str, ...] = FREE_ON_RESUME
    if after["SOLVER.SCHEME"] != "joint" or run.kind == "localization":
        # The steps that have ended are as long as they are.
        free = tuple(key for key in free if key != "SOLVER.MAX_ITER")
    odd = [
        f"{key} is {after.get(key)!r}, the run was started with {before.get(key)!r}"
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key) and not key.startswith(free)
    ]
    if odd:
        raise RunError(
            f"resume of {run.path}: {first_few(odd, indent='').replace(chr(10), '; ')}. "
            "Use the old values, or start a new run with another --output."
        )
    reached = max(before["SOLVER.MAX_ITER"], run.info.get("max_iter", 0))
    if reached > after["SOLVER.MAX_ITER"]:
        raise RunError(
            f"resume of {run.path}: SOLVER.MAX_ITER is {after['SOLVER.MAX_ITER']}, the run was "
            f"made for {reached}. It may grow, not shrink."
        )
