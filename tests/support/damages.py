"""Every way in which a file of a run folder can be damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resdet.run import layout

TEXTS = {
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "null": b"null",
    "number": b"5",
    "text": b'"x"',
    "list of null": b"[null]",
    "nested": b"[" * 50_000,
    "nested objects": b'{"a":' * 50_000,
    "long number": b"9" * 5_000,
    "binary": bytes(range(256)),
    "zeros": bytes(300),
}
OTHER_TYPES = (None, 5, "x", [], {}, [None], {"a": None}, -1.5, True, "\ud800")


def changed(content: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The JSON with one value after the other missing or of another type."""
    number = 0
    for path in _paths(content, depth):
        for _ in range(2):
            number += 1
            other = OTHER_TYPES[number % len(OTHER_TYPES)]
            yield f"{'.'.join(map(str, path))} {other!r}", _with(content, path, other)
        if isinstance(path[-1], str):
            yield f"{'.'.join(map(str, path))} missing", _with(content, path, KeyError)


def _paths(node: Any, depth: int) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node[:1])
    for key, value in items:
        yield (key,)
        if depth > 1 and isinstance(value, dict | list):
            yield from ((key, *rest) for rest in _paths(value, depth - 1))


def _with(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


def damages(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """What the file holds instead; None: it is gone."""
    raw = path.read_bytes()
    yield "gone", None
    yield "half", raw[: len(raw) // 2]
    for name, text in TEXTS.items():
        yield name, gzip.compress(text) if path.suffix == ".gz" else text
    if path.suffix == ".gz":
        yield "not packed", gzip.decompress(raw)
        yield "flipped", raw[:20] + bytes([raw[20] ^ 255]) + raw[21:]
    if path.name.endswith((".json", ".json.gz")) and path.name != layout.METRICS:
        content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        # Of stored scores nothing but the headline is read.
        depth = 2 if path.name in layout.SCORES.values() else 3
        for name, other in changed(content, depth):
            text = json.dumps(other).encode()
            yield name, gzip.compress(text) if path.suffix == ".gz" else text
    if path.name == layout.METRICS:
        for line in TEXTS.values():
            yield f"a line {line[:8]!r}", raw + line + b"\n" + raw
    if path.name == layout.CONFIG:
        for text in (
            "a: &a [*a]\n",
            "MODEL: 5\n",
            "MODEL: {NET: []}\n",
            "- 1\n",
            "A: !!python/x 1",
        ):
            yield text.strip(), text.encode()


def put(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)
