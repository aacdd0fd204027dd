"""The lines of a long scan: soon, then now and then."""

from __future__ import annotations

import logging

from resdet.data.images import scan


def test_a_line_after_two_seconds_and_then_every_ten(monkeypatch) -> None:
    """By a clock of our own: 1,000 things, sixteen a second."""
    clock, lines = [100.0], []
    monkeypatch.setattr(scan.time, "monotonic", lambda: clock[0])
    log = logging.Logger("of this test")
    monkeypatch.setattr(log, "info", lambda text, *values: lines.append(text % values))
    progress = scan.Progress("image headers", 1000, log)
    for done in range(1000):
        progress.show(done)
        clock[0] += 0.0625
    assert lines == [
        "image headers: 32 of 1000, eta 60 s",
        "image headers: 192 of 1000, eta 50 s",
        "image headers: 352 of 1000, eta 40 s",
        "image headers: 512 of 1000, eta 30 s",
        "image headers: 672 of 1000, eta 20 s",
        "image headers: 832 of 1000, eta 10 s",
        "image headers: 992 of 1000, eta 0 s",
    ]
