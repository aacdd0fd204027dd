"""The labelled images of one shard: members with one key make a sample, as in webdataset.

    <key>.jpg   the image; its suffix may be any that is read here, its content decides
    <key>.cls   its label, a number from 0 in decimal digits
    <key>.json  may have "label" (where there is no .cls), "filename" (the image's name among
                class folders) and "class" (the name of its class)

The key is all before the first dot of the name's last part. Members of a sample need not lie side
by side, as nothing is read in their order. Other members are left out and counted.

Not for: tars (`tar_headers`), or what the labels are called (`shard_classes`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from resdet.data.checks.faults import Faults
from resdet.data.images.reader import IMAGE_SUFFIXES
from resdet.data.shards.shard_classes import ClassEvidence
from resdet.data.shards.tar_headers import TarFault, TarMember, Window, members

IMAGE_FIELDS = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)
LABEL_FIELD, FACTS_FIELD = "cls", "json"
MOST_OF_LABEL, MOST_OF_FACTS = 64, 1 << 20
MOST_DIGITS = 9
# webdataset's own notes (__meta__), and what macOS puts beside each file.
_ASIDE = re.compile(r"(?:^|.*/)(?:__[^/]*__(?:$|/)|\._)")
LEFT_OUT = "members of other kinds ignored"


@dataclass
class ShardSamples:
    """What one shard holds; entry n of each list is of its sample n.

    Attributes:
        members: names of the images in the tar. names: among class folders.
        offsets, sizes: of the images, in bytes.
        last_header: where the last member's header begins.
    """

    members: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    last_header: int = 0


@dataclass
class _Group:
    """The members of one key so far."""

    image: TarMember | None = None
    label: int | None = None
    facts: dict[str, Any] | None = None
    is_faulty: bool = False
    is_scattered: bool = False
    others: list[str] = field(default_factory=list)


def split_name(name: str) -> tuple[str, str]:
    """Key and field, in lower case, of a member; ("", "") where it has no suffix.

    >>> split_name("train/n01440764_1.JPEG"), split_name("a.seg.png"), split_name("notes")
    (('train/n01440764_1', 'jpeg'), ('a', 'seg.png'), ('', ''))
    """
    folder, slash, last = name.rpartition("/")
    stem, _, suffixes = last.partition(".")
    if not stem or not suffixes:
        return "", ""
    return folder + slash + stem, suffixes.lower()


class ShardScan:
    """Goes once over the headers of a shard.

    Args:
        shard: its name in messages.
        faults: of the whole set; everything found is added.
        evidence: what keys and facts tell about classes is added.
        left_out: counts of what is no sample.
    """

    def __init__(self, shard: str, faults: Faults, evidence: ClassEvidence, left_out: Counter[str]):
        self.shard = shard
        self.faults = faults
        self.evidence = evidence
        self.left_out = left_out
        self.found = ShardSamples()
        self._open: dict[str, _Group] = {}
        self._done: set[str] = set()

    def read(self, window: Window) -> ShardSamples:
        """All samples of the shard; those with faults are reported and left out."""
        key_before = ""
        try:
            for member in members(window):
                self.found.last_header = member.header
                key, suffix = split_name(member.name)
                if not key or _ASIDE.match(member.name):
                    self.left_out[LEFT_OUT] += 1
                    continue
                if key != key_before:
                    self._close(key_before)
                    key_before = key
                    if key in self._open:
                        self._open[key].is_scattered = True
                self._take(key, suffix, member, window)
        except TarFault as fault:
            self.faults.add(fault.kind, f"{self.shard} {fault.what}", fix=fault.fix)
            return self.found  # a sample that ends behind the fault has no fault of its own
        for key in [*self._open]:
            self._close(key, is_last=True)
        if not self.found.labels and not self.faults.all:
            self.faults.add(
                "empty shards",
                f"{self.shard} has no image with a label",
                fix="Take these out of the pattern.",
            )
        return self.found

    def _fault(self, kind: str, key: str, what: str, fix: str) -> None:
        self.faults.add(kind, f"{self.shard}: {key}: {what}", fix=fix)

    def _take(self, key: str, suffix: str, member: TarMember, window: Window) -> None:
        counts = suffix in IMAGE_FIELDS or suffix in (LABEL_FIELD, FACTS_FIELD)
        if key in self._done and counts:
            if suffix == FACTS_FIELD:
                what = "a .json that stands twice, or apart from the other members"
                self._fault("repeated keys", key, what, _KEYS)
            else:
                self._repeated(key, suffix)
            return
        group = self._open.setdefault(key, _Group())
        if suffix in IMAGE_FIELDS:
            if group.image is not None:
                self._second_image(key, group.image, member, group)
            elif member.size == 0:
                group.is_faulty = True
                self._fault("images", key, f".{suffix} is empty (0 bytes)", _MAKE_AGAIN)
            else:
                group.image = member
        elif suffix == LABEL_FIELD:
            if group.label is not None:
                self._repeated(key, suffix)
                return
            group.label = self._label(key, member, window, group)
        elif suffix == FACTS_FIELD:
            if group.facts is not None:
                self._repeated(key, suffix)
                return
            group.facts = self._facts(key, member, window, group)
        else:
            group.others.append(suffix)

    def _repeated(self, key: str, suffix: str) -> None:
        self._fault("repeated keys", key, f"a second .{suffix} of this key", _KEYS)

    def _second_image(self, key: str, first: TarMember, second: TarMember, group: _Group) -> None:
        group.is_faulty = True
        if split_name(first.name) == split_name(second.name):
            self._repeated(key, split_name(second.name)[1])
            return
        fields = f".{split_name(first.name)[1]} and .{split_name(second.name)[1]}"
        self._fault("several images of a key", key, f"has {fields}", "Keep one image of each key.")

    def _label(self, key: str, member: TarMember, window: Window, group: _Group) -> int | None:
        raw = window.take(member.offset, min(member.size, MOST_OF_LABEL))
        label = _number(raw) if member.size <= MOST_OF_LABEL else None
        if label is None:
            group.is_faulty = True
            self._fault(
                "labels",
                key,
                f"its .cls holds {raw[:20].decode('utf-8', 'backslashreplace')!a}, not a number",
                "A .cls holds the class's number, from 0, in decimal digits and nothing else.",
            )
        return label

    def _facts(
        self, key: str, member: TarMember, window: Window, group: _Group
    ) -> dict[str, Any] | None:
        facts = None
        if member.size <= MOST_OF_FACTS:
            try:
                facts = json.loads(window.take(member.offset, member.size))
            except (ValueError, RecursionError):
                facts = None
        if not isinstance(facts, dict):
            group.is_faulty = True
            self._fault("facts", key, "its .json is no JSON object of below 1 MB", _MAKE_AGAIN)
            return {}
        return facts

    def _close(self, key: str, *, is_last: bool = False) -> None:
        """Makes a sample of a key's members, once the image and the label are there."""
        group = self._open.get(key)
        if group is None:
            return
        label = group.label
        stated = (group.facts or {}).get("label")
        if isinstance(stated, int) and not isinstance(stated, bool):
            if label is not None and label != stated:
                group.is_faulty = True
                what = f"its .cls holds {label} and its .json {stated}"
                self._fault("labels", key, what, "One of them is wrong: make the shards again.")
            label = stated
        if not is_last and (group.image is None or label is None or group.is_scattered):
            return  # the rest may come later
        del self._open[key]
        if group.is_faulty:
            self._done.add(key)
        elif group.image is not None and label is not None:
            self._add(key, group.image, label, group.facts or {})
        else:
            self._incomplete(key, group, label)

    def _incomplete(self, key: str, group: _Group, label: int | None) -> None:
        if group.image is not None:
            what = (
                f".{split_name(group.image.name)[1]} without .cls, and without a label in a .json"
            )
            self._fault("images without a label", key, what, _LABELS)
            return
        hidden = [f for f in group.others if f.rpartition(".")[2] in (*IMAGE_FIELDS, LABEL_FIELD)]
        if label is not None or group.label is not None:
            others = ", ".join(f".{f}" for f in group.others)
            beside = f" that can be read here (there is {others})" if others else ""
            what = f"has a label and no image{beside}"
            self._fault("labels without an image", key, what, _LABELS)
        elif hidden:
            self._fault(
                "dots in keys",
                key,
                f"has .{hidden[0]}, and no image of its own",
                "The key ends at the first dot of the name: write dots in names as another "
                "character, as `resdet make_shards` does.",
            )
        else:
            self.left_out[LEFT_OUT] += len(group.others) + (group.facts is not None)

    def _add(self, key: str, image: TarMember, label: int, facts: dict[str, Any]) -> None:
        if not 0 <= label < 10**MOST_DIGITS:
            self._fault("labels", key, f"has the label {label}", "Labels are numbers from 0.")
            return
        self._done.add(key)
        name, file_name = image.name.rpartition("/")[2], facts.get("filename")
        if isinstance(file_name, str):
            name = file_name.replace("\\", "/").rpartition("/")[2] or name
        stated = facts.get("class")
        clash = self.evidence.add(
            label,
            stated if isinstance(stated, str) else "",
            f"{file_name}/{key}" if isinstance(file_name, str) else key,
            f"{self.shard}: {key}",
        )
        if clash:
            self._fault("classes", key, clash, "A class has one number: make the shards again.")
            return
        found = self.found
        found.members.append(image.name)
        found.names.append(name)
        found.offsets.append(image.offset)
        found.sizes.append(image.size)
        found.labels.append(label)


_MAKE_AGAIN = "Make these shards again from their source."
_KEYS = "Each key must occur once in the whole set, or it is not known which image is meant."
_LABELS = (
    "Every image needs a label and every label an image, with the same name up to the first dot."
)


def _number(raw: bytes) -> int | None:
    text = raw.strip()
    return int(text) if text.isdigit() and len(text) <= MOST_DIGITS else None
