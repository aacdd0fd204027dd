"""The files that a set lists, found under the spelling that they have (`docs/faults.md` F1, F9).

A file system tells `000001.JPG` from `000001.jpg` and one Unicode form of é from the other; the
tool that wrote the list often did not. One other spelling is used and counted, several are
refused.

Not for: what is in the files (`scan`).
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from resdet.data.checks.faults import Faults
from resdet.data.options import DataOptions, count_for, to_type


@dataclass
class Located:
    """Where listed files are.

    Attributes:
        paths: by listed name.
        missing: listed names without a file.
        ambiguous: listed names with several candidates, and these.
        renamed: listed names found under another spelling, and that spelling.
    """

    paths: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)


def locate(folder: str, names: Iterable[str], suffixes: Sequence[str]) -> Located:
    """Finds each name below `folder`, or else its stem under another spelling or suffix.

    Args:
        names: relative paths, such as "000005.jpg" or "train/a.jpg".
        suffixes: lower-case ones that another spelling may have.
    """
    files = Located()
    folders = _Folders(suffixes)
    for name in names:
        parent, base = os.path.split(os.path.join(folder, native(name)))
        if base in folders.entries(parent):
            files.paths[name] = os.path.join(parent, base)
            continue
        if "\\" in base and "\\" in name:
            # Written on Windows: its separators are part of the name here.
            parent, base = os.path.split(os.path.join(folder, native(name).replace("\\", "/")))
        others = folders.other_spellings(parent, base)
        if len(others) == 1:
            files.paths[name] = os.path.join(parent, others[0])
            files.renamed[name] = others[0]
        elif others:
            files.ambiguous[name] = others
        else:
            files.missing.append(name)
    return files


class _Folders:
    """What lies in each folder, listed once; by stem only where something was not found."""

    def __init__(self, suffixes: Sequence[str]):
        self.suffixes = tuple(suffixes)
        self._entries: dict[str, set[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def entries(self, folder: str) -> set[str]:
        if folder not in self._entries:
            try:
                self._entries[folder] = set(os.listdir(folder))
            except OSError:
                self._entries[folder] = set()
        return self._entries[folder]

    def other_spellings(self, folder: str, base: str) -> list[str]:
        if folder not in self._stems:
            stems: dict[str, list[str]] = defaultdict(list)
            for entry in self.entries(folder):
                stem, suffix = os.path.splitext(entry)
                if suffix.lower() in self.suffixes:
                    stems[_plain(stem)].append(entry)
            self._stems[folder] = stems
        there = self.entries(folder)
        if base in there:
            return [base]
        stem, suffix = os.path.splitext(base)
        plain = _plain(stem if suffix.lower() in self.suffixes else base)
        return sorted(self._stems[folder].get(plain, []))


def _plain(stem: str) -> str:
    """The same for every spelling of a name: Unicode form and case."""
    return unicodedata.normalize("NFC", portable(stem)).casefold()


def native(name: str) -> str:
    """A name from a text as this process must spell it: itself but in a locale without UTF-8."""
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def portable(name: str) -> str:
    """A name from the file system as every process spells it; the reverse of `native` (F71)."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def refuse_missing(
    files: Located, faults: Faults, options: DataOptions, *, what: str, total: int, source: str
) -> int:
    """Adds missing and ambiguous files to the faults; how many may be left out.

    Args:
        what: they are, such as "images".
        total: how many are listed.
        source: the list.
    """
    for name, others in files.ambiguous.items():
        faults.add(
            f"ambiguous {what}",
            f"{name}: there are {', '.join(others)}",
            fix="Keep one of each.",
        )
    missing = len(files.missing)
    stated = count_for(options.allow_missing, faults.name)
    if missing in (0, stated):
        return missing
    for name in files.missing:
        faults.add(f"missing {what}", name)
    typed = to_type("DATASETS.ALLOW_MISSING", options.allow_missing, faults.name, missing)
    faults.explain(
        f"missing {what}",
        heading=f"{missing:,} of {total:,} {what} listed in {source} are missing:",
        fix=f"Put them there, or train on the rest with {typed} (exactly that number"
        f"{f', not {stated}' if stated else ''}; for training sets alone).",
    )
    return 0
