"""What users see: pages instead of tracebacks, exit codes as promised, no heavy imports unasked."""

import sys
from importlib.machinery import ModuleSpec

import pytest

from resdet.cli import main as command_line
from resdet.cli.main import run_command
from tests.support import children
from tests.support.children import ROOT


def resdet(*args, cwd, **environment):
    return children.python("-m", "resdet", *args, cwd=cwd, **environment)


def test_without_a_command_the_commands_are_listed(tmp_path):
    done = resdet(cwd=tmp_path)
    assert done.returncode == 2
    for name in ("pretrain_cls", "train_det", "evaluate", "compare", "submit", "doctor", "demo"):
        assert name in done.stdout


def test_tools_are_the_commands():
    """One file per name that users type, and no logic in it."""
    for name in ("pretrain_cls", "train_det", "evaluate", "compare", "submit"):
        text = (ROOT / "tools" / f"{name}.py").read_text(encoding="utf-8")
        assert f'run_command("{name}"' in text
        assert len(text.splitlines()) < 15


def test_missing_data_is_one_page_and_exit_code_2(tmp_path):
    """docs/commands.md: absolute path, expected tree, variable, where to get it; no traceback."""
    pytest.importorskip("detectron2")
    config = ROOT / "configs" / "coco_r101.yaml"
    done = resdet(
        "train_det", "--config", str(config), cwd=tmp_path, DETECTRON2_DATASETS=str(tmp_path)
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    for words in (
        str(tmp_path),
        "instances_train2014.json",
        "DETECTRON2_DATASETS",
        "cocodataset.org",
    ):
        assert words in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train_det"], "train_det needs --config FILE"),
        (["train_det", "--config", "none.yaml"], "none.yaml does not exist"),
        (["pretrain_cls", "SOLVER.MAX_ITR", "3"], "Did you mean SOLVER.MAX_ITER?"),
        (["pretrain_cls", "SOLVER.MAX_ITER", "3", "--resume"], "put flags before the pairs"),
        (["compare", "none", "nothing"], "is not a folder"),
    ],
)
def test_what_the_user_can_fix_is_reported_in_words(tmp_path, args, words):
    pytest.importorskip("detectron2")
    done = resdet(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_parts_work_where_detectron2_is_absent():
    """Nets, weights, evaluation and report import without it."""
    code = (
        "import resdet.nets, resdet.weights, resdet.evaluation, resdet.report\n"
        "import resdet.evaluation.voc.voc_evaluation, resdet.evaluation.coco.coco_evaluation\n"
        "import resdet.evaluation.inputs.result_folder\n"
        "assert not [m for m in sys.modules if m.startswith('detectron2.')]"
    )
    children.printed_by(code, without=["detectron2"])


def test_evaluation_and_report_import_without_torch():
    code = "import resdet.cli.evaluate, resdet.cli.compare, resdet.cli.main"
    code += "; print('imported')"
    assert children.printed_by(code, without=["torch", "detectron2"]) == "imported\n"


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "coco", "LONG", "--gt", "gt.json", "--task", "bbox"),
        ("evaluate", "voc", ".", "--root", "LONG", "--split", "test", "--ap", "area"),
        ("compare", "LONG", "."),
        ("compare", "loop", "loop"),
        ("compare", "--results", "a=x", "b=y", "--gt", "gt.json", "--output", "LONG"),
        ("submit", "check", "LONG", "--gt", "gt.json"),
        ("submit", "coco", "LONG", "--algorithm", "a"),
    ],
)
def test_a_path_that_the_system_refuses_is_a_page(tmp_path, words):
    """A name of 300 characters, a link to itself: no file system here has them, nor is it a bug."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gt.json").write_text("{}", encoding="utf-8")
    done = resdet(*(word.replace("LONG", "x" * 300) for word in words), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert ("loop" if "loop" in words else "File name too long") in done.stderr


def test_an_error_of_the_system_without_a_path_stays_a_bug(monkeypatch, capsys):
    """It names nothing that a user could change."""
    monkeypatch.setattr("resdet.cli.doctor.run", _fails(PermissionError(13, "Permission denied")))
    assert run_command("doctor", []) == 70
    assert "This is a bug in resdet" in capsys.readouterr().err
    named = PermissionError(13, "Permission denied", "secret.json")
    monkeypatch.setattr("resdet.cli.doctor.run", _fails(named))
    assert run_command("doctor", []) == 2
    assert "secret.json: Permission denied." in capsys.readouterr().err


def test_a_full_disk_without_a_path_is_a_page(monkeypatch, capsys):
    """As Linux reports it for a standard output that is /dev/full."""
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("resdet.cli.doctor.run", _fails(full))
    assert run_command("doctor", []) == 3
    page = capsys.readouterr().err
    assert "No space is left on what is written to." in page and "bug" not in page


def test_a_name_that_is_no_text_of_the_locale_is_a_page(capsys):
    """Python hands on bytes that it cannot decode as lone surrogates; printing them would fail."""
    args = ["--results", "a\udcfc=x.json", "b=y.json", "--gt", "gt.json"]
    assert run_command("compare", args) == 2
    assert "PYTHONUTF8=1" in capsys.readouterr().err


def _fails(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("started", "typed", "expected"),
    [
        ({"__file__": "/x/own_net.py"}, "main()", ["/x/own_net.py"]),
        ({"__file__": "/x/own_net.py"}, "main(sys.argv[1:])", ["/x/own_net.py"]),
        ({"__spec__": ModuleSpec("own_net", None)}, "main()", ["-m", "own_net"]),
        # The words are the script's own: run again it would not take those of a step.
        ({"__file__": "/x/own_net.py"}, "main(['rank', '--version'])", ["-m", "resdet"]),
        # python -c, and a test.
        ({}, "main()", ["-m", "resdet"]),
        ({"__name__": "test_x", "__file__": "/x/test_x.py"}, "main()", ["-m", "resdet"]),
    ],
)
def test_commands_that_run_others_run_what_was_started(monkeypatch, started, typed, expected):
    """A script that registers nets, by its path or by -m; else resdet itself."""
    monkeypatch.setattr(sys, "argv", ["x", "--version"])
    monkeypatch.setattr(command_line, "program", list(command_line.program))
    names = {"__name__": "__main__", "sys": sys, "main": command_line.main, **started}
    with pytest.raises(SystemExit):
        exec(typed, names)
    assert command_line.program == expected
