"""No file of others makes a reader wait for ever or fills the memory."""

import gzip
import os

import numpy as np
import pytest
from PIL import Image

from resdet import bounded_files
from resdet.data.images.reader import read_image, read_size
from resdet.data.readers.instances_file import read_json
from resdet.data.readers.listed_files import locate
from resdet.errors import DataError, WeightsError
from resdet.evaluation.voc.annotation_files import read_annotation
from resdet.weights.formats import containers

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
    assert "a pipe, a socket or a device" in read_annotation(pipe).faults[0]
    with pytest.raises(WeightsError, match="is a pipe, a socket or a device"):
        containers.read(pipe)


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
