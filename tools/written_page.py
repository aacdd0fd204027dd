"""A page of docs/ that a tool writes, or compares with what it would write (`--check`).

Not for: what stands on a page (`make_key_table`, `make_protocol_page`, `make_timm_table`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resdet.atomic import write_text


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where it differs"
    )


def write_or_check(page: Path, text: str, *, check: bool) -> int:
    """Writes the page where its text differs, or, to be checked, nothing; returns the exit code."""
    differs = not page.exists() or page.read_text(encoding="utf-8") != text
    if differs and not check:
        write_text(page, text)
    print(f"{page.name}: {('differs' if check else 'written') if differs else 'as it is'}")
    return int(differs and check)
