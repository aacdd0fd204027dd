"""The further detectors of TEST.ENSEMBLE, each with what its own run has.

Not for: averaging (`ensemble`), or building one detector (`resdet.detect.from_run`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.detect.from_run import BuiltDetector, built_detector
from resdet.errors import ConfigError
from resdet.run.folder import Run

# A member is asked for regions alone; what its own run is tested with has no part in that.
PLAIN = ("TEST.BOX_REFINEMENT", "off", "TEST.SCALES", "()", "TEST.SCALES_MAX_SIZE", "0",
         "TEST.ENSEMBLE", "()")  # fmt: skip


def members_of(cfg: Any) -> list[BuiltDetector]:
    """Those of a config, on its device.

    Raises:
        RunError, ConfigError, WeightsError: one cannot be built (`built_detector`).
    """
    return [member(path, cfg.MODEL.DEVICE) for path in cfg.TEST.ENSEMBLE]


def member(path: Path | str, device: str) -> BuiltDetector:
    """The detector of a run folder, or of a file in one, without its run's improvements."""
    return built_detector(path, ["MODEL.DEVICE", device, *PLAIN])


def orders_of_classes(
    members: Sequence[BuiltDetector], classes: Sequence[str]
) -> list[tuple[int, ...]]:
    """For the detector that is tested and each member; raises as `order_of_classes`."""
    own = tuple(range(len(classes)))
    return [own, *(order_of_classes(member, classes) for member in members)]


def order_of_classes(built: BuiltDetector, classes: Sequence[str]) -> tuple[int, ...]:
    """For each of the classes its place among the member's.

    Raises:
        ConfigError: the member was trained for others; names some.
    """
    if set(built.classes) != set(classes):
        odd = sorted({*built.classes} ^ {*classes})
        raise ConfigError(
            f"{built.file} was trained for {len(built.classes)} classes, the detector that is "
            f"tested for {len(classes)}; not in both: {', '.join(odd[:6])}"
            f"{', …' if len(odd) > 6 else ''}. An ensemble classifies into one list of classes."
        )
    return tuple(built.classes.index(name) for name in classes)


def record_of_ensemble(
    run: Run, cfg: Any, members: Sequence[BuiltDetector], weights: Sequence[str]
) -> list[dict[str, Any]]:
    """For run.json: of which detectors its results are, the one that is tested first.

    Each further one has its path as `Run.noted_path`, by which it is found from every folder.

    Args:
        weights: digests of all of them.
    """
    runs = [(run, cfg), *((built.run, built.cfg) for built in members)]
    files = [{}, *({"file": run.noted_path(path)} for path in cfg.TEST.ENSEMBLE)]
    return [
        {"run": of and of.info["id"], "net": config.MODEL.NET.NAME, "weights": digest, **file}
        for (of, config), digest, file in zip(runs, weights, files, strict=True)
    ]
