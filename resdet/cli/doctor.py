"""`resdet doctor`: what is installed, which device, which data; for each lack, what to type.

With `--decode SET`: every image of a set, decoded before a training meets a broken one.

Not for: the checks (`resdet.doctor`), or what is decoded how (`resdet.data.checks.decoding`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from resdet import doctor
from resdet.doctor.finding import REFUSE, SETUP, WARN, CheckResult
from resdet.errors import ConfigError, Interrupted
from resdet.printable import one_line, show, show_json
from resdet.stop_signals import StopSignals


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
    parser.add_argument(
        "--decode", metavar="SET", help="instead: decode every image of this set, name broken ones"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads that decode; default: the cores"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="how images are read (INPUT)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when detection can run, 1 when something refuses, or an image does not decode.

    Raises:
        DataError: the set of --decode is missing or broken. ConfigError: a key is wrong.
        Interrupted: a signal ended the decoding.
    """
    if args.decode is not None:
        return decode(args)
    if args.workers is not None or args.opts:
        raise ConfigError("--workers and keys are for decoding: add --decode SET.")
    findings = doctor.examine()
    ok = all(finding.level != REFUSE for finding in findings)
    if args.json:
        result = {"ok": ok, "findings": [asdict(finding) for finding in findings]}
        show_json(result, indent=1)
    else:
        show(table(findings))
        show(f"\n{conclusion(findings)}")
    return 0 if ok else 1


def decode(args: argparse.Namespace) -> int:
    """Every broken image of a set on one page; 1 where there is one."""
    # Only here: without --decode nothing but the standard library is needed.
    from resdet.config import data_options, resolve
    from resdet.data import DataOptions
    from resdet.data.checks.decoding import decode_all, images_of
    from resdet.engine.data_workers import usable_cores
    from resdet.engine.metric_writers import start_log

    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers is {args.workers}, expected 1 or more.")
    start_log()
    options = DataOptions(**data_options(resolve(None, args.opts).cfg), check_images=False)
    images, signals = images_of(args.decode, options), StopSignals()
    signals.install()
    try:
        result = decode_all(
            images,
            options,
            workers=args.workers or usable_cores(),
            is_asked_to_end=lambda: signals.received is not None,
        )
    finally:
        signals.restore()
    faults = [{"file": file, "text": text} for file, text in result.faults.items()]
    repairs = dict(sorted(result.repairs.items()))
    if args.json:
        counts = {"expected": result.images, "evaluated": result.done}
        numbers = {**counts, "missing": result.images - result.done}
        ok = not faults and result.done == result.images
        whole = {"ok": ok, "data_set": args.decode, "faults": faults, "repairs": repairs}
        show_json({**whole, "images": numbers}, indent=1)
    else:
        for fault in faults:
            show(one_line(fault["text"]))
        show(
            f"{args.decode}: looked at {result.done:,} of {result.images:,} images, "
            f"{len(faults):,} cannot be read"
            + "".join(f"; {what}: {count:,}" for what, count in repairs.items())
        )
    if signals.received is not None and result.done < result.images:
        raise Interrupted(
            f"stopped after {result.done:,} of {result.images:,} images",
            exit_code=128 + signals.received,
        )
    return 1 if faults else 0
