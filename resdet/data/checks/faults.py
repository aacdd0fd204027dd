"""Every fault of a set on one page: what, where, and what to do about each kind.

Readers add what they find and continue, so that a user fixes a set once, not fault by fault.

Not for: repairs, which are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resdet.data.cache import cache_folder
from resdet.errors import DataError, first_few
from resdet.file_names import file_name
from resdet.printable import one_line
from resdet.run.folder import write_text

SHOWN = 20
SHOWN_OF_EACH = 4


class BrokenSet(DataError):
    """A set with faults. `faults` has all of them; the message shows the first twenty."""

    def __init__(self, message: str, faults: tuple[str, ...]):
        super().__init__(message)
        self.faults = faults

    def __reduce__(self) -> tuple[type[BrokenSet], tuple[str, tuple[str, ...]]]:
        return BrokenSet, (str(self), self.faults)


@dataclass
class _Kind:
    lines: list[str] = field(default_factory=list)
    heading: str = ""
    fix: str = ""


class Faults:
    """Collects the faults of one set, kind by kind.

    Args:
        name: of the set.
        place: the folder or file that it was read from; cut off from paths in messages.
    """

    def __init__(self, name: str, place: str):
        self.name = name
        self.place = place
        self._kinds: dict[str, _Kind] = {}

    def add(self, kind: str, line: str, *, fix: str = "") -> None:
        """One fault. `fix` is what to do about this kind; the last one given is shown."""
        entry = self._kinds.setdefault(kind, _Kind())
        entry.lines.append(one_line(line.replace(f"{self.place}/", "")))
        entry.fix = fix or entry.fix

    def explain(self, kind: str, *, heading: str = "", fix: str = "") -> None:
        """A sentence above the faults of this kind, and one below."""
        entry = self._kinds.setdefault(kind, _Kind())
        entry.heading, entry.fix = heading or entry.heading, fix or entry.fix

    def count(self, kind: str) -> int:
        return len(self._kinds[kind].lines) if kind in self._kinds else 0

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(line for kind in self._kinds.values() for line in kind.lines)

    def stop(self) -> None:
        """Ends the reading if there are faults.

        Raises:
            BrokenSet: with the page of all of them.
        """
        lines = self.all
        if lines:
            raise BrokenSet(self._page() + self._list(lines), lines)

    def _list(self, lines: tuple[str, ...]) -> str:
        """Where all faults stand, when there are more than a page shows."""
        if len(lines) <= SHOWN_OF_EACH:
            return ""
        path = cache_folder() / "faults" / f"{file_name(self.name)}.txt"
        try:
            write_text(path, "".join(f"{line}\n" for line in lines))
        except OSError:
            return ""  # a cache that cannot be written costs the list, not the page
        return f"\n\nAll {len(lines):,} faults: {path}"

    def _page(self) -> str:
        number = len(self.all)
        kinds = [kind for kind in self._kinds.values() if kind.lines]
        limit = max(SHOWN // len(kinds), SHOWN_OF_EACH)
        parts = [
            f"{self.name} cannot be used: {number:,} {'fault' if number == 1 else 'faults'} in "
            f"{self.place}."
        ]
        for kind in kinds:
            part = f"{kind.heading}\n" if kind.heading else ""
            part += first_few(kind.lines, limit)
            parts.append(f"{part}\n{kind.fix}" if kind.fix else part)
        return "\n\n".join(parts)
