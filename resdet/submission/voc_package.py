"""A run's results as VOC's server takes them: results/VOC<year>/Main/comp4_det_test_<class>.txt.

Every class has its file, also one without detections; numbers are those of the run, counted from
1, at full precision. All of it goes into one tar.gz with the same bytes each time, which is opened
again and held against the run: every class, every image id, every number.

Not for: uploading, or COCO's sets (`coco_package`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.bounded_files import sha256_of_file
from resdet.errors import CheckFailed, RunError, first_few
from resdet.evaluation.inputs.findings import Finding, refuse_if_any
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.evaluation.voc.detection_files import PREFIX, detections_file
from resdet.evaluation.voc.voc_arrays import VocDetections, VocGroundTruth, voc_index
from resdet.formats.voc_xml import VOC_CLASSES
from resdet.run.folder import Run
from resdet.submission import archive
from resdet.submission.source import Source, read_source

SET = "test"


@dataclass(frozen=True)
class VocPackage:
    """A package that was made and found clean.

    Attributes:
        per_class: detections of each class.
        has_vocs_classes: the classes are VOC's twenty; else it is a rehearsal that no server takes.
        score: AP50 of what was read back, None without ground truth.
    """

    path: Path
    sha256: str
    year: int
    data_set: str
    images: int
    per_class: Mapping[str, int]
    has_vocs_classes: bool
    score: voc.VocResult | None
    warnings: tuple[Finding, ...]

    @property
    def detections(self) -> int:
        return sum(self.per_class.values())


def can_be_packed(run: Run, data_set: str) -> bool:
    """Whether the run has VOC's files for this set."""
    return next(run.results(data_set).glob(f"{PREFIX}*.txt"), None) is not None


def package(run: Run, data_set: str, *, output: Path | None = None) -> VocPackage:
    """Makes the package of a run's results on a data set.

    Args:
        output: a folder; the run's own for this server without it.

    Raises:
        RunError, DataError: the run has no whole results on it, or the set has no year.
        CheckFailed: the results are not clean, or the package, read back, differs from them;
            there is no package then.
    """
    source = read_source(run, data_set)
    year = _year(source)
    truth = _truth(source)
    given = voc.read_detections(source.folder, truth.classes, evaluated=source.evaluated)
    if given.unread:
        raise RunError(
            f"{source.folder} has no {detections_file(SET, given.unread[0])} ({len(given.unread)} "
            "classes lack a file). Detect again: train_det --eval-only."
        )
    warnings = refuse_if_any(str(source.folder), voc.check_detections(truth, given))
    path = (output or run.submissions("voc")) / f"results_VOC{year}_comp4_det_{SET}.tar.gz"
    with archive.made_aside(path) as aside:
        archive.write_tar_gz(aside, _files(given, year))
        packed = _read_back(aside, truth, year, source)
        _refuse_difference(packed, given)
    rule = "11-point" if source.info.get("voc_year") == 2007 else "area"
    score = voc.evaluate(truth, packed, ap=rule) if source.truth else None
    counts = np.bincount(given.label, minlength=len(given.classes)).tolist()
    return VocPackage(
        path,
        sha256_of_file(path),
        year,
        data_set,
        len(truth.image_ids),
        dict(zip(given.classes, counts, strict=True)),
        set(truth.classes) == set(VOC_CLASSES),
        score,
        tuple(warnings),
    )


def _year(source: Source) -> int:
    year = source.info.get("voc_year")
    if not isinstance(year, int):
        raise RunError(
            f"{source.data_set} has no VOC year, so there is no results/VOC<year>/ for it. VOC's "
            "sets have one, and trees in a folder named VOC2007 or VOC2012. For COCO's: submit "
            "coco."
        )
    return year


def _truth(source: Source) -> VocGroundTruth:
    """The set for VOC's checks; without annotations a set without objects."""
    if source.truth is not None:
        return voc.ground_truth_from_coco(source.truth)
    index = source.index
    named = voc_index(index.title, index.category_names, index.image_ids, index.sizes)
    none = np.zeros(0, dtype=np.int64)
    return VocGroundTruth(named, none, none, np.zeros((0, 4)), np.zeros(0, dtype=np.bool_))


def _main(year: int) -> str:
    return f"results/VOC{year}/Main"


def _files(detections: VocDetections, year: int) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        paths = voc.write_detections(folder, detections, set_name=SET)
        return {f"{_main(year)}/{path.name}": path.read_bytes() for path in paths}


def _read_back(path: Path, truth: VocGroundTruth, year: int, source: Source) -> VocDetections:
    """The detections in a package, after its tree and its image ids were checked.

    Raises:
        CheckFailed: a file is missing, or one too many; an id is not of the set.
    """
    files = archive.read_tar_gz(path)
    expected = {f"{_main(year)}/{detections_file(SET, name)}" for name in truth.classes}
    if set(files) != expected:
        odd = sorted(set(files) ^ expected)
        raise CheckFailed(
            f"{path.name}: {len(odd)} files are missing or too many. No package was made.\n"
            f"{first_few(odd)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        packed = voc.read_detections(folder, truth.classes, evaluated=source.evaluated)
    refuse_if_any(path.name, voc.check_detections(truth, packed))
    return packed


def _refuse_difference(packed: VocDetections, given: VocDetections) -> None:
    same = (
        list(packed.image_ids) == list(given.image_ids)
        and np.array_equal(packed.label, given.label)
        and np.array_equal(packed.boxes, given.boxes)
        and np.array_equal(packed.scores, given.scores)
    )
    if not same:
        raise CheckFailed(
            f"{given.title}: the package, read back, differs from the files that it was made of. "
            "No package was made; report it with them."
        )
