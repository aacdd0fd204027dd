"""What the documents show can be typed: every command parses, every key and file exists."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import COMMANDS
from resdet.config import flatten, get_cfg, resolve

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "datasets" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SOURCES = sorted((ROOT / "resdet").rglob("*.py"))


def shown(path: Path) -> Iterator[str]:
    """The command lines in a page's blocks and a preset's header, with continuations joined."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        text = "\n".join(blocks)
    else:
        text = re.sub(r"^#( \w+)? +", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    for line in text.splitlines():
        if re.match(r"(python tools/|resdet )", line):
            yield line.removesuffix(", then")


def parsed(line: str) -> argparse.Namespace:
    """The command's own parser on the line; what it refuses ends with SystemExit."""
    words = shlex.split(line, comments=True)
    if words[0] == "python":
        assert (ROOT / words[1]).is_file(), words[1]
        words = words[1:]
    else:
        words = words[1:]
    module = importlib.import_module(COMMANDS[Path(words[0]).stem][0])
    parser = argparse.ArgumentParser(allow_abbrev=False)
    module.add_arguments(parser)
    return parser.parse_args(words[1:])


COMMAND_LINES = [
    pytest.param(line, id=f"{path.name}: {line[:60]}")
    for path in (*PAGES, *CONFIGS)
    for line in shown(path)
]


def test_the_commands_are_found():
    """Two a preset with weights, one a preset without; the README and tutorial have more."""
    assert len(COMMAND_LINES) > 2 * 48 + 14 + 10


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_that_is_shown_can_be_typed(line):
    """Its parser takes it, its config is there, and its keys and values pass the strict reader."""
    args = parsed(line)
    flags = {word[2:].replace("-", "_") for word in shlex.split(line) if word.startswith("--")}
    assert flags <= set(vars(args))
    if getattr(args, "config", None):
        stated = resolve(ROOT / args.config, args.opts).stated
        assert set(args.opts[::2]) <= set(stated)


@pytest.mark.parametrize(
    "path", [*PAGES, *CONFIGS, *SOURCES], ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_key_that_is_named_exists(path):
    """Names such as EVAL.SUBSET in a hint that no key answers to were found this way."""
    cfg = get_cfg()
    tops = [key for key in cfg if isinstance(cfg[key], dict)]
    known = {".".join(k.split(".")[:i]) for k, _ in flatten(cfg) for i in range(1, 9)}
    pattern = rf"(?<![\w./])(?:{'|'.join(tops)})(?:\.[A-Z][A-Z0-9_]*)+"
    assert set(re.findall(pattern, path.read_text(encoding="utf-8"))) - known == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(path):
    """Links, and paths of ours in backticks; <…>, … and * stand for something."""
    text = path.read_text(encoding="utf-8")
    links = [path.parent / t for t in re.findall(r"\]\((?!http)([^)#]+)\)", text)]
    ours = re.findall(r"`((?:resdet|configs|docs|tools|tests|datasets)/[\w./-]+)`", text)
    named = [ROOT / t for t in ours if not t.startswith("datasets/")]
    assert [str(p) for p in (*links, *named) if not p.exists()] == []
