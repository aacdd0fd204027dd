"""Addresses of Hugging Face's hub and of timm, against a server on loopback that answers as the hub
does (`HF_ENDPOINT`), in a process of its own: its library reads its variables when it is imported.
"""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from safetensors.torch import save

from resdet import nets, weights
from tests.support.file_server import COMMIT, serving

pytest.importorskip("timm")
pytest.importorskip("huggingface_hub")

NAME = "resnet18.a1_in1k"
REPO = f"timm/{NAME}"
CODE = """
import contextlib, json, sys
from resdet.errors import WeightsError
from resdet.weights.addresses.download import cache_alone
from resdet.weights.resolve import WeightFile

def load(address):
    try:
        file = WeightFile(address)
        tensors, card = file.load()
        print(json.dumps({"path": str(file.path), "net": card.net, "verified": card.verified,
                          "tensors": len(tensors), **card.source}))
    except WeightsError as error:
        print(json.dumps({"error": str(error)}))

flag, *addresses = sys.argv[1:]
with cache_alone() if flag == "explaining" else contextlib.nullcontext():
    for address in addresses:
        load(address)
"""


@pytest.fixture(scope="module")
def content():
    """timm's ResNet-18 as the hub has it: tensors, and the record that states its input."""
    import timm

    tensors = timm.create_model("resnet18").state_dict()
    config = timm.get_pretrained_cfg(NAME).to_dict()
    record = {"architecture": "resnet18", "pretrained_cfg": config}
    return save(tensors, {"format": "pt"}), json.dumps(record).encode()


@pytest.fixture
def hub(content):
    model, config = content
    with serving() as files:
        files.put_on_hub(REPO, "model.safetensors", model, hashlib.sha256(model).hexdigest())
        files.put_on_hub(REPO, "config.json", config, "b" * 40)
        yield files


def loaded(home, endpoint, *addresses, flag="loading", **environment):
    """What each address gives, of one process; flag "explaining": from the cache alone."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, flag, *addresses], stdout=subprocess.PIPE,
        text=True, check=True, env={**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint,
                         "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_hub_and_timm_give_one_file_with_its_record_and_hash(hub, content, tmp_path):
    """timm's config.json lies beside it, so that the input is known and not a habit."""
    digest = hashlib.sha256(content[0]).hexdigest()
    addresses = [f"hf://{REPO}", f"timm://{NAME}", f"hf://{REPO}@{COMMIT}/model.safetensors"]
    results = loaded(tmp_path, hub.url, *addresses)
    for address, result in zip(addresses, results, strict=True):
        assert result["address"] == address
        assert (result["net"], result["verified"]) == ("resnet18", True)
        assert result["tensors"] == len(nets.build("resnet18").state_dict())
        assert (result["sha256"], result["verified_by"]) == (digest, "the hub")
        assert result["revision"] == COMMIT
        assert result["url"] == f"{hub.url}/{REPO}/blob/{COMMIT}/model.safetensors"
    assert hub.asked[f"/{REPO}/resolve/{COMMIT}/model.safetensors"] <= 1
    # A filled cache needs no network, and the server is gone for it.
    offline = loaded(tmp_path, "http://127.0.0.1:9", *addresses, HF_HUB_OFFLINE="1")
    assert [r["path"] for r in offline] == [r["path"] for r in results]
    tensors, _ = weights.load(results[0]["path"])
    assert len(tensors) == results[0]["tensors"]


def test_what_the_hub_has_not_has_a_page(hub, tmp_path):
    hub.headers["/owner/gone/resolve/main/model.safetensors"] = {"X-Error-Code": "RepoNotFound"}
    hub.status["/owner/gone/resolve/main/model.safetensors"] = 401
    hub.headers["/owner/shut/resolve/main/model.safetensors"] = {"X-Error-Code": "GatedRepo"}
    hub.status["/owner/shut/resolve/main/model.safetensors"] = 403
    errors = [
        result["error"]
        for result in loaded(
            tmp_path, hub.url, f"hf://{REPO}/no.safetensors", "hf://owner/empty", "hf://owner/gone",
            "hf://owner/shut", "hf://owner/two words",
        )
    ]  # fmt: skip
    assert f"{REPO} has no no.safetensors. Name a file that it has: hf://{REPO}/FILE" in errors[0]
    assert "owner/empty has no model.safetensors and no pytorch_model.bin" in errors[1]
    assert "has no repository owner/gone, or it is private" in errors[2]
    assert "owner/shut is gated. Accept its terms on" in errors[3]
    assert "Expected hf://owner/repo[@revision][/file]" in errors[4]
    assert [p for p in tmp_path.rglob("*") if p.is_file() and "blobs" in p.parts] == []


