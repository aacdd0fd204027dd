"""Detectron2's writers for a run folder: the log line with ETA, metrics.json, TensorBoard."""

from __future__ import annotations

import importlib.util
import logging
import logging.handlers
from pathlib import Path

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter

from resdet.printable import printable
from resdet.run import layout
from resdet.run.folder import Run

PERIOD = 20  # steps between two lines, as in Detectron2


def build_writers(run: Run, max_iter: int) -> list[HookBase]:
    """The hook that writes, to stand last; empty on other processes than the main one."""
    if not comm.is_main_process():
        return []
    writers = [CommonMetricPrinter(max_iter), MetricLines(run)]
    if importlib.util.find_spec("tensorboard"):
        writers.append(TensorboardXWriter(str(run.path)))
    return [hooks.PeriodicWriter(writers, period=PERIOD)]


class MetricLines(JSONWriter):
    """Detectron2's, that also knows what was written before a resume."""

    def __init__(self, run: Run):
        super().__init__(str(run.path / layout.METRICS))
        iterations = [row.get("iteration", -1) for row in run.metrics()]
        self._last_write = max(iterations, default=-1)


_LOGGERS = ("resdet", "detectron2", "fvcore", "py.warnings")


class PrintableFormatter(logging.Formatter):
    """Lines that a terminal takes, whatever names of data are in them."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


_FORMAT = PrintableFormatter("[%(asctime)s %(name)s]: %(message)s", datefmt="%m/%d %H:%M:%S")


def start_log() -> None:
    """Lines on standard error from now on, kept for the log.txt of a run that is not there yet."""
    logging.captureWarnings(True)
    if not comm.is_main_process():
        return
    _handle(logging.StreamHandler(), logging.handlers.MemoryHandler(10_000, logging.CRITICAL + 1))


def set_up_log(folder: Path) -> None:
    """log.txt in the run folder beside standard error, with all lines since `start_log`."""
    if not comm.is_main_process():
        return
    file = logging.FileHandler(folder / layout.LOG, encoding="utf-8")
    file.setFormatter(_FORMAT)
    for old in logging.getLogger(_LOGGERS[0]).handlers:
        if isinstance(old, logging.handlers.MemoryHandler):
            old.setTarget(file)
            old.flush()
    _handle(logging.StreamHandler(), file)


def _handle(*handlers: logging.Handler) -> None:
    for handler in handlers:
        handler.setFormatter(_FORMAT)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers[:] = handlers
