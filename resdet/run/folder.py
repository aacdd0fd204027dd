"""The run folder: its owner, how it is written and read; `layout` has the names inside.

A report needs nothing but such folders. Every file is written to a temporary name and renamed, so
a reader never sees half a file.

Not for: what the numbers mean (`evaluation`), or how a training goes on (`engine`).
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import json
import os
import re
import socket
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from resdet import bounded_files

# For code that writes into a run folder.
from resdet.atomic import atomic_path as atomic_path
from resdet.atomic import write_text as write_text
from resdet.errors import RunError, TrainingStopped
from resdet.printable import json_text
from resdet.run import layout, shapes
from resdet.run.lock import held

# "results": of another tool, of which nothing but its results is known.
KINDS = ("classification", "detection", "localization", "results")
STATES = ("created", "training", "interrupted", "stopped", "finished")
# In bytes, as file systems count; a quoted name is ASCII.
LONGEST_FOLDER_NAME = 255
# Entries of run.json about the training, whatever its detector is scored with.
OF_TRAINING = ("seed", "samples", "steps", "ended_by", "train_sets", "train_seconds", "max_iter",
               "leak", "net", "weights_source")  # fmt: skip
# What a run writes before it has a checkpoint or a result.
STARTED_WITH = (layout.CONFIG, layout.CARD, layout.TRANSFER, layout.LEFT_OUT, layout.LOG,
                layout.METRICS, layout.PROFILE, layout.PROFILE_PICTURE)  # fmt: skip


def write_json(path: Path | str, value: Any, *, indent: int | None = 1) -> None:
    """JSON as the standard has it: NaN and Infinity are refused (`docs/faults.md` F80)."""
    raw = _json_text(value, indent).encode()
    with atomic_path(path) as temporary:
        if str(path).endswith(".gz"):
            # mtime 0: the same content gives the same bytes.
            with open(temporary, "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as f:
                f.write(raw)
        else:
            temporary.write_bytes(raw)


def _json_text(value: Any, indent: int | None = 1) -> str:
    return json_text(value, indent=indent) + "\n"


def read_json(path: Path | str, shape: shapes.Shape = object) -> Any:
    """The value in a .json or .json.gz file.

    Args:
        shape: what it must hold (`resdet.run.shapes`).

    Raises:
        RunError: there is no such file, it cannot be read, or it does not hold JSON of that shape;
            states where it breaks.
    """
    path = Path(path)
    try:
        raw = bounded_files.read_bytes(path)
        value = json.loads(bounded_files.unpacked(raw) if path.suffix == ".gz" else raw)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist.") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise RunError(f"{path} is not readable as JSON: {error}.") from None
    except RecursionError:
        raise RunError(f"{path} is not readable as JSON: it is nested too deeply.") from None
    if wrong := shapes.misfit(value, shape):
        raise RunError(
            f"{path} is damaged: {wrong}. Bring back a copy of it, or make the run or its results "
            "again."
        )
    return value


def utc_now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class Run:
    """A run folder. `create` makes one, `open` reads one; both refuse what is not theirs.

    Attributes:
        info: run.json.
        writes: whether this process writes into it; of several that train, the main one alone.
    """

    def __init__(self, path: Path, info: dict[str, Any]):
        self.path = path
        self.info = info
        self.writes = True

    # -- making and opening ---------------------------------------------------------------

    @classmethod
    def create(
        cls, path: Path | str, *, kind: str, config_text: str, command: list[str], seed: int
    ) -> Run:
        """A new run folder. A run without a checkpoint or a result is replaced.

        Raises:
            RunError: the folder already holds a run (F46) or parts of one, or cannot be written.
        """
        path = Path(path)
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, expected one of {KINDS}")
        if (path / layout.RUN).exists():
            old = cls.open(path)
            if not old.is_empty():
                raise RunError(
                    f"{path} holds a {old.state} {old.kind} run of {old.info['created']}. "
                    "Choose another --output, go on with --resume, or move it away."
                )
            with old.lock():
                old.discard()
        elif not cls(path, {}).is_empty():
            # Its checkpoints would be older or newer than those of a new run, and be mixed in.
            raise RunError(
                f"{path} holds checkpoints, weights or results, and no {layout.RUN}. Bring it "
                "back, choose another --output, or move the folder away."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / layout.CONFIG, config_text)
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror}. Choose another --output."
            ) from None
        info = {
            "id": uuid.uuid4().hex,
            "kind": kind,
            "state": "created",
            "created": utc_now(),
            "command": command,
            "seed": seed,
            "host": socket.gethostname(),
        }
        run = cls(path, info)
        run._save()
        return run

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """The run in this folder.

        Raises:
            RunError: there is none; states what is there instead.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"{path} is not a folder. Give a run folder, such as runs/voc07_r101.")
        if not (path / layout.RUN).exists():
            inside = sorted(p.name for p in path.iterdir())[:5]
            raise RunError(
                f"{path} is not a run folder: it has no {layout.RUN} (it holds "
                f"{', '.join(inside) or 'nothing'}). Give a folder that train_det wrote."
            )
        info = read_json(path / layout.RUN, shapes.INFO)
        for key, known in (("kind", KINDS), ("state", STATES)):
            if info[key] not in known:
                raise RunError(
                    f"{path / layout.RUN} is damaged: {key} is {info[key]!r}, expected one of "
                    f"{', '.join(known)}. Bring back a copy of it, or make the run again."
                )
        try:
            _json_text(info).encode()
        except ValueError as error:  # NaN, or half a character, in what has no shape
            raise RunError(
                f"{path / layout.RUN} is damaged: {error}. Bring back a copy of it, or make the "
                "run again."
            ) from None
        return cls(path, info)

    @property
    def kind(self) -> str:
        return str(self.info["kind"])

    @property
    def state(self) -> str:
        return str(self.info["state"])

    def update(self, **values: Any) -> None:
        """Changes entries of run.json; `state` must be one of `STATES`."""
        if "state" in values and values["state"] not in STATES:
            raise ValueError(f"state is {values['state']!r}, expected one of {STATES}")
        self.require()
        self.info.update(values)
        self._save()

    def require(self) -> None:
        """Raises TrainingStopped where the folder was removed or moved since it was opened."""
        if not (self.path / layout.RUN).exists():
            raise TrainingStopped(
                f"{self.path} is gone: its {layout.RUN} was removed or moved while it was in use. "
                "What was moved can be resumed there; else start again."
            )

    def _save(self) -> None:
        if self.writes:
            write_json(self.path / layout.RUN, self.info)

    def is_empty(self) -> bool:
        """Nothing of it can be used again: no checkpoint, no weights, no result."""
        best = (layout.BEST_CLASSIFIER, layout.BEST_DETECTOR)
        made = (layout.CLASSIFIER, layout.DETECTOR, layout.RESULTS, layout.RPN, *best)
        steps = (self.path / layout.ALTERNATING).glob(f"*/{layout.RUN}")
        return (
            not any(self.checkpoints.glob("*.pth"))
            and not any((self.path / name).exists() for name in made)
            and all(Run.open(step.parent).is_empty() for step in steps)
        )

    def discard(self) -> None:
        """Removes what an empty run wrote, and its folder if nothing else is in it."""
        for name in (*STARTED_WITH, layout.RUN):
            (self.path / name).unlink(missing_ok=True)
        for events in self.path.glob(layout.EVENTS):
            events.unlink()
        with contextlib.suppress(OSError):
            self.checkpoints.rmdir()
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def lock(self, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
        """Holds the folder for this process (`resdet.run.lock.held`)."""
        return held(self.path / layout.LOCK, utc_now(), wait=wait)

    def refuse_weights_of_another(self, path: Path | str, written_by: Any) -> None:
        """Raises RunError where the weights in this folder were written by another run.

        Args:
            written_by: the id in the file; None for files of before it had one.
        """
        if written_by not in (None, self.info["id"]):
            raise RunError(
                f"{path} was written by another run (id {written_by}, this one is "
                f"{self.info['id']}). Bring back its own, or score this one into a folder of its "
                f"own: MODEL.WEIGHTS {path} with another --output."
            )

    def note_scored_file(
        self, path: Path | str, part: str = "", source: Mapping[str, str] | None = None
    ) -> None:
        """Notes the file of another run whose results the folder has.

        A path that is relative to the working folder is kept relative to the run's, so that the
        two are found from every folder and move together; an absolute one stays as it is.

        Args:
            part: of a file that holds several nets (MODEL.WEIGHTS_PART); "" for the whole.
            source: where a file came from that was given by its address.
        """
        path = Path(path)
        if path == self.scored_file:
            return
        self.info.pop("scored_source", None)
        noted = {"scored_source": dict(source)} if source else {}
        self.update(scored_file=self.noted_path(path), scored_part=part, **noted)

    def note_weights_source(self, source: Mapping[str, str]) -> None:
        """Notes where the weights came from that a training begins with, given by an address.

        A run that goes on keeps what it began with: the address may have another file by now.
        """
        if source and "weights_source" not in self.info:
            self.update(weights_source=dict(source))

    @property
    def scored_file(self) -> Path | None:
        """What `note_scored_file` noted, from the working folder; None for a run's own model."""
        noted = self.info.get("scored_file")
        return None if noted is None else self.path_from_here(noted)

    def noted_path(self, path: Path | str) -> str:
        """As run.json has it: from the run's folder, unless it is absolute."""
        path = Path(path)
        if path.is_absolute():
            return str(path)
        return os.path.relpath(path.resolve(), self.path.resolve())

    def path_from_here(self, noted: str) -> Path:
        """What `noted_path` gave, from the working folder."""
        if Path(noted).is_absolute():
            return Path(noted)
        path, here = Path(os.path.normpath(self.path.resolve() / noted)), Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path

    def further_detectors(self, stated: Sequence[str]) -> tuple[str, ...]:
        """The run's TEST.ENSEMBLE, from the working folder, as its results were made.

        Args:
            stated: as config.yaml has it, which is as it was typed, in whichever folder; it stays
                where nothing else is known.
        """
        noted = [one["file"] for one in self.info.get("ensemble") or [] if "file" in one]
        here = tuple(str(self.path_from_here(path)) for path in noted)
        is_same = [*map(os.path.realpath, stated)] == [*map(os.path.realpath, here)]
        return tuple(stated) if is_same or len(here) != len(stated) else here

    def facts_of_training(self) -> dict[str, Any]:
        """What run.json has of the training, for a folder with other results of its detector."""
        return {key: self.info[key] for key in OF_TRAINING if key in self.info}

    def take_facts_of_training(self, source: Run) -> None:
        """Those of another folder with the same detector, in the place of its own."""
        for key in OF_TRAINING:
            self.info.pop(key, None)
        self.update(**source.facts_of_training())

    # -- what is inside -------------------------------------------------------------------

    @property
    def config_text(self) -> str:
        """Raises RunError where config.yaml is missing or no text."""
        path = self.path / layout.CONFIG
        try:
            return bounded_files.read_text(path)
        except FileNotFoundError:
            raise RunError(f"{path} does not exist. The run folder is not complete.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is not plain YAML: {error}.") from None

    @property
    def checkpoints(self) -> Path:
        return self.path / layout.CHECKPOINTS

    def read(self, name: str, default: Any = None) -> Any:
        """What is in a JSON file of the folder (of `layout`), or `default` without that file."""
        path = self._json_file(name)
        return read_json(path, shapes.FILES.get(name, object)) if path.exists() else default

    def write(self, name: str, value: Any) -> None:
        path = self._json_file(name)
        if self.writes:
            write_json(path, value)

    def _json_file(self, name: str) -> Path:
        # Another name would read as a file that is not there.
        if not name.endswith(".json"):
            raise ValueError(f"name is {name!r}, expected a JSON file of layout, as 'card.json'")
        return self.path / name

    def write_profile(self, numbers: dict[str, Any], picture: str) -> None:
        """What `resdet.profile` measured, and its SVG."""
        self.write(layout.PROFILE, numbers)
        write_text(self.path / layout.PROFILE_PICTURE, picture)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.json in order; an unfinished last line is left out (F39)."""
        path = self.path / layout.METRICS
        if not path.exists():
            return []
        rows: list[dict[str, Any]] = []
        try:
            lines = bounded_files.read_bytes(path).splitlines()
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}.") from None
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                wrong = shapes.misfit(row, shapes.METRIC_LINE, finite=False)
            except (ValueError, RecursionError):
                wrong = "it is not JSON"
            if not wrong:
                rows.append(row)
            elif number < len(lines):
                raise RunError(f"{path}, line {number} is damaged: {wrong}. Fix or remove it.")
        return rows

    def detected_sets(self) -> list[str]:
        """Names of the data sets that this run has detected on, with or without annotations.

        None of an RPN alone, which detects nothing.
        """
        folder = self.path / layout.RESULTS
        if not folder.is_dir():
            return []
        sets = (p for p in folder.iterdir() if (p / layout.IMAGES).exists())
        return sorted(_set_in(p) for p in sets if not (p / layout.PROPOSALS).exists())

    def result_sets(self) -> list[str]:
        """Names of the data sets that this run was evaluated on: those with annotations."""
        names = self.detected_sets()
        return [n for n in names if not (self.results(n) / layout.IMAGE_INFO).exists()]

    def results(self, data_set: str) -> Path:
        """results/<data set>; the folder need not exist yet."""
        return self.path / layout.RESULTS / _folder_name(data_set)

    def parts(self, data_set: str) -> Path:
        """Where finished images are kept while a set is detected on."""
        return self.results(data_set) / layout.PARTS

    def localization(self, data_set: str) -> Path:
        """localization/<data set>, of `train_loc`; the folder need not exist yet."""
        return self.path / layout.LOCALIZATION / _folder_name(data_set)

    def submissions(self, server: str) -> Path:
        """Where packages for a server go; the folder need not exist yet."""
        return self.path / layout.SUBMISSIONS / server


def _folder_name(data_set: str) -> str:
    """A folder name for any name of a set, another one for each.

    One that no file system takes becomes its beginning, its end and a hash, joined by "+", which a
    quoted name never holds.
    """
    # A path that is no text has its bytes as half pairs of UTF-16.
    name = quote(data_set, safe=" ", errors="surrogateescape")
    if not name.strip("."):  # the folder itself, or the one above
        name = name.replace(".", "%2E")
    if len(name) <= LONGEST_FOLDER_NAME:
        return name
    readable = re.sub(r"(%[0-9A-F]{2})+", "_", name)
    digest = hashlib.sha256(data_set.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{readable[:40]}+{readable[-60:]}+{digest[:16]}"


def _set_in(folder: Path) -> str:
    """The name of the set whose results lie in this folder.

    Raises:
        RunError: the folder's name was cut, and its images.json does not have the whole one.
    """
    if "+" not in folder.name:
        return unquote(folder.name, errors="surrogateescape")
    images = read_json(folder / layout.IMAGES)
    name = images.get("data_set") if isinstance(images, dict) else None
    if not isinstance(name, str) or _folder_name(name) != folder.name:
        raise RunError(
            f"{folder / layout.IMAGES} has data_set {name!r}, which is not the set of this "
            "folder. Move the folder away, and detect again: train_det --eval-only."
        )
    return name
