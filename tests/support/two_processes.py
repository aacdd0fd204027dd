"""What two processes of torchrun do with the small loop; a script, printing JSON from each.

torchrun --nproc-per-node 2 two_processes.py FOLDER
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch
from detectron2.utils import comm

from resdet.engine.checkpoint import resume
from resdet.engine.parallel import distributed
from resdet.engine.processes import disconnect
from resdet.errors import TrainingStopped
from resdet.run.folder import Run
from tests.support import loops


def loop_of(rank: int, spoil_at: int | None = None):
    """The small loop; each process sees other images, so that live norms differ."""
    loop = loops.make_loop(spoil_at=spoil_at)
    net = loop.model
    loop.model = distributed(net)
    batches = loop.batches
    loop.batches = lambda start: (x + rank for x in batches(start))
    loop.losses = lambda x: {"loss": loop.model(x).square().mean()}
    return loop


def run_in(folder: Path, rank: int) -> Run:
    if rank == 0:
        loops.make_run(folder)
    comm.synchronize()
    return Run.open(folder)


def values_of(loop) -> list[torch.Tensor]:
    return [t.clone() for t in loop.model.module.state_dict().values()]


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = comm.get_rank()
    whole = loop_of(rank)
    loops.train(whole, run_in(folder / "whole", rank), 0, 10)

    run = run_in(folder / "cut", rank)
    with contextlib.suppress(RuntimeError):
        loops.train(loop_of(rank), run, 0, 10, loops.Killed(7))
    again = loop_of(rank)
    begun = resume(again, run)
    loops.train(again, run, begun, 10)
    equal = all(map(torch.equal, values_of(whole), values_of(again)))

    run = run_in(folder / "spoiled", rank)
    page = ""
    try:
        loops.train(loop_of(rank, spoil_at=3 if rank == 1 else None), run, 0, 10)
    except TrainingStopped as error:
        page = str(error)
    comm.synchronize()
    kept = sorted(p.name for p in run.checkpoints.glob("*.pth"))
    mean = next(b for n, b in again.model.module.named_buffers() if n.endswith("running_mean"))
    found = {"rank": rank, "begun": begun, "equal": equal, "page": page, "kept": kept}
    # In one piece: `print` writes the line break apart, and the other's line may come between.
    sys.stdout.write(json.dumps({**found, "mean": mean.tolist()}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    disconnect()
