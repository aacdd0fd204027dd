"""Modules of tools/, as the scripts there import each other."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from tests.support.children import ROOT


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of tools/ by name, as the scripts there do."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def installer(tool):
    return tool("install_detectron2")


@pytest.fixture
def packages(tool):
    return tool("setup_packages")


@pytest.fixture
def checks(tool):
    return tool("setup_checks")


@pytest.fixture
def environment(tool):
    return tool("setup_environment")
