"""A repository for the hub: read by huggingface_hub itself, and by us as any file."""

import json
from types import SimpleNamespace

import pytest
import torch

from resdet import nets, weights
from resdet.cli.main import main
from resdet.errors import WeightsError
from resdet.weights import Card, Input
from resdet.weights.addresses import hub_folder
from resdet.weights.resolve import WeightFile

hub = pytest.importorskip("huggingface_hub")

ADDRESS = "hf://owner/my-resnet"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    net = nets.build("cifar_resnet20", 10)
    card = Card(
        "cifar_resnet20", Input("RGB", (125.3, 123.0, 113.9), (1.0, 1.0, 1.0), 32),
        data={"name": "cifar10_train"}, metrics={"top1_error": 8.25, "top5_error": 0.5},
        classes=tuple("abcdefghij"),
    )  # fmt: skip
    weights.save(path, net.state_dict(), card)
    return path


def test_the_hub_s_own_library_reads_the_readme_and_we_read_the_model(model, tmp_path):
    made = hub_folder.write(WeightFile(model), ADDRESS, tmp_path / "a", license_id="mit")
    assert sorted(p.name for p in made.folder.iterdir()) == [
        "README.md", "card.json", "model.safetensors",
    ]  # fmt: skip
    card = hub.ModelCard.load(made.folder / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "resdet")
    assert [r.metric_value for r in card.data.eval_results] == [91.75, 99.5]
    assert {r.dataset_name for r in card.data.eval_results} == {"cifar10_train"}
    before, after = weights.load(model), weights.load(made.folder / "model.safetensors")
    assert after[1] == before[1]
    assert all(torch.equal(before[0][name], tensor) for name, tensor in after[0].items())
    assert Card.read(made.folder / "card.json") == after[1]
    assert f"MODEL.WEIGHTS {ADDRESS}" in (made.folder / "README.md").read_text("utf-8")


def test_the_command_uploads_when_asked_and_only_then(model, tmp_path, monkeypatch, capsys):
    calls = []
    api = SimpleNamespace(
        create_repo=lambda *a, **k: calls.append(("create", *a, k)),
        upload_folder=lambda **k: calls.append(("upload", k)) or SimpleNamespace(commit_url="U"),
    )
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    words = ["convert_weights", "push", str(model), ADDRESS, "-o"]
    assert main([*words, str(tmp_path / "b")]) == 0
    assert calls == []
    assert (
        f"nothing was uploaded. Look at it, then: hf upload owner/my-resnet {tmp_path / 'b'}"
        in (capsys.readouterr().out)
    )
    assert main([*words, str(tmp_path / "c"), "--upload", "--private", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["url"] == "U"
    assert calls[0] == ("create", "owner/my-resnet", {"private": True, "exist_ok": True})
    assert calls[1][1]["folder_path"] == str(tmp_path / "c")


def test_a_hub_that_refuses_leaves_the_folder(model, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("401 Unauthorized")

    monkeypatch.setattr(hub, "HfApi", lambda: SimpleNamespace(create_repo=refuse))
    made = hub_folder.write(WeightFile(model), ADDRESS, tmp_path / "d")
    with pytest.raises(WeightsError, match=r"401 Unauthorized.*stays. Log in with: hf auth login"):
        hub_folder.upload(made)
    assert (made.folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("hf://owner/repo@main", "pushed as a whole"),
        ("hf://owner/repo/model.bin", "pushed as a whole"),
        ("owner/repo", r"Expected hf://owner/repo\[@revision\]"),
    ],
)
def test_a_repository_alone_is_an_address(model, tmp_path, address, match):
    with pytest.raises(WeightsError, match=match):
        hub_folder.write(WeightFile(model), address, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_folder_with_something_in_it_is_left_alone(model, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(WeightsError, match="is not empty"):
        hub_folder.write(WeightFile(model), ADDRESS, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
