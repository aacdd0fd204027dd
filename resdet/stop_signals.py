"""Signals that end a command in order: noted when they come, so that no work is cut in the middle.

Not for: what is kept then (`engine.checkpoint`, `run.finished_parts`).
"""

from __future__ import annotations

import signal
from typing import Any

# Ctrl-C, a scheduler or systemd, a terminal that goes.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Notes the first signal between `install` and `restore`; a second one acts at once.

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
        """Brings back the handlers that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(number, self._previous.get(number) or signal.SIG_DFL)
