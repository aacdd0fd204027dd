"""Signals that end a command in order: noted when they come, so that no work is cut in the middle.

A second signal ends it at once, but not under torchrun: its agent sends on what a scheduler has
sent to all processes already, and kills what stays longer than `--shutdown-timeout`.

Not for: what is kept then (`engine.checkpoint`, `run.finished_parts`).
"""

from __future__ import annotations

import os
import signal
from typing import Any

# Ctrl-C, a scheduler or systemd, a terminal that goes, SLURM's notice that the time is nearly over.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def are_sent_on() -> bool:
    """Whether an agent of torchrun sends signals on, so that one may come twice."""
    return "TORCHELASTIC_RUN_ID" in os.environ


class StopSignals:
    """Notes the first signal between `install` and `restore`; a second one acts at once, where
    none is sent on.

    Attributes:
        received: the number of that signal, None before it comes.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Brings back the handlers that were there before; where one has come and is sent on, none,
        so that what it ends is not cut in the middle either."""
        is_to_come = self.received is not None and are_sent_on()
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if is_to_come else handler)

    def _note(self, number: int, frame: Any) -> None:
        self.received = number
        if not are_sent_on():
            signal.signal(number, self._previous.get(number) or signal.SIG_DFL)
