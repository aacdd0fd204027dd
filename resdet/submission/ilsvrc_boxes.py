"""A run's boxes as ImageNet's server takes them: DET's detections, LOC's five guesses an image.

The file is the run's own, checked, copied under the server's name, read again and held against it.

Not for: labels without boxes (`ilsvrc_package`), uploading, or making the run's file (`detect`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resdet.bounded_files import sha256_of_file
from resdet.errors import CheckFailed, RunError, first_few
from resdet.evaluation.ilsvrc.ilsvrc_files import (
    check_det_results,
    check_loc_results,
    read_det_results,
    read_loc_results,
    write_det_results,
    write_loc_results,
)
from resdet.evaluation.inputs.findings import Finding
from resdet.run import shapes
from resdet.run.folder import Run, read_json
from resdet.run.layout import (
    GROUND_TRUTH,
    ILSVRC_RESULTS,
    IMAGE_INFO,
    IMAGES,
    LOC_ROWS,
    LOCALIZATION,
    SCORES,
)
from resdet.submission import archive
from resdet.submission.package_check import Checked
from resdet.submission.servers import TestSet, ilsvrc_boxes_test_set

DET_FILE, LOC_FILE = "ilsvrc-det.txt", "ilsvrc-loc.txt"
# Shapes of what a run left, of which this takes a few values.
_INDICES = {"expected": [(int, str)], "evaluated": [(int, str)], "result_indices": [int]}


@dataclass(frozen=True)
class BoxPackage:
    """A file that was made and found clean.

    Attributes:
        test_set: what the images are to the server; None: a rehearsal.
        score: of the run, in words; "" where the set has no annotations.
    """

    path: Path
    sha256: str
    data_set: str
    images: int
    detections: int
    test_set: TestSet | None
    score: str
    warnings: tuple[Finding, ...]


# -- DET ---------------------------------------------------------------------------------------


def can_be_packed(run: Run, data_set: str) -> bool:
    """Whether the run has DET's file for this set."""
    return (run.results(data_set) / ILSVRC_RESULTS).is_file()


def package_det(run: Run, data_set: str, *, output: Path | None = None) -> BoxPackage:
    """Makes the file of a run's results on a set of DET.

    Raises:
        RunError: the run has no whole results on it. CheckFailed: not all images were detected on,
            or the file is not clean, or, read back, another; there is no file.
    """
    folder = run.results(data_set)
    listed = read_json(folder / IMAGES, _INDICES)
    missing = set(listed["expected"]) - set(listed["evaluated"])
    if missing:
        raise CheckFailed(
            f"{folder}: {len(missing):,} of {len(listed['expected']):,} images were not detected "
            "on. Detect on all: train_det --eval-only --resume."
        )
    about = GROUND_TRUTH if (folder / GROUND_TRUTH).exists() else IMAGE_INFO
    classes = len(read_json(folder / about, {"categories": [dict]})["categories"])
    given = read_det_results(folder / ILSVRC_RESULTS)
    most = max(listed["result_indices"], default=0)
    path = (output or run.submissions("ilsvrc-det")) / DET_FILE
    with archive.made_aside(path) as aside:
        findings = write_det_results(aside, given, most, classes)
        # All images were detected on, as is stated beside; other indices are of no image of these.
        warnings = [f for f in findings if f.rule != "images-without-detections"]
        packed = read_det_results(aside)
        same = all(
            np.array_equal(getattr(packed, name), getattr(given, name))
            for name in ("image", "label", "scores", "boxes")
        )
        _refuse_difference(same, folder / ILSVRC_RESULTS)
    score = ""
    if (folder / SCORES["ilsvrc"]).exists():
        value = read_json(folder / SCORES["ilsvrc"], {"mean_ap?": (int, float)}).get("mean_ap")
        score = "" if value is None else f"mAP (ILSVRC DET) of the run: {100 * value:.2f} %."
    images = len(listed["expected"])
    parts = {"test": data_set == "ilsvrc_det_test", "val": data_set == "ilsvrc_det_val"}
    return BoxPackage(
        path,
        sha256_of_file(path),
        data_set,
        images,
        len(given.label),
        _test_set("ilsvrc-det", images, parts),
        score,
        tuple(warnings),
    )


# -- LOC ---------------------------------------------------------------------------------------


