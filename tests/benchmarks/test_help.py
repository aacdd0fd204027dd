"""Each benchmark is imported, and each command answers --help: a module that moved is seen."""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil

import pytest

pytest.importorskip("detectron2")

import benchmarks

MODULES = sorted(
    found.name for found in pkgutil.walk_packages(benchmarks.__path__, f"{benchmarks.__name__}.")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_module_is_imported_and_answers_help(name: str) -> None:
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        return
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert not ended.value.code
    assert text.getvalue().startswith("usage: ")
