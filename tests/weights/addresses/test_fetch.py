"""Addresses of torchvision, Detectron2 and the web, against a server on loopback that stands for
all of them (`RESDET_MIRROR`).
"""

import hashlib
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torchvision import models

from resdet.errors import WeightsError
from resdet.weights.addresses import download
from resdet.weights.addresses.fetch import fetch, is_address, local_path
from tests.support.file_server import serving

CONTENT = b"weights of a net" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "iopath"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving() as files:
        monkeypatch.setenv("RESDET_MIRROR", files.url)
        yield files


def files_in(folder):
    """All that is not a lock, by name."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_torchvision_s_own_address_hash_and_cache(server, tmp_path):
    """Its file name states the first digits of the hash; ours of other content is refused."""
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    name = weights.url.rsplit("/", 1)[1]
    server.content[f"/download.pytorch.org/models/{name}"] = CONTENT
    with pytest.raises(WeightsError, match=rf"has SHA-256 {SHA256}, expected f37072fd….*nothing"):
        fetch("torchvision://resnet18/IMAGENET1K_V1")
    assert files_in(tmp_path) == []
    assert server.asked == {f"/download.pytorch.org/models/{name}": 1}


def test_a_file_with_the_hash_of_its_name_is_kept_where_torch_hub_looks(
    server, tmp_path, monkeypatch
):
    name = f"resnet18-{SHA256[:8]}.pth"
    url = f"https://download.pytorch.org/models/{name}"
    versions = {"IMAGENET1K_V1": type("Version", (), {"url": url, "meta": {"license": "LICENSE"}})}
    enum = type("Weights", (), {"__members__": versions})
    monkeypatch.setattr(models, "get_model_weights", lambda net: enum)
    server.content[f"/download.pytorch.org/models/{name}"] = CONTENT
    file = fetch("torchvision://resnet18/IMAGENET1K_V1")
    assert file.path == tmp_path / "hub" / "checkpoints" / name
    assert file.path.read_bytes() == CONTENT
    assert (file.url, file.sha256, file.verified_by) == (url, SHA256, "its name in torchvision")
    assert file.license == "LICENSE"
    fetch("torchvision://resnet18/IMAGENET1K_V1")
    assert server.asked.total() == 1  # the second time it is in the cache
    # torch itself finds it there, and asks nobody.
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    with pytest.raises(Exception, match="magic number|invalid|pickle"):  # it is no real net
        torch.hub.load_state_dict_from_url(url)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("torchvision://resnet19/IMAGENET1K_V1", r"called resnet19. Did you mean .*resnet18"),
        ("torchvision://resnet101", r"torchvision://resnet101/IMAGENET1K_V1, .*/IMAGENET1K_V2"),
        ("torchvision://resnet18/IMAGENET1K_V2", r"are torchvision://resnet18/IMAGENET1K_V1. G"),
        ("https://host/", "names no file"),
        ("https://host/a.pth#md5=12", "#md5=12 is no hash"),
        ("https://host/a.pth#sha256=12", "is no hash"),
        ("https://host/..", "is no path to a file"),
        ("https://host/a%00.pth", "is no path to a file"),
        ("https://[host/a.pth", "is no URL: Invalid IPv6 URL"),
        ("detectron2://../../a.pkl", "is no path to a file"),
        ("detectron2://a/", "names no file"),
        ("detectron2://a.pkl#sha256=12", "is no hash"),
        ("hf://owner", r"Expected hf://owner/repo\[@revision\]"),
        ("timm://resnet50.nobody_in1k", r"no weights of that name. It has .*timm://resnet50"),
    ],
)  # fmt: skip
def test_what_names_nothing_has_a_page(server, address, match):
    with pytest.raises(WeightsError, match=match):
        fetch(address)
    assert server.asked.total() == 0


def test_detectron2_s_files_lie_where_its_path_manager_looks(server, tmp_path, monkeypatch):
    from detectron2.utils.file_io import PathManager

    address = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
    path = "/dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl"
    server.content[path] = CONTENT
    file = fetch(address)
    monkeypatch.delenv("RESDET_MIRROR")
    assert PathManager.get_local_path(address) == str(file.path)  # without a network
    assert (file.sha256, file.verified_by) == (SHA256, "")
    # MODEL_ZOO.md, "License", which covers what it lists and no project beside it.
    assert file.license == "cc-by-sa-3.0"
    server.content["/dl.fbaipublicfiles.com/detectron2/PointRend/a.pkl"] = CONTENT
    monkeypatch.setenv("RESDET_MIRROR", server.url)
    assert fetch("detectron2://PointRend/a.pkl").license == ""


def test_an_address_without_a_hash_names_the_one_that_came(server, caplog):
    server.content["/host/a.pth"] = CONTENT
    fetch("https://host/a.pth")
    assert f"https://host/a.pth#sha256={SHA256}" in caplog.text
    caplog.clear()
    file = fetch(f"https://host/a.pth#sha256={SHA256}")
    assert file.verified_by == "the address"
    assert "states no hash" not in caplog.text
    assert server.asked.total() == 1


def test_two_hosts_with_a_file_of_one_name(server):
    server.content |= {"/one/a.pth": CONTENT, "/two/a.pth": b"another"}
    one, two = fetch("https://one/a.pth"), fetch("https://two/a.pth")
    assert (one.path.read_bytes(), two.path.read_bytes()) == (CONTENT, b"another")


def test_a_query_is_part_of_the_address_and_not_of_the_file_s_name(server):
    """As of downloads that want ?download=true: it is sent, and another query is another file."""
    server.content |= {"/host/a.pth?download=true": CONTENT, "/host/a.pth?v=2": b"another"}
    file = fetch(f"https://host/a.pth?download=true#sha256={SHA256}")
    assert (file.path.name, file.sha256, file.verified_by) == ("a.pth", SHA256, "the address")
    assert file.path.read_bytes() == CONTENT
    assert file.url == "https://host/a.pth?download=true"
    assert fetch("https://host/a.pth?v=2").path.read_bytes() == b"another"
    assert fetch("https://host/a.pth?download=true").path == file.path
    with pytest.raises(WeightsError, match="answers 404"):
        fetch("https://host/a.pth")


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "the first cut"])
def test_processes_that_ask_at_once_fetch_one_file(server, tmp_path, is_cut):
    """The second waits for the first; where that one's connection ends early, it asks itself."""
    code = (
        "import sys, torch; torch.hub._hub_dir = sys.argv[1]\n"
        "from resdet.weights.addresses.fetch import fetch\n"
        "print(fetch('https://host/a.pth').sha256)"
    )
    server.content["/host/a.pth"] = CONTENT
    server.slow["/host/a.pth"] = 1.0
    server.cut["/host/a.pth"] = int(is_cut)
    words = [sys.executable, "-c", code, str(tmp_path / "hub")]
    children = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [(child.communicate()[0].strip(), child.returncode) for child in children]
    assert sorted(ends) == [("", 1)] * is_cut + [(SHA256, 0)] * (3 - is_cut)
    assert server.asked == {"/host/a.pth": 1 + is_cut}
    assert files_in(tmp_path) == ["a.pth"]


