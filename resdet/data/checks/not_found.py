"""The page for a set that is not there: what was expected where, what was found, what to type.

One page for all sets of a command, before anything is loaded (`docs/faults.md` F3). Nothing is ever
guessed: a near match is named, and the user sets the variable.

Not for: sets that are there and broken (`faults`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from resdet.data.names import (
    COCO,
    ILSVRC,
    ILSVRC_FOLDER,
    IMAGENET,
    VARIABLE,
    VOC,
    needs,
    split_ilsvrc,
    split_path_name,
)
from resdet.errors import DataError
from resdet.formats.voc_list import to_make_layout

FETCH = {
    "VOC2007": "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar (0.9 GB) from\n"
    "    http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
    "VOC2012": "VOCtrainval_11-May-2012.tar (2 GB) from\n"
    "    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/\n"
    "    and, for its test images, the evaluation server there (after registration)",
    "coco2014": "train2014.zip, val2014.zip (19 GB), annotations_trainval2014.zip from\n"
    "    https://cocodataset.org/#download; instances_{minival,valminusminival}2014.json from\n"
    "    https://dl.fbaipublicfiles.com/detectron/coco/coco_annotations_minival.tgz",
    "coco2017": "train2017.zip, val2017.zip (19 GB), annotations_trainval2017.zip and, for test,\n"
    "    test2017.zip (6 GB), image_info_test2017.zip from https://cocodataset.org/#download",
    "imagenet": "ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar (6 GB) from\n"
    "    https://image-net.org/download after signing in; they may not be redistributed",
    "ILSVRC": "ILSVRC2015's DET and CLS-LOC archives and its development kit from\n"
    "    https://image-net.org/download after signing in; they may not be redistributed;\n"
    "    then: python datasets/prepare_ilsvrc.py ROOT, which lists what is missing",
    "cifar": "the binary version (160 MB) from https://www.cs.toronto.edu/~kriz/cifar.html",
}


def page(missing: dict[str, list[Path]], base: Path, origin: str) -> str:
    """The whole page.

    Args:
        missing: by set, the paths that are not there, in the order of need.
        base: the root of sets with a fixed name, absolute.
        origin: where the root comes from.
    """
    lines = _first_lines(missing)
    named = [n for n in missing if split_path_name(n) is None and split_ilsvrc(n) is None]
    if not named:
        lines += _layouts(missing)
        return "\n".join([*lines, "", "The paths are those of the name. Nothing was started."])
    lines += ["", f"  root      {base}", f"            ({origin})", f"  found     {found_in(base)}"]
    trees = list(dict.fromkeys(tree for name in named for tree in _tree(name, base)))
    lines += [f"  {'expected' if i == 0 else '':<9} {tree}" for i, tree in enumerate(trees)]
    near = near_match(named, base)
    if near is not None:
        lines += ["", _near_line(near, base), f"  export {VARIABLE}={shlex.quote(str(near))}"]
    else:
        lines += ["", "Set where it lies, if it is somewhere else:"]
        lines += [f"  export {VARIABLE}=/path/to/the/folder/that/holds/{_tops(named)}"]
        lines += ["Get it:"]
        keys = dict.fromkeys(_source(name) for name in named)
        lines += [f"  {key}: {FETCH[key]}" for key in keys]
    lines += ["", "All trees, and your own data: datasets/README.md. Nothing was started."]
    return "\n".join(lines)


def _layouts(missing: dict[str, list[Path]]) -> list[str]:
    """What makes VOC's layout of the folders of voc:ROOT:SPLIT, where they hold XML files."""
    lines = []
    for parts in map(split_path_name, missing):
        if parts is not None and parts[0] == "voc":
            lines += [to_make_layout(parts[1], parts[2]).strip()]
    return [line for line in lines if line]


def _first_lines(missing: dict[str, list[Path]]) -> list[str]:
    """Which sets lack what: the outermost folder that is not there, sets with the same together."""
    by_path: dict[Path, list[str]] = {}
    for name, paths in missing.items():
        outermost = paths[0]
        while not outermost.parent.exists():
            outermost = outermost.parent
        by_path.setdefault(outermost, []).append(name)
    return [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not there: {path} does not exist."
        for path, names in by_path.items()
    ]


def found_in(base: Path) -> str:
    """What the root holds, in a few words."""
    try:
        entries = sorted(e.name + "/" * e.is_dir() for e in os.scandir(base))
    except FileNotFoundError:
        return "no such folder"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    shown = [e for e in entries if not e.startswith(".")]
    more = f", and {len(shown) - 8} more" if len(shown) > 8 else ""
    return (", ".join(shown[:8]) + more) or "nothing"


def _tree(name: str, base: Path) -> list[str]:
    """The lines of the tree that `name` needs, each marked where it is not there."""
    paths = needs(name, base)
    top = _tops([name])
    lines = [f"{top}/"]
    for path in paths:
        relative = path.relative_to(base).as_posix()
        relative = relative.removeprefix("VOCdevkit/").removeprefix(f"{top}/")
        inside = "" if "." in path.name else f"/{_example(name, path)}"
        mark = "" if path.exists() else "<- missing"
        lines.append(f"  {relative + inside:<50} {mark}".rstrip())
    return lines


def _example(name: str, path: Path) -> str:
    if name in VOC:
        return "000005.xml, …" if path.name == "Annotations" else "000005.jpg, …"
    if name in ILSVRC:
        return "*.xml" if "Annotations" in path.parts else "*"
    return "<wnid>/*.JPEG" if name in IMAGENET else "*.jpg"


def _tops(names: Sequence[str]) -> str:
    """The folder that the root must hold."""
    name = names[0]
    if name in VOC:
        return f"VOC{VOC[name].year}"
    if name in COCO:
        return "coco"
    if name in ILSVRC:
        return ILSVRC_FOLDER
    return "imagenet" if name in IMAGENET else "cifar"


def _source(name: str) -> str:
    if name in VOC:
        return f"VOC{VOC[name].year}"
    if name in COCO:
        return "coco2014" if "_2014_" in name else "coco2017"
    if name in ILSVRC:
        return ILSVRC_FOLDER
    return "imagenet" if name in IMAGENET else "cifar"


def near_match(names: Sequence[str], base: Path) -> Path | None:
    """A folder one level up or down under which every missing set would be whole."""
    try:
        below = sorted(p for p in base.iterdir() if p.is_dir())
    except OSError:
        below = []
    for candidate in (base.parent, *below):
        try:
            if all(path.exists() for name in names for path in needs(name, candidate)):
                return candidate
        except (OSError, DataError):
            continue
    return None


def _near_line(near: Path, base: Path) -> str:
    if near == base.parent:
        return f"It seems to be one level higher, in {near}. Set:"
    return f"It seems to be one level deeper, in {near.name}/. Set:"
