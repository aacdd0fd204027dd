"""What the documents show can be typed, and where they link there is something.

Every command parses, every key, file and heading exists. No address is asked for here: external
links are looked at for their form alone.
"""

import argparse
import ast
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("detectron2")

from resdet.cli import main
from resdet.config import flatten, get_cfg, resolve
from resdet.run.renamed_keys import RENAMED

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RESULTS.md", "datasets/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
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
    return main._parser_of(Path(words[0]).stem).parse_args(words[1:])


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
    if path.name in ("renamed_keys.py", "CHANGELOG.md"):
        known |= RENAMED.keys()
    pattern = rf"(?<![\w./])(?:{'|'.join(tops)})(?:\.[A-Z][A-Z0-9_]*)+"
    assert set(re.findall(pattern, path.read_text(encoding="utf-8"))) - known == set()


def test_each_key_that_is_written_into_run_json_is_on_the_page():
    """Those of `Run.update(KEY=…)` and of a new run, wherever the code writes them."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    table = text.partition("**run.json.**")[2].partition("\n\n**")[0]
    on_page = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row)}
    calls = [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "update"
        and ast.unparse(node.func.value).endswith(("run", "folder"))
    ]
    written = {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}
    assert len(written) > 25 and written - on_page == set()


def links(path: Path) -> list[str]:
    """The targets of a page's links and pictures, as a reader of plain Markdown has them."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"\]\(([^)]*)\)", text)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, no punctuation, dashes for blanks."""
    shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


def headings(path: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"^#{1,6} +(.+?)\s*$", text, flags=re.M)


def anchors(path: Path) -> set[str]:
    """A heading that comes again gets -1, -2 and so on."""
    found: list[str] = []
    for heading in headings(path):
        name = anchor(heading)
        again = sum(name == re.sub(r"-\d+$", "", other) for other in found)
        found.append(f"{name}-{again}" if again else name)
    return set(found)


def broken(path: Path, link: str) -> str | None:
    """What is wrong with a link of the page, if anything."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        form = parts.scheme in ("http", "https") and re.fullmatch(r"[\w.-]+\.[a-z]+", parts.netloc)
        return None if form and not re.search(r"\s", link) else f"{link}: no address"
    target = path.parent / parts.path if parts.path else path
    if link.startswith("/") or not target.exists():
        return f"{link}: no such file"
    if parts.fragment and parts.fragment not in anchors(target):
        return f"{link}: no such heading"
    return None


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    assert [fault for link in links(path) if (fault := broken(path, link))] == []


def test_links_are_found_at_all():
    """The README's table alone has more than ten; some link names a heading."""
    assert len(links(ROOT / "README.md")) > 10
    assert any("#" in link for path in PAGES for link in links(path) if "://" not in link)


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("b.md", None),
        ("b.md#a-word-or-two", None),
        ("#here", None),
        ("https://example.org/x#y", None),
        ("c.md", "no such file"),
        ("/b.md", "no such file"),
        ("b.md#gone", "no such heading"),
        ("#gone", "no such heading"),
        ("https:/example.org", "no address"),
        ("ftp://example.org", "no address"),
    ],
)
def test_a_broken_link_is_told(tmp_path, link, fault):
    page = tmp_path / "a.md"
    page.write_text("# Here\n", encoding="utf-8")
    (tmp_path / "b.md").write_text("# B\n## A `word`, or *two*\n", encoding="utf-8")
    assert broken(page, link) == (fault and f"{link}: {fault}")


def test_the_site_gives_headings_the_anchors_of_code_hosts():
    """pymdownx.slugs is the site's rule (docs/site.yml), written by others than this file's."""
    slugs = pytest.importorskip("pymdownx.slugs").slugify(case="lower")
    names = [heading for path in PAGES for heading in headings(path)]
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", name) for name in names]
    assert len(names) > 60
    assert [slugs(name, "-") for name in plain] == [anchor(name) for name in names]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(path):
    """Paths of ours in backticks; <…>, … and * stand for something."""
    ours = re.findall(
        r"`((?:resdet|configs|docs|tools|tests|datasets)/[\w./-]+)`", path.read_text("utf-8")
    )
    named = [ROOT / t for t in ours if not t.startswith("datasets/")]
    assert [str(p) for p in named if not p.exists()] == []


def code_files() -> Iterator[Path]:
    for folder in ("resdet", "tests", "tools", "docs", "benchmarks", "configs"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".yaml", ".sh") and path.name != "faults.md":
                yield path


def test_every_code_of_a_fault_has_one_row_and_every_row_is_used():
    text = (ROOT / "docs/faults.md").read_text("utf-8")
    rows = re.findall(r"^\| (F\d+) \|", text, flags=re.MULTILINE)
    # Ours have one or two digits, those of the linter three.
    used = {c for p in code_files() for c in re.findall(r"\bF\d{1,2}\b", p.read_text("utf-8"))}
    assert len(rows) == len(set(rows))
    assert set(rows) == used


def comments_and_docstrings(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds):
            yield ast.get_docstring(node) or ""


def test_no_comment_or_docstring_names_a_page_that_is_not_there():
    """Sections of pages were cited that no reader has."""
    # Files that commands write, and one of Detectron2.
    made = {"report.md", "SOURCES.md", "MODEL_ZOO.md"}
    lost = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in code_files()
        if path.suffix == ".py"
        for text in comments_and_docstrings(path)
        for name in re.findall(r"(?<![\w/.-])[\w./-]*\w\.md\b", text)
        if name not in made and not (ROOT / name).exists()
    }
    assert lost == set()
