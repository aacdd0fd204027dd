"""The shell scripts: which Python they take, what they pass on, and where they stop."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.children import ROOT
from tests.support.scripts import bash, checkout, executable

SCRIPTS = ("tools/setup.sh", "tools/demo.sh", "tools/test.sh", "tools/docs.sh", ".ci/run")


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_parses_and_stops_at_errors(name):
    """bash -n; set -u catches misspelt variables."""
    done = subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(r"^set -[e]?uo pipefail$", (ROOT / name).read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "no such program"),
        ('[ "$1" = --version ] && echo Python 3.8.1; exit 1', "Python 3.8.1"),
    ],
    ids=["missing", "too old"],
)
def test_a_python_that_will_not_do_is_named(tmp_path, body, words):
    """Issue 8, section 1: checks Python first and states what is short; exit code 2."""
    python = tmp_path / "my python"
    if body:
        executable(python, f"#!/bin/sh\n{body}\n")
    root = checkout(tmp_path, "tools/setup.sh")
    done = bash(root / "tools/setup.sh", RESDET_PYTHON=str(python))
    assert done.returncode == 2
    assert "Set-up stopped:" in done.stderr and words in done.stderr


@pytest.mark.parametrize("given", ["env", "env/bin/python"])
def test_resdet_python_may_be_a_python_or_its_environment(tmp_path, given):
    """What follows sees the same Python either way."""
    root = checkout(tmp_path, "tools/setup.sh")
    (root / "tools/setup_environment.py").write_text("", encoding="utf-8")
    (tmp_path / "env" / "bin").mkdir(parents=True)
    executable(tmp_path / "env/bin/python", '#!/bin/sh\n[ "$1" = -c ] || echo "$0" "$@"\n')
    done = bash(root / "tools/setup.sh", "--print-python", RESDET_PYTHON=str(tmp_path / given))
    expected = (tmp_path / "env/bin/python", root / "tools/setup_environment.py", "--named")
    assert done.stdout == f"{' '.join(map(str, expected))} --print-python\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo.sh", "-m resdet demo --seed 1 a b"),
        ("test.sh", "-m pytest -n auto --maxprocesses=8 -rs --seed 1 a b"),
    ],
)
def test_demo_and_test_set_up_and_pass_their_arguments_on(tmp_path, name, expected):
    """Issue 8, section 1: each sets up what it needs and then does its job, from anywhere."""
    root = checkout(tmp_path, f"tools/{name}")
    python = executable(tmp_path / "python", '#!/bin/sh\necho "$PYTHONPATH|$@"\n')
    (root / "tools/setup.sh").write_text(f"echo '{python}'\n", encoding="utf-8")
    done = bash(root / "tools" / name, "--seed", "1", "a b", cwd=tmp_path)
    assert done.stdout == f"{root}|{expected}\n"


def test_the_site_is_gathered_built_strictly_and_looked_through(tmp_path):
    """In that order, with the site's packages, from anywhere."""
    root = checkout(tmp_path, "tools/docs.sh")
    python = executable(tmp_path / "python", '#!/bin/sh\necho "$@"\n')
    setup = f'echo "set-up $@" >&2\necho "{python}"\n'
    (root / "tools/setup.sh").write_text(setup, encoding="utf-8")
    done = bash(root / "tools/docs.sh", "--dirty", cwd=tmp_path)
    assert done.stderr == "set-up --docs --print-python\n"
    assert done.stdout.splitlines() == [
        f"{root}/tools/docs_site.py",
        f"-m mkdocs build --strict --quiet --config-file {root}/build/site/mkdocs.yml --dirty",
        f"{root}/tools/docs_site.py --check",
        f"The site is in {root}/build/site/html.",
    ]


@pytest.mark.parametrize("name", ["demo.sh", "test.sh", "docs.sh"])
def test_nothing_starts_when_the_set_up_stops(tmp_path, name):
    """The exit code of the set-up is the script's."""
    root = checkout(tmp_path, f"tools/{name}")
    (root / "tools/setup.sh").write_text("echo stopped >&2\nexit 2\n", encoding="utf-8")
    done = bash(root / "tools" / name)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "stopped\n")
