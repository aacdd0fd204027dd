"""The folder of a ranking.

    RANKING/
      ranking.json           the plan and the backbones, in the order in which they were named
      data/                  annotations of the sets, where they were cut from the user's
      weights/LABEL.safetensors   random nets
      features/LABEL/        maps of its trunk (ENGINE.TRUNK_CACHE); may be removed at any time
      rows/LABEL/
        cost.json            parameters, multiply-adds, time, memory (`cost`)
        scores.json          LogME (`object_scores`)
        seed_1/, seed_2/     runs of train_det
      full/LABEL/seed_1/     runs of train_det of `rank --finalists`; full/settings.json: of all
      leaderboard.html, .json
      lock.json              while a call of `rank` works on it

Not for: what a row's files hold (their writers).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet.errors import RunError
from resdet.file_names import file_name
from resdet.rank.candidates import RankedBackbone
from resdet.run.folder import read_json, write_json

RANKING = "ranking.json"
COST, SCORES = "cost.json", "scores.json"
FULL = "full"
PAGE, LEADERBOARD = "leaderboard.html", "leaderboard.json"
_SHAPE = {
    "version": int,
    "plan": {
        "data": str, "test": str, "train_set": str, "test_set": str, "images": int,
        "test_images": int, "size": int, "steps": int, "batch": int, "seeds": int, "recipe": str,
        "keys": [str], "budget": (int, float), "classes": [str],
    },
    "backbones": [{"label": str, "source": str, "random": object}],
    "typed": {...: object}, "planned": object, "seconds": (int, float),
}  # fmt: skip
VERSION = 1
# Of the files of a row, what is read of them here.
_ROW_SHAPES = {
    COST: {
        "trunk_seconds": (int, float), "step_seconds": (int, float), "ms": (int, float),
        "memory_mb": (int, float), "map_bytes": int, "parameters": int, "threads": int,
        "license": str, "sha256": str, "image_size?": int,
    },
    SCORES: {"logme": (int, float), "total_logme": (int, float), "objects": int},
}  # fmt: skip


@dataclass(frozen=True)
class RankPlan:
    """What every row of a ranking has in common.

    Attributes:
        data, test: as the user named them; "" where a part of `data` is held out.
        train_set, test_set: names that DATASETS takes.
        images, test_images: in these.
        size: longest side and padded square of every image, in pixels.
        steps, batch: of the heads' training. seeds: trainings of each backbone, 1, 2, ….
        keys: further KEY VALUE words of the user.
        budget: in seconds; 0 where none was given.
        classes: of the data, in their order.
    """

    data: str
    test: str
    train_set: str
    test_set: str
    images: int
    test_images: int
    size: int
    steps: int
    batch: int
    seeds: int
    recipe: str = "frozen"
    keys: tuple[str, ...] = ()
    budget: float = 0.0
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """A ranking's folder, plan and backbones.

    Attributes:
        typed: the words that made it.
        is_planned: steps, images and sets are fixed; before that nothing is trained.
        seconds: that its rows took so far, in all calls that ended well.
        full: LABEL=RUN of full trainings that were named, with absolute paths.
    """

    path: Path
    plan: RankPlan
    candidates: tuple[RankedBackbone, ...]
    typed: Mapping[str, Any] = field(default_factory=dict)
    is_planned: bool = False
    seconds: float = 0.0
    full: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Ranking:
        """Raises RunError where there is none, or it is damaged."""
        if not (path / RANKING).exists():
            raise RunError(
                f"{path} is no folder of a ranking: it has no {RANKING}. Start one: resdet rank "
                "--backbones A B … --data SET --output DIR."
            )
        found = read_json(path / RANKING, _SHAPE)
        if found["version"] != VERSION:
            raise RunError(
                f"{path / RANKING} has version {found['version']}, and this release reads "
                f"{VERSION}. Go on with the one that wrote it, or start another ranking."
            )
        named = {f.name: found["plan"][f.name] for f in dataclasses.fields(RankPlan)}
        lists = {name: tuple(named[name]) for name in ("keys", "classes")}
        plan = RankPlan(**{**named, **lists})
        rows = [RankedBackbone(r["label"], r["source"], r["random"]) for r in found["backbones"]]
        return cls(
            path, plan, tuple(rows), found["typed"], bool(found["planned"]), found["seconds"],
            tuple(map(str, found.get("full") or ())),
        )  # fmt: skip

    def write(self) -> None:
        plan = dataclasses.asdict(self.plan)
        rows = [candidate.to_json() for candidate in self.candidates]
        text = {"version": VERSION, "plan": plan, "backbones": rows, "typed": dict(self.typed)}
        more = {"planned": self.is_planned, "seconds": round(self.seconds, 1), "full": self.full}
        write_json(self.path / RANKING, {**text, **more})

    def candidate(self, label: str) -> RankedBackbone:
        """The backbone of this label; raises RunError."""
        for candidate in self.candidates:
            if candidate.label == label:
                return candidate
        raise RunError(f"{self.path} ranks no backbone called {label}.")

    def row(self, candidate: RankedBackbone) -> Path:
        return self.path / "rows" / file_name(candidate.label)

    def run(self, candidate: RankedBackbone, seed: int) -> Path:
        return self.row(candidate) / f"seed_{seed}"

    def full_run(self, candidate: RankedBackbone, seed: int) -> Path:
        return self.path / FULL / file_name(candidate.label) / f"seed_{seed}"

    def features(self, candidate: RankedBackbone) -> Path:
        return self.path / "features" / file_name(candidate.label)

    def weights(self, candidate: RankedBackbone) -> str:
        """What MODEL.WEIGHTS takes."""
        made = self.path / "weights" / f"{file_name(candidate.label)}.safetensors"
        return candidate.weights(made)

    def read_row(self, candidate: RankedBackbone, name: str) -> dict[str, Any]:
        """`COST` or `SCORES` of a row; {} where it is not there yet. Raises RunError."""
        path = self.row(candidate) / name
        if not path.exists():
            return {}
        try:
            return dict(read_json(path, _ROW_SHAPES[name]))
        except RunError as error:
            raise RunError(f"{error} Or remove it: rank makes it again.") from None
