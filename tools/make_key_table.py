"""Writes docs/detectron2_keys.md: what becomes of each key of Detectron2.

    python tools/make_key_table.py            writes the page
    python tools/make_key_table.py --check    writes nothing, exit code 1 where it differs

Keys are those of the installed Detectron2; the page is made with 0.6.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detectron2.config import get_cfg
from written_page import add_check, write_or_check

from resdet.config import flatten
from resdet.config.detectron2_keys import (
    NONE,
    ONLY_MAIN,
    ONLY_MAINS_SCHEDULES,
    READ,
    REFUSED,
    fate_of,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "detectron2_keys.md"
HEAD = """# Keys of Detectron2

What becomes of each key of Detectron2 0.6 here. A key that is *read* does what it does there. One
that is *refused* may be stated with its default, as Detectron2's own files do; with another value
it ends the command before it starts, with what to set instead. One *without meaning here* is
refused on the command line, and noted where a file states it. Of the keys that only Detectron2's
main has {read} are read, with their schedules. Refused are
{refused}.

FLOAT32_PRECISION "highest", as in the accuracy tests of main, is read: so it is unless ENGINE.TF32
is on.

Ranges are checked at the start, all faults on one page (`resdet/config/key_checks/ranges.py`).
`pretrain_cls` refuses the keys of a detector, `train_det` those of PRETRAIN. Made by
`python tools/make_key_table.py`.

"""


def page() -> str:
    """The page; needs Detectron2."""
    rows = [(key, value, fate_of(key)) for key, value in flatten(get_cfg())]
    counts = ", ".join(f"{sum(f.kind == k for *_, f in rows)} {k}" for k in (READ, REFUSED, NONE))
    lines = [
        f"{len(rows)} keys: {counts}.",
        "",
        "| key | default | here | |",
        "| --- | --- | --- | --- |",
    ]
    for key, value, fate in rows:
        lines.append(f"| `{key}` | `{value!r}` | {fate.kind} | {fate.note} |")
    refused = _in_words([name for name, fate in ONLY_MAIN.items() if fate.kind == REFUSED])
    head = HEAD.format(read=_in_words(list(ONLY_MAINS_SCHEDULES)), refused=refused)
    return head + "\n".join(lines) + "\n"


def _in_words(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]])


def main(argv: Sequence[str]) -> int:
    """Writes or checks the page; returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes docs/detectron2_keys.md.")
    add_check(parser)
    return write_or_check(PAGE, page(), check=parser.parse_args(argv).check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
