"""The run folder of a command: made or resumed, locked, with how the command ended.

Not for: what is in it (`resdet.run`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.utils import comm

from resdet.cli.training.stored_config import refuse_other_config
from resdet.cli.training.training_command import device_name, folder_of
from resdet.config import Config
from resdet.engine import machine_limits
from resdet.engine.metric_writers import set_up_log
from resdet.engine.processes import main_alone
from resdet.engine.profiling import left_in
from resdet.engine.versions import versions
from resdet.errors import Interrupted, RunError, TrainingStopped, UserError
from resdet.run import layout
from resdet.run.folder import Run, write_text

logger = logging.getLogger("resdet.cli.training.run_folder")


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
        run.writes = comm.is_main_process()
        try:
            with contextlib.ExitStack() as held:
                main_alone(lambda: held.enter_context(run.lock(wait=args.waits_for_lock)))
                if not run.writes:
                    yield run
                    return
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
            if run.writes and is_new and not (path / layout.RUN).exists():
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
    """The run; where it is new, made by the main process. Raises RunError as `run_folder`, in every
    process."""
    if not is_new:
        run = Run.open(path)
        if run.kind != kind:
            raise RunError(f"{path} is a {run.kind} run, this command makes {kind} runs.")
        if resuming:
            refuse_other_config(run, config)
        return run

    def make() -> None:
        Run.create(
            path, kind=kind, config_text=config.to_yaml(), command=sys.argv, seed=config.cfg.SEED
        )

    main_alone(make)
    return Run.open(path)


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
        device=device_name(config.cfg.MODEL.DEVICE),
        threads=threads,
    )
