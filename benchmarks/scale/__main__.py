"""Starts and memory at real sizes, beside torchvision's `ImageFolder` and Detectron2's own list.

    python -m benchmarks.scale [--images 10000 118287 1281167] [--coco 118287]
        [--shards 10000 128000] [--folder DIR [--keep]] [--json FILE]

For each number a stand-in of ImageNet's or COCO's tree is made by hard links, or of ImageNet's
shards with small images (`trees`), read by each way in a process of its own (`measure`), and
removed. Ours starts twice, first with an empty cache. webdataset has no index to make, and no
random access; it is left out where it is not installed. What is compared is processor time, as wall
time on a shared machine is that of the others. Nothing is asserted: a line below the table names
each bar that is missed.

    first      no slower to the loader's first batch than the peer
    second     ours again, a few seconds
    worker     no more private memory than the peer's after an epoch over the records

Not for: decoding (`loading`), or a disk that is cold.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import claims
from benchmarks.scale import measure, trees
from resdet.atomic import write_text

SECOND_SECONDS = 10.0
COLUMNS = ("processor", "seconds", "parent_mb", "peak_mb", "worker_mb")
HEAD = ("tree", "images", "way", "processor s", "wall s", "parent MB", "peak MB", "worker MB")


def run_apart(kind: str, way: str, root: Path, cache: Path) -> dict[str, float]:
    """The figures of one way, from a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", "--measure", kind, way]
    environment = {**os.environ, "RESDET_CACHE": str(cache)}
    done = subprocess.run(
        [*command, "--folder", str(root)], check=True, stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def _tree(kind: str, images: int, folder: Path, is_kept: bool) -> Iterator[Path]:
    """The root of a tree, which is removed afterwards or left for another time."""
    make = {measure.COCO: trees.make_coco, measure.SHARDS: trees.make_shards}.get(
        kind, trees.make_class_folders
    )
    if is_kept:
        root = folder / f"{kind}-{images}"
        if not root.exists():
            making = root.with_suffix(".making")
            make(making, images)
            making.rename(root)
        yield root
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix="scale-") as made:
        make(Path(made), images)
        yield Path(made)


def compare(kind: str, images: int, folder: Path, *, is_kept: bool) -> list[dict[str, Any]]:
    """Peer, our first start, our second, on a tree of so many images."""
    with _tree(kind, images, folder, is_kept) as root, tempfile.TemporaryDirectory() as cache:
        ways = (
            (measure.PEERS[kind], measure.PEERS[kind]),
            ("ours, first", measure.OURS),
            ("ours, second", measure.OURS),
        )
        rows = []
        for name, way in ways:
            if way == measure.PEERS[measure.SHARDS] and find_spec(way) is None:
                print(f"{way} is not installed: {kind} has no peer here", flush=True)
                continue
            figures = run_apart(kind, way, root, Path(cache))
            rows.append({"tree": kind, "way": name, **figures})
            print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    numbers = " | ".join(
        f"{row[c]:,.1f}" if c in ("processor", "seconds") else f"{row[c]:,.0f}" for c in COLUMNS
    )
    return f"| {row['tree']} | {row['images']:,} | {row['way']} | {numbers} |"


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each bar that these three rows do not reach."""
    *peers, first, second = rows
    where = f"{first['tree']}, {first['images']:,} images"
    found = []
    # A reader from front to back has no index to make, so that no start is slower than its own.
    for peer in peers if first["tree"] != measure.SHARDS else ():
        found += _missed_beside(peer, first, second, where)
    if second["processor"] > SECOND_SECONDS:
        found.append(f"{where}: the second start takes {second['processor']:.1f} s")
    return found


def _missed_beside(
    peer: dict[str, Any], first: dict[str, Any], second: dict[str, Any], where: str
) -> list[str]:
    found = []
    if first["processor"] > peer["processor"]:
        found.append(
            f"{where}: the first start takes {first['processor']:.1f} s of processor time, "
            f"{peer['way']} {peer['processor']:.1f}"
        )
    if second["worker_mb"] > peer["worker_mb"]:
        found.append(
            f"{where}: a worker has {second['worker_mb']:.0f} MB of its own, {peer['way']} "
            f"{peer['worker_mb']:.0f}"
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="*", metavar="N",
                        default=[10_000, trees.COCO_TRAIN, trees.IMAGENET_TRAIN],
                        help="of class folders")  # fmt: skip
    parser.add_argument("--coco", type=int, nargs="*", metavar="N", default=[trees.COCO_TRAIN])
    parser.add_argument("--shards", type=int, nargs="*", metavar="N", default=[10_000, 128_000],
                        help="in tar shards, rounded up to whole thousands")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="trees are made and removed in it")
    parser.add_argument("--keep", action="store_true", help="leave the trees there, and use those")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--measure", nargs=2, metavar=("TREE", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    folder = args.folder or Path(tempfile.gettempdir())
    if args.measure:
        kind, way = args.measure
        measure.print_measured(kind, way, folder)
        return 0
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    sizes = [
        *((measure.FOLDERS, n) for n in args.images),
        *((measure.COCO, n) for n in args.coco),
        *((measure.SHARDS, -(-n // 1000) * 1000) for n in args.shards),
    ]
    groups = [compare(kind, images, folder, is_kept=args.keep) for kind, images in sizes]
    bars = [line for rows in groups for line in missed(rows)]
    print("\n".join(["", *(f"missed: {line}" for line in bars)] if bars else ["", "no bar missed"]))
    if args.json:
        page = {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": claims.machine(),
            "versions": claims.versions(),
            "rows": [row for rows in groups for row in rows],
            "missed": bars,
        }
        write_text(args.json, json.dumps(page, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
