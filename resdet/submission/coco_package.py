"""A run's results as COCO's server takes them: detections_<testset>_<alg>_results.zip.

The best 100 of each image, as the server would cut; official ids; boxes rounded, so that the file
is small; the same bytes each time. The package is then opened again, checked as a stranger's, and,
where there is ground truth, scored beside the results that it came from (`docs/faults.md` F59, F86,
F87).

Not for: uploading, or results of other tools (pack those with any zip, and use `package_check`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet.bounded_files import sha256_of_file
from resdet.errors import CheckFailed, ConfigError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.arrays import FloatArray, IntArray
from resdet.evaluation.inputs.detections import Columns, load_columns
from resdet.evaluation.inputs.findings import Finding, refuse_if_any
from resdet.evaluation.inputs.ground_truth import GroundTruth, SetIndex
from resdet.evaluation.inputs.masks import compressed
from resdet.evaluation.inputs.validation import DETECTIONS_PER_IMAGE, check_columns
from resdet.run.folder import Run, write_json
from resdet.run.layout import COCO_RESULTS
from resdet.submission import archive, servers
from resdet.submission.package_check import check_file, columns_in
from resdet.submission.servers import TestSet
from resdet.submission.source import Source, read_source

MAX_DECIMALS = 6
# As many as tell all float32 scores apart; COCO asks for no number, ties come from too few.
SCORE_DIGITS = 9


@dataclass(frozen=True)
class CocoPackage:
    """A package that was made and found clean.

    Attributes:
        cut_images, cut_detections: images that had more than 100, and what was left out of them.
        widened: boxes thinner than a unit of rounding, which got one.
        scores: (what, result): as detected, after the cut if there was one, in the package, each
            by the fast engine with its cross-check; empty without ground truth.
        warnings: of the check of the package; evaluation accepts these.
    """

    path: Path
    sha256: str
    test_set: TestSet
    task: str
    algorithm: str
    data_set: str
    images: int
    detections: int
    cut_images: int
    cut_detections: int
    widened: int
    decimals: int
    scores: tuple[tuple[str, coco.CocoResult], ...]
    warnings: tuple[Finding, ...]

    @property
    def server(self) -> str:
        return f"coco-{self.task}"


def task_of(run: Run, data_set: str) -> str:
    """ "segm" for a run that scored masks on this set, else "bbox"; raises as `package`."""
    return "segm" if read_source(run, data_set).info.get("masks") else "bbox"


def package(
    run: Run,
    data_set: str,
    *,
    algorithm: str,
    task: str = "bbox",
    decimals: int = 1,
    output: Path | None = None,
) -> CocoPackage:
    """Makes the package of a run's results on a data set.

    Args:
        data_set: one that COCO's server knows, `servers.coco_test_set`.
        algorithm: letters, digits, hyphens; part of the name.
        task: "bbox", or "segm" for results with masks.
        decimals: of a pixel, 0 to 6; masks are never rounded.
        output: a folder; the run's own for this server without it.

    Raises:
        ConfigError: a name or number that cannot be; the set is none of the server's.
        RunError, DataError: the run has no whole results on it, or its ground truth no masks for
            segm.
        CheckFailed: the results are not clean, or the package, read back, is not what it should
            be. There is no package after any of these.
    """
    servers.check_algorithm(algorithm)
    if not 0 <= decimals <= MAX_DECIMALS:
        raise ConfigError(f"--decimals is {decimals}. Give 0 to {MAX_DECIMALS}; COCO advises 1.")
    test_set = servers.coco_test_set(data_set)
    source = read_source(run, data_set)
    columns = _clean_columns(source, task)
    kept = best_per_image(columns, source.index)
    boxes, widened = rounded(kept, source.index, decimals)
    content = _as_json(kept, boxes, source.index, decimals)
    stem = f"detections_{test_set.name}_{algorithm}_results"
    path = (output or run.submissions(f"coco-{task}")) / f"{stem}.zip"
    with archive.made_aside(path) as aside:
        archive.write_zip(aside, f"{stem}.json", content)
        checked = check_file(aside, source.index, task=task, evaluated=source.evaluated)
        warnings = refuse_if_any(checked.title, checked.findings)
        packed = _read_back(aside, source.index, task, len(kept))
        scores = _scores(source.truth, columns, kept, packed, task)
    # For a later check of the package: an image without detections was seen all the same.
    ids = source.index.image_ids
    seen = {"expected": ids, "evaluated": ids}
    write_json(path.with_name(f"{stem}.images.json"), seen, indent=None)
    cut = np.bincount(columns.image, minlength=len(ids)) > DETECTIONS_PER_IMAGE
    return CocoPackage(
        path,
        sha256_of_file(path),
        test_set,
        task,
        algorithm,
        data_set,
        len(ids),
        len(kept),
        int(cut.sum()),
        len(columns) - len(kept),
        widened,
        decimals,
        tuple(scores),
        tuple(warnings),
    )


def _clean_columns(source: Source, task: str) -> Columns:
    """The run's results; with masks their boxes are not checked."""
    path = source.folder / COCO_RESULTS
    columns, findings, title = load_columns(path, source.index, task)
    refuse_if_any(title, findings + check_columns(columns, source.index, source.evaluated))
    categories = np.array(source.index.category_ids)[np.unique(columns.category)]
    strange = sorted(set(categories.tolist()) - servers.coco_categories())
    if strange:
        raise CheckFailed(
            f"{path}: detections of category {', '.join(map(str, strange[:5]))}, which is none of "
            "COCO's 80. Train and detect on sets with COCO's own categories."
        )
    return columns


