"""Files that would run code or lead elsewhere, beside weights: configs, proposals, CIFAR's pickles.

Each holds a harmless payload that would leave a mark where it is run (`docs/faults.md` F23, F48).
Weight files are in tests/weights/formats/test_containers.py.
"""

import pickle
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.config import resolve
from resdet.data.readers.cifar import load_cifar
from resdet.errors import ConfigError, DataError, WeightsError
from resdet.formats.proposal_file import ProposalFile
from resdet.weights import read
from resdet.weights.formats import containers
from tests.support.payload import Payload

TAGS = ("object/apply", "object/new", "object", "name", "module")


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_of_a_config_is_followed(tmp_path, mark, tag):
    """PyYAML's own tags for Python; its unsafe loader would run `os.system` for the first two."""
    text = f"OUTPUT_DIR: !!python/{tag}:os.system [\"touch '{mark}'\"]\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        resolve(tmp_path / "c.yaml")
    assert not mark.exists()


def test_no_literal_of_the_command_line_is_run(mark):
    """KEY VALUE pairs are literals, as yacs reads them; a call stays text."""
    call = f"__import__('os').system('touch {mark}')"
    assert call == resolve(None, ["OUTPUT_DIR", call]).cfg.OUTPUT_DIR
    assert not mark.exists()


@pytest.mark.parametrize("base", ["http://example.org/c.yaml", "https://example.org/c.yaml",
                                  "s3://bucket/c.yaml"])  # fmt: skip
def test_a_base_from_elsewhere_is_not_fetched(tmp_path, base):
    """fvcore would open an http address through iopath."""
    (tmp_path / "c.yaml").write_text(f"_BASE_: {base}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"_BASE_ is {base}\. A config from elsewhere is not"):
        resolve(tmp_path / "c.yaml")


def test_a_base_that_leads_back_through_a_link_is_a_circle(tmp_path):
    """F48: under another name, but the same file."""
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml\n", encoding="utf-8")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="_BASE_ runs in a circle"):
        resolve(tmp_path / "a.yaml")


@pytest.mark.parametrize("part", ["TRAIN", "TEST"])
def test_proposals_in_a_pickle_are_not_read(tmp_path, mark, part):
    """Detectron2 calls pickle.load on them; ours are tensors, and a pickle is named as one."""
    file = tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps({"boxes": Payload(mark)}))
    key = f"DATASETS.PROPOSAL_FILES_{part}"
    with pytest.raises(ConfigError, match=f"{key} .* only with MODEL.LOAD_PROPOSALS True"):
        resolve(None, [key, f"('{file}',)"])
    with pytest.raises(DataError, match="pickle"):
        ProposalFile(file)
    assert not mark.exists()


def test_cifars_pickles_are_not_read(tmp_path, mark):
    """Its Python version, or a pickle under the binary version's name."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"), encoding="utf-8")
    (folder / "test_batch.bin").write_bytes(pickle.dumps({b"data": Payload(mark)}))
    with pytest.raises(DataError, match="no whole number of records"):
        load_cifar(tmp_path, "cifar10", "test")
    (folder / "test_batch.bin").rename(tmp_path / "test_batch")
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "test_batch").rename(tmp_path / "cifar-10-batches-py" / "test_batch")
    with pytest.raises(DataError):
        load_cifar(tmp_path, "cifar10", "test")
    assert not mark.exists()


@pytest.mark.parametrize("address", ["s3://bucket/r50.pth", "ftp://example.org/r50.pth",
                                     "file:///etc/passwd"])  # fmt: skip
def test_an_address_of_no_kind_that_is_fetched_is_refused(address):
    for given in (address, Path(address)):  # a Path has one slash of two
        with pytest.raises(WeightsError, match="is an address of a kind that is not fetched"):
            read(given)


@pytest.mark.parametrize("given", ["tim://resnet50.a1_in1k", Path("tim://resnet50.a1_in1k")])
def test_a_misspelt_kind_of_address_is_told_the_near_one(given):
    with pytest.raises(WeightsError, match=r"Did you mean timm://resnet50\.a1_in1k\?"):
        read(given)


def test_a_folder_called_as_a_kind_almost_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tim:").mkdir()
    with pytest.raises(WeightsError, match="does not exist. Name a weight file"):
        containers.read("tim:/r50.pth")


@pytest.mark.parametrize("path", ["C:/nets/r50.pth", "a:/r50.pth"])
def test_a_drive_and_a_folder_with_a_colon_are_paths(path):
    with pytest.raises(WeightsError, match="does not exist. Name a weight file"):
        containers.read(path)
