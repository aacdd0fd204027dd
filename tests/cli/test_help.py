"""Help pages: light, with examples that parse, and completions for the shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from resdet.cli import arguments, help_pages, main
from resdet.config import presets
from tests.support import children

HEAVY = ("torch", "detectron2", "matplotlib")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_help_page_imports_nothing_heavy(name: str) -> None:
    """In a fresh process; the page is whole, as its examples stand last."""
    code = (
        "import sys; from resdet.cli.main import main\n"
        f"try: main([{name!r}, '--help'])\n"
        f"finally: sys.stderr.write(str([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = children.python("-c", code)
    assert done.returncode == 0
    assert done.stderr == "[]"
    assert f"examples:\n  resdet {name}" in done.stdout


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_example_parses(name: str) -> None:
    lines = help_pages.EXAMPLES[name].strip().splitlines()
    assert lines
    for line in lines:
        program, command, *words = shlex.split(line.split(" > ")[0])
        assert (program, command) == ("resdet", name)
        args = main._parser_of(name).parse_args(words)
        if getattr(args, "config", None):
            assert args.config in presets.names()


@pytest.mark.parametrize("name", help_pages.FOLDERS)
def test_a_training_command_lists_its_presets(name: str) -> None:
    """Together all but the demo's and that of `rank`, each once."""
    page = main._parser_of(name).format_help()
    for folder in help_pages.FOLDERS[name]:
        assert all(preset in page for preset in presets.names(folder))
    folders = [folder for each in help_pages.FOLDERS.values() for folder in each]
    listed = [preset for folder in folders for preset in presets.names(folder)]
    others = {*presets.names("demo"), *presets.names("rank")}
    assert sorted(listed) == sorted(set(presets.names()) - others)


def test_choices_are_those_of_the_code_behind_them() -> None:
    pytest.importorskip("torch")
    from resdet.evaluation.inputs import image_ids
    from resdet.weights import cards, conversion

    assert arguments.COLOR_ORDERS == cards.COLOR_ORDERS
    assert arguments.SUFFIXES == conversion.SUFFIXES
    assert arguments.TARGETS == conversion.TARGETS
    assert arguments.IMAGE_IDS == image_ids.WAYS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("resdet train_d", {"train_det"}),
        ("resdet train_", {"train_det", "train_loc"}),
        ("resdet train_det --ex", {"--explain"}),
        ("resdet train_det --config coco_r101_fp", {"coco_r101_fpn", "coco_r101_fpn_masks"}),
        ("resdet convert_weights in", {"inspect"}),
    ],
)  # fmt: skip
def test_the_shell_gets_completions(line: str, expected: set[str], tmp_path: Path) -> None:
    """argcomplete's protocol: the line in the environment, the answers in a file."""
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    code = "import sys; sys.argv = ['resdet']; from resdet.cli.main import main; sys.exit(main())"
    children.python(
        "-c",
        code,
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_IFS="\n",
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        COMP_TYPE="9",
    )
    assert {word.strip() for word in answer.read_text("utf-8").split("\n")} - {""} == expected


def test_without_argcomplete_the_command_line_works() -> None:
    code = children.unimportable(["argcomplete"])
    code += "from resdet.cli.main import main; sys.exit(main(['doctor', '--help']))"
    done = children.python("-c", code, _ARGCOMPLETE="1", COMP_LINE="resdet doc")
    assert done.returncode == 0