def test_another_file_than_stated_is_not_kept(server, tmp_path):
    server.content["/host/a.pth"] = CONTENT
    with pytest.raises(WeightsError, match=f"has SHA-256 {SHA256}, expected {'0' * 64}. It is"):
        fetch(f"https://host/a.pth#sha256={'0' * 64}")
    assert files_in(tmp_path) == []


def test_a_connection_that_ends_early_leaves_nothing(server, tmp_path):
    server.content["/host/a.pth"] = CONTENT
    server.cut["/host/a.pth"] = 1
    with pytest.raises(WeightsError, match="ended before the file did; nothing of it is kept"):
        fetch("https://host/a.pth")
    assert files_in(tmp_path) == []
    assert fetch("https://host/a.pth").path.read_bytes() == CONTENT


def test_what_a_killed_process_left_is_removed(server, tmp_path):
    server.content["/host/a.pth"] = CONTENT
    path = fetch("https://host/a.pth").path
    path.rename(path.with_name("gone"))
    left = path.with_name("a.pth.partial")
    left.mkdir()
    (left / "a.pth").write_bytes(b"half of it")  # iopath would take it for the file
    assert fetch("https://host/a.pth").path.read_bytes() == CONTENT
    assert not left.exists()


def test_a_damaged_file_in_the_cache_is_fetched_again(server, caplog):
    server.content["/host/a.pth"] = CONTENT
    address = f"https://host/a.pth#sha256={SHA256}"
    path = fetch(address).path
    path.write_bytes(CONTENT[:-1])
    assert fetch(address).path.read_bytes() == CONTENT
    assert "it is fetched again" in caplog.text


def test_a_redirect_is_followed_and_a_missing_file_has_a_page(server, tmp_path):
    server.content["/host/there.pth"] = CONTENT
    server.moved["/host/here.pth"] = "/host/there.pth"
    assert fetch("https://host/here.pth").path.name == "here.pth"
    with pytest.raises(WeightsError, match=r"/host/no.pth \(the mirror of https://host/no.pth\) "
                                           r"answers 404 .*Check the address"):  # fmt: skip
        fetch("https://host/no.pth")
    assert files_in(tmp_path) == ["here.pth"]