def test_without_a_network_and_a_cache_there_is_a_page(tmp_path, capfd):
    """At once, without the library's own half a minute of questions, and with what to fetch."""
    nowhere = "http://127.0.0.1:9"
    for environment in ({"HF_HUB_OFFLINE": "1"}, {}):
        (result,) = loaded(tmp_path, nowhere, f"timm://{NAME}", **environment)
        assert f"timm://{NAME} is not in the cache ({tmp_path}" in result["error"]
        assert "set HF_ENDPOINT to a mirror, or fetch" in result["error"]
        assert f"fetch {nowhere}/{REPO}/resolve/main/model.safetensors els" in result["error"]
        assert "Retrying" not in capfd.readouterr().err


def test_a_connection_that_ends_early_is_taken_up_again(hub, tmp_path):
    """By its library; the file that stands in the cache is whole."""
    small = b"weights" * 1000
    digest = hashlib.sha256(small).hexdigest()
    hub.put_on_hub("owner/small", "a.bin", small, digest)
    hub.cut["/owner/small/resolve/main/a.bin"] = 1
    (result,) = loaded(tmp_path, hub.url, "hf://owner/small/a.bin")
    assert "starts with b'weightsw'" in result["error"]  # it was read
    (kept,) = tmp_path.rglob("a.bin")
    assert kept.read_bytes() == small
    assert hub.cut.total() == 0


def test_a_damaged_file_of_the_cache_is_named(hub, tmp_path):
    small = b"weights" * 1000
    digest = hashlib.sha256(small).hexdigest()
    hub.put_on_hub("owner/small", "a.bin", small, digest)
    loaded(tmp_path, hub.url, "hf://owner/small/a.bin")
    blob = next(p for p in tmp_path.rglob("*") if p.name == digest)
    blob.write_bytes(small[:-1] + b"?")
    (result,) = loaded(tmp_path, hub.url, "hf://owner/small/a.bin", HF_HUB_OFFLINE="1")
    assert f"{blob} in Hugging Face's cache is damaged" in result["error"]


@pytest.mark.parametrize(
    ("page", "license_text"),
    [
        (b"---\nlicense: cc-by-nc-4.0\ntags: [timm]\n---\n# A net\n", "cc-by-nc-4.0"),
        (b"---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        (b"---\nlicense: [mit, apache-2.0]\n---\n", None),
        (b"---\nlicense: {a\n---\n", None),
        (b"# No front matter\n", None),
        (None, None),
    ],
    ids=["an id", "its own name", "two", "no YAML", "no front matter", "no README"],
)
def test_the_licence_is_the_one_of_the_hub_s_readme(hub, content, tmp_path, page, license_text):
    """Front matter as the hub's own documentation has it; timm's own record comes before it."""
    if page is not None:
        hub.put_on_hub(REPO, "README.md", page, "c" * 40)
    by_hub, by_timm = loaded(tmp_path, hub.url, f"hf://{REPO}", f"timm://{NAME}")
    assert by_hub.get("license") == license_text
    assert by_timm["license"] == "apache-2.0"


def test_what_is_explained_asks_the_hub_for_nothing(hub, tmp_path):
    """Neither for the weights, nor for a README that came after them."""
    loaded(tmp_path, hub.url, f"hf://{REPO}")
    hub.put_on_hub(REPO, "README.md", b"---\nlicense: mit\n---\n", "c" * 40)
    hub.asked.clear()
    (result,) = loaded(tmp_path, hub.url, f"hf://{REPO}", flag="explaining")
    assert result["net"] == "resnet18" and "license" not in result
    assert hub.asked.total() == 0


def test_processes_that_ask_the_hub_at_once_fetch_one_file(hub, content, tmp_path):
    """Its library's own lock; both read the file."""
    path = f"/{REPO}/resolve/{COMMIT}/model.safetensors"
    hub.slow |= {path: 1.0, path.replace(COMMIT, "main"): 1.0}
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(loaded, tmp_path, hub.url, f"hf://{REPO}") for _ in range(2)]
        (one,), (two,) = (each.result() for each in asked)
    assert one == two and one["sha256"] == hashlib.sha256(content[0]).hexdigest()
    assert sum(hub.asked[p] for p in hub.asked if p.endswith("model.safetensors")) == 1
