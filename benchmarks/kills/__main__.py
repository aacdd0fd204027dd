"""Trainings killed in every way, and gone on: `python -m benchmarks.kills [--runs 20] [--rows …]`.

Each run has a folder, a random generator (`--seed`, row, trainer, number) and one command with
`--resume auto`, repeated until it ends with 0; then weights, optimizer, metrics and results are
compared to the bit with a run that nobody touched. Results are kept in `--folder` after every run,
and a second call goes on there. Linux; some rows need rights to mount, and are left out without.

Not for: speed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import claims
from benchmarks.kills import ends, faults, jobs, starts
from resdet.run.folder import write_json

ROWS = {**ends.ROWS, **faults.ROWS}


def one_row(name: str, command: str, runs: int, seed: int, folder: Path) -> dict[str, str]:
    """Number of the run to what was wrong with it, "" for nothing; goes on in `folder`."""
    row, two, share = ROWS[name]
    trainer = jobs.TRAINERS[command]
    page = folder / f"{command} {name.replace('/', ' ')}.json"
    found: dict[str, str] = json.loads(page.read_text(encoding="utf-8")) if page.exists() else {}
    wanted = max(1, round(runs * share))
    if len(found) < wanted:
        reference = _reference(trainer, two, folder)
    number = 0
    while len(found) < wanted:
        place = folder / f"{command}_{number}"
        shutil.rmtree(place, ignore_errors=True)
        if str(number) not in found:
            chance = random.Random(f"{seed} {name} {command} {number}")
            wrong = row(place, trainer, reference, chance)
            print(f"{command}, {name}, {number}: {wrong or 'equal'}", flush=True)
            if wrong != ends.NOT_KILLED:
                found[str(number)] = wrong
                write_json(page, found)
            if not wrong or wrong == ends.NOT_KILLED:
                shutil.rmtree(place, ignore_errors=True)
        number += 1
    return found


def _reference(trainer: jobs.Trainer, two: bool, folder: Path) -> jobs.Reference:
    place = folder / f"reference_{trainer.command}_{2 if two else 1}"
    times = place / "times.json"
    if not times.exists():
        shutil.rmtree(place, ignore_errors=True)
        made = jobs.reference_of(place, trainer, ends.TWO if two else ())
        write_json(times, [made.training, made.whole])
    return jobs.Reference(place / "r", *json.loads(times.read_text(encoding="utf-8")))


def table(results: dict[str, dict[str, dict[str, str]]]) -> str:
    """Markdown: row to trainer to runs."""
    lines = [f"| what happens | {' | '.join(jobs.TRAINERS)} |", "| --- | --- | --- |"]
    for name, by_trainer in results.items():
        cells = []
        for command in jobs.TRAINERS:
            found = by_trainer.get(command)
            good = sum(not wrong for wrong in found.values()) if found else 0
            cells.append(f"{good} of {len(found)}" if found else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="of each row and trainer")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--trainers", nargs="+", choices=list(jobs.TRAINERS),
                        default=list(jobs.TRAINERS))  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where runs lie, and a second call goes on")
    parser.add_argument("--cold", action="store_true", help="start each command as a user types it")
    args = parser.parse_args(argv)
    if args.cold:
        starts.COLD.append(True)
    # So that a start needs no imports.
    importlib.import_module("resdet.cli.training.pretrain_cls")
    importlib.import_module("resdet.cli.training.train_det")
    folder = args.folder or Path(tempfile.mkdtemp(prefix="resdet_kills_"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, dict[str, str]]] = {}
    for name in args.rows:
        for command in args.trainers:
            found = one_row(name, command, args.runs, args.seed, folder)
            results.setdefault(name, {})[command] = found
    machine = claims.machine()
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    print(f"\n{today}, {machine['processor']}, {machine['cores']} cores, seed {args.seed}\n")
    print(table(results))
    wrong = [
        f"{command}, {name}, {number}: {text}"
        for name, by_trainer in results.items()
        for command, found in by_trainer.items()
        for number, text in found.items()
        if text
    ]
    if wrong:
        print("\nnot as they should be (their folders are kept in " + f"{folder}):")
        print("\n".join(wrong))
    elif args.folder is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
