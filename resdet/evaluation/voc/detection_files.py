"""VOC's detection files, comp4_det_<set>_<class>.txt: one line `image score xmin ymin xmax ymax`.

A class whose name is no file name ("a/b", "../c") has it quoted there (`resdet.file_names`).

Every number is written so that it reads back as the same float; Detectron2 writes three decimals
of the score, which makes ties of what is none (`docs/faults.md` F51).

Not for: packing files for the VOC server, or scores (`voc_evaluation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resdet import bounded_files, profile
from resdet.atomic import write_text
from resdet.errors import CheckFailed, DataError, first_few
from resdet.evaluation.inputs.arrays import ImageId
from resdet.evaluation.inputs.findings import SHOWN
from resdet.evaluation.voc.voc_arrays import VocDetections, did_you_mean
from resdet.file_names import file_name

PREFIX = "comp4_det_"


@profile.timed("read results")
def read_detections(
    folder: Path | str,
    classes: Sequence[str],
    *,
    evaluated: Sequence[ImageId] | None = None,
) -> VocDetections:
    """The detections in a folder of comp4_det_<set>_<class>.txt files (or .txt.gz).

    A class without a file is `unread`; a file of a class that is not among `classes` is
    refused unless it is empty (F87: a misspelt name would be an empty class).

    Raises:
        DataError: no such folder, or no such file in it.
        CheckFailed: a name or a line is not in the format; names file and line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give the one with the {PREFIX}*.txt files.")
    files = _class_files(folder, classes)
    image_ids: list[ImageId] = []
    numbers: list[float] = []
    origins: list[tuple[int, str, list[int]]] = []  # first row, file, line of each row
    labels: list[int] = []
    faults: list[str] = []
    for label, name in enumerate(classes):
        if name not in files:
            continue
        lines: list[int] = []
        origins.append((len(image_ids), files[name].name, lines))
        for number, line in enumerate(_lines(files[name]), 1):
            parts = line.rsplit(None, 5)
            if not parts:
                continue
            values = _five_numbers(parts)
            if values is None:
                faults.append(f'{files[name].name}, line {number}: "{line.strip()[:60]}"')
                continue
            image_ids.append(parts[0])
            numbers += values
            lines.append(number)
        labels += [label] * len(lines)
    if faults:
        raise CheckFailed(
            f"{folder}: {len(faults):,} lines are not `image score xmin ymin xmax ymax`, with five "
            f"numbers.\n{first_few(faults, SHOWN)}"
        )
    table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    return VocDetections(
        tuple(classes),
        image_ids,
        np.array(labels, dtype=np.int64),
        table[:, 1:],
        table[:, 0],
        None if evaluated is None else tuple(evaluated),
        tuple(name for name in classes if name not in files),
        str(folder),
        lambda row: _line_name(origins, row),
    )


def detections_file(set_name: str, class_name: str) -> str:
    """The name of the file with one class's detections."""
    return f"{PREFIX}{set_name}_{file_name(class_name)}.txt"


def _line_name(origins: Sequence[tuple[int, str, list[int]]], row: int) -> str:
    start, file, lines = next(o for o in reversed(origins) if o[0] <= row and o[2])
    return f"{file}, line {lines[row - start]}"


def _five_numbers(parts: Sequence[str]) -> list[float] | None:
    if len(parts) != 6:
        return None
    try:
        return [float(part) for part in parts[1:]]
    except ValueError:
        return None


def _lines(path: Path) -> list[str]:
    try:
        raw = bounded_files.read_bytes(path)
        return bounded_files.unpacked(raw).decode("utf-8-sig").splitlines()
    except (OSError, EOFError, ValueError) as error:
        raise CheckFailed(f"{path} is not readable as text: {error}.") from None


def _class_files(folder: Path, classes: Sequence[str]) -> dict[str, Path]:
    """The file of each class; a class name may hold an underscore, so the longest one wins."""
    files: dict[str, Path] = {}
    paths = [*folder.glob(f"{PREFIX}*.txt"), *folder.glob(f"{PREFIX}*.txt.gz")]
    if not paths:
        near = next(iter(sorted(folder.glob(f"*/{PREFIX}*.txt*"))), None)
        hint = f" Give {near.parent}." if near else ""
        raise DataError(f"{folder} holds no {PREFIX}<set>_<class>.txt file.{hint}")
    # Other tools do not quote; where a name can be a file name as it is, both forms are read.
    endings = {ending: c for c in classes for ending in (c, file_name(c))}
    by_length = sorted(endings, key=len, reverse=True)
    for path in sorted(paths):
        stem = path.name.removesuffix(".gz").removesuffix(".txt").removeprefix(PREFIX)
        name = next((endings[e] for e in by_length if stem.endswith(f"_{e}")), None)
        if name is None:
            if any(line.strip() for line in _lines(path)):
                written = stem.split("_", 1)[-1]
                raise CheckFailed(
                    f'{path}: "{written}" is not among the {len(classes)} classes'
                    f"{did_you_mean(written, classes) or '.'} Rename the file: "
                    f"{PREFIX}<set>_<class>.txt. The classes: {', '.join(classes)}."
                )
        elif name in files:
            raise CheckFailed(
                f"{folder} holds two files for {name}: {files[name].name} and {path.name}. "
                "Keep one set's files in a folder."
            )
        else:
            files[name] = path
    return files


def write_detections(
    folder: Path | str, detections: VocDetections, *, set_name: str = "test"
) -> list[Path]:
    """comp4_det_<set_name>_<class>.txt for every class, empty where nothing was found.

    Each number is the shortest text that reads back as the same float (F51).

    Raises:
        CheckFailed: a score or a box is not finite (F80), an image id
            has a line break or blanks around it.
    """
    folder = Path(folder)
    finite = np.isfinite(detections.scores) & np.isfinite(detections.boxes).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise CheckFailed(
            f"{detections.name(row)}: score {detections.scores[row]} or box is not finite; "
            f"{int((~finite).sum()):,} of {len(finite):,} detections are. No file was written."
        )
    for image_id in set(detections.image_ids):
        if str(image_id).splitlines() != [str(image_id).strip()]:
            raise CheckFailed(f"image id {image_id!r} cannot stand in a line. Rename the image.")
    lines: list[list[str]] = [[] for _ in detections.classes]
    rows = zip(
        detections.image_ids,
        detections.label.tolist(),
        detections.scores.tolist(),
        detections.boxes.tolist(),
        strict=True,
    )
    for image_id, label, score, box in rows:
        numbers = " ".join(map(repr, [score, *box]))
        lines[label].append(f"{image_id} {numbers}\n")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / detections_file(set_name, name) for name in detections.classes]
    for path, text in zip(paths, lines, strict=True):
        write_text(path, "".join(text))
    return paths
