"""Containers of every origin; hostile and broken files, each by a harmless payload."""

import copyreg
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from resdet import weights
from resdet.errors import WeightsError
from resdet.weights.formats import containers, pickles
from tests.support.payload import Payload
from tests.support.weight_files import ARRAYS, TENSORS, as_old_torch, as_pickle, as_torch, same


@pytest.mark.parametrize(
    ("container", "write"),
    [
        ("safetensors", lambda p: save_file(TENSORS, p)),
        ("torch", as_torch),
        ("torch (before 1.6)", as_old_torch),
        ("pickle", as_pickle),
        ("npz", lambda p: np.savez(open(p, "wb"), **ARRAYS)),  # noqa: SIM115
    ],
)
def test_every_container_is_told_by_its_bytes(tmp_path, container, write):
    """Written by the container's own library, under a name without a hint."""
    write(tmp_path / "weights.bin")
    assert same(containers.read(tmp_path / "weights.bin")).container == container


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_come_back_from_every_protocol(protocol):
    """What Python's own writer wrote; orders, empty ones, numbers and foreign byte order too."""
    content = {
        "model": {
            "c": ARRAYS["a.weight"],
            "fortran": np.asfortranarray(ARRAYS["a.weight"]),
            "empty": np.zeros((0, 3), np.float32),
            "scalar": np.float32(3),
            "count": np.array(7),
            "swapped": np.arange(3).astype(">f4"),
        },
        "__author__": "x",
        "list": [1, 2.5, None, True],
    }
    back = pickles.load(io.BytesIO(pickle.dumps(content, protocol)))
    assert (back["__author__"], back["list"]) == ("x", [1, 2.5, None, True])
    for name, value in content["model"].items():
        np.testing.assert_array_equal(back["model"][name], value)


def test_pythons_second_version_is_read_as_detectron_wrote_it():
    """By hand, as Python 2 pickles an array: its bytes are a text of latin-1 characters."""
    data = np.array([1.5, -2.0], np.float32).tobytes()
    text = b"U" + bytes([len(data)]) + data
    unset = b"J" + b"\xff" * 4
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNN" + 2 * unset + b"K\x00tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x02t" + dtype + b"\x89" + text + b"tb"
    )
    stream = b"\x80\x02}U\x07conv1_w" + array + b"s."
    np.testing.assert_array_equal(pickles.load(io.BytesIO(stream))["conv1_w"], [1.5, -2.0])