def package_loc(
    run: Run, file: str | None = None, *, data_set: str | None = None, output: Path | None = None
) -> BoxPackage:
    """Makes the file of a localiser's guesses for predicted classes.

    Args:
        file: its name in the set's folder of the run's localization/; needed where there are
            several.
        data_set: that it was tested on; needed where there are several with such a file.

    Raises:
        RunError: there is no such file, or several and none is named; lists them.
        CheckFailed: the file is not clean, or, read back, another; there is no file.
    """
    source, row = _chosen_row(run, file, data_set)
    given = read_loc_results(source)
    most = max([int(given.label.max())] if len(given.label) else [1])
    path = (output or run.submissions("ilsvrc-loc")) / LOC_FILE
    with archive.made_aside(path) as aside:
        warnings = write_loc_results(aside, given, row["images"], max(most, 1000))
        packed = read_loc_results(aside)
        same = packed.num_images == given.num_images and all(
            np.array_equal(getattr(packed, name), getattr(given, name))
            for name in ("image", "label", "boxes")
        )
        _refuse_difference(same, source)
    error = row.get("error")
    kind = "top-5 localization" if row["classes"] == "predicted" else "box"
    score = "" if error is None else f"{kind} error of the run: {100 * error:.2f} %."
    tested = row["data_set"]
    parts = {"test": tested == "ilsvrc_loc_test", "val": tested == "ilsvrc_loc_val"}
    return BoxPackage(
        path,
        sha256_of_file(path),
        tested,
        row["images"],
        len(given.label),
        _test_set("ilsvrc-loc", row["images"], parts),
        score,
        tuple(warnings),
    )


def _chosen_row(run: Run, file: str | None, data_set: str | None) -> tuple[Path, dict[str, Any]]:
    """The only fitting file of a run, and its row. Raises RunError as `package_loc`."""
    folder = run.path / LOCALIZATION
    rows = [
        (path.parent / row["file"], row)
        for path in sorted(folder.glob(f"*/{LOC_ROWS}"))
        for row in read_json(path, shapes.FILES[LOC_ROWS])
    ]
    of_set = [(path, row) for path, row in rows if data_set in (None, row["data_set"])]
    fitting = [
        (path, row)
        for path, row in of_set
        if (row["classes"] == "predicted" if file is None else row["file"] == file)
    ]
    if len(fitting) == 1:
        return fitting[0]
    names = [f"{row['file']} of {row['data_set']}" for _, row in rows]
    number = f"{len(fitting)} files" if fitting or file is None else "no file"
    what = f"{number} {file}" if file else f"{number} of predicted classes"
    raise RunError(
        f"{folder} has {what}{f' of {data_set}' if data_set else ''}. Name one with --file and "
        f"--set, or test with LOC.SCORES: train_loc --eval-only. It has:\n{first_few(names, 8)}"
        if names
        else f"{folder} has no result file. Test first: train_loc --eval-only with LOC.SCORES."
    )


def _test_set(server: str, images: int, is_part: dict[str, bool]) -> TestSet | None:
    for part, fits in is_part.items():
        if fits:
            known = ilsvrc_boxes_test_set(server, part)
            if known.images == images:
                return known
    return None


def _refuse_difference(same: bool, source: Path) -> None:
    if not same:
        raise CheckFailed(
            f"the file, read back, differs from {source}, which it was made of. None was made; "
            "report it with it."
        )


# -- anyone's ----------------------------------------------------------------------------------


def check_det_file(path: Path, images: int) -> Checked:
    """Everything that is wrong with anyone's DET file for a set of so many images.

    Raises:
        DataError: no such file. CheckFailed: it is no such file at all.
    """
    results = read_det_results(path)
    findings = check_det_results(results, images)
    return _checked(path, len(results.label), images, None, findings)


def check_loc_file(path: Path, images: int) -> Checked:
    """The same of a LOC file."""
    results = read_loc_results(path)
    findings = check_loc_results(results, images)
    return _checked(path, len(results.label), images, min(results.num_images, images), findings)


def _checked(
    path: Path, entries: int, images: int, seen: int | None, findings: Sequence[Finding]
) -> Checked:
    # An image without a line of DET may have been visited, or not: the format cannot tell.
    missing = None if seen is None else images - seen
    found: dict[str, int | None] = {"expected": images, "evaluated": seen, "missing": missing}
    return Checked(path.name, entries, found, tuple(findings))
