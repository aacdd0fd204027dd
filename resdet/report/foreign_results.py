"""Results files of any tool as runs of which only the results are known.

A file in COCO's results format and its ground truth become a folder as `resdet.run` documents it,
of kind "results": no config, no weights, no training. The report then shows the contents of the
files and nothing about why two detectors differ. Neither torch nor Detectron2 is needed.

Not for: scoring (`resdet.evaluation` does that on the folder, as on any run's).
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resdet import bounded_files
from resdet.errors import CheckFailed, ConfigError, DataError, UserError
from resdet.evaluation.inputs.arrays import ImageId, read_json
from resdet.evaluation.inputs.detections import Columns, load_columns
from resdet.evaluation.inputs.findings import (
    REFUSE,
    TRUTH,
    Finding,
    ResultsRefused,
    accepted_counts,
    how_to_accept,
    note_on_accepted,
    of_results,
    refuse_if_any,
)
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex, read_ground_truth
from resdet.evaluation.inputs.image_ids import EXACT, WAYS
from resdet.evaluation.inputs.result_folder import evaluated_beside
from resdet.evaluation.inputs.validation import check_columns
from resdet.run.folder import Run, utc_now, write_json
from resdet.run.layout import COCO_RESULTS, GROUND_TRUTH, IMAGES

SIDES = ("width", "height")


def split_name(text: str) -> tuple[str, Path]:
    """ "NAME=FILE" as its parts.

    Example:
        >>> split_name("YOLO v8=runs/a=b.json")
        ('YOLO v8', PosixPath('runs/a=b.json'))

    Raises:
        UserError: there is no "=", or nothing on one side of it, or the name is no text in the
            locale's encoding.
    """
    name, _, file = text.partition("=")
    if not name or not file:
        raise UserError(f"--results {text}: give NAME=FILE, such as yolo=detections.json.")
    if not name.isprintable():  # bytes that are no text arrive as lone surrogates
        raise UserError(
            f"--results {name!r}=…: the name has characters that cannot be printed. Where it looks "
            "right, the locale's encoding is not UTF-8: export PYTHONUTF8=1 LC_ALL=C.UTF-8."
        )
    return name, Path(file)


@dataclass(frozen=True)
class StatedOptions:
    """What was stated for all files ("") or for those of a NAME or FILE, word by word.

    accepted: by scope, counts by rule. image_ids: by scope, one of `image_ids.WAYS`.
    """

    accepted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    image_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def for_all(self) -> Mapping[str, int]:
        return self.accepted.get("", {})

    def words(self) -> list[str]:
        """As they are typed."""
        return [
            _accept_word(scope, rule, count)
            for scope, counts in self.accepted.items()
            for rule, count in counts.items()
        ]


def _accept_word(scope: str, rule: str, count: int) -> str:
    return "--accept " + shlex.quote(f"{scope}:{rule}={count}" if scope else f"{rule}={count}")


def read_stated(
    accept: Sequence[str], image_ids: Sequence[str], named: Sequence[tuple[str, Path]]
) -> StatedOptions:
    """The words of --accept, [NAME:]RULE=COUNT, and of --image-ids, [NAME:]WAY.

    Raises:
        ConfigError: a word has another form, or names what is not among `named`.
    """
    scopes = {""} | {name for name, _ in named} | {str(file) for _, file in named}
    words: dict[str, list[str]] = {}
    for text in accept:
        scope, _, word = text.rpartition(":")
        words.setdefault(scope, []).append(word)
    ways = {scope: way for scope, _, way in (text.rpartition(":") for text in image_ids)}
    for option, given in (("--accept", words), ("--image-ids", ways)):
        strange = sorted(set(given) - scopes)
        if strange:
            raise ConfigError(
                f"{option} {strange[0]}: no file of --results has this name. The names: "
                f"{', '.join(dict.fromkeys(name for name, _ in named))}."
            )
    for way in ways.values():
        if way not in WAYS:
            raise ConfigError(f"--image-ids {way}: give one of {', '.join(WAYS)}.")
    accepted = {scope: accepted_counts(given) for scope, given in words.items()}
    for scope, counts in accepted.items():
        if scope and any(rule.startswith(TRUTH) for rule in counts):
            raise ConfigError(
                f"--accept {scope}: rules that begin with {TRUTH} are about the ground truth of "
                f"all files. Leave {scope}: out."
            )
    return StatedOptions(accepted, ways)


def as_runs(
    named: Sequence[tuple[str, Path]],
    gt: Path,
    folder: Path,
    *,
    images: Path | None = None,
    stated: StatedOptions | None = None,
) -> list[Path]:
    """One run folder within `folder` for each (name, results file).

    Files of one name are trainings of one detector, each with a seed of its own.

    Args:
        images: where the files that the ground truth names lie, for the report's pictures.
        stated: exactly so many faults are accepted, and how files name images. A count for all
            files is of every file that has such faults.

    Raises:
        UserError: two files of a name have the same content; `images` is no folder.
        DataError: a file is missing or the ground truth is none.
        CheckFailed: results are refused; the page has all files, and what accepts them.
    """
    if images is not None and not images.is_dir():
        raise UserError(f"--images {images} is no folder. Give the one that holds the image files.")
    stated = stated or StatedOptions()
    contents = _contents(named)
    truth = read_ground_truth(gt, stated.for_all)
    checked = _checked_files(named, truth.index, stated)
    instances = _instances(truth, gt.stem)
    return [
        _as_run(name, file, content, found, instances, gt, folder / f"{number:02d}", images)
        for number, ((name, file), content, found) in enumerate(
            zip(named, contents, checked, strict=True)
        )
    ]


def _instances(truth: GroundTruth, data_set: str) -> dict[str, Any]:
    """What is scored against, as COCO's instances JSON without a fault or a gap.

    Exporters leave out, write null, or add what is no class; here all have read the same.
    """
    index = truth.index
    notes = [*truth.notes]
    notes += [f"Repaired in reading: {n:,} x {what}." for what, n in truth.repairs.items()]
    ids = [index.image_ids[i] for i in truth.image.tolist()]
    classes = [index.category_ids[k] for k in truth.category.tolist()]
    entries: list[dict[str, Any]] = [
        {
            "id": row + 1, "image_id": ids[row], "category_id": classes[row], "bbox": box,
            "area": area, "iscrowd": int(crowd), "difficult": int(difficult),
        }
        for row, (box, area, crowd, difficult) in enumerate(
            zip(
                truth.boxes.tolist(), truth.area.tolist(), truth.crowd, truth.difficult,
                strict=True,
            )
        )
    ]  # fmt: skip
    for row, entry in enumerate(entries):
        if truth.segmentations[row] is not None:
            entry["segmentation"] = truth.segmentations[row]
        if row in truth.members:
            entry["members"] = truth.members[row].tolist()
    return {
        "info": {
            **truth.info,
            "data_set": data_set,
            "evaluators": ["coco"],
            "notes": [note.removesuffix(".") for note in notes],
        },
        "images": [
            {
                "id": image_id,
                **({} if np.isnan(size).any() else dict(zip(SIDES, map(int, size), strict=True))),
                **({"file_name": name} if name else {}),
            }
            for image_id, size, name in zip(
                index.image_ids, index.sizes, index.file_names, strict=True
            )
        ],
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(index.category_ids, index.category_names, strict=True)
        ],
        "annotations": entries,
    }


@dataclass(frozen=True)
class _CheckedFile:
    """A results file after its checks: what is scored of it, and what was accepted."""

    entries: list[Any]
    evaluated: tuple[ImageId, ...] | None
    warnings: list[Finding]
    accepted: dict[str, int]  # of detections that are refused without it
    beside: dict[str, int]  # of entries that were left out, and of warnings that were stated


def _checked_files(
    named: Sequence[tuple[str, Path]], index: SetIndex, stated: StatedOptions
) -> list[_CheckedFile]:
    """Every file checked before the first is refused: one page, one line to add."""
    checked: list[_CheckedFile] = []
    refused: list[tuple[tuple[str, Path], ResultsRefused]] = []
    counts: dict[str, set[int]] = {}
    of_truth = {r: n for r, n in stated.for_all.items() if r.startswith(TRUTH)}
    for name, file in named:
        way = stated.image_ids.get(str(file), stated.image_ids.get(name))
        way = way or stated.image_ids.get("", EXACT)
        evaluated = evaluated_beside(file)
        columns, findings, _ = load_columns(file, index, image_ids=way)
        findings += check_columns(columns, index, evaluated)
        there: Counter[str] = Counter()
        for item in findings:
            there[item.rule] += item.count
        for rule, count in there.items():
            counts.setdefault(rule, set()).add(count)
        own = {r: n for r, n in of_results(stated.for_all).items() if r in there}
        own |= {**stated.accepted.get(name, {}), **stated.accepted.get(str(file), {})}
        try:
            warnings = refuse_if_any(str(file), findings, own)
        except ResultsRefused as error:
            refused.append(((name, file), error))
            continue
        except CheckFailed as error:  # another count
            alone = shlex.quote(f"{file}:RULE=COUNT")
            raise CheckFailed(f"{error} For this file alone: --accept {alone}.") from None
        harsh = {f.rule for f in findings if f.severity == REFUSE and not f.leaves_out}
        checked.append(
            _CheckedFile(
                _entries(file, columns, index, way), evaluated, warnings,
                {rule: n for rule, n in own.items() if rule in harsh},
                {**of_truth, **{rule: n for rule, n in own.items() if rule not in harsh}},
            )
        )  # fmt: skip
    unused = set(of_results(stated.for_all)) - set(counts)
    if unused:
        raise CheckFailed(
            f"--accept {', '.join(sorted(unused))}: no file given has such a fault. Leave it out."
        )
    if refused:
        raise CheckFailed(_refusals(refused, counts, stated))
    return checked


def _refusals(
    refused: Sequence[tuple[tuple[str, Path], ResultsRefused]],
    counts: Mapping[str, set[int]],
    stated: StatedOptions,
) -> str:
    """The pages of all refused files, and one line with what accepts them."""
    page = "\n".join(error.page for _, error in refused)
    if not all(error.counts for _, error in refused):
        return page
    words = stated.words()
    for (_, file), error in refused:
        for rule, count in error.counts.items():
            scope = "" if len(counts[rule]) == 1 else str(file)
            words.append(_accept_word(scope, rule, count))
    left_out = sum(error.left_out for _, error in refused)
    return f"{page}\n{how_to_accept(left_out, ' '.join(dict.fromkeys(words)))}"


def _entries(file: Path, columns: Columns, index: SetIndex, way: str) -> list[Any]:
    """The file's entries that are scored, with the set's own image ids."""
    entries: list[Any] = read_json(file, DataError)
    if columns.left_out or way != EXACT:
        ids = [index.image_ids[place] for place in columns.image.tolist()]
        rows = list(columns.entries)
        entries = [{**entries[r], "image_id": i} for r, i in zip(rows, ids, strict=True)]
    return entries


def _contents(named: Sequence[tuple[str, Path]]) -> list[str]:
    """SHA-256 of each file; one under one name twice would be a spread of nothing."""
    seen: dict[tuple[str, str], Path] = {}
    contents = []
    for name, file in named:
        try:
            contents.append(hashlib.sha256(bounded_files.read_bytes(file)).hexdigest())
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
        cautions=[
            *note_on_accepted({**checked.beside, **checked.accepted}),
            *(f"{w.what} {w.fix}" for w in checked.warnings),
        ],
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
