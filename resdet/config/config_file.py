"""A config file, strictly read: every key with its value, and the file and line of both.

Safe YAML only; a key that stands twice, a base that is missing or in a circle and a tag that
would run code are refused with file and line (`docs/faults.md` F47, F48). Values are read as
Detectron2's yacs does: "(600,)" is a tuple, "1e-4" a number.

Not for: which keys there are and what their values may be (`config`).
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from resdet.errors import ConfigError

# Far above any config; beyond them a file is something else, or made to exhaust a reader.
MOST_BYTES, MOST_VALUES = 1_000_000, 100_000
EVAL_TAG = "tag:yaml.org,2002:python/object/apply:eval"
OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
MOST_POWER, MOST_BASE = 64, 1_000_000
SAFE_TAGS = ("seq", "str", "int", "float", "bool", "null", "map", "python/tuple")


class KeyLine(str):
    """The place of a key in words, "coco_r101.yaml, line 12", with the whole path of its file."""

    path: Path

    @classmethod
    def of(cls, path: Path, number: int) -> KeyLine:
        line = cls(f"{path.name}, line {number}")
        line.path = path
        return line


def read_file(path: Path, chain: tuple[Path, ...] = ()) -> Iterator[tuple[str, Any, KeyLine]]:
    """(dotted key, value, where) of the file's bases, then of the file.

    Args:
        chain: the files whose `_BASE_` led here, resolved.

    Raises:
        ConfigError: a file is missing, not safe YAML or its own base; a key stands twice.
    """
    path = Path(path)
    if path.resolve() in chain:
        names = " > ".join(p.name for p in (*chain, path.resolve()))
        raise ConfigError(f"_BASE_ runs in a circle: {names}.")
    text = _text_of(path, chain)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}, line 1: expected KEY: VALUE lines.")
        if _size_of(root, {}) > MOST_VALUES:
            raise ConfigError(
                f"{path} expands to more than {MOST_VALUES:,} values, by aliases of aliases. Write "
                "out what is meant."
            )
        entries = list(_entries(root, path, ""))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply for a config.") from None
    for key, value, where in entries:
        if key == "_BASE_":
            for base in value if isinstance(value, list | tuple) else [value]:
                if not isinstance(base, str):
                    raise ConfigError(f"{where}: _BASE_ is {base!r}, expected the path of a file.")
                if "://" in str(base):
                    raise ConfigError(
                        f"{path}: _BASE_ is {base}. A config from elsewhere is not fetched: what "
                        "it contains could change from run to run. Save it beside this one."
                    )
                base_path = path.parent / Path(base).expanduser()
                yield from read_file(base_path, (*chain, path.resolve()))
    yield from (entry for entry in entries if entry[0] != "_BASE_")


def _text_of(path: Path, chain: tuple[Path, ...]) -> str:
    if path.suffix == ".py" and path.is_file():
        raise ConfigError(
            f"{path} is Python, which would have to be run (Detectron2's lazy configs). Its YAML "
            "configs and the presets of resdet are read: --config faster_rcnn_R_50_FPN_1x.yaml, "
            "--config coco_r50_fpn."
        )
    try:
        # A pipe or a device would wait for ever, or never end.
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no regular file"
            raise ConfigError(f"{path.absolute()} is {kind}. Give --config a file.")
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise ConfigError(
                f"{path.absolute()} has {path.stat().st_size:,} bytes, a config at most "
                f"{MOST_BYTES:,}. Give --config a YAML file of keys."
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}. Save it as UTF-8.") from None
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ConfigError(f"{path.absolute()} cannot be read: {error.strerror}.") from None
    asked = f" (asked for by {chain[-1]})" if chain else ""
    near = _near(path)
    fix = f"Did you mean {' or '.join(near)}?" if near else "Give --config a file."
    raise ConfigError(f"{path.absolute()} does not exist{asked}. {fix}")


def _near(path: Path) -> list[str]:
    """Files with that name or one like it, beside `path` and in the folders beside it.

    Presets are in folders by recipe: a name without its folder gets a hint.
    """
    files = [*path.parent.glob("*/*.yaml"), *path.parent.glob("*.yaml")]
    places = {file.name: file.relative_to(path.parent).as_posix() for file in files}
    if path.name in places:
        return [places[path.name]]
    return [places[name] for name in difflib.get_close_matches(path.name, places, 3, cutoff=0.75)]


def parse_text(text: str) -> Any:
    """The Python literal that a text is, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _entries(node: yaml.MappingNode, path: Path, prefix: str) -> Iterator[tuple[str, Any, KeyLine]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        where = KeyLine.of(path, line)
        if key in seen:
            raise ConfigError(
                f"{where}: {prefix}{key} stands twice (first in line {seen[key]}). Keep one."
            )
        seen[key] = line
        if value_node.tag == EVAL_TAG:
            yield prefix + key, _arithmetic(value_node, where), where
            continue
        _refuse_unsafe_tag(value_node, where)
        if isinstance(value_node, yaml.MappingNode):
            yield from _entries(value_node, path, f"{prefix}{key}.")
        else:
            yield prefix + key, _value(value_node, where), where


def _refuse_unsafe_tag(node: yaml.Node, where: str) -> None:
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    if tag not in SAFE_TAGS:
        raise ConfigError(
            f"{where}: the tag !!{tag} would run code; refused. Write out the value that it stands "
            "for."
        )


def _arithmetic(node: yaml.Node, where: str) -> Any:
    """The value of an expression of numbers, lists, + - * / ** and one loop over a list of numbers.

    Detectron2's Base-RetinaNet.yaml has its anchors so. Nothing is run: what is not one of these
    is refused, and so is a power beyond 64 or of more than a million.
    """
    texts = node.value if isinstance(node, yaml.SequenceNode) else []
    if len(texts) == 1 and isinstance(texts[0], yaml.ScalarNode):
        try:
            tree = ast.parse(texts[0].value, mode="eval")
            return _computed(tree.body, {})
        except (SyntaxError, ValueError, ArithmeticError, MemoryError, RecursionError):
            pass
    _refuse_unsafe_tag(node, where)
    return None


def _computed(node: ast.expr, names: dict[str, float]) -> Any:
    """Raises ValueError for what is no arithmetic."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items):
            return [_computed(item, names) for item in items]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_number(inner, names)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            first, second = _number(left, names), _number(right, names)
            # A power of a power of whole numbers has soon a billion digits.
            if isinstance(sign, ast.Pow) and not (
                abs(first) <= MOST_BASE and abs(second) <= MOST_POWER
            ):
                raise ValueError("a power of that size")
            return OPERATORS[type(sign)](first, second)
        case ast.ListComp(
            elt=item,
            generators=[
                ast.comprehension(target=ast.Name(id=name), iter=ast.List(elts=over), ifs=[])
            ],
        ) if not names:
            return [_computed(item, {name: _number(value, {})}) for value in over]
    raise ValueError("no arithmetic")


def _number(node: ast.expr, names: dict[str, float]) -> Any:
    value = _computed(node, names)
    if isinstance(value, list | complex):
        raise ValueError("no number")
    return value


def _size_of(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values in a node once its aliases are written out; each node is looked at once."""
    if id(node) not in sizes:
        sizes[id(node)] = 0  # an alias of what it stands in
        parts = node.value if isinstance(node, yaml.SequenceNode | yaml.MappingNode) else []
        inner = [p for part in parts for p in (part if isinstance(part, tuple) else (part,))]
        sizes[id(node)] = 1 + sum(_size_of(part, sizes) for part in inner)
    return sizes[id(node)]


def _value(node: yaml.Node, where: str) -> Any:
    _refuse_unsafe_tag(node, where)
    if isinstance(node, yaml.SequenceNode):
        items = [_value(child, where) for child in node.value]
        return tuple(items) if node.tag.endswith("python/tuple") else items
    value = yaml.SafeLoader("").construct_object(node)
    if not isinstance(value, str):
        return value
    # As yacs does: "(600,)" is a tuple, "1e-4" a number.
    parsed = parse_text(value)
    quoted = node.style in ("'", '"')
    return value if quoted and not isinstance(parsed, tuple | list) else parsed
