"""One process or several: threads, torchrun's environment, Detectron2's `launch`.

Not for: what the processes do.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import torch
from detectron2.engine import launch

from resdet.errors import ConfigError


def run_in_processes(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Runs `main(args)` here, in the processes torchrun made, or on `--num-gpus` GPUs.

    Raises:
        ConfigError: more GPUs asked for than there are.
    """
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
        try:
            return main(args)
        finally:
            torch.distributed.destroy_process_group()
    if args.num_gpus * args.num_machines <= 1:
        return main(args)
    if torch.cuda.device_count() < args.num_gpus:
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}. "
            "On CPUs, start several processes with torchrun."
        )
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's flags for several processes."""
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default=f"tcp://127.0.0.1:{2**15 + os.getuid() % 2**14}")