def test_without_a_network_a_filled_cache_is_enough_and_an_empty_one_has_a_page(
    server, monkeypatch
):
    server.content["/host/a.pth"] = CONTENT
    kept = fetch("https://host/a.pth").path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch("https://host/a.pth").path == kept
    with pytest.raises(
        WeightsError, match=r"HF_HUB_OFFLINE is set.*put the file of https://host/b"
    ):
        fetch("https://host/b.pth")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.socket() as nobody:  # a port that nobody listens on
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RESDET_MIRROR", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert fetch("https://host/a.pth").path == kept
        with pytest.raises(WeightsError, match=r"cannot be reached \(.*put it there: .*b.pth; or"):
            fetch("https://host/b.pth")


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "is not answered as the web answers .*put it there"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: much\r\n\r\nabc", "is not answered as the web"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ended before the file"),
    ],
)
def test_what_is_no_web_server_has_a_page(server, tmp_path, monkeypatch, answer, match):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once():
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once, daemon=True)
        thread.start()
        monkeypatch.setenv("RESDET_MIRROR", f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(WeightsError, match=match):
            fetch("https://host/a.pth")
        thread.join()
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "address", ["https://host/a b.pth", "https://host/\u00e4.pth", "https://host:port/a.pth"]
)
def test_what_no_server_can_be_asked_for_has_a_page(server, monkeypatch, address):
    monkeypatch.delenv("RESDET_MIRROR")
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("somebody is asked"))
    with pytest.raises(WeightsError, match="is no URL .*a blank as %20"):
        fetch(address.replace("https", "http"))


def test_detectron2_s_files_may_have_a_hash(server):
    server.content["/dl.fbaipublicfiles.com/detectron2/a/b.pkl"] = CONTENT
    file = fetch(f"detectron2://a/b.pkl#sha256={SHA256[:8]}")
    assert (file.path.name, file.verified_by) == ("b.pkl", "the address")
    with pytest.raises(WeightsError, match="expected 00000000…. It is another file"):
        fetch("detectron2://a/b.pkl#sha256=00000000")


def test_a_cache_that_cannot_be_written_has_a_page(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot be written: .*TORCH_HOME"):
        fetch("https://host/a.pth")


def test_a_file_of_the_cache_that_cannot_be_read_has_a_page(server, monkeypatch):
    """It was said that it cannot be written, and that space would help."""
    server.content["/host/a.pth"] = CONTENT
    file = fetch("https://host/a.pth").path

    def unreadable(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(download, "sha256_of_file", unreadable)
    with pytest.raises(WeightsError, match=rf"{file} in the cache cannot be read: Permission den"):
        fetch("https://host/a.pth")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torchvision://resnet18/IMAGENET1K_V1", True),
        ("torchvision:/resnet18/IMAGENET1K_V1", True),  # as Path prints it
        ("https://host/a.pth", True),
        ("runs/a/model.safetensors", False),
        ("C:/nets/r50.pth", False),
        ("a:/r50.pth", False),
        ("timm:resnet50", False),  # the name of a net
    ],
)
def test_what_is_an_address(text, expected):
    assert is_address(text) is expected
    if not expected:
        assert local_path(text) == Path(text)


def test_a_filled_cache_may_be_read_alone(server, tmp_path, monkeypatch):
    """Nothing is written beside a file that is there, and nothing for one that is not fetched."""
    name = "ImageNetPretrained/MSRA/R-50.pkl"
    server.content[f"/dl.fbaipublicfiles.com/detectron2/{name}"] = CONTENT
    monkeypatch.setattr(download, "file_lock", lambda path: pytest.fail(f"{path} was locked"))
    with download.cache_alone(), pytest.raises(WeightsError, match="nothing is fetched now"):
        fetch(f"detectron2://{name}")
    assert not files_in(tmp_path) and not server.asked
    file = tmp_path / "iopath" / "detectron2" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert fetch(f"detectron2://{name}").sha256 == SHA256
    stated = f"detectron2://{name}#sha256=00000000"
    with download.cache_alone(), pytest.raises(WeightsError) as refused:
        fetch(stated)
    assert str(refused.value) == (
        f"{stated}: {file} in the cache has another hash than the one stated, and nothing is "
        "fetched now."
    )
    assert [p.name for p in file.parent.iterdir()] == ["R-50.pkl"]
