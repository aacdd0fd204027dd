"""Config files that are none, or made to exhaust a reader, end with a page at once."""

import itertools
import os
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.config import resolve
from resdet.errors import ConfigError

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in itertools.pairwise("abcdefgh")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(LAUGHS, "expands to more than 100,000 values, by aliases", id="laughs"),
        pytest.param("SOLVER: &a [*a]\n", "nested too deeply", id="alias of itself"),
        pytest.param("SEED: " + "[" * 5000 + "]" * 5000, "nested too deeply", id="deep"),
        pytest.param("_BASE_: 5\n", "line 1: _BASE_ is 5, expected the path", id="base"),
        pytest.param("_BASE_: [a.yaml, 5]\n", "a.yaml does not exist|_BASE_ is 5", id="bases"),
        pytest.param("#" * 1_000_001, "1,000,001 bytes, a config at most 1,000,000", id="large"),
    ],
)
def test_what_would_exhaust_a_reader_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        resolve(path)


def test_aliases_as_people_use_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    text = "MODEL: {PIXEL_MEAN: &m [1.0, 2.0, 3.0], PIXEL_STD: *m}\n"
    path.write_text(text, encoding="utf-8")
    cfg = resolve(path).cfg
    assert cfg.MODEL.PIXEL_STD == [1.0, 2.0, 3.0]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="is no regular file"):
        resolve(tmp_path / "c.yaml")


def test_a_file_without_rights_is_not_called_absent(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("SEED: 1\n", encoding="utf-8")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        resolve(path)
