"""`resdet doctor`: what is installed, which device, which data; for each lack, what to type.

One line per finding: fine, warn (it works, with a loss that the line names) or refuse (training
and detection cannot run). Runs where torch, Detectron2 or any other package is missing or
broken, as that is when it is needed: nothing but the standard library is imported before the
check that is about it.

Not for: checks of one run before it starts (its disk, its shared memory), which the trainers make.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from resdet.doctor import machine, software
from resdet.doctor.finding import REFUSE, SETUP, WARN, Finding

CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
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


def examine(checks: Sequence[Callable[[], Iterable[Finding]]] = CHECKS) -> list[Finding]:
    return [finding for check in checks for finding in check()]


def table(findings: Sequence[Finding]) -> str:
    """Lines for people, what to type on a line of its own."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<6}  {finding.name:<{width}}  {finding.text}")
        if finding.mend:
            lines.append(f"{'':<6}  {'':<{width}}  -> {finding.mend}")
    return "\n".join(lines)


def conclusion(findings: Sequence[Finding]) -> str:
    refused = [finding.name for finding in findings if finding.level == REFUSE]
    warned = [finding.name for finding in findings if finding.level == WARN]
    if refused:
        return f"Detection cannot run here: {', '.join(refused)}. Usually mended by: {SETUP}"
    if warned:
        return f"Detection can run here; worth a look: {', '.join(warned)}."
    return "Detection can run here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """0 when detection can run, 1 when something refuses."""
    findings = examine()
    ok = all(finding.level != REFUSE for finding in findings)
    if args.json:
        result = {"ok": ok, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        print(table(findings))
        print(f"\n{conclusion(findings)}")
    return 0 if ok else 1
