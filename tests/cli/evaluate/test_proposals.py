"""`resdet evaluate proposals`: what is no file of proposals is not called one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resdet.cli.main import main
from resdet.formats.proposal_file import write_proposals


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"plain text, nothing else\n", "it is no safetensors file, as proposals are kept in"),
        (b"\x80\x04N.", "is a pickle"),
        (b"", "is empty"),
    ],
    ids=["text", "pickle", "empty"],
)
@pytest.mark.parametrize("truth", [(), ("--gt", "absent.json")], ids=["alone", "with truth"])
def test_another_file_is_named_before_annotations_are_asked_for(
    tmp_path: Path, content: bytes, why: str, truth: tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    """It was called a file of proposals, whose annotations were missing."""
    path = tmp_path / "text.pth"
    path.write_bytes(content)
    assert main(["evaluate", "proposals", str(path), *truth]) == 2
    page = capsys.readouterr().err
    assert why in page and "--gt" not in page


def test_a_file_of_proposals_needs_its_annotations(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "p.safetensors"
    entry = ("a", np.zeros((0, 4)), np.zeros(0))
    write_proposals(path, [entry], data_set="a", data_set_hash="h", weights="")
    assert main(["evaluate", "proposals", str(path)]) == 2
    assert f"{path} is a file of proposals: give the set's annotations" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "proposals", str(path), "--output", str(tmp_path / "file")])
    assert ended.value.code == 2
    assert "file is a file; name a folder" in capsys.readouterr().err
