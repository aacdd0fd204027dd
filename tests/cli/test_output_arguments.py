"""What is written where: an empty word or a folder for a file is refused, never the default."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from resdet import atomic
from resdet.cli import main

FOLDERS = [
    ("train_det", "--config", "voc07_r50", "--output", ""),
    ("pretrain_cls", "--output", ""),
    ("compare", "a", "b", "--output", ""),
    ("demo", "--output", " "),
    ("submit", "coco", "RUN", "--algorithm", "x", "--output", ""),
    ("submit", "voc", "RUN", "--output", ""),
]
FILES = [
    ("convert_weights", "export", "F", "-o"),
    ("convert_weights", "convert", "F", "--to", "timm", "-o"),
]


def typed(*words: str) -> int:
    """The exit code; argparse ends the process."""
    try:
        return main.main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("words", FOLDERS, ids=" ".join)
def test_an_empty_folder_is_refused(words: tuple[str, ...], capsys: Any) -> None:
    """--output "" is a variable that was not set, and no wish for the default."""
    assert typed(*words) == 2
    assert "it is empty; name a folder, or leave the option out" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train_det", "pretrain_cls"])
def test_an_empty_config_is_refused(command: str, capsys: Any) -> None:
    """pretrain_cls took it for none, and trained on the embedded digits."""
    assert typed(command, "--config", "") == 2
    assert "it is empty; name a file or a preset" in capsys.readouterr().err


@pytest.mark.parametrize("command", FILES, ids=" ".join)
@pytest.mark.parametrize(
    ("word", "what"),
    [("", "it is empty; name the file"), (".", ". is a folder"), ("new/", "new/ is a folder")],
)
def test_a_folder_is_no_file_to_write(
    command: tuple[str, ...], word: str, what: str, capsys: Any
) -> None:
    """It ended in a traceback, with exit code 70."""
    assert typed(*command, word) == 2
    assert what in capsys.readouterr().err


def test_a_file_is_no_folder_to_write_to(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "f"
    file.write_text("x", encoding="utf-8")
    assert typed("compare", "a", "b", "--output", str(file)) == 2
    assert f"{file} is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["f/below", "pipe", "pipe/below"])
def test_what_lies_below_a_file_is_no_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """It ended in a traceback once all was scored, with exit code 70."""
    monkeypatch.chdir(tmp_path)
    Path("f").write_text("x", encoding="utf-8")
    os.mkfifo("pipe")
    for words in (("compare", "a", "b"), ("evaluate", "cls", "w.pth"), ("pretrain_cls",)):
        assert typed(*words, "--output", place) == 2
        assert re.search("(f|pipe) is a (file|device or a pipe)", capsys.readouterr().err)


@pytest.mark.parametrize("command", FILES, ids=" ".join)
def test_no_file_takes_the_place_of_a_device(
    command: tuple[str, ...], tmp_path: Path, capsys: Any
) -> None:
    """-o /dev/null, typed by root, was renamed over: nothing was thrown away there any more."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert typed(*command, str(pipe)) == 2
    assert f"{pipe} is a device or a pipe; name a file" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match="a device, a pipe or a socket"):
        atomic.write_text(pipe, "x")
    assert pipe.is_fifo()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("command", [*FOLDERS, *((*f, "") for f in FILES)], ids=" ".join)
def test_a_name_that_is_no_text_or_steers_the_terminal(
    command: tuple[str, ...], capsys: Any
) -> None:
    """safetensors, torch and TensorBoard write to names in UTF-8 alone."""
    assert typed(*command[:-1], "a\x1b[2J\udcff") == 2
    assert r"a\x1b[2J\udcff is no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("word", [".", ""])
def test_submit_check_says_what_a_folder_is(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Not that it does not exist."""
    monkeypatch.chdir(tmp_path)
    assert main.main(["submit", "check", word, "--gt", "gt.json"]) == 2
    assert f"{tmp_path} is a folder. Give a results file" in capsys.readouterr().err
