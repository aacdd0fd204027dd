"""What the labels of shards are called, and whether they count the classes in the usual order.

Asked in this order: classes.txt beside the shards, a line per class; "class" in the samples' .json;
the wnid in ImageNet's file names; else classes are called by their numbers. What keys and facts
tell is held against the list: ImageNet's classes are numbered by the sorted wnids, from 0, but its
development kit has ids of its own, from 1 (`docs/faults.md` F4).

Not for: reading shards (`samples`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from resdet.data.checks.faults import Faults

LIST = "classes.txt"
_WNID = re.compile(r"(?:^|/)(n\d{8})(?=[_/.]|$)")
_WNID_LINE = re.compile(r"(?:\d+\s+)?(n\d{8})\b.*")
# The first validation images of ILSVRC 2012: place among the sorted wnids, and the kit's id.
_FIRST_OF_VAL = (
    (65, 490), (970, 361), (230, 171), (809, 822), (516, 297), (57, 482), (334, 13), (415, 704),
    (674, 599), (332, 164),
)  # fmt: skip
_VAL = re.compile(r"(?:^|/)ILSVRC2012_val_(\d{8})(?=[_/.]|$)")


class ClassEvidence:
    """What samples tell about the names of their labels."""

    def __init__(self) -> None:
        self.stated: dict[int, str] = {}  # by label, "class" of its .json
        self.wnids: dict[int, str] = {}  # by label, in names of files
        self.validation: dict[int, int] = {}  # label by number of the validation image
        self._where: dict[str, str] = {}  # by name, the first sample that has it

    def add(self, label: int, stated: str, names: str, where: str) -> str:
        """Notes one sample; a sentence where it contradicts one before, else "".

        Args:
            stated: the class that it names, or "".
            names: its key and the name of its file, with a slash between.
            where: shard and key.
        """
        if match := _VAL.search(names):
            number = int(match[1])
            if 1 <= number <= len(_FIRST_OF_VAL):
                self.validation[number] = label
        wnid = match[1] if (match := _WNID.search(names)) else ""
        for name, known in ((stated, self.stated), (wnid, self.wnids)):
            if not name:
                continue
            first = known.setdefault(label, name)
            if first != name:
                sample = f"{self._where[first]} has it and is {first}"
                return f"has label {label} and is {name}, but {sample}"
            self._where.setdefault(name, where)
        return ""


def listed_names(text: str) -> tuple[str, ...]:
    """The classes of a list, a line each; of ImageNet's lists (`0 n01440764 tench`) the wnids."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wnids = [_WNID_LINE.fullmatch(line) for line in lines]
    if all(wnids):
        return tuple(match[1] for match in wnids if match)
    return tuple(lines)


def class_names(
    listed: Sequence[str] | None,
    evidence: ClassEvidence,
    labels: np.ndarray,
    faults: Faults,
    source: str,
) -> tuple[str, ...]:
    """Names in the order of the labels; faults are added where labels and names do not agree.

    Args:
        listed: of classes.txt; None where there is none.
        labels: (N,) of all samples.
        source: the address of classes.txt, there or not.
    """
    number = int(labels.max(initial=-1)) + 1
    _refuse_kit_order(evidence, faults)
    if listed is not None:
        _hold_against(listed, evidence, labels, faults, source)
        return tuple(listed)
    if evidence.stated and len(evidence.stated) == number:
        names = [evidence.stated[label] for label in range(number)]
    elif evidence.wnids and len(evidence.wnids) == number:
        names = [evidence.wnids[label] for label in range(number)]
        in_order = sorted(names)
        if names != in_order:
            first = next(i for i in range(number) if names[i] != in_order[i])
            faults.add(
                "order of classes",
                f"label {first} is {names[first]} by its files' names, not {in_order[first]}",
                fix="ImageNet's classes are numbered by their sorted wnids; these may be ids of "
                "the development kit. Make the shards again, or list the classes in the order of "
                f"these labels in {source}.",
            )
    else:
        names = [str(label) for label in range(number)]
        if number and (int(labels.min()) > 0 or number > len(labels)):
            faults.add(
                "labels",
                f"labels are {int(labels.min())} to {number - 1}, of {len(labels):,} images",
                fix="Without names of the classes, labels count from 0, and there are no more of "
                f"them than images. Make the shards again, or name every class in {source}.",
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        faults.add(
            "classes", f"{twice} has more than one label", fix=f"Name the classes in {source}."
        )
    return tuple(names)


def _hold_against(
    listed: Sequence[str],
    evidence: ClassEvidence,
    labels: np.ndarray,
    faults: Faults,
    source: str,
) -> None:
    if len(set(listed)) < len(listed) or not listed:
        what = "is empty" if not listed else "has a class twice"
        faults.add("classes", f"{source} {what}", fix="Write a line for each class.")
        return
    if int(labels.max(initial=0)) >= len(listed):
        from_one = len(labels) and int(labels.min()) == 1 and int(labels.max()) == len(listed)
        faults.add(
            "labels",
            f"labels are {int(labels.min())} to {int(labels.max())}, and {source} has "
            f"{len(listed)} classes, 0 to {len(listed) - 1}",
            fix="They seem to count from 1, as the development kit's ids do, in another order. "
            "Make the shards again with the places in the list."
            if from_one
            else "Add the missing classes, or make the shards again.",
        )
        return
    place = {name: i for i, name in enumerate(listed)}
    for known in (evidence.stated, evidence.wnids):
        wrong = {k: n for k, n in known.items() if place.get(n, k) != k}
        if wrong:
            label, name = min(wrong.items())
            faults.add(
                "order of classes",
                f"label {label} is {listed[label]} in {source}, but its images are {name} "
                f"({len(wrong):,} of {len(known):,} labels differ)",
                fix="The list has another order than the labels, such as that of the development "
                f"kit's ids. Put the right list there (line 1 for label 0: {known.get(0, '?')}).",
            )
            return


def _refuse_kit_order(evidence: ClassEvidence, faults: Faults) -> None:
    """Ids of the development kit, less 1 or not, in the place of the order of sorted wnids."""
    asked = {n: _FIRST_OF_VAL[n - 1] for n in evidence.validation}
    for less in (0, 1):
        if len(asked) >= 2 and all(
            evidence.validation[n] == kit - less for n, (_, kit) in asked.items()
        ):
            number = min(asked)
            faults.add(
                "order of classes",
                f"ILSVRC2012_val_{number:08d} has the label {evidence.validation[number]}, its id "
                f"of the development kit{' less 1' if less else ''}; by sorted wnids it is class "
                f"{asked[number][0]}",
                fix="Map the kit's ids by its meta.mat to wnids, sort these, and make the shards "
                "again with the places.",
            )
            return
