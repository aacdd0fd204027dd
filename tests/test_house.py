"""How the modules of resdet lie in their folders and import each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import resdet

ROOT = Path(resdet.__file__).parent
MAX_MODULES = 12


def module_files() -> dict[str, Path]:
    """Module name to file, packages by their own name."""
    made = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        made[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return made


def imports_when_loaded(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Import statements outside of functions; those under TYPE_CHECKING count as well."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found += imports_when_loaded(node)
    return found


def import_graph(files: dict[str, Path]) -> dict[str, set[str]]:
    """Module to the modules of resdet that it names; `from package import module` is the module."""
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        targets: set[str] = set()
        for node in imports_when_loaded(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets.update(alias.name for alias in node.names)
                continue
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                targets.add(inner if inner in files else str(node.module))
        graph[name] = (targets & files.keys()) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (strongly connected, more than one)."""
    reach = {name: reachable(graph, name) for name in graph}
    groups = {frozenset(o for o in reach[n] if n in reach[o]) | {n} for n in graph if n in reach[n]}
    return sorted(sorted(group) for group in groups)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


def test_no_folder_has_more_modules_than_a_reader_can_survey() -> None:
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert len(folders) > 20
    counts = {
        str(folder.relative_to(ROOT)): len(
            [p for p in folder.glob("*.py") if p.stem not in ("__init__", "__main__")]
        )
        for folder in folders
    }
    assert {name for name, count in counts.items() if count > MAX_MODULES} == set()


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = import_graph(module_files())
    assert len(graph) > 200
    # The top gives public names of the parts to type checkers, and its version to all: both by
    # design, and its imports of parts happen at first use (tests/test_public.py).
    graph["resdet"] = set()
    assert circles(graph) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    """By hand: a and b import each other, b under TYPE_CHECKING; c stands outside, and its
    import within a function does not count."""
    texts = {
        "a": "from resdet import b",
        "b": "if TYPE_CHECKING:\n    import a",
        "c": "import a\ndef f():\n    import c",
    }
    files = {name: tmp_path / f"{name}.py" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text.replace("from resdet import b", "import b"), encoding="utf-8")
    assert circles(import_graph(files)) == [["a", "b"]]


def test_no_two_classes_share_a_name() -> None:
    """Within a file or across files, private ones too: a traceback's name is then one place."""
    places: dict[str, list[str]] = {}
    for name, path in module_files().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{name}:{node.lineno}")
    assert len(places) > 250
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_module_gives_a_constant_two_values() -> None:
    """The second would count for those who meant the first: a file's name, once, in two rooms."""
    twice = {}
    for name, path in module_files().items():
        stated: list[str] = []
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            stated += [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        if again := {constant for constant in stated if stated.count(constant) > 1}:
            twice[name] = again
    assert twice == {}


def test_what_a_docstring_sends_to_is_there() -> None:
    """ "Not for: X (`name`)": the name is a module, a folder, or defined in the file."""
    modules = {path.stem for path in ROOT.rglob("*.py")}
    modules |= {path.name for path in ROOT.rglob("*") if path.is_dir()}
    checked, lost = 0, []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        own = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        own |= {n.id for n in nodes if isinstance(n, ast.Name)}
        text = ast.get_docstring(tree) or ""
        for paragraph in re.findall(r"Not for:.*?(?:\n\n|$)", text, re.DOTALL):
            for name in re.findall(r"`([a-z_0-9.]+)`", paragraph):
                checked += 1
                if not set(name.split(".")) & (modules | own):
                    lost.append(f"{path.relative_to(ROOT)}: {name}")
    assert checked > 150
    assert lost == []


# Files that are opened without `bounded_files`, and why none of them is a pipe or endless.
OPENED_ELSEWHERE = {
    "atomic.py": "what it has just written",
    "bounded_files.py": "it is the place",
    "cli/compare/command.py": "the report that it has just written",
    "cli/demo.py": "configs of ours",
    "cli/steps.py": "the output of its own steps",
    "cli/evaluate/classifiers.py": "looks first whether it is a file; reads a zip's directory",
    "config/config_file.py": "looks at kind and size first, as its page names --config",
    "data/array_cache.py": "our code; the cache",
    "data/cache.py": "the cache",
    "data/digits/build.py": "a set that it makes; its lock",
    "data/digits/contact_sheet.py": "a set that it made",
    "data/digits/manifest.py": "a set that it made",
    "data/digits/processes.py": "a set that it makes",
    "data/digits/sources.py": "files of the packages that are installed",
    "data/digits/worker.py": "a set that it makes",
    "detect/alternating/four_steps.py": "weights of a step, in the run folder that it holds",
    "detect/localization/loc_checkpoints.py": "the run folder, which this process holds",
    "detect/testing/measuring.py": "the best model, in the run folder that this process holds",
    "doctor/machine.py": "/proc",
    "engine/checkpoint.py": "the run folder, which this process holds",
    "engine/data_workers.py": "/sys",
    "engine/speed/cpu_features.py": "/proc",
    "evaluation/classification/score_files.py": "`_check_members` opens it before",
    "evaluation/ilsvrc/ilsvrc_synsets.py": "a file of ours",
    "formats/proposal_file.py": "what it writes",
    "pretrain/protocols/score_parts.py": "the run folder, which this process holds",
    "rank/cost.py": "/proc",
    "report/render/pictures.py": "Pillow's `open` of a file that is open",
    "run/folder.py": "what it writes",
    "run/lock.py": "the run folder's lock; /proc",
    "submission/archive.py": "looks at kind and size in `package_check`; what it has just written",
    "submission/ledger.py": "to add a line",
    "submission/servers.py": "a file of ours",
    "submission/voc_package.py": "what it has just written",
    "weights/formats/containers.py": "`container_of` looks at the kind; weights may be large",
}


def opens_a_file(node: ast.AST) -> bool:
    """open(…) for reading, path.open(…), .read_text(…), .read_bytes(…), np.load(…), ZipFile(…)."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in {"open", "ZipFile"}
    if not isinstance(node.func, ast.Attribute):
        return False
    of = ast.unparse(node.func.value)
    if node.func.attr in {"read_text", "read_bytes"}:
        return of != "bounded_files" and "resources.files" not in of
    if node.func.attr in {"ZipFile", "is_zipfile"}:
        return True
    if node.func.attr == "load":
        return of in {"np", "torch", "pickle"}
    return node.func.attr == "open" and of in {"path", "os", "tarfile", "Image", "temporary"}


def test_what_is_printed_goes_through_one_place() -> None:
    """`print` is the linter's; a name in data may hold what steers a terminal."""
    writers = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if re.search(r"sys\.std(out|err)\.write|file=sys\.std", path.read_text(encoding="utf-8"))
    }
    # The process that paints digits; its names are ours.
    assert writers == {"printable.py", "data/digits/worker.py"}


def test_files_of_others_are_opened_in_one_place() -> None:
    """A pipe never answers, and a device never ends: `bounded_files` knows both."""
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if any(map(opens_a_file, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == OPENED_ELSEWHERE.keys()
