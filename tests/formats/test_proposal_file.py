"""Proposals in a file: what is written comes back; what is damaged or foreign is a page."""

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file

from resdet.errors import DataError
from resdet.formats.proposal_file import ProposalFile, write_proposals

OF_SET = {"data_set": "mine", "data_set_hash": "h" * 64, "weights": "w" * 64}


def entries(images=3, seed=0):
    """Boxes at fractions of a pixel; one image has none."""
    generator = np.random.default_rng(seed)
    for number in range(images):
        count = 0 if number == 1 else 4 + number
        corner = generator.uniform(0, 500, (count, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(0, 90, (count, 2))], axis=1)
        yield (
            f"{number:06d}",
            boxes.astype(np.float32),
            np.sort(generator.normal(size=count).astype(np.float32))[::-1],
        )


@pytest.fixture
def path(tmp_path):
    write_proposals(tmp_path / "p.safetensors", entries(), **OF_SET)
    return tmp_path / "p.safetensors"


def test_every_box_comes_back_to_the_bit(path):
    file = ProposalFile(path)
    assert file.image_ids == ("000000", "000001", "000002") and len(file) == 3
    assert (file.data_set, file.data_set_hash, file.weights) == tuple(OF_SET.values())
    for image_id, boxes, objectness in entries():
        given, values = file.of(image_id)
        assert given.dtype == values.dtype == np.float32
        assert np.array_equal(given, boxes) and np.array_equal(values, objectness)
    assert file.total == 10


def test_the_library_of_safetensors_reads_it(path):
    tensors = load_file(path)
    assert tensors["proposals"].shape == (10, 5)
    assert json.loads(tensors["image_ids"].tobytes()) == ["000000", "000001", "000002"]
    assert tensors["offsets"].tolist() == [0, 4, 4, 10]


def test_rows_are_put_in_order_and_numbers_are_ids(tmp_path):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    path = tmp_path / "p"
    write_proposals(path, [(7, boxes, np.array([1.0, 3.0, 1.0]))], **OF_SET)
    given, objectness = ProposalFile(path).of(7)
    assert given[:, 2].tolist() == [2, 1, 3]  # of equal ones the first stays first
    assert objectness.tolist() == [3, 1, 1]
    with pytest.raises(DataError, match="has no proposals of image '7'"):
        ProposalFile(path).of("7")


def test_a_worker_gets_the_file_by_its_path(path):
    file = ProposalFile(path)
    file.of("000000")
    copy = pickle.loads(pickle.dumps(file))
    assert np.array_equal(copy.of("000002")[0], file.of("000002")[0])


def test_a_file_that_goes_or_shrinks_while_it_is_used_is_a_page(path):
    file = ProposalFile(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4200])
    with pytest.raises(DataError, match="the rows of image '000002' changed"):
        file.of("000002")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        file.of("000000")


def test_a_file_is_whole_or_not_there(tmp_path):
    def broken():
        yield from entries(1)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_proposals(tmp_path / "p", broken(), **OF_SET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("boxes", "objectness", "why"),
    [
        ([[0, 0, np.nan, 1]], [0.0], "not finite"),
        ([[5, 0, 4, 1]], [0.0], "ends before it begins"),
        ([[0, 0, 1, 1]], [0.0, 1.0], "expected"),
        ([[0, 0, 1]], [0.0], "expected"),
    ],
)
def test_what_is_no_proposal_is_not_written(tmp_path, boxes, objectness, why):
    entry = ("a", np.array(boxes), np.array(objectness))
    with pytest.raises(ValueError, match=why):
        write_proposals(tmp_path / "p", [entry], **OF_SET)


def test_an_image_stands_once(tmp_path):
    one = next(entries(1))
    with pytest.raises(ValueError, match="stands twice"):
        write_proposals(tmp_path / "p", [one, one], **OF_SET)


def test_every_cut_and_every_changed_byte_of_the_data_is_found(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            ProposalFile(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="is damaged"):
        ProposalFile(path)
    # Behind the header, whose blanks mean nothing.
    for place in range(4096, len(whole), 7):
        raw = bytearray(whole)
        raw[place] ^= 0x10
        path.write_bytes(raw)
        with pytest.raises(DataError, match="damaged"):
            file = ProposalFile(path)
            for image_id in file.image_ids:
                file.of(image_id)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_pickle_is_refused_and_never_run(tmp_path, protocol):
    """Detectron2's proposal files have dicts of lists, py-faster-rcnn's lists of arrays."""

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for number, value in enumerate(({"ids": [1], "boxes": [Trap()]}, [np.zeros((2, 5)), Trap()])):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        with pytest.raises(DataError, match=r"is a pickle.+runs what is in it.+write_proposals"):
            ProposalFile(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04 and more of a zip", "no safetensors file"),
        (b"\xff" * 64, "no safetensors file"),
    ],
)
def test_other_files_are_named(tmp_path, content, why):
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(DataError, match=why):
        ProposalFile(path)


def test_weights_in_safetensors_are_no_proposals(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="has no format of proposals"):
        ProposalFile(tmp_path / "w.safetensors")


def test_a_missing_file_and_a_folder_are_pages(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            ProposalFile(path)


def test_proposals_of_another_set_are_refused_with_both_names(path):
    file = ProposalFile(path)
    file.require_set("mine", "h" * 64, "KEY")
    with pytest.raises(DataError, match=r"KEY: .+ another set"):
        file.require_set("yours", "y" * 64, "KEY")
    with pytest.raises(DataError, match="another version of it"):
        file.require_set("mine", "y" * 64, "KEY")
