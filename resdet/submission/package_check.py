"""Is this results file, or this zip for COCO's server, clean? Asked before anything is sent.

The validation is the one that every number passes (`evaluation.inputs.validation`), against the
images, sizes and categories of the set; annotations are not needed. A zip is first held against
what the server expects of it: one file at the top, both named
detections_<testset>_<alg>_results (`docs/faults.md` F87).

Not for: making packages (`coco_package`, `voc_package`), or scores.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.inputs.arrays import ImageId
from resdet.evaluation.inputs.detections import Columns, load_columns
from resdet.evaluation.inputs.findings import (
    REFUSE,
    SHOWN,
    Finding,
    accept,
    accept_words,
    how_to_accept,
    of_results,
    to_accept,
    without_consequences,
)
from resdet.evaluation.inputs.ground_truth import SetIndex, read_index
from resdet.evaluation.inputs.result_folder import evaluated_beside
from resdet.evaluation.inputs.validation import check_columns
from resdet.submission import archive, servers

# Findings that are legal in a file and on the server: reported, but the file is clean.
LEGAL = ("images-without-detections", "outside", "zero-boxes")
STEM = re.compile(r"detections_(?P<set>[^_]+)_(?P<algorithm>[^_]+)_results")


@dataclass(frozen=True)
class Checked:
    """What a check found; `to_json` is what `resdet submit check --json` prints.

    Attributes:
        detections: entries in the file; None where it holds no list.
        images: expected, evaluated, missing; the last two None where it is not recorded which
            images were evaluated and some have no detection.
        accepted: faults by rule that were stated with their exact count.
    """

    title: str
    detections: int | None
    images: dict[str, int | None]
    findings: tuple[Finding, ...]
    accepted: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing was found but what is legal or accepted; a warning of evaluation's is neither."""
        legal = (*LEGAL, *self.accepted)
        return all(f.rule in legal and f.severity != REFUSE for f in self.findings)

    def how_to_accept(self) -> str:
        """The line that names what would call the file clean; "" where it is, or nothing can."""
        if self.ok or self.detections is None:
            return ""
        legal = (*LEGAL, *self.accepted)
        found = [f for f in self.findings if f.rule not in legal or f.severity == REFUSE]
        counts, left_out = to_accept(found)
        words = accept_words({**self.accepted, **counts})
        return how_to_accept(left_out, words, "To call it clean") if counts else ""

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            **({"accepted": dict(self.accepted)} if self.accepted else {}),
            "detections": self.detections,
            "images": self.images,
            "findings": [f.to_json() for f in self.findings],
        }


