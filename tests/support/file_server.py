"""A web server on loopback with a few files, and what real ones do wrong.

Not for: what a cache makes of it (`tests/weights/addresses`).
"""

import contextlib
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class Files:
    """What the server has, by path; changed while it runs.

    Attributes:
        content: path to bytes. cut: path to how many times it ends half way. moved: path to
            another one.
        status: path to another answer than 200. headers: path to more of them.
        asked: how often each path was fetched. slow: path to seconds before its content comes.
    """

    def __init__(self):
        self.content, self.moved, self.status, self.headers = {}, {}, {}, {}
        self.asked, self.cut = Counter(), Counter()
        self.slow = {}
        self.url = ""

    def put_on_hub(self, repo, name, content, etag, revision="main"):
        """A file as the hub answers for it: its commit and its hash are headers."""
        for at in {revision, COMMIT}:
            path = f"/{repo}/resolve/{at}/{name}"
            self.content[path] = content
            self.headers[path] = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}


@contextlib.contextmanager
def serving():
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(with_body=False)

        def do_GET(self):
            files.asked[self.path] += 1
            self._answer(with_body=True)

        def _answer(self, with_body):
            if self.path in files.moved:
                self.send_response(302)
                self.send_header("Location", files.moved[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = files.content.get(self.path)
            status = files.status.get(self.path, 200 if content is not None else 404)
            self.send_response(status)
            for name, value in files.headers.get(self.path, {}).items():
                self.send_header(name, value)
            if status == 404 and "/resolve/" in self.path:
                self.send_header("X-Error-Code", "EntryNotFound")
            body = content if status == 200 else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                time.sleep(files.slow.get(self.path, 0))
                is_cut = files.cut[self.path] > 0
                files.cut[self.path] -= is_cut
                self.wfile.write(body[: len(body) // 2] if is_cut else body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
