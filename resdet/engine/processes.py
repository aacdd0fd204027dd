"""One process or several: threads, torchrun's environment, Detectron2's `launch`.

Not for: what the processes do.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import launch
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm

from resdet.engine.parallel import connect, gathered, is_lost_peer
from resdet.errors import ConfigError, ResdetError, TrainingStopped
from resdet.run.folder import read_json, write_json

# What is left of the time that an exchange waits, for writing the checkpoint itself.
LONGEST_DISK_WAIT = DEFAULT_TIMEOUT.total_seconds() - 300


def disconnect() -> None:
    """Ends the group of processes with its threads.

    Detectron2 keeps the group in a cache, and DistributedDataParallel in cycles. It would end with
    the interpreter, whose end its threads do not survive: one that was still letting go of the last
    collective then aborted the process after its work.
    """
    comm._get_global_gloo_group.cache_clear()
    torch.distributed.destroy_process_group()
    gc.collect()


def run_in_processes(
    main: Callable[[argparse.Namespace], int], args: argparse.Namespace, device: str
) -> int:
    """Runs `main(args)` here, in the processes torchrun made, or on `--num-gpus` GPUs.

    Args:
        device: MODEL.DEVICE of the config; "auto" is a GPU where there is one.

    Raises:
        ConfigError: more GPUs asked for than there are, one by its number for all processes, or a
            launcher that does not tell which is whose.
    """
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if on_gpu:
            torch.cuda.set_device(_own_gpu(device))
        try:
            # As long as Detectron2's launch: one may read, score or write while others wait.
            connect("nccl" if on_gpu else "gloo", DEFAULT_TIMEOUT)
        except RuntimeError as error:
            first = str(error).strip().partition("\n")[0]
            raise TrainingStopped(
                f"the {os.environ['WORLD_SIZE']} processes could not be connected: {first}\nIs one "
                "of them gone, or an address or port not reachable? Start all of them again."
            ) from None
        try:
            return main(args)
        except RuntimeError as error:
            if not is_lost_peer(error):
                raise
            raise TrainingStopped(
                "another process of this command ended: see its own page."
            ) from None
        finally:
            disconnect()
    if args.num_gpus * args.num_machines <= 1:
        return main(args)
    _refuse_launch(args, device)
    if torch.cuda.device_count() < args.num_gpus:
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}. "
            "On CPUs, start several processes with torchrun."
        )
    with tempfile.TemporaryDirectory() as folder:
        error_file = Path(folder) / "error.json"
        try:
            launch(
                _in_child,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, args, error_file),
            )
        except Exception:
            raise_reported(error_file)
            raise
    return 0


def one_first(work: Callable[[], Any]) -> Any:
    """What `work` gives in each process; the first of each machine does it before the others.

    For work that leaves something in the user's cache, which the others then find there.

    Raises:
        ResdetError: what a first process met, in all of them.
    """
    if comm.get_world_size() == 1:
        return work()
    is_first = _rank_here() == 0
    result, error = None, None
    if is_first:
        try:
            result = work()
        except ResdetError as met:
            error = met
    for met_elsewhere in [error, *comm.all_gather(error)]:
        if met_elsewhere is not None:
            raise met_elsewhere
    return result if is_first else work()


def main_alone(work: Callable[[], Any]) -> Any:
    """What `work` gives in the main process, in each; the others do nothing.

    For what one process decides for all, or makes in the run folder.

    Raises:
        ResdetError: what the main process met, in all of them: none waits for one that has ended.
    """
    result, error = None, None
    if comm.is_main_process():
        try:
            result = work()
        except ResdetError as met:
            error = met
    result, error = gathered((result, error))[0]
    if error is not None:
        raise error
    return result


def refuse_long_disk_wait(seconds: float) -> None:
    """Raises ConfigError where the other processes would not wait as long as the first one.

    Args:
        seconds: ENGINE.DISK_WAIT. The first process waits for space; the others wait for it in
            their next exchange.
    """
    if comm.get_world_size() > 1 and seconds > LONGEST_DISK_WAIT:
        raise ConfigError(
            f"ENGINE.DISK_WAIT is {seconds:g} s, and there are {comm.get_world_size()} processes: "
            "while the first one waits for space, the others wait for it, and give up after "
            f"{DEFAULT_TIMEOUT.total_seconds() / 60:g} minutes. Set at most "
            f"{LONGEST_DISK_WAIT:g}; what then stops goes on with --resume auto."
        )


def _rank_here() -> int:
    """Among the processes of this machine, as torchrun or Detectron2's launch tells; among all,
    where neither does."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    try:
        return comm.get_local_rank()
    except AssertionError:  # no group of this machine
        return comm.get_rank()


def _refuse_launch(args: argparse.Namespace, device: str) -> None:
    """Raises ConfigError for a device or an address that Detectron2's launch cannot serve."""
    if device != "auto" and device != "cuda":
        raise ConfigError(
            f"--num-gpus {args.num_gpus} starts a process on each GPU, and MODEL.DEVICE is "
            f"{device}. Set MODEL.DEVICE cuda, or start processes on CPUs with torchrun."
        )
    if args.num_machines > 1 and any(
        w in args.dist_url for w in ("auto", "127.0.0.1", "localhost")
    ):
        raise ConfigError(
            f"--num-machines is {args.num_machines}, and --dist-url {args.dist_url} is an address "
            "on each machine alone. Give all the same: --dist-url tcp://FIRST_MACHINE:PORT."
        )


def _own_gpu(device: str) -> int:
    """The GPU of this process of torchrun.

    Raises:
        ConfigError: there is none for it.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            "RANK and WORLD_SIZE are set, and LOCAL_RANK is not: which GPU is this process's? "
            "Start with torchrun, or let the launcher set it (srun: LOCAL_RANK=$SLURM_LOCALID)."
        )
    local, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if ":" in device:
        raise ConfigError(
            f"MODEL.DEVICE is {device}, one GPU for {os.environ['WORLD_SIZE']} processes. Set "
            "MODEL.DEVICE cuda, so that each takes its own, or start one process."
        )
    if local >= here:
        raise ConfigError(
            f"process {local} of this machine finds {here} GPUs: start at most as many processes "
            "as there are (torchrun --nproc-per-node), each of which sees all of them "
            "(CUDA_VISIBLE_DEVICES), or set MODEL.DEVICE cpu."
        )
    return local


def _in_child(main: Callable[[argparse.Namespace], int], args: Any, error_file: Path) -> None:
    """Runs in a process of its own, whose errors reach the parent as text alone."""
    try:
        main(args)
    except ResdetError as error:
        # The first to fail; the others end because of it.
        if not error_file.exists():
            write_json(error_file, {"page": str(error), "exit_code": error.exit_code})
        raise


def raise_reported(error_file: Path) -> None:
    """Raises the error that a child left, with its page and exit code, if it left one."""
    if error_file.exists():
        content = read_json(error_file)
        error = ResdetError(content["page"])
        error.exit_code = content["exit_code"]
        raise error from None
