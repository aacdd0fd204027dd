"""`--profile` of the training commands: recording, the run folder's files, the table at the end.

Not for: what is measured (`resdet.profile`), or which layers are (`resdet.detect.profile_hooks`).
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

import torch
from detectron2.utils import comm

from resdet import profile, profile_view
from resdet.printable import show
from resdet.run import layout
from resdet.run.folder import Run


@contextlib.contextmanager
def profiled(args: argparse.Namespace, command: str) -> Iterator[None]:
    """Records the command where --profile asks for it, and prints the table when it ends.

    The main process alone is measured; what a stopped command has measured is kept, too.
    """
    if not args.profile or not comm.is_main_process():
        yield
        return
    recorded = profile.Profile(command, settle=_settle)
    try:
        with profile.recording(recorded):
            yield
    finally:
        if recorded.is_started:
            show(f"\n{profile_view.table(recorded.report(_notes()))}")


@contextlib.contextmanager
def left_in(run: Run) -> Iterator[None]:
    """Leaves profile.json and profile.svg in the run folder when its command ends, however.

    Not in one that the command has discarded (--estimate).
    """
    try:
        yield
    finally:
        recorded = profile.active()
        if recorded is not None and recorded.is_started and (run.path / layout.RUN).exists():
            report = recorded.report(_notes())
            run.write_profile(report.to_json(), profile_view.picture(report))


def _settle() -> None:
    # A GPU is asynchronous: without waiting, its time would be counted where code waits for it.
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _notes() -> list[str]:
    notes = []
    if torch.cuda.is_initialized():
        notes.append(
            "Every span waits for the GPU, which cannot work ahead then: less overlaps than "
            "without --profile."
        )
    if (processes := comm.get_world_size()) > 1:
        notes.append(
            f"Measured in the first of {processes} processes; waiting for the others is part of "
            "what waits, mostly backward."
        )
    return notes
