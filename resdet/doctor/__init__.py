"""Checks of this machine: what is installed, which device, which data; for each lack, what to type.

One line per finding: fine, warn (it works, with a loss that the line names) or refuse (training
and detection cannot run). Runs where torch, Detectron2 or any other package is missing or
broken, as that is when it is needed: nothing but the standard library is imported before the
check that is about it.

Not for: checks of one run before it starts (its disk, its shared memory), which the trainers make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from resdet.doctor import machine, software
from resdet.doctor.finding import CheckResult

CHECKS: tuple[Callable[[], Iterable[CheckResult]], ...] = (
    software.check_python,
    software.check_resdet,
    software.check_torch,
    software.check_needed,
    software.check_detectron2,
    software.check_opencv,
    software.check_optional,
    machine.check_device,
    machine.check_memory,
    machine.check_disk,
    machine.check_shared_memory,
    machine.check_files,
    machine.check_data,
)


def examine(checks: Sequence[Callable[[], Iterable[CheckResult]]] = CHECKS) -> list[CheckResult]:
    return [finding for check in checks for finding in check()]
