"""Every option, command and key that a page tells a user to type is there."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

from resdet.cli import main
from resdet.config.config import flatten, get_cfg
from resdet.run.renamed_keys import RENAMED

PACKAGE = Path(main.__file__).parents[1]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
KEY = re.compile(r"\b(?:[A-Z][A-Z0-9_]+\.)+[A-Z][A-Z0-9_]+\b")
# Of pip, of tools/install_detectron2.py, of git, of torchrun, and of docker.
OTHERS = {
    "--force-reinstall", "--force", "--short", "--porcelain", "--nproc-per-node", "--shm-size",
    "--val1", "--val2",  # of datasets/prepare_ilsvrc.py
}  # fmt: skip
# Its variables of CSS are written alike.
STYLES = "profile_view.py"


def strings() -> Iterator[tuple[str, str]]:
    """Where each text in the package's code stands, and it; no docstrings."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in docs and path.name != STYLES:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.value


def options(parser: argparse.ArgumentParser) -> set[str]:
    """All option strings of a parser and of those below it."""
    found: set[str] = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= options(below)
    return found


def test_every_option_in_a_message_is_one_of_a_command() -> None:
    """A page that says to add an option which no command has would lead nowhere."""
    known = OTHERS | {"--help", "--version"}
    for name in main.COMMANDS:
        known |= options(main._parser_of(name))
    texts = list(strings())
    strange = [
        f"{where}: {option}"
        for where, text in texts
        for option in OPTION.findall(text)
        if option not in known
    ]
    assert not strange
    assert sum(bool(OPTION.search(text)) for _, text in texts) > 50


def test_every_key_in_a_message_is_one_of_the_config() -> None:
    """Detectron2's own keys count: they are ours, too."""
    keys = {key for key, _ in flatten(get_cfg())}
    known = keys | {key.rpartition(".")[0] for key in keys} | set(RENAMED)
    texts = list(strings())
    strange = [
        f"{where}: {key}"
        for where, text in texts
        for key in KEY.findall(text)
        if key not in known and key.partition(".")[0] in {k.partition(".")[0] for k in keys}
    ]
    assert not strange
    assert sum(bool(KEY.search(text)) for _, text in texts) > 100
