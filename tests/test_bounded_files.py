"""No file of others makes a reader wait for ever or fills the memory."""

import gzip
import os
import threading

import numpy as np
import pytest
from PIL import Image

from resdet import bounded_files
from resdet.data.images.reader import read_image, read_size
from resdet.data.readers.cifar import load_cifar
from resdet.data.readers.instances_file import read_json
from resdet.data.readers.listed_files import locate
from resdet.data.readers.voc_reader import load_voc
from resdet.errors import CheckFailed, DataError, ResdetError, WeightsError
from resdet.evaluation.classification import score_files
from resdet.evaluation.ilsvrc.guess_lines import lines_in
from resdet.evaluation.inputs import arrays, json_stream
from resdet.evaluation.inputs.detections import load_columns
from resdet.evaluation.inputs.ground_truth import SetIndex
from resdet.evaluation.voc import annotation_files, detection_files
from resdet.formats.voc_list import read_list
from resdet.pretrain.labelled_images import listed_classes
from resdet.run.folder import Run
from resdet.submission import ledger
from resdet.weights import cards
from resdet.weights.formats import containers
from tests.support import tiny

INDEX = SetIndex("set", (7,), np.array([[100.0, 80.0]]), (1,), ("cat",))
BOMB = gzip.compress(b"[" + b" " * 4_000_000 + b"]")


@pytest.fixture
def pipe(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path / "pipe.jpg"


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(pipe):
    for read in (read_image, read_size, read_json):
        with pytest.raises(DataError, match="a pipe, a socket or a device"):
            read(pipe)
    assert "a pipe, a socket or a device" in annotation_files.read_annotation(pipe).faults[0]
    with pytest.raises(WeightsError, match="is a pipe, a socket or a device"):
        containers.read(pipe)


# Each door by which a file of others comes in: where it lies, and what reads it.
DOORS = {
    "image": ("a.jpg", read_image),
    "annotations": ("a.json", read_json),
    "results": ("a.json", lambda p: arrays.read_json(p, CheckFailed)),
    "pieces of results": ("a.json", lambda p: load_columns(p, INDEX)),
    "guesses": ("a.txt", lines_in),
    "classes of a classifier": ("a.txt", listed_classes),
    "card": ("a.card.json", cards.Card.read),
    "card of timm": ("config.json", lambda p: cards.timm_record(p.with_name("a.safetensors"))),
    "scores": ("a.npz", score_files.load_scores),
    "title of scores": ("a.npz", score_files.title_in),
    "VOC's list": ("voc/ImageSets/Main/test.txt", lambda p: read_list(p.parents[2], "test")),
    "VOC's classes": (
        "voc/classes.txt",
        lambda p: load_voc(p.parent, "test", name="n", classes=None),
    ),
    "VOC's detections": (
        "voc/comp4_det_test_ape.txt",
        lambda p: detection_files.read_detections(p.parent, ["ape"]),
    ),
    "CIFAR's names": (
        "cifar/cifar-10-batches-bin/batches.meta.txt",
        lambda p: load_cifar(p.parents[2], "cifar10", "test"),
    ),
    "run": ("run/run.json", lambda p: Run.open(p.parent)),
    "config of a run": ("run/config.yaml", lambda p: Run(p.parent, {}).config_text),
    "metrics of a run": ("run/metrics.json", lambda p: Run(p.parent, {}).metrics()),
}


def refused(path, read):
    """The page; a file of timm's that is no file is as none."""
    try:
        assert read(path) is None and path.name == "config.json"
    except ResdetError as error:
        return str(error)
    return "is none of timm's"


@pytest.mark.parametrize("door", DOORS)
def test_no_door_waits_for_a_pipe_or_reads_what_no_memory_holds(tmp_path, monkeypatch, door):
    """A pipe without a writer, then a terabyte of nothing, which the file system does not keep."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    monkeypatch.setattr(bounded_files, "PATIENCE_SECONDS", 0.01)
    tiny.voc_tree(tmp_path / "voc", images=2)
    name, read = DOORS[door]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert "pipe" in refused(path, read) or path.name == "config.json"
    path.unlink()
    with path.open("wb") as file:
        file.write(b"[")
        try:
            file.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no sparse files")
    assert refused(path, read)


def test_an_annotation_beyond_any_is_a_fault_of_the_set(tmp_path):
    """For the loader and for the evaluator."""
    tree = tiny.voc_tree(tmp_path / "voc", images=2)
    path = tree / "Annotations" / "000001.xml"
    with path.open("ab") as file:
        file.truncate(65 << 20)
    with pytest.raises(DataError, match="at most 67,108,864 are read"):
        load_voc(tree, "test", name="n", classes=None)
    assert "at most 67,108,864 are read" in annotation_files.read_annotation(path).faults[0]


def test_a_ledger_that_is_none_is_passed_over(tmp_path):
    path = tmp_path / "ledger"
    path.write_bytes(b'{"sha256": "\xff"}\n')
    assert ledger.read(path) == []
    path.write_text("[" * 100_000 + '\n{"sha256": "a"}\n', encoding="utf-8")
    assert ledger.read(path) == [{"sha256": "a"}]
    path.unlink()
    os.mkfifo(path)
    assert ledger.read(path) == []


def test_a_pipe_that_is_written_to_is_read(tmp_path, monkeypatch):
    """Results of another program, that begins later and writes in two parts."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(tmp_path / "pipe")

    def write():
        with open(tmp_path / "pipe", "wb", buffering=0) as file:
            file.write(b"[1,")
            file.write(b"2]")

    writer = threading.Timer(0.05, write)
    writer.start()
    assert arrays.read_json(tmp_path / "pipe", CheckFailed) == [1, 2]
    writer.join()


def test_a_file_of_blanks_is_read_in_time_and_an_element_without_end_is_refused(
    tmp_path, monkeypatch
):
    """Both took time or memory in the square of the size."""
    path = tmp_path / "a.json"
    path.write_bytes(b" " * (4 << 20) + b"[1]" + b" " * (4 << 20))
    assert [*json_stream.array_pieces(path, CheckFailed)] == [[1]]
    monkeypatch.setattr(json_stream, "MOST_BYTES", 1 << 20)
    path.write_bytes(b'["' + b"a" * (8 << 20))
    with pytest.raises(CheckFailed, match="an element of more than 1,048,576 bytes"):
        list(json_stream.array_pieces(path, CheckFailed))


def test_a_jpeg_of_filling_is_no_jpeg(tmp_path):
    """Pillow looks at each byte of it: minutes for a gigabyte."""
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * (17 << 20))  # filling behind the picture costs nothing
    assert read_size(path) == (4, 4)
    path.write_bytes(whole[:3] + b"\0" * (17 << 20) + whole[3:])
    with pytest.raises(DataError, match="nothing from byte 2 on"):
        read_size(path)