def best_per_image(columns: Columns, index: SetIndex, limit: int = DETECTIONS_PER_IMAGE) -> Columns:
    """The `limit` best of each image: images by id, then falling score, equal ones as given."""
    rank = index.image_rank()[columns.image]
    order = np.lexsort((-columns.scores, rank))
    ordered = rank[order]
    place: IntArray = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    rows = order[place < limit]
    masks = columns.segmentations
    return dataclasses.replace(
        columns,
        image=columns.image[rows],
        category=columns.category[rows],
        boxes=columns.boxes[rows],
        scores=columns.scores[rows],
        segmentations=None if masks is None else [masks[i] for i in rows],
        name=lambda row: columns.name(int(rows[row])),
    )


def rounded(columns: Columns, index: SetIndex, decimals: int) -> tuple[FloatArray, int]:
    """Boxes [x, y, width, height] to so many decimals of a pixel, and how many were too thin.

    Corners are rounded, not sizes, so that a box inside its image stays inside. What would have no
    width or height gets one unit: without it the box could not stand in a file.
    """
    scale = 10**decimals
    near = np.rint(columns.boxes[:, :2] * scale)
    far = np.rint((columns.boxes[:, :2] + columns.boxes[:, 2:]) * scale)
    thin = far <= near
    border = index.sizes[columns.image] * scale
    # At the far border the unit is taken from the other side; unknown sizes are never reached.
    inward = thin & (near + 1 > border)
    near[inward] -= 1
    far[thin] = near[thin] + 1
    boxes = np.concatenate([near, far - near], axis=1) / scale
    return boxes + 0.0, int(thin.any(axis=1).sum())  # + 0.0: no -0.0


def _as_json(columns: Columns, boxes: FloatArray, index: SetIndex, decimals: int) -> bytes:
    """The results list, one entry a line."""
    ids = [json.dumps(i) for i in index.image_ids]
    scores = [repr(float(f"{s:.{SCORE_DIGITS}g}")) for s in columns.scores.tolist()]
    lines = [
        f'{{"image_id":{ids[image]},"category_id":{index.category_ids[category]},{place},'
        f'"score":{score}}}'
        for image, category, place, score in zip(
            columns.image.tolist(),
            columns.category.tolist(),
            _places(columns, boxes, index),
            scores,
            strict=True,
        )
    ]
    return ("[" + ",\n".join(lines) + "]\n").encode()


def _places(columns: Columns, boxes: FloatArray, index: SetIndex) -> Sequence[str]:
    """The entries' bbox, or their segmentation as compressed run lengths."""
    if columns.segmentations is None:
        return [f'"bbox":[{x!r},{y!r},{w!r},{h!r}]' for x, y, w, h in boxes.tolist()]
    places = []
    for mask in columns.segmentations:
        height, width = (int(v) for v in mask["size"])
        counts = compressed(mask, height, width)["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        value = {"size": [height, width], "counts": text}
        places.append(f'"segmentation":{json.dumps(value, separators=(",", ":"))}')
    return places


def _read_back(path: Path, index: SetIndex, task: str, count: int) -> Columns:
    packed = columns_in(path, index, task)
    if len(packed) != count:
        raise CheckFailed(
            f"{path.name}: {count:,} detections were packed, {len(packed):,} read back. "
            "No package was made; report it with the run's coco_instances_results.json."
        )
    return packed


def _scores(
    truth: GroundTruth | None, given: Columns, kept: Columns, packed: Columns, task: str
) -> list[tuple[str, coco.CocoResult]]:
    """By the fast engine, which is held against pycocotools each time."""
    if truth is None:
        return []
    steps = [("as detected", given)]
    if len(kept) < len(given):
        steps.append((f"best {DETECTIONS_PER_IMAGE} an image", kept))
    steps.append(("in the package", packed))
    return [
        (what, coco.evaluate_columns(truth, columns, task=task, engine="fast"))
        for what, columns in steps
    ]
