"""The files that a set lists, found under the spelling that they have (`docs/faults.md` F1, F9).

A file system tells `000001.JPG` from `000001.jpg` and one Unicode form of é from the other; the
tool that wrote the list often did not. One other spelling is used and counted, several are
refused.

Not for: what is in the files (`scan`).
"""

from __future__ import annotations

import os
import shlex
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
        by_base_name: listed names whose folders are not there, found by their last part.
        outside: listed names that lead out of the folder to a file, being absolute or by "..".
        elsewhere: a folder below which all listed names lie, where none is below the one given.
    """

    paths: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    by_base_name: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    elsewhere: str = ""

    def folders_note(self) -> str:
        """The sentence on files not in the folders of their names, or outside; "" if none."""
        if self.outside:
            return (
                f"{len(self.outside):,} listed files lie outside the folder given "
                f"({self.outside[0]!a}); they are read, as the list names them, and nothing is "
                "written there"
            )
        if not self.by_base_name:
            return ""
        return (
            f"no listed file is in the folder that its name has ({self.by_base_name[0]}); "
            f"{len(self.by_base_name):,} were found by the last part of their names"
        )


def locate(folder: str, names: Iterable[str], suffixes: Sequence[str]) -> Located:
    """Finds each name below `folder`, or else its stem under another spelling or suffix.

    Where none is there and names have folders (`images/a.jpg`, `../media/a.jpg`), all are looked
    for by their last parts, if these differ; else in the folders above and below.

    Args:
        names: relative paths, such as "000005.jpg" or "train/a.jpg".
        suffixes: lower-case ones that another spelling may have.
    """
    names = list(names)
    folders = _Folders(suffixes)
    files = _locate(folder, names, folders)
    if files.paths or files.ambiguous or not names:
        return files
    bases = {name: last_part(name) for name in names}
    if len(set(bases.values())) == len(names) and any(b != name for name, b in bases.items()):
        by_base = _locate(folder, list(bases.values()), folders)
        if by_base.paths:
            return _under_listed_names(by_base, bases)
    files.elsewhere = _folder_of_all(folder, names, suffixes)
    return files


def last_part(name: str) -> str:
    """The file's own name: behind the last slash, or backslash of Windows."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or name


def _under_listed_names(by_base: Located, bases: dict[str, str]) -> Located:
    files = Located()
    for name, base in bases.items():
        if base in by_base.paths:
            files.paths[name] = by_base.paths[base]
            files.by_base_name.append(name)
        elif base in by_base.ambiguous:
            files.ambiguous[name] = by_base.ambiguous[base]
        else:
            files.missing.append(name)
        if base in by_base.renamed:
            files.renamed[name] = by_base.renamed[base]
    return files


def _folder_of_all(folder: str, names: Sequence[str], suffixes: Sequence[str]) -> str:
    """A folder one or two levels up, or one down, below which every name is; "" if none."""
    parent = os.path.dirname(folder)
    try:
        below = sorted(e.path for e in os.scandir(folder) if e.is_dir())
    except OSError:
        below = []
    for candidate in (parent, os.path.dirname(parent), *below[:50]):
        if not _locate(candidate, names[:1], _Folders(suffixes)).paths:
            continue
        if len(_locate(candidate, names, _Folders(suffixes)).paths) == len(names):
            return candidate
    return ""


def _locate(folder: str, names: Iterable[str], folders: _Folders) -> Located:
    files = Located()
    for name in names:
        if not _can_be_a_file(name):
            files.missing.append(name)
            continue
        parent, base = os.path.split(os.path.join(folder, native(name)))
        if base in folders.entries(parent):
            files.paths[name] = os.path.join(parent, base)
            if not _lies_below(folder, files.paths[name]):
                files.outside.append(name)
            continue
        if "\\" in base and "\\" in name:
            # Written on Windows: its separators are part of the name here.
            parent, base = os.path.split(os.path.join(folder, native(name).replace("\\", "/")))
        others = folders.other_spellings(parent, base)
        if len(others) == 1:
            files.paths[name] = os.path.join(parent, others[0])
            if not _lies_below(folder, files.paths[name]):
                files.outside.append(name)
            files.renamed[name] = others[0]
        elif others:
            files.ambiguous[name] = others
        else:
            files.missing.append(name)
    return files


def _can_be_a_file(name: str) -> bool:
    """Not so with NUL, or with half a pair of UTF-16 that stands for no byte of a name."""
    try:
        return "\0" not in native(name)
    except UnicodeEncodeError:
        return False


def _lies_below(folder: str, path: str) -> bool:
    """By their spelling: a link that somebody laid in the folder is part of it."""
    if ".." not in path and path.startswith(os.path.join(folder, "")):
        return True
    root = os.path.abspath(folder)
    return os.path.commonpath([root, os.path.abspath(path)]) == root


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
    files: Located,
    faults: Faults,
    options: DataOptions,
    *,
    what: str,
    total: int,
    source: str,
    named_as: str = "",
) -> int:
    """Adds missing and ambiguous files to the faults; how many may be left out.

    Args:
        what: they are, such as "images".
        total: how many are listed.
        source: the list.
        named_as: the name of the set up to the folder, which comes last; "" where it has none.
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
    fix = (
        f"Put them there, or train on the rest with {typed} (exactly that number"
        f"{f', not {stated}' if stated else ''}; for training sets alone)."
    )
    if missing == total:
        # Nothing would be left to train on.
        fix = f"None of the {what} is there: is it the right folder? Name it, or put them there."
        if files.elsewhere and named_as:
            fix = (
                f"All of them lie below {files.elsewhere}: name the set "
                f"{shlex.quote(named_as + files.elsewhere)}."
            )
        elif files.elsewhere:
            fix = f"All of them lie below {files.elsewhere}: put them where they are expected."
    faults.explain(
        f"missing {what}",
        heading=f"{missing:,} of {total:,} {what} listed in {source} are missing:",
        fix=fix,
    )
    return 0