def test_a_small_gzip_of_much_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.json.gz").write_bytes(BOMB)
    monkeypatch.setattr(bounded_files, "LEAST_UNPACKED", 1 << 20)
    with pytest.raises(DataError, match="hold more than"):
        read_json(tmp_path / "a.json.gz")


def test_what_shrinks_as_data_do_is_read():
    text = b"".join(b'{"id": %d}' % i for i in range(10_000))
    assert bounded_files.unpacked(gzip.compress(text)) == text == bounded_files.unpacked(text)


def test_a_file_that_a_list_names_is_never_shown(tmp_path):
    """The list may name any file of the reader's, and pages are passed on."""
    (tmp_path / "images").mkdir()
    (tmp_path / "secret").write_text("password=hunter2\n", encoding="utf-8")
    files = locate(str(tmp_path / "images"), ["../secret"], (".jpg",))
    assert files.outside == ["../secret"] and "lie outside the folder given" in files.folders_note()
    with pytest.raises(DataError, match="is text of 17 bytes, not an image") as page:
        read_image(files.paths["../secret"])
    assert "hunter2" not in str(page.value)


def test_absolute_names_and_names_of_no_file(tmp_path):
    (tmp_path / "images").mkdir()
    picture = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    hostile = ["a\0b", "a\ud800b", "n" * 300, "/no/such"]
    files = locate(str(tmp_path / "images"), [str(picture), *hostile], (".jpg",))
    assert files.outside == [str(picture)] and files.missing == hostile