def check_file(
    path: Path | str,
    gt: Path | str | SetIndex,
    *,
    task: str = "bbox",
    evaluated: Sequence[ImageId] | None = None,
    accepted: Mapping[str, int] | None = None,
) -> Checked:
    """Everything that is wrong with a results file, or with a zip of one.

    Args:
        gt: COCO's instances JSON, or an image_info file without annotations.
        task: "bbox" or "segm".
        evaluated: the images that the detector saw; without it the list that lies beside the
            file is taken, if there is one.
        accepted: by rule, exactly so many faults are accepted (`findings.accept`).

    Raises:
        DataError: the file or the ground truth does not exist, or the latter is faulty.
        CheckFailed: another number of faults was accepted than there is.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path.absolute()} is a folder. Give a results file, or a zip of one.")
    if not path.is_file():
        raise DataError(f"{path} does not exist. Give a results file, or a zip of one.")
    index = gt if isinstance(gt, SetIndex) else read_index(gt, accepted or {})
    if evaluated is None:
        evaluated = evaluated_beside(path)
    checked = _check(path, index, evaluated, task)
    if not accepted:
        return checked
    findings = accept(checked.findings, of_results(accepted), checked.title)
    return replace(checked, findings=tuple(findings), accepted=dict(accepted))


def _check(path: Path, index: SetIndex, evaluated: Sequence[ImageId] | None, task: str) -> Checked:
    if path.suffix != ".zip":
        return _check_results(path, path.name, index, evaluated, task, [])
    findings, name = _check_zip(path)
    if name is None:
        return Checked(path.name, None, _images(index, evaluated, None), tuple(findings))
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "results.json"
        try:
            archive.extract(path, name, inside)
        except CheckFailed as error:
            findings.append(_unreadable("zip", error, "Pack the file again."))
            return Checked(path.name, None, _images(index, evaluated, None), tuple(findings))
        return _check_results(inside, path.name, index, evaluated, task, findings)


def columns_in(path: Path, index: SetIndex, task: str) -> Columns:
    """The detections in a zip that passed `check_file`."""
    (name,) = archive.names_in_zip(path)
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "results.json"
        archive.extract(path, name, inside)
        return load_columns(inside, index, task)[0]


def _check_results(
    path: Path,
    title: str,
    index: SetIndex,
    evaluated: Sequence[ImageId] | None,
    task: str,
    findings: list[Finding],
) -> Checked:
    try:
        columns, faulty, _ = load_columns(path, index, task, keep_masks=False)
    except CheckFailed as error:
        text = str(error).replace(str(path), title).replace(path.name, title)
        fault = _unreadable("results", CheckFailed(text), "Write one JSON list, to its end.")
        return Checked(title, None, _images(index, evaluated, None), (*findings, fault))
    # Every entry is in the columns or counted by one of the faults of form.
    number = len(columns) + sum(f.count for f in faulty)
    findings += without_consequences(faulty + check_columns(columns, index, evaluated))
    return Checked(title, number, _images(index, evaluated, findings), tuple(findings))


def _images(
    index: SetIndex, evaluated: Sequence[ImageId] | None, findings: Sequence[Finding] | None
) -> dict[str, int | None]:
    expected = len(index.image_ids)
    if evaluated is not None:
        seen = len(set(evaluated) & set(index.image_ids))
        return {"expected": expected, "evaluated": seen, "missing": expected - seen}
    # Without a list, images that have detections were evaluated; of the others it is not known.
    proven = findings is not None and not any(
        f.severity == REFUSE or f.rule == "images-without-detections" for f in findings
    )
    known = (expected, 0) if proven else (None, None)
    return {"expected": expected, "evaluated": known[0], "missing": known[1]}


def _check_zip(path: Path) -> tuple[list[Finding], str | None]:
    """What is wrong with a zip as such, and the name of the results file in it."""
    try:
        names = archive.names_in_zip(path)
    except CheckFailed as error:
        return [_unreadable("zip", error, "Pack the file again.")], None
    findings = []
    nested = [name for name in names if "/" in name or "\\" in name]
    if nested:
        findings.append(
            Finding(
                "zip-not-flat", len(nested), nested[:SHOWN],
                "Pack the file itself, not its folder: the server looks at the top only.", REFUSE,
                f"{len(nested):,} of {len(names):,} names in the zip have a folder.",
            )
        )  # fmt: skip
    files = [name for name in names if not name.endswith("/")]
    if len(files) != 1:
        findings.append(
            Finding(
                "zip-files", len(files), files[:SHOWN], "Pack one results file and nothing else.",
                REFUSE, f"The zip holds {len(files):,} files, the server expects one.",
            )
        )  # fmt: skip
    results = [name for name in files if name.endswith(".json")]
    # A lone file of another kind gets its finding for its name.
    named = results or files
    findings += _check_names(path, named[0] if named else None)
    return findings, results[0] if len(results) == 1 else None


def _check_names(path: Path, inside: str | None) -> list[Finding]:
    """F87: the zip's stem is of the server's form, and the file in it has the same."""
    findings = []
    match = STEM.fullmatch(path.stem)
    known = servers.coco_test_names()
    wrong = ""
    if match is None:
        wrong = "The zip's name is not detections_<testset>_<alg>_results.zip."
    elif match["set"] not in known:
        wrong = f"The zip's name has {match['set']}, which is no test set of COCO's."
    elif not servers.ALGORITHM.fullmatch(match["algorithm"]):
        wrong = f"The algorithm in the zip's name, {match['algorithm']}, has other signs in it."
    if wrong:
        findings.append(
            Finding(
                "zip-name", 1, [path.name],
                f"Name it detections_<testset>_<alg>_results.zip, with {', '.join(known)} and "
                "letters, digits and hyphens.", REFUSE, wrong,
            )
        )  # fmt: skip
    if inside is not None and Path(inside).name != f"{path.stem}.json":
        findings.append(
            Finding(
                "zip-stem", 1, [inside], f"Name it {path.stem}.json, as the zip.", REFUSE,
                "The file in the zip has another name than the zip.",
            )
        )  # fmt: skip
    return findings


def _unreadable(rule: str, error: CheckFailed, fix: str) -> Finding:
    return Finding(f"{rule}-unreadable", 1, [], fix, REFUSE, str(error))
