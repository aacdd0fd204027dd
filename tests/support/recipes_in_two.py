"""What two processes of torchrun do with every key of a recipe on, and with a plateau of a net that
has no norms; a script, a JSON of each.

torchrun --nproc-per-node 2 recipes_in_two.py PLACE (with `tiny.class_folders(PLACE / "data")`)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from detectron2.utils import comm

from resdet.engine.processes import disconnect
from tests.support import recipes


def main(place: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = comm.get_rank()
    changes = {**recipes.EVERYTHING, "SOLVER.IMS_PER_BATCH": 8}
    whole = recipes.training_in(place, "whole", changes)
    scores = whole.train(resuming=False)
    recipes.killed_at(recipes.training_in(place, "cut", changes), 8)
    comm.synchronize()
    again = recipes.training_in(place, "cut", changes, resuming=True)
    again_scores = again.train(resuming=True)
    plateaus = {}
    for way in ("train", "val"):
        one = {**recipes.PLATEAU, **recipes.ALONE, "PRETRAIN.PLATEAU": way}
        training = recipes.training_in(place, f"alone {way}", one)
        training.train(resuming=False)
        plateaus[way] = training.loop.scheduler.decisions
    a, b = (training.net.state_dict() for training in (whole, again))
    found = {
        "rank": rank,
        "begun": again.loop.start_iter,
        "equal": all(torch.equal(a[k], b[k]) for k in a) and scores == again_scores,
        "sum": sum(t.double().sum().item() for t in a.values()),
        "rate": whole.loop.optimizer.param_groups[0]["lr"],
        "decisions": whole.loop.scheduler.decisions,
        "statistics": whole.statistics,
        "plateaus": plateaus,
    }
    comm.synchronize()
    (place / f"found_{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    disconnect()
