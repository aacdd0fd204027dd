"""Gathers the pages of the site from all over the repository; `tools/docs.sh` calls this.

    docs/ and its pictures              as they are
    README.md, RESULTS.md and others    under the names in OUTSIDE
    resdet/                             a page for each package, found in the tree
    runs/demo/report/report.html        where the demo has run

What is in the repository stays plain Markdown that reads well on a code host. Two things change
on the way: links between files become links between pages, and what Python-Markdown reads in
another way than code hosts do (lists without a blank line before them, pipes in tables) is
written in its way.

With --check: refuses a built site that would load something from another host.

Needs only the standard library. Not for: turning Markdown into pages (MkDocs, by docs/site.yml).
"""

from __future__ import annotations

import argparse
import ast
import posixpath
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages outside docs/: path in the repository to path in the site.
OUTSIDE = {
    "README.md": "index.md",
    "RESULTS.md": "results.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "datasets/README.md": "datasets.md",
}
# Reports that are taken along where they are: path in the site to path in the repository.
REPORTS = {"reports/demo.html": "runs/demo/report/report.html"}
REPORTS_PLACE = "<!-- The site links to the demo's report here, where the demo has run. -->"
PACKAGES_PLACE = "# (one line for each package of resdet/)"

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"\s*(```|~~~)")
ITEM = re.compile(r"([-*+]|\d+\.) ")
# What a browser fetches by itself; links that a reader may follow are not among them.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\ssrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))"
    r"[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>",
    re.IGNORECASE,
)


# -- the reference of the code -------------------------------------------------------------


def packages(root: Path) -> dict[str, list[str]]:
    """Name of each package of resdet/ to its public modules, both in order of their names."""
    return {
        ".".join(init.parent.relative_to(root).parts): sorted(
            path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("_")
        )
        for init in sorted((root / "resdet").rglob("__init__.py"))
    }


def documented(module: ast.Module) -> list[str]:
    """The public functions and classes that a module defines itself, those with a docstring.

    What it only imports stands on the page of its own module.
    """
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = [node for node in module.body if isinstance(node, kinds) and ast.get_docstring(node)]
    # Overloads have one name.
    return list(dict.fromkeys(node.name for node in defined if not node.name.startswith("_")))


def package_page(root: Path, package: str, modules: list[str]) -> str:
    """The page's Markdown: the package with what it defines, then module by module."""
    folder = root.joinpath(*package.split("."))
    blocks = [f"# {package}"]
    for name in ("__init__", *modules):
        members = documented(parsed(folder / f"{name}.py"))
        heading = (
            "show_root_heading: false, show_root_toc_entry: false"
            if name == "__init__"
            else "heading_level: 2"
        )
        identifier = package if name == "__init__" else f"{package}.{name}"
        options = f"{heading}, members: {members or 'false'}"
        blocks.append(f"::: {identifier}\n    options: {{{options}}}")
    return "\n\n".join(blocks) + "\n"


def parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"), str(source))


def reference_index(root: Path) -> str:
    inits = {name: root.joinpath(*name.split("."), "__init__.py") for name in packages(root)}
    first = {
        name: (ast.get_docstring(parsed(init)) or "").partition("\n")[0]
        for name, init in inits.items()
    }
    rows = [f"| [{name}]({name}.md) | {line} |" for name, line in first.items()]
    return (
        "# API reference\n\n"
        "Made from the docstrings. Names with a leading underscore are left out, and so is what "
        "has no docstring.\n\n"
        "| package | contains |\n| --- | --- |\n" + "\n".join(rows) + "\n"
    )


# -- links ---------------------------------------------------------------------------------


def site_path(root: Path, path: str) -> str | None:
    """Where a file of the repository is in the site; None if there is no such file."""
    if not (root / path).is_file():
        return None
    return OUTSIDE.get(path) or (
        path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"
    )


def linked(markdown: str, path: str) -> Iterator[str]:
    """The files of the repository that the page at `path` links to."""
    for target, _anchor in LINK.findall(markdown):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def with_site_links(root: Path, markdown: str, path: str) -> str:
    """Links of the page at `path` in the repository as links between pages of the site."""
    page = site_path(root, path) or path

    def replace(match: re.Match[str]) -> str:
        (target,) = linked(f"]({match[1]})", path)
        place = site_path(root, target)
        if place is None:
            return match[0]  # MkDocs warns of it, and a warning stops the build.
        return posixpath.relpath(place, posixpath.dirname(page) or ".") + (match[2] or "")

    return outside_fences(markdown, lambda line, _: LINK.sub(replace, line))


