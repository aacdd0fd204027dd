"""Paints a share of the set: as a function, or as a process (`python -m …worker`).

A process of its own, not a fork: the caller may have torch and its threads loaded. The shares of
n workers are every n-th picture; what comes out does not depend on n.

Not for: the folder as a whole (`build`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from resdet.data.digits.painting.draws import Draws
from resdet.data.digits.painting.glyphs import digit_glyphs, stroke_glyphs
from resdet.data.digits.painting.painter import paint_crop, paint_scene
from resdet.data.digits.painting.picture import Material
from resdet.data.digits.sources import Sources, read
from resdet.data.digits.splits import SPLITS, digit_indices, photo_regions
from resdet.data.digits.writer import Facts, scene_facts, write_crop, write_scene
from resdet.errors import DataError

SEED = 1
KINDS = ("crops", "scenes")
REPORT_EVERY = 100
Sizes = Mapping[str, int]


@dataclass
class Share:
    """What was painted: by unit ("crops_train", …) and index the digest, by path the hash."""

    digests: dict[str, dict[int, str]] = field(default_factory=dict)
    scenes: dict[str, dict[int, Facts]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)


class Studio:
    """The material of all splits, ready to paint any picture of the set."""

    def __init__(self, sources: Sources | None = None):
        sources = sources or read()
        digits = digit_glyphs(sources.digits, sources.labels)
        strokes = stroke_glyphs()
        self.differing = sources.differing
        self.material = {
            split: Material(
                [digits[i] for i in digit_indices(split)], strokes, photo_regions(split, sources)
            )
            for split in SPLITS
        }

    def crop(self, split: str, index: int) -> tuple[np.ndarray, int]:
        return paint_crop(_draws("crops", split, index), self.material[split])

    def scene(self, split: str, index: int, image_id: str) -> tuple[np.ndarray, Facts]:
        scene = paint_scene(_draws("scenes", split, index), self.material[split])
        return scene.image, scene_facts(scene, image_id)


def _draws(kind: str, split: str, index: int) -> Draws:
    return Draws(SEED, KINDS.index(kind), SPLITS.index(split), index)


def image_id(split: str, index: int, sizes: Sizes) -> str:
    """Six digits; val goes on where train ends, test where val ends."""
    before = sum(sizes[f"scenes_{s}"] for s in SPLITS[: SPLITS.index(split)])
    return f"{before + index + 1:06d}"


def digest(image: np.ndarray, facts: object) -> str:
    """SHA-256 of the pixels before encoding and of their annotation."""
    text = json.dumps([image.shape, facts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + image.tobytes()).hexdigest()


def paint_share(
    root: Path, sizes: Sizes, *, number: int, of: int, on_painted: Callable[[int], None]
) -> Share:
    """Paints and writes every `of`-th picture from the `number`-th on; folders must exist."""
    studio = Studio()
    share = Share(differing=list(studio.differing))
    painted = 0
    for kind, split, index in _plan(sizes, number, of):
        unit = f"{kind}_{split}"
        if kind == "crops":
            image, label = studio.crop(split, index)
            written: tuple[Path, ...] = (write_crop(root, split, index, image, label),)
            facts: object = label
        else:
            image, facts = studio.scene(split, index, image_id(split, index, sizes))
            written = write_scene(root, image, facts)
            share.scenes.setdefault(split, {})[index] = facts
        share.digests.setdefault(unit, {})[index] = digest(image, facts)
        for path in written:
            name = path.relative_to(root).as_posix()
            share.files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        painted += 1
        if painted % REPORT_EVERY == 0:
            on_painted(REPORT_EVERY)
    on_painted(painted % REPORT_EVERY)
    return share


def _plan(sizes: Sizes, number: int, of: int) -> Iterator[tuple[str, str, int]]:
    pictures = (
        (kind, split, i)
        for kind in reversed(KINDS)
        for split in SPLITS
        for i in range(sizes[f"{kind}_{split}"])
    )
    return (picture for i, picture in enumerate(pictures) if i % of == number)


def main(arguments: list[str]) -> int:
    """Arguments: root, number, of, sizes as JSON. Writes share_<number>.json into the root.

    Reports how many more pictures are painted as lines on standard output. Returns 2, with one
    sentence on standard error, for what the user can fix.
    """
    root, number, of = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    sizes = json.loads(arguments[3])
    try:
        share = paint_share(root, sizes, number=number, of=of, on_painted=_report)
        text = json.dumps(asdict(share))
        (root / f"share_{number}.json").write_text(text, encoding="utf-8")
    except (DataError, OSError) as error:
        sys.stderr.write(str(error))
        return 2
    return 0


def _report(count: int) -> None:
    sys.stdout.write(f"{count}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
