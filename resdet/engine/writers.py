"""Detectron2's writers for a run folder: the log line with ETA, metrics.json, TensorBoard."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter

from resdet.run import Run

PERIOD = 20  # steps between two lines, as in Detectron2


def build_writers(run: Run, max_iter: int) -> list[HookBase]:
    """The hook that writes, to stand last; empty on other processes than the main one."""
    if not comm.is_main_process():
        return []
    writers = [CommonMetricPrinter(max_iter), JSONWriter(str(run.path / "metrics.json"))]
    if importlib.util.find_spec("tensorboard"):
        writers.append(TensorboardXWriter(str(run.path)))
    return [hooks.PeriodicWriter(writers, period=PERIOD)]


def set_up_log(folder: Path) -> None:
    """log.txt in the run folder and lines on standard error, Detectron2's and ours alike."""
    logging.captureWarnings(True)
    if not comm.is_main_process():
        return
    formatter = logging.Formatter("[%(asctime)s %(name)s]: %(message)s", datefmt="%m/%d %H:%M:%S")
    for name in ("resdet", "detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        for old in list(logger.handlers):
            logger.removeHandler(old)
        for handler in (
            logging.StreamHandler(),
            logging.FileHandler(folder / "log.txt", encoding="utf-8"),
        ):
            handler.setFormatter(formatter)
            logger.addHandler(handler)