# -- Markdown as code hosts read it --------------------------------------------------------


def outside_fences(markdown: str, change: Callable[[str, str], str]) -> str:
    """`change(line, line before)` for every line that is not in a block of code."""
    lines: list[str] = []
    before, fenced = "", False
    for line in markdown.split("\n"):
        if FENCE.match(line):
            fenced = not fenced
        lines.append(line if fenced else change(line, before))
        before = line
    return "\n".join(lines)


def with_blank_before_lists(markdown: str) -> str:
    def change(line: str, before: str) -> str:
        after_text = before.strip() and not before.startswith(" ") and not ITEM.match(before)
        return f"\n{line}" if ITEM.match(line) and after_text else line

    return outside_fences(markdown, change)


def with_plain_pipes(markdown: str) -> str:
    r"""Code in tables has `\|` for a pipe; Python-Markdown would show the backslash."""

    def change(line: str, _before: str) -> str:
        if not line.startswith("|"):
            return line
        return re.sub(r"`[^`]+`", lambda code: code[0].replace("\\|", "|"), line)

    return outside_fences(markdown, change)


def with_reports(root: Path, markdown: str) -> str:
    there = [name for name, path in REPORTS.items() if (root / path).is_file()]
    lines = [f"**[The whole report of {REPORTS[name]}]({name})**" for name in there]
    return markdown.replace(REPORTS_PLACE, "\n\n".join(lines))


# -- all of them ---------------------------------------------------------------------------


def pages(root: Path) -> dict[str, str]:
    """Path in the site to Markdown, for every page."""
    sources = [*OUTSIDE, *(f"docs/{p.relative_to(root / 'docs')}" for p in markdown_files(root))]
    gathered = {"api/index.md": reference_index(root)}
    for package, modules in packages(root).items():
        gathered[f"api/{package}.md"] = package_page(root, package, modules)
    for path in sources:
        text = (root / path).read_text(encoding="utf-8")
        text = with_plain_pipes(with_blank_before_lists(with_site_links(root, text, path)))
        gathered[str(site_path(root, path))] = with_reports(root, text)
    return gathered


def markdown_files(root: Path) -> list[Path]:
    return sorted((root / "docs").rglob("*.md"))


def other_files(root: Path) -> dict[str, Path]:
    """Path in the site to file: pictures, reports, and what pages link to outside of docs/."""
    docs = [p for p in (root / "docs").rglob("[!.]*") if p.suffix not in ("", ".md", ".yml")]
    files = {p.relative_to(root / "docs").as_posix(): p for p in docs}
    files |= {name: root / path for name, path in REPORTS.items() if (root / path).is_file()}
    for source in [root / path for path in OUTSIDE] + markdown_files(root):
        path = source.relative_to(root).as_posix()
        for target in linked(source.read_text(encoding="utf-8"), path):
            place = site_path(root, target)
            if place and place.startswith("repository/"):
                files[place] = root / target
    return files


def gather(root: Path, folder: Path) -> None:
    """Writes the pages and MkDocs's configuration into `folder`, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages(root).items():
        target = folder / "pages" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for name, source in other_files(root).items():
        target = folder / "pages" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    configuration = (root / "docs" / "site.yml").read_text(encoding="utf-8")
    before, place, after = configuration.partition(PACKAGES_PLACE)
    if not place:
        raise SystemExit(f"docs/site.yml has no line {PACKAGES_PLACE!r}: put it back into nav.")
    lines = "\n      ".join(f"- {name}: api/{name}.md" for name in packages(root))
    (folder / "mkdocs.yml").write_text(before + lines + after, encoding="utf-8")


# -- nothing from another host -------------------------------------------------------------


def fetched(site: Path) -> list[str]:
    """What a reader's browser would load from another host, with the page that asks for it."""
    return [
        f"{path}: {match[0][:200]}"
        for path in sorted(site.rglob("*.html"))
        for match in FETCHED.finditer(path.read_text(encoding="utf-8"))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Gathers the pages of the site into build/site.")
    parser.add_argument("--check", action="store_true", help="look through its HTML instead")
    if not parser.parse_args().check:
        gather(ROOT, ROOT / "build" / "site")
        return 0
    addresses = fetched(ROOT / "build" / "site" / "html")
    for line in addresses[:5]:
        print(f"Loaded from another host: {line}", file=sys.stderr)
    if addresses:
        count = len(addresses)
        print(f"{count} in all: put the file into docs/, or leave it out.", file=sys.stderr)
    return 1 if addresses else 0


if __name__ == "__main__":
    sys.exit(main())
