"""`resdet doctor`: what is installed, which device, which data; for each lack, what to type.

Not for: the checks (`resdet.doctor`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from resdet import doctor
from resdet.doctor.finding import REFUSE, SETUP, WARN, CheckResult
from resdet.printable import show, show_json


def table(findings: Sequence[CheckResult]) -> str:
    """Lines for people, what to type on a line of its own."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<6}  {finding.name:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<6}  {'':<{width}}  -> {finding.fix}")
    return "\n".join(lines)


def conclusion(findings: Sequence[CheckResult]) -> str:
    refused = [finding.name for finding in findings if finding.level == REFUSE]
    warned = [finding.name for finding in findings if finding.level == WARN]
    if refused:
        return f"Detection cannot run here: {', '.join(refused)}. Usually fixed by: {SETUP}"
    if warned:
        return f"Detection can run here; worth a look: {', '.join(warned)}."
    return "Detection can run here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """0 when detection can run, 1 when something refuses."""
    findings = doctor.examine()
    ok = all(finding.level != REFUSE for finding in findings)
    if args.json:
        result = {"ok": ok, "findings": [asdict(finding) for finding in findings]}
        show_json(result, indent=1)
    else:
        show(table(findings))
        show(f"\n{conclusion(findings)}")
    return 0 if ok else 1
