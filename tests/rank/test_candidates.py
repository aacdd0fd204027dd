"""What `--backbones` names."""

import pytest

from resdet.errors import ConfigError
from resdet.rank.candidates import RankedBackbone, candidates_of, file_of_source


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("runs/a/model.safetensors", ("a", "runs/a/model.safetensors", False)),
        ("runs/a", ("a", "runs/a", False)),
        ("weights/r50.pth", ("r50", "weights/r50.pth", False)),
        ("mine=weights/r50.pth", ("mine", "weights/r50.pth", False)),
        ("timm://resnet50.a1_in1k", ("resnet50.a1_in1k", "timm://resnet50.a1_in1k", False)),
        ("hf://owner/repo@v2/m.pth", ("m", "hf://owner/repo@v2/m.pth", False)),
        (
            "https://host/a.pth?x=1#sha256=12345678",
            ("a", "https://host/a.pth?x=1#sha256=12345678", False),
        ),
        ("random:resnet18", ("random-resnet18", "resnet18", True)),
        ("random:timm:resnet18", ("random-timm-resnet18", "timm:resnet18", True)),
        ("floor=random:runs/a", ("floor", "runs/a", True)),
    ],
)
def test_a_word_is_a_label_and_a_source(word, expected):
    assert candidates_of([word]) == [RankedBackbone(*expected)]


def test_a_file_whose_name_has_an_equals_sign_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1.pth").write_bytes(b"")
    assert candidates_of(["lr=1.pth"])[0].source == "lr=1.pth"


def test_two_of_one_label_are_refused_with_what_to_type():
    with pytest.raises(ConfigError, match=r"two backbones are called a\. .*NAME=random:x/a"):
        candidates_of(["A=runs/one", "random:x/a", "a=random:x/a"])


@pytest.mark.parametrize("word", ["", "random:", "  "])
def test_an_empty_name_is_refused(word):
    with pytest.raises(ConfigError, match="empty name"):
        candidates_of([word])


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no finished run of pretrain_cls"):
        file_of_source(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert file_of_source(str(tmp_path)) == str(tmp_path / "model.safetensors")
