"""One net of localisation trained to its end, in a folder of its own, resumable to the bit.

The folder is a run folder within the run's: checkpoints/, metrics.json, and model_final.pth once it
is done; a step that has that file is not trained again.

Not for: what is trained (`per_class_rpn`, `warped_region_net`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from torch import nn

from resdet.detect.loading import train_batches
from resdet.engine.checkpoint import Checkpoints, is_whole, resume
from resdet.engine.data_workers import num_workers
from resdet.engine.loop import Loop, Schedule, passes
from resdet.engine.metric_writers import build_writers
from resdet.engine.parallel import average_buffers, distributed
from resdet.engine.speed.fused_optimizer import with_fused_step
from resdet.engine.starts.start_checks import DiskNeed, bytes_in, require_disk
from resdet.errors import RunError, WeightsError
from resdet.run import layout
from resdet.run.folder import Run, atomic_path

logger = logging.getLogger("resdet.detect.localization")


def trained(
    model: nn.Module,
    records: Sequence[Mapping[str, Any]],
    mapper: Callable[[Any], dict[str, Any]],
    cfg: Any,
    run: Run,
    *,
    classes: Sequence[str],
) -> None:
    """Trains to SOLVER.MAX_ITER, from the newest checkpoint where there is one, and leaves the
    file; loads it where it is there already.

    Raises:
        TrainingStopped, Interrupted: the state is saved. RunError: a checkpoint is of another run,
            or the disk is too small. WeightsError: as `load`.
    """
    path = run.path / layout.DETECTOR
    if _for_all(lambda: path.exists() and is_whole(path)):
        load(model, path, classes)
        logger.info("%s is there: it is not trained again", path)
        return
    need = DiskNeed.of_training(cfg, model)
    require_disk(run.path, need.most, need, there=bytes_in(run.checkpoints))
    loop = _loop_of(model, records, mapper, cfg)
    model.train()
    goes_on = _for_all(lambda: any(run.checkpoints.glob(layout.CHECKPOINT_FILES)))
    start = resume(loop, run) if goes_on else 0
    loop.register_hooks(
        [
            hooks.IterationTimer(),
            Schedule(),
            Checkpoints(
                run,
                cfg.SOLVER.CHECKPOINT_PERIOD,
                keep=cfg.ENGINE.KEEP_CHECKPOINTS,
                disk_wait=cfg.ENGINE.DISK_WAIT,
            ),
            *build_writers(run, cfg.SOLVER.MAX_ITER),
        ]
    )
    run.update(state="training")
    loop.train(start, cfg.SOLVER.MAX_ITER)
    average_buffers(model)
    if comm.is_main_process():
        _save(model, path, run, cfg.SOLVER.MAX_ITER, classes)
    run.update(state="finished", train_seconds=loop.seconds)
    comm.synchronize()


def _loop_of(
    model: nn.Module,
    records: Sequence[Mapping[str, Any]],
    mapper: Callable[[Any], dict[str, Any]],
    cfg: Any,
) -> Loop:
    """The loop over batches of the records, which the processes share; no hooks yet."""
    optimizer = with_fused_step(build_optimizer(cfg, model), cfg.ENGINE.FUSED_OPTIMIZER)
    shared = distributed(model)

    def batches(start: int) -> Iterator[list[dict[str, Any]]]:
        return train_batches(
            records,  # type: ignore[arg-type]
            mapper,
            batch_size=cfg.SOLVER.IMS_PER_BATCH,
            seed=cfg.SEED,
            start=start,
            num_workers=num_workers(cfg, images=len(records)),
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            group_by_shape=False,
        )

    return Loop(
        shared,
        optimizer,
        build_lr_scheduler(cfg, optimizer),
        shared,
        batches,
        seed=cfg.SEED,
        describe=lambda batch: ", ".join(str(item["image_id"]) for item in batch),
        clip_norm=cfg.ENGINE.CLIP_GRADIENT_NORM,
        split=lambda batch: [
            (share, batch[part]) for share, part in passes(len(batch), cfg.ENGINE.IMAGES_PER_PASS)
        ],
    )


def _save(model: nn.Module, path: Path, run: Run, steps: int, classes: Sequence[str]) -> None:
    """The file that `load` reads."""
    state = {
        "model": model.state_dict(),
        "iteration": steps,
        "run": run.info["id"],
        "classes": list(classes),
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _for_all(question: Callable[[], bool]) -> bool:
    """The main process's answer, in every process."""
    return bool(comm.all_gather(question() if comm.is_main_process() else None)[0])


def load(model: nn.Module, path: Path, classes: Sequence[str]) -> None:
    """A finished net of localisation into the model that it was.

    Raises:
        RunError: there is no such file. WeightsError: it is damaged, or of other layers or classes.
    """
    if not path.exists():
        raise RunError(f"{path} does not exist: nothing to test. Train it, or go on with --resume.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        stated = list(state["classes"])
        if stated != list(classes):
            raise WeightsError(
                f"{path} was trained for {len(stated):,} classes, the set has {len(classes):,}, or "
                "they are in another order. Take sets with the same map_clsloc.txt."
            )
        model.load_state_dict(state["model"])
    except WeightsError:
        raise
    except Exception as error:  # zip, pickle and torch each have errors of their own for damage
        first = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"{path} does not load into this net: {first}. Use the keys that it was trained with, "
            "or train it again."
        ) from None
