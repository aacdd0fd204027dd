"""The examples in docstrings run, and give what stands there."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import resdet

ROOT = Path(resdet.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if ">>> " in p.read_text(encoding="utf-8"))
# Packages that an extra installs; without them a module's examples cannot run.
OPTIONAL = {"jinja2", "markupsafe", "onnx", "onnxruntime", "onnxscript", "timm"}


def test_examples_are_found() -> None:
    """A walk that finds nothing would pass: 20 modules had examples when this was written."""
    assert len(FILES) >= 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_give_what_they_show(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    try:
        module = importlib.import_module(name.removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0
