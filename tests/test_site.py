"""The site's pages before MkDocs has them, the workflow, and the image's recipe.

The built site is not tested here: `.ci/run` builds it, and every warning stops that.
"""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("docs_site")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one guide, one page of elsewhere and one package."""
    for name, text in {
        "README.md": "# Home\n[guide](docs/guide.md#part) [cite](CITATION.cff)\n",
        "RESULTS.md": "# Results\n",
        "CHANGELOG.md": "# Changes\n",
        "CONTRIBUTING.md": "# Help\n",
        "CITATION.cff": "cff\n",
        "datasets/README.md": "# Sets\n[guide](../docs/guide.md)\n",
        "docs/guide.md": "# Guide\n![p](images/p.png) [sets](../datasets/README.md#a)\n",
        "docs/site.yml": "nav:\n  - API:\n      # (one line for each package of resdet/)\nend: 1\n",
        "docs/images/p.png": "png",
        "resdet/__init__.py": '"""All of it."""\n',
        "resdet/a/__init__.py": '"""A."""\nfrom resdet.a.m import f\n',
        "resdet/a/m.py": '"""M."""\ndef f():\n    """F."""\ndef g(): ...\ndef _h():\n  """H."""\n',
        "resdet/a/_private.py": '"""Not shown."""\n',
        "resdet/a/templates/x.py": '"""No package."""\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


# -- pages ---------------------------------------------------------------------------------


def test_each_package_gets_a_page_with_what_its_modules_define(site, root):
    """Imported names, private ones, and functions without a docstring are left out."""
    pages = site.pages(root)
    assert pages["api/resdet.a.md"].splitlines() == [
        "# resdet.a",
        "",
        "::: resdet.a",
        "    options: {show_root_heading: false, show_root_toc_entry: false, members: false}",
        "",
        "::: resdet.a.m",
        "    options: {heading_level: 2, members: ['f']}",
    ]
    assert "| [resdet](resdet.md) | All of it. |" in pages["api/index.md"]
    assert sorted(name for name in pages if name.startswith("api/")) == [
        "api/index.md",
        "api/resdet.a.md",
        "api/resdet.md",
    ]


def test_every_public_module_of_ours_is_in_the_reference_once(site):
    shown = [
        line.removeprefix("::: ")
        for name, text in site.pages(ROOT).items()
        if name.startswith("api/")
        for line in text.splitlines()
        if line.startswith("::: ")
    ]
    files = [path.relative_to(ROOT) for path in (ROOT / "resdet").rglob("*.py")]
    public = [p for p in files if p.name == "__init__.py" or not p.name.startswith("_")]
    names = [".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in public]
    assert len(names) > 100
    assert sorted(shown) == sorted(names)


def test_links_between_files_become_links_between_pages(site, root):
    pages = site.pages(root)
    assert pages["index.md"] == "# Home\n[guide](guide.md#part) [cite](repository/CITATION.cff)\n"
    assert pages["guide.md"] == "# Guide\n![p](images/p.png) [sets](datasets.md#a)\n"
    assert pages["datasets.md"] == "# Sets\n[guide](guide.md)\n"


@pytest.mark.parametrize(
    "text",
    [
        "[gone](docs/gone.md)",  # left for MkDocs, which stops at it
        "[out](https://example.org/docs/guide.md)",
        "[here](#part)",
        "```\n[code](docs/guide.md)\n```",
    ],
)
def test_other_links_stay_as_they_are(site, root, text):
    assert site.with_site_links(root, text, "README.md") == text


def test_lists_and_tables_come_out_as_on_code_hosts(site):
    """Python-Markdown, which MkDocs has inside, is the judge."""
    markdown = pytest.importorskip("markdown")
    text = (
        "Some words:\n- one\n- two\n  still two\n- three\n\n| a | b |\n| - | - |\n| `x\\|y` | z |\n"
    )

    def html(source: str) -> str:
        return markdown.markdown(source, extensions=["tables"])

    assert html(text).count("<li>") == 0 and "x\\|y" in html(text)
    ours = html(site.with_plain_pipes(site.with_blank_before_lists(text)))
    assert ours.count("<ul>") == 1 and ours.count("<li>") == 3
    assert "<td><code>x|y</code></td>" in ours
    fenced = "```\nwords\n- one\n```"
    assert site.with_blank_before_lists(fenced) == fenced


def test_the_demos_report_is_there_where_the_demo_has_run(site, root, tmp_path):
    (root / "docs/reports.md").write_text(f"# Reports\n\n{site.REPORTS_PLACE}\n", encoding="utf-8")
    assert site.pages(root)["reports.md"] == "# Reports\n\n\n"
    assert "reports/demo.html" not in site.other_files(root)
    report = root / "runs/demo/report/report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>a report</p>", encoding="utf-8")
    assert "(reports/demo.html)" in site.pages(root)["reports.md"]
    site.gather(root, tmp_path / "out")
    assert (tmp_path / "out/pages/reports/demo.html").read_text("utf-8") == "<p>a report</p>"
    assert site.REPORTS_PLACE in (ROOT / "docs/reports.md").read_text("utf-8")


def test_what_is_gathered_is_whole_and_anew(site, root, tmp_path):
    out = tmp_path / "out"
    (out / "pages").mkdir(parents=True)
    (out / "pages/old.md").write_text("", encoding="utf-8")
    site.gather(root, out)
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {"mkdocs.yml", "pages/images/p.png", "pages/repository/CITATION.cff"} <= files
    assert "pages/old.md" not in files
    assert yaml.safe_load((out / "mkdocs.yml").read_text("utf-8")) == {
        "nav": [{"API": [{"resdet": "api/resdet.md"}, {"resdet.a": "api/resdet.a.md"}]}],
        "end": 1,
    }


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', 1),
        ('<script async src="//cdn.example.org/x.js"></script>', 1),
        ('<link href="https://fonts.example.org/x.css" rel="stylesheet">', 1),
        ("<img alt=a src=https://example.org/a.png>", 1),
        ('<a href="https://example.org">a reader may follow this</a>', 0),
        ('<link rel="canonical" href="https://example.org/">', 0),
        ('<script src="assets/x.js"></script><img src="data:image/png;base64,//8=">', 0),
    ],
)
def test_what_would_come_from_another_host_is_found(site, tmp_path, html, count):
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    assert len(site.fetched(tmp_path)) == count


# -- docstrings ----------------------------------------------------------------------------


def test_our_docstrings_are_read_whole_by_griffe(monkeypatch, caplog):
    """Its own parser is the judge: every argument with its type, doctests as examples."""
    griffe = pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    plain = importlib.import_module("docs_docstrings").PlainDocstrings()
    source = '''
def f(size: int, resized: str, *, other: float) -> None:
    """Does it.

    >>> f(1, "a")
    2

    Args:
        size, resized: before
            and after.
        other: alone.

    Example:
        >>> f(3, "b")
    """
'''
    with griffe.temporary_visited_module(source) as module:
        function = module["f"]
        plain.on_object(obj=function)
        sections = {s.kind.value: s.value for s in function.docstring.parse("google")}
    arguments = [(a.name, str(a.annotation), a.description) for a in sections["parameters"]]
    assert arguments == [
        ("size", "int", "before\nand after."),
        ("resized", "str", "before\nand after."),
        ("other", "float", "alone."),
    ]
    assert "examples" in sections and caplog.records == []


# -- the workflow and the image ------------------------------------------------------------


def test_the_workflow_does_what_ci_run_does():
    """No list of steps of its own; actions are pinned to a commit, and may read alone."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read"}
    assert {"3.11", "3.12"} <= set(job["strategy"]["matrix"]["python"])
    assert [s["run"] for s in job["steps"] if ".ci/run" in s.get("run", "")] == ["bash .ci/run"]
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert len(used) == 3
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in used)


def test_the_image_is_set_up_by_setup_sh_with_all_that_decides_it(monkeypatch):
    """What the set-up reads is copied before it; the last user is not root."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    environment = importlib.import_module("setup_environment")
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    (setup,) = (at for at, line in enumerate(lines) if "bash tools/setup.sh" in line)
    copied = [
        word for line in lines[:setup] if line.startswith("COPY ") for word in shlex.split(line)
    ]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for name in (*environment.DECIDING, "README.md", "LICENSE", "resdet/__init__.py"):
        assert name in copied or name.split("/")[0] in copied, name
    assert 'readme = "README.md"' in project and 'license-files = ["LICENSE"]' in project
    assert [line for line in lines if line.startswith("USER ")] == ["USER ${UID}"]
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {".git", ".venv", ".setup", "runs"} <= set(ignored)
