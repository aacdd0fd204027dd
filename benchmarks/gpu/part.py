"""A part of the measuring: its command line, and its cases one after the other.

What is found is written after each case, and a case that fails does not cost the others.

Not for: which parts there are (`command`).
"""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks import claims
from benchmarks.claims import Claim
from benchmarks.gpu.device import NO_GPU, missing_gpu
from benchmarks.gpu.turns_on_gpu import TimedOnGPU, reason
from resdet.run.folder import write_text

Cases = Mapping[str, Callable[[], Claim]]


def run_part(
    doc: str,
    cases: Callable[[argparse.Namespace], Cases],
    argv: Sequence[str] | None,
    *,
    rounds: int,
    choices: Sequence[str] = (),
) -> int:
    """The command line of a part; its exit code.

    Args:
        doc: the part's docstring. cases: from the arguments: what is measured, by name.
        choices: names of which --only takes some; all, where it is not given.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    claims.add_arguments(parser, rounds)
    if choices:
        parser.add_argument("--only", nargs="+", choices=choices, default=list(choices),
                            metavar="NAME", help=f"of {', '.join(choices)}")  # fmt: skip
    args = parser.parse_args(argv)
    if page := missing_gpu():
        print(page)
        return NO_GPU
    return run_cases(cases(args), args)


def run_cases(cases: Cases, args: argparse.Namespace) -> int:
    """1 where a case failed or did not compute the same as its peer, 3 where there is none."""
    if not cases:
        return claims.NOT_HERE
    page: dict[str, list[Any]] = {"claims": [], "failed": []}
    for name, measure in cases.items():
        try:
            claim = measure()
        except Exception as error:  # whatever it is, the other cases are measured
            traceback.print_exc()
            page["failed"].append({"name": name, "why": reason(error)})
        else:
            claims.show(claim)
            if claim.agrees:
                page["claims"].append(asdict(claim))
            else:
                page["failed"].append({"name": claim.name, "why": f"not the same: {claim.checked}"})
        if args.json:
            write_text(args.json, json.dumps(page, indent=1) + "\n")
    return 1 if page["failed"] else 0


def claim_of(timed: TimedOnGPU, name: str, what: str, checked: str, agrees: bool) -> Claim:
    """A claim whose rows are the ways that could be measured; the others are named."""
    rounds = len(next(iter(timed.seconds.values())))
    rows = claims.rows(timed.seconds, timed.peaks)
    return Claim(name, what, rows, rounds, checked, agrees, left_out=timed.failed)