@pytest.mark.parametrize("length", [128, 0x0280, 0x0480, 0x4B50])
def test_a_header_as_long_as_anothers_first_bytes_is_no_other_format(tmp_path, length):
    """A header of 128 bytes starts with pickle's 0x80, one of 0x0280 with protocol 2, too."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    data = np.array([1, 2], np.float32).tobytes()
    (tmp_path / "x").write_bytes(struct.pack("<Q", length) + header.ljust(length).encode() + data)
    assert containers.read(tmp_path / "x").tensors["a"].tolist() == [1, 2]


# -- broken --------------------------------------------------------------------------------------


def cut(path, write, share=0.5):
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


BROKEN = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "web page": (lambda p: p.write_bytes(b"<!DOCTYPE html><html>"), "is a web page"),
    "LFS": (
        lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 102530333\n"),
        r"LFS pointer .*the real file has 102,530,333.* git lfs pull",
    ),
    "half a zip": (lambda p: cut(p, as_torch), "is cut off"),
    "half an old torch file": (lambda p: cut(p, as_old_torch, 0.9), "is cut off or damaged"),
    "half a pickle": (lambda p: cut(p, as_pickle), "is cut off or damaged"),
    "half a safetensors file": (
        lambda p: cut(p, lambda q: save_file(TENSORS, q), 0.9),
        "is cut off or damaged",
    ),
    "a header of 10^12 bytes": (
        lambda p: p.write_bytes(struct.pack("<Q", 10**12) + b"{}" + b"x" * 100),
        "is cut off or damaged",
    ),
    "offsets beyond the end": (
        lambda p: p.write_bytes(safetensors_header({"dtype": "F32", "shape": [9],
                                                    "data_offsets": [0, 36]})),
        "is cut off or damaged",
    ),
    "Keras": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 50), "is an HDF5 file"),
    "a zip of pictures": (lambda p: zip_of(p, {"a.jpg": b"x"}), "without weights .*a.jpg"),
    "a zip bomb": (
        lambda p: zip_of(p, {"data.pkl": b"\0" * 3_000_000}, zipfile.ZIP_DEFLATED),
        "would unpack to 3,000,000 bytes from",
    ),
    "a list": (lambda p: as_torch(p, [1, 2]), "holds a list, not a dict of tensors"),
    "no tensors": (lambda p: as_torch(p, {"epoch": 3}), r"holds no tensors \(keys: epoch\)"),
    "an array that claims more": (
        lambda p: p.write_bytes(
            pickle.dumps(ARRAYS, 2).replace(b"K\x02K\x03\x86", b"M\xff\xffM\xff\xff\x86")
        ),
        "claims .* but 24 bytes are there",
    ),
    "a tensor that repeats a byte": (
        lambda p: as_torch(p, {"a": torch.zeros(1).expand(10**12)}),
        r"a: claims \(1000000000000,\), 4,000,000,000,000 bytes, and the file holds 4 of them",
    ),
    "many tensors of one memory": (
        lambda p: as_torch(p, {f"a{i}": SHARED for i in range(100)}),
        "its tensors claim .* in all",
    ),
    "a name that steers the terminal": (
        lambda p: as_torch(p, {"a\x1b[2J": torch.ones(2)}), r"a tensor is called 'a\\x1b\[2J'"
    ),
    "sparse": (lambda p: as_torch(p, {"a": torch.eye(3).to_sparse()}), "expected plain numbers"),
}  # fmt: skip
SHARED = torch.zeros(10_000)


def itself():
    found = {"epoch": 1}
    found["model"] = found
    return found


def doubled(depth=40):
    found = {"a": 1}
    for _ in range(depth):
        found = {"a": found, "b": found}
    return {"ema": found}


def lists(depth=60):
    found = [1]
    for _ in range(depth):
        found = [found, found]
    return {"x": found}


def broken_zip_member(path):
    np.savez_compressed(open(path, "wb"), a=np.arange(5000))  # noqa: SIM115
    data = bytearray(path.read_bytes())
    data[60:90] = b"\xff" * 30
    path.write_bytes(data)


BROKEN |= {
    "a dict that holds itself": (lambda p: as_torch(p, itself()), "not a dict of|no tensors|parts"),
    "parts that double": (lambda p: as_torch(p, doubled()), "no tensors"),
    "lists that double": (lambda p: as_pickle(p, lists()), "no tensors"),
    "a far place in the memo": (
        lambda p: p.write_bytes(b"\x80\x02}r\x00\x00\x00\x7f."), "at place 2130706432, far beyond"
    ),
    "bytes that are a number": (
        lambda p: p.write_bytes(
            b"\x80\x02cnumpy._core.numeric\n_frombuffer\n(J\xff\xff\xff\x7fcnumpy\ndtype\n(X\x02\x00\x00"
            b"\x00u1tRK\x01\x85X\x01\x00\x00\x00CtR."
        ),
        "array without bytes",
    ),
    "a compressed member spoiled": (broken_zip_member, "fails its checksum|is cut off"),
    "a torch file of nothing": (
        lambda p: zip_of(p, {"x/data.pkl": b"\x80\x02.", "x/version": b"3"}), "cut off or damaged"
    ),
}  # fmt: skip


def safetensors_header(entry):
    header = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 8


def zip_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named_for_what_they_are(tmp_path, case):
    """F24: what happened, and where; never a bare library message, never a crash."""
    write, message = BROKEN[case]
    path = tmp_path / "r50.pth"
    write(path)
    with pytest.raises(WeightsError, match=message) as error:
        weights.load(path)
    assert str(path) in str(error.value)


def test_half_precision_that_overflowed_is_explained(tmp_path):
    """F25: 70,000 is beyond float16 and became infinite at saving."""
    as_torch(tmp_path / "x.pth", {"a": torch.tensor([1.0, 70_000.0]).half()})
    with pytest.raises(WeightsError, match=r"a: 1 of 2 .*index 1.*range of float16 was exceeded"):
        weights.load(tmp_path / "x.pth")


# -- hostile -------------------------------------------------------------------------------------


HOSTILE = {
    "pickle": lambda p, x: as_pickle(p, {"model": x}),
    "pickle, protocol 0": lambda p, x: as_pickle(p, {"model": x}, protocol=0),
    "beside good arrays": lambda p, x: as_pickle(p, {**ARRAYS, "note": x}),
    "as a key": lambda p, x: as_pickle(p, OrderedDict([((x,), 1)])),
    "in an array of objects": lambda p, x: as_pickle(p, {"a": np.array([x], dtype=object)}),
    "torch": lambda p, x: as_torch(p, {"model": x, **TENSORS}),
    "old torch": lambda p, x: as_old_torch(p, {"model": x, **TENSORS}),
    "npz": lambda p, x: np.savez(open(p, "wb"), a=np.array([x], dtype=object)),  # noqa: SIM115
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_in_a_hostile_file_is_run(tmp_path, case):
    """F23: the payload would leave a mark; it is absent, and the page names what was expected."""
    mark = tmp_path / "mark"
    path = tmp_path / "evil.pkl"
    HOSTILE[case](path, Payload(mark))
    for read in (weights.load, containers.read):
        with pytest.raises(WeightsError, match=r"(system|Python objects|O8).*it was not run"):
            read(path)
    assert not mark.exists()


def test_the_payload_would_leave_its_mark(tmp_path):
    """The tests above prove something: Python's own reader runs the very same file."""
    mark = tmp_path / "mark"
    as_pickle(tmp_path / "evil.pkl", {"model": Payload(mark)})
    pickle.loads((tmp_path / "evil.pkl").read_bytes())
    assert mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("builtins", "getattr"), ("os", "system"), ("numpy", "load"),
     ("numpy.testing", "run_module_suite"), ("torch", "load"), ("collections", "Counter")],
)  # fmt: skip
def test_names_outside_the_list_are_refused(module, name):
    """The list holds numpy's arrays and plain containers; by hand as opcodes of protocol 0."""
    stream = io.BytesIO(f"c{module}\n{name}\n.".encode())
    with pytest.raises(pickles.NotPlainError, match=name):
        pickles.load(stream)


