"""Names in data are text: none of them is a path out of the run folder, nor a traceback.

One training has all names of a kind that its reader takes, and is then scored, shown and packed.
What is beside the folder is as it was before.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import run_command
from resdet.data.readers.coco_reader import load_coco
from resdet.errors import ConfigError, DataError
from resdet.submission import servers
from tests.support import tiny, trainings

VALUES = {
    "up": "../../../../victim",
    "absolute": "/tmp/resdet_victim",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[2Jb",
    "long": "n" * 300,
    "half a pair": "a\ud800b",
    "device": "con",
    "dash": "-rf",
    "bidi": "a\u202egpj.exe",
    "slash": "a/b",
    "percent": "a%2Fb",
}
KINDS = ("class", "id", "file_name")
# A page, or success.
ENDS = (0, 2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A COCO set of two images in deep/deeper/work, so that three levels up are still ours."""
    work = tmp_path / "deep" / "deeper" / "work"
    work.mkdir(parents=True)
    tiny.voc_tree(work / "voc", images=4)
    (tmp_path / "victim").write_text("as it was", encoding="utf-8")
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(work / "out" / "share"))
    monkeypatch.chdir(work)
    return tmp_path


def coco_set(kind: str, values: list[str]) -> None:
    """set.json and pictures/: an image and an object for each value."""
    Path("pictures").mkdir(exist_ok=True)
    pictures = sorted(Path("voc/JPEGImages").glob("*.jpg"))
    images, annotations, categories = [], [], []
    for number, value in enumerate(values, 1):
        name = value if kind == "file_name" else f"{number}.jpg"
        shutil.copy(pictures[1], Path("pictures") / f"{number}.jpg")
        image_id = value if kind == "id" else number
        images.append({"id": image_id, "file_name": name, "width": 96, "height": 72})
        categories.append({"id": number, "name": value if kind == "class" else f"c{number}"})
        annotations.append({"id": number, "image_id": image_id, "category_id": number,
                            "bbox": [24, 18, 48, 36], "area": 1728, "iscrowd": 0})  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": categories}
    Path("set.json").write_text(json.dumps(content), encoding="utf-8")


def listing(root: Path) -> dict[str, object]:
    """Every file outside the output folder and the cache, with its content."""
    files: dict[str, object] = {}
    for folder, _, names in os.walk(root):
        if "/out" in folder + "/" and folder.startswith(str(Path("out").absolute())):
            continue
        if not folder.startswith(str(root / "cache")):
            files |= {os.path.join(folder, n): Path(folder, n).read_bytes() for n in names}
    return files


def train(output: str = "out/run", name: str = "coco:set.json:pictures", **changes) -> int:
    sets = {"DATASETS.TRAIN": [name], "DATASETS.TEST": [name], "EVAL.ALLOW_LEAK": True,
            "SOLVER.MAX_ITER": 1, "EVAL.SAMPLES": 12}  # fmt: skip
    text = trainings.detector(trainings.FROM_SCRATCH, sets, changes)
    Path("c.yaml").write_text(text, encoding="utf-8")
    return run_command("train_det", ["--config", "c.yaml", "--output", output])


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_data_write_nothing_outside_the_run(place, capfd, kind):
    taken = []
    for value in VALUES.values():
        coco_set(kind, [value])
        try:
            load_coco(Path("set.json"), Path("pictures"), name="n")
        except DataError as error:
            assert str(error)
        else:
            taken.append(value)
    if kind == "file_name":
        assert not taken  # no such file
        taken = ["1.jpg"]
    assert taken
    coco_set(kind, taken)
    before = listing(place)
    assert train() == 0, capfd.readouterr().err
    assert run_command("compare", ["out/run", "--output", "out/report"]) in ENDS
    submit = ["coco", "out/run", "--algorithm", "a", "--output", "out/sub"]
    assert run_command("submit", submit) in ENDS
    after = listing(place)
    after.pop(str(Path("c.yaml").absolute()), None)
    assert after == before
    assert "\x1b" not in capfd.readouterr().err


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_names_of_sets_and_algorithms_end_with_a_page(place, capfd, value):
    """As the command line and a config file name them."""
    coco_set("class", ["cat"])
    Path("c.yaml").touch()
    before = listing(place)
    for name in (value, f"coco:{value}:pictures", f"coco:set.json:{value}", f"voc:voc:{value}",
                 f"voc:{value}:train"):  # fmt: skip
        assert train(name=name) == 2, name
    with pytest.raises(ConfigError):
        servers.check_algorithm(value + "/")
    before.pop(str(Path("c.yaml").absolute()))
    after = listing(place)
    after.pop(str(Path("c.yaml").absolute()))
    assert after == before
    assert "\x1b" not in capfd.readouterr().err


def test_what_is_no_text_is_refused_before_it_is_written_to(place, capfd):
    """Bytes that are not UTF-8, as Linux lets files have: TensorBoard failed at the first step."""
    try:
        Path("d\udcff").mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    coco_set("class", ["cat"])
    assert train(name="coco:set.json:d\udcff") == 2
    with pytest.raises(SystemExit):
        train("out/\udcff")
    assert r"out/\udcff is no UTF-8" in capfd.readouterr().err
    assert not Path("out").exists()


def test_a_run_name_that_no_disk_takes_is_a_page(place, capfd):
    coco_set("class", ["cat"])
    assert train("out/" + VALUES["long"]) == 2
    assert "File name too long. Choose another --output" in capfd.readouterr().err
