"""What pages of docs/ show of Python."""

from __future__ import annotations

import re

from tests.support.children import ROOT


def python_blocks(page: str) -> list[str]:
    """The blocks of Python on a page, as they stand there."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
