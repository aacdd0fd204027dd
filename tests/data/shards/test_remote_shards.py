"""Shards at URLs: the same set, by requests for parts; paths need nothing of it."""

from __future__ import annotations

import http.server
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.data.shards import shard_set, storage
from resdet.data.shards.shard_set import load_shards
from resdet.errors import DataError
from tests.support.shard_files import sample, write_shard

fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def folder(tmp_path) -> Path:
    for number in range(2):
        keys = range(3 * number, 3 * number + 3)
        members = [m for k in keys for m in sample(f"k{k}", k % 3, seed=k)]
        write_shard(tmp_path / "set" / f"a-{number}.tar", members)
    (tmp_path / "set" / "classes.txt").write_text("ant\nbee\ncat\n")
    return tmp_path / "set"


@pytest.fixture
def memory(folder):
    """The same files in fsspec's store in memory."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    for path in folder.iterdir():
        store.pipe_file(f"/set/{path.name}", path.read_bytes())
    yield store
    store.store.clear()


@pytest.mark.parametrize(
    "pattern", ["memory://set/a-{0..1}.tar", "memory://set/*.tar", "memory://set/list.txt"]
)
def test_a_store_has_the_same_set_as_the_folder(folder, memory, pattern) -> None:
    memory.pipe_file("/set/list.txt", b"a-1.tar\nmemory://set/a-0.tar\n")
    mine = catalog.load_classification(f"wds:{folder}")
    data = catalog.load_classification(f"wds:{pattern}")
    assert (data.hash, data.classes) == (mine.hash, ("ant", "bee", "cat"))
    for index in range(6):
        np.testing.assert_array_equal(data.read(index), mine.read(index))


def test_a_worker_that_was_forked_asks_by_itself(memory) -> None:
    data = load_shards("memory://set/a-{0..1}.tar", name="far")
    expected = [data.encoded.read(i) for i in range(6)]
    read, write = os.pipe()
    if os.fork() == 0:
        same = [data.encoded.read(i) for i in range(6)] == expected
        os.write(write, b"1" if same and data.encoded.handles._process == os.getpid() else b"0")
        os._exit(0)
    assert os.read(read, 1) == b"1"
    os.close(read), os.close(write)


def test_the_index_is_used_while_the_store_has_the_same_version(memory, monkeypatch) -> None:
    pattern, scanned = "memory://set/a-{0..1}.tar", []
    begin = shard_set.ShardScan.__init__
    monkeypatch.setattr(
        shard_set.ShardScan, "__init__",
        lambda self, shard, *rest: scanned.append(shard) or begin(self, shard, *rest),
    )  # fmt: skip
    first = load_shards(pattern, name="far")
    assert len(scanned) == 2 and load_shards(pattern, name="far").hash == first.hash
    assert len(scanned) == 2
    memory.pipe_file("/set/a-1.tar", memory.cat_file("/set/a-1.tar"))  # written anew
    later = pickle.loads(pickle.dumps(first))  # as in a worker that opens its own
    with pytest.raises(DataError, match=r"memory://set/a-1\.tar changed since its index"):
        [later.read(i) for i in range(6)]
    load_shards(pattern, name="far")
    assert len(scanned) == 4


def test_what_is_not_there_is_named(memory, monkeypatch) -> None:
    with pytest.raises(DataError, match=r"memory://set\.\n\n  a-2\.tar cannot be read \(File"):
        load_shards("memory://set/a-{0..2}.tar", name="far")
    with pytest.raises(DataError, match="nokind://x/a.tar cannot be opened by fsspec"):
        load_shards("nokind://x/a.tar", name="far")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DataError, match=r'needs the package fsspec. Run: pip install "resdet\[rem'):
        load_shards("memory://set/a-0.tar", name="far")


def test_a_moments_failure_is_asked_again(memory, monkeypatch, caplog) -> None:
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))
    data = load_shards("memory://set/a-0.tar", name="far", options=DataOptions(cache=False))
    cat, failures = type(memory).cat_file, [TimeoutError("slow"), ConnectionError("reset")]

    def failing(self, *where, **how):
        if failures:
            raise failures.pop()
        return cat(self, *where, **how)

    monkeypatch.setattr(type(memory), "cat_file", failing)
    with caplog.at_level(logging.INFO):
        assert data.read(0).shape == (20, 24, 3)
    assert len(re.findall("asked again", caplog.text)) == 2
    failures += [TimeoutError("slow")] * 3
    with pytest.raises(DataError, match=r"asked 3 times \(TimeoutError: slow\)"):
        data.read(0)


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """A server that answers requests for ranges, as object stores do, and counts bytes."""

    sent: list[int]
    answers_ranges = True

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        if asked and self.answers_ranges:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups()
            data = data[int(first) : int(last) + 1]
        self.send_response(206 if asked and self.answers_ranges else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.sent.append(len(data))

    def do_HEAD(self):
        path = Path(self.translate_path(self.path))
        self.send_response(200 if path.is_file() else 404)
        if path.is_file():
            self.send_header("Content-Length", str(path.stat().st_size))
            self.send_header("Accept-Ranges", "bytes" if self.answers_ranges else "none")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("answers_ranges", [True, False])
def test_a_web_server_is_asked_for_one_image_at_a_time(folder, monkeypatch, answers_ranges) -> None:
    pytest.importorskip("aiohttp", reason="fsspec's part for http is not installed")
    monkeypatch.setattr(storage, "WAITS", ())
    monkeypatch.setattr(_Ranges, "answers_ranges", answers_ranges)
    monkeypatch.setattr(_Ranges, "sent", [], raising=False)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *given: _Ranges(*given, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        pattern = f"http://127.0.0.1:{server.server_port}/a-{{0..1}}.tar"
        mine = catalog.load_classification(f"wds:{folder}")
        data = load_shards(
            pattern, name="web", options=DataOptions(cache=False, check_images=False)
        )
        assert data.hash == mine.hash
        _Ranges.sent.clear()
        if answers_ranges:
            np.testing.assert_array_equal(data.read(3), mine.read(3))
            assert _Ranges.sent == [mine.encoded.size(3)]
        else:
            with pytest.raises(DataError, match="does not answer requests for ranges"):
                data.read(3)
    finally:
        server.shutdown()


def test_paths_do_not_import_fsspec(folder) -> None:
    code = (
        "import sys; from resdet.data.shards.shard_set import load_shards; "
        f"load_shards({str(folder)!r}, name='x').read(0); "
        "print([m for m in sys.modules if m.split('.')[0] == 'fsspec'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"