def test_a_number_in_place_of_a_name_is_refused(tmp_path):
    """EXT opcodes look a function up in the process, past the list of names."""
    mark = tmp_path / "mark"
    copyreg.add_extension("os", "system", 77)
    try:
        evil = b"\x80\x02\x82\x4d" + f"X{chr(0)}".encode()[:1]
        text = f"touch {mark}".encode()
        evil += struct.pack("<I", len(text)) + text + b"\x85R."
        pickle.loads(b"\x80\x02\x82\x4d.")  # caches it, as an earlier reader would
        with pytest.raises(pickles.NotPlainError, match="extension 77"):
            pickles.load(io.BytesIO(evil))
    finally:
        copyreg.remove_extension("os", "system", 77)
    assert not mark.exists()


def test_our_own_functions_cannot_be_changed():
    """BUILD sets attributes of what it is given: of a function, its defaults."""
    stream = io.BytesIO(b"\x80\x02c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__)s\x86b.")
    with pytest.raises(pickles.NotPlainError, match="a change of"):
        pickles.load(stream)


def test_a_whole_module_is_not_loaded(tmp_path):
    """F23: torch.save(model) pickles code; the page states how to save what is expected."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"a Python object \(torch\.nn.*Linear\).*state_dict"):
        weights.load(tmp_path / "model.pth")


def test_torchscript_is_a_program(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(WeightsError, match="is a TorchScript program, not weights; it was not run"):
        weights.load(tmp_path / "model.pt")
