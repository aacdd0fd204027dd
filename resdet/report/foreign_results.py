"""Results files of any tool as runs of which only the results are known.

A file in COCO's results format and its ground truth become a folder as `resdet.run` documents it,
of kind "results": no config, no weights, no training. The report then shows the contents of the
files and nothing about why two detectors differ. Neither torch nor Detectron2 is needed.

Not for: scoring (`resdet.evaluation` does that on the folder, as on any run's).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet.errors import CheckFailed, DataError, UserError
from resdet.evaluation.inputs.arrays import ImageId, read_json
from resdet.evaluation.inputs.detections import load_columns
from resdet.evaluation.inputs.findings import REFUSE, Finding, refuse_if_any
from resdet.evaluation.inputs.ground_truth import SetIndex, read_ground_truth
from resdet.evaluation.inputs.result_folder import evaluated_beside
from resdet.evaluation.inputs.validation import check_columns
from resdet.run.folder import Run, utc_now, write_json
from resdet.run.layout import COCO_RESULTS, GROUND_TRUTH, IMAGES


def split_name(text: str) -> tuple[str, Path]:
    """ "NAME=FILE" as its parts.

    Example:
        >>> split_name("YOLO v8=runs/a=b.json")
        ('YOLO v8', PosixPath('runs/a=b.json'))

    Raises:
        UserError: there is no "=", or nothing on one side of it.
    """
    name, _, file = text.partition("=")
    if not name or not file:
        raise UserError(f"--results {text}: give NAME=FILE, such as yolo=detections.json.")
    return name, Path(file)


def as_runs(
    named: Sequence[tuple[str, Path]],
    gt: Path,
    folder: Path,
    *,
    images: Path | None = None,
    accepted: Mapping[str, int] | None = None,
) -> list[Path]:
    """One run folder within `folder` for each (name, results file).

    Files of one name are trainings of one detector, each with a seed of its own.

    Args:
        images: where the files that the ground truth names lie, for the report's pictures.
        accepted: by rule of the checks, exactly so many faults are accepted, in every file that
            has such faults (`findings.accept`).

    Raises:
        UserError: two files of a name have the same content; `images` is no folder.
        DataError: a file is missing or the ground truth is none.
    """
    if images is not None and not images.is_dir():
        raise UserError(f"--images {images} is no folder. Give the one that holds the image files.")
    contents = _contents(named)
    index = read_ground_truth(gt).index
    truth = read_json(gt, DataError)
    if not isinstance(truth, dict) or not isinstance(truth.get("images"), list):
        raise DataError(f'{gt} has no list "images": --gt takes COCO\'s instances JSON.')
    info = truth.get("info")
    truth["info"] = {
        **(info if isinstance(info, dict) else {}),
        "data_set": gt.stem,
        "evaluators": ["coco"],
    }
    checked = [_checked(file, index, accepted or {}) for _, file in named]
    unused = set(accepted or {}).difference(*({*c.accepted, *c.beside} for c in checked))
    if unused:
        raise CheckFailed(
            f"--accept {', '.join(sorted(unused))}: no file given has such a fault. Leave it out."
        )
    return [
        _as_run(name, file, content, found, truth, gt, folder / f"{number:02d}", images)
        for number, ((name, file), content, found) in enumerate(
            zip(named, contents, checked, strict=True)
        )
    ]


@dataclass(frozen=True)
class _CheckedFile:
    """A results file after its checks: what is scored of it, and what was accepted."""

    entries: list[Any]
    evaluated: tuple[ImageId, ...] | None
    warnings: list[Finding]
    accepted: dict[str, int]  # of detections that are refused without it
    beside: dict[str, int]  # of entries that were left out, and of warnings that were stated


def _checked(file: Path, index: SetIndex, accepted: Mapping[str, int]) -> _CheckedFile:
    evaluated = evaluated_beside(file)
    columns, findings, _ = load_columns(file, index)
    findings += check_columns(columns, index, evaluated)
    rules = {f.rule for f in findings}
    mine = {rule: count for rule, count in accepted.items() if rule in rules}
    warnings = refuse_if_any(str(file), findings, mine)
    entries = read_json(file, DataError)
    if columns.left_out:
        entries = [entries[row] for row in columns.entries]
    refused = {f.rule for f in findings if f.severity == REFUSE and not f.leaves_out}
    there = {rule: count for rule, count in mine.items() if rule in refused}
    beside = {rule: count for rule, count in mine.items() if rule not in refused}
    return _CheckedFile(entries, evaluated, warnings, there, beside)


def _contents(named: Sequence[tuple[str, Path]]) -> list[str]:
    """SHA-256 of each file; one under one name twice would be a spread of nothing."""
    seen: dict[tuple[str, str], Path] = {}
    contents = []
    for name, file in named:
        try:
            contents.append(hashlib.sha256(file.read_bytes()).hexdigest())
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from None
        first = seen.setdefault((name, contents[-1]), file)
        if first is not file:
            raise UserError(
                f"--results: {name} is given twice with the same content, {first} and {file}. "
                "Files of one name are trainings with different seeds; give each once."
            )
    return contents


def _as_run(
    name: str,
    file: Path,
    content: str,
    checked: _CheckedFile,
    truth: dict[str, Any],
    gt: Path,
    folder: Path,
    pictures: Path | None,
) -> Path:
    expected = [image["id"] for image in truth["images"]]
    run = Run.create(folder, kind="results", config_text="", command=[], seed=0)
    run.update(
        state="finished",
        finished=utc_now(),
        title=name,
        file=str(file),
        file_sha256=content,
        ground_truth=str(gt),
        cautions=[f"{w.what} {w.fix}" for w in checked.warnings],
    )
    results = run.results(gt.stem)
    write_json(results / COCO_RESULTS, checked.entries, indent=None)
    write_json(results / GROUND_TRUTH, truth, indent=None)
    # Not recorded which images were visited: all, with a caution if some have nothing.
    images: dict[str, Any] = {
        "data_set": gt.stem,
        "expected": expected,
        "evaluated": list(checked.evaluated or expected),
        "image_folder": str(pictures.resolve()) if pictures else None,
    }
    if checked.accepted or checked.beside:
        images["accepted"] = {"scored": checked.accepted, "beside": checked.beside}
    write_json(results / IMAGES, images, indent=None)
    return run.path
