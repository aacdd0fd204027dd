"""Which shards a pattern names: braces as webdataset has them, *, ?, a folder, a list.

    train-{000..123}.tar     numbers, with as many digits as are written
    {train,extra}-*.tar      words, and whatever matches
    FOLDER                   all .tar files in it
    LIST.txt                 an address a line, relative to the list's folder

Not for: what is in them.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator

from resdet.data.shards import storage
from resdet.errors import DataError, first_few

MOST_SHARDS = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def shards_of(pattern: str) -> list[str]:
    """The addresses that a pattern names, in its order; paths are absolute.

    Whether files named by braces alone are there is not looked at.

    Raises:
        DataError: braces that are not closed, nothing that matches, a shard named twice.
    """
    found = [address for one in _expanded(pattern) for address in _matching(one)]
    twice = [address for address, number in Counter(found).items() if number > 1]
    if twice:
        raise DataError(f"wds:{pattern} names {twice[0]} twice. Name each shard once.")
    return found


def refuse_missing_shards(name: str, pattern: str) -> None:
    """A cheap look before anything is loaded; stores are not asked, only whether they can be.

    Raises:
        DataError: as `shards_of`, or paths are not there; names the first of them.
    """
    addresses = shards_of(pattern)
    for address in [a for a in addresses if storage.is_remote(a)][:1]:
        storage.file_system(address)
    missing = [a for a in addresses if not storage.is_remote(a) and not os.path.isfile(a)]
    if missing:
        raise DataError(
            f"{name}: {len(missing):,} of {len(addresses):,} shards are not there:\n"
            f"{first_few(missing, 5)}\nPut them there, or correct the pattern. Nothing was started."
        )


def _expanded(pattern: str) -> Iterator[str]:
    """The pattern with each choice of its braces."""
    fixed: list[str] = []
    choices: list[list[str]] = []
    end, number = 0, 1
    for match in _BRACES.finditer(pattern):
        fixed.append(pattern[end : match.start()])
        choices.append(_choices(pattern, match[1]))
        number *= len(choices[-1])
        if number > MOST_SHARDS:
            raise DataError(f"wds:{pattern} names more than {MOST_SHARDS:,} shards. Correct it.")
        end = match.end()
    fixed.append(pattern[end:])
    if any(set(text) & set("{}") for text in fixed):
        raise DataError(
            f"wds:{pattern}: a brace is not closed, or stands inside another. Write {{000..123}} "
            "or {one,two}; in a shell the whole name goes between quotes."
        )
    for chosen in itertools.product(*choices):
        yield "".join(map("".join, zip(fixed, (*chosen, ""), strict=True)))


def _choices(pattern: str, text: str) -> list[str]:
    match = _RANGE.fullmatch(text)
    if match is None:
        return text.split(",")
    first, last = int(match[1]), int(match[2])
    if last < first or last - first >= MOST_SHARDS:
        raise DataError(
            f"wds:{pattern}: {{{text}}} must go from a number to a higher one, {MOST_SHARDS:,} at "
            "most. Correct it."
        )
    width = len(match[1]) if match[1][0] == "0" or len(match[1]) == len(match[2]) else 0
    return [f"{value:0{width}d}" if width else str(value) for value in range(first, last + 1)]


def _matching(address: str) -> list[str]:
    if not storage.is_remote(address):
        address = storage.local_path(address)
        if os.path.isdir(address):
            return _some(address, storage.listed(os.path.join(glob.escape(address), "*.tar")))
        if os.path.isfile(address) and not address.endswith(".txt"):
            return [address]
    if address.endswith(".txt"):
        return _listed_in(address)
    if set(address) & set("*?["):
        return _some(address, storage.listed(address))
    return [address]


def _some(pattern: str, found: list[str]) -> list[str]:
    if not found:
        raise DataError(
            f"no shard is named by {pattern}. Give a folder of .tar files, or a pattern that has "
            "some, such as train-{000..123}.tar."
        )
    return found


def _listed_in(address: str) -> list[str]:
    """The addresses in a text file, a line each."""
    try:
        text = storage.read_whole(address).decode("utf-8")
    except OSError as error:
        raise DataError(f"{address} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{address} is no list of shards: it is not UTF-8.") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = []
    for line in lines:
        if storage.is_remote(line):
            found.append(line)
        elif storage.is_remote(address):
            found.append(storage.beside(address, line))
        else:
            found.append(storage.local_path(os.path.join(os.path.dirname(address), line)))
    return _some(address, found)
