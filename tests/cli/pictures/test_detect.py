"""`resdet detect`: files in, COCO's layout and drawn pictures out."""

import json
import os
import re
import signal

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

import resdet
from resdet.cli.main import run_command
from resdet.detect.pictures import finished_pictures, picture_folder
from tests.support import detector_runs, tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("detect")
    detector_runs.train(place, "run")
    return place


@pytest.fixture
def folder(place, tmp_path, monkeypatch):
    """Four pictures, a web page and a note in pictures/; the current folder is the one above."""
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        image = Image.fromarray(tiny.picture(number, number % 2, 96, 72))
        image.save(tmp_path / "pictures" / f"IMG_{number}.PNG", "PNG")
    (tmp_path / "pictures" / "page.jpg").write_text("<!DOCTYPE html>")
    (tmp_path / "pictures" / "notes.txt").write_text("x")
    (tmp_path / "run").symlink_to(place / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def detect(*words):
    return run_command("detect", ["run", *map(str, words)])


def test_the_file_has_what_the_twin_detects(folder, capsys):
    """In COCO's layout; the picture that is none is named, and the command ends with 1."""
    detector = resdet.load_detector("run", device="cpu")
    score = round(float(np.median(detector("pictures/IMG_1.PNG").scores)), 4)
    assert detect("pictures", "--output", "out.json", "--score", score, "--top", "4") == 1
    printed = capsys.readouterr()
    assert "not read: 1 of 5 pictures\n  pictures/page.jpg is a web page" in printed.err
    assert "left out of the folders: 1 files" in printed.out
    result = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert result["info"]["images"] == {"given": 5, "read": 4, "refused": 1}
    assert result["info"]["folder"] == str(folder / "pictures")
    assert [i["file_name"] for i in result["images"]] == [f"IMG_{n}.PNG" for n in range(4)]
    assert [c["name"] for c in result["categories"]] == ["ape", "bee"]
    assert [r["file_name"] for r in result["refused"]] == ["pictures/page.jpg"]
    for image in result["images"]:
        own = [a for a in result["annotations"] if a["image_id"] == image["id"]]
        twin = detector(folder / "pictures" / image["file_name"], score=score, top=4)
        assert (image["width"], image["height"], len(own)) == (96, 72, len(twin))
        boxes = np.array([a["bbox"] for a in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.allclose(boxes, twin.boxes, rtol=0, atol=1e-4)
        assert [a["score"] for a in own] == twin.scores.astype(np.float64).tolist()
        assert [detector.classes[a["category_id"] - 1] for a in own] == list(twin.names)
    assert len({a["id"] for a in result["annotations"]}) == len(result["annotations"]) > 4
    assert not (folder / "out.json.parts").exists()


def test_json_is_one_object_and_an_accepted_number_ends_with_0(folder, capsys):
    assert detect("pictures", "--accept", "refused=1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["info"]["images"]["refused"] == 1
    assert detect("pictures", "--accept", "refused=2", "--json") == 1
    assert "--accept names 2" in capsys.readouterr().err


def test_pictures_are_drawn_beside_and_never_over_their_sources(folder, capsys):
    before = {p.name: p.read_bytes() for p in (folder / "pictures").iterdir()}
    words = ("pictures/IMG_0.PNG", "pictures/IMG_1.PNG")
    assert detect(*words, "--draw", "drawn", "--draw-score", "0") == 0
    drawn = sorted(p.name for p in (folder / "drawn").iterdir())
    assert drawn == ["IMG_0.PNG.jpg", "IMG_1.PNG.jpg"]
    # Small ones are enlarged by a whole number; 96 becomes 480.
    with Image.open(folder / "drawn" / "IMG_0.PNG.jpg") as picture:
        assert picture.size == (480, 360)
        plain = Image.open(folder / "pictures" / "IMG_0.PNG").resize((480, 360))
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(plain).astype(int)).max() > 100
    assert detect(*words, "--draw", "drawn") == 2
    assert "drawn is not empty" in capsys.readouterr().err
    assert detect(*words, "--draw", "drawn", "--overwrite", "--draw-score", "1") == 0
    printed = capsys.readouterr().out
    assert "No box of these pictures has a score of 1 or more, so none is drawn" in printed
    (level,) = re.findall(r"Add --draw-score (\S+)\.\n", printed)
    assert detect(*words, "--draw", "drawn", "--overwrite", "--draw-score", level) == 0
    assert "so none is drawn" not in capsys.readouterr().out
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(folder / name)
    assert detect("a.jpg", "b.jpg", "--draw", ".", "--overwrite") == 2
    assert "--draw would replace" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (folder / "pictures").iterdir()} == before


def test_pictures_of_another_folder_are_drawn_by_their_names_below_it(folder, monkeypatch):
    """Typed with ".."; x.jpg of two folders, and a.png beside an a.png.jpg, are four files."""
    for name in ("one/x.jpg", "two/x.jpg", "two/a.png", "two/a.png.jpg"):
        path = folder / "named" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.picture(0, 0, 96, 72)).save(path)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    words = ("../run", "../named", "--recursive", "--draw", "drawn", "--output", "out.json")
    assert run_command("detect", words) == 0
    place = folder / "below" / "drawn"
    drawn = {p.relative_to(place).as_posix() for p in place.rglob("*.jpg")}
    assert drawn == {"one/x.jpg", "two/x.jpg", "two/a.png.jpg", "two/a.png.jpg.jpg"}
    images = json.loads((folder / "below" / "out.json").read_text(encoding="utf-8"))["images"]
    names = {image["file_name"] for image in images}
    assert names == {"one/x.jpg", "two/x.jpg", "two/a.png", "two/a.png.jpg"}


@pytest.mark.parametrize("keys", [(), ("TEST.SCALES", "(40, 80)")], ids=["plain", "pyramid"])
def test_a_picture_that_is_too_thin_is_refused_and_the_others_go_on(folder, capsys, keys):
    """Of 4000 x 1 pixels 1,333 x 0 are left at Detectron2's longest side."""
    place = folder / f"thin{len(keys)}"
    place.mkdir()
    for name, size in (("a.png", (4000, 1)), ("b.png", (1, 4000)), ("c.png", (4000, 3)),
                       ("d.png", (1, 1))):  # fmt: skip
        Image.new("RGB", size).save(place / name)
    assert detect(place.name, "--score", "1", *keys) == 1
    printed = capsys.readouterr()
    assert "not read: 2 of 4 pictures" in printed.err
    assert f"{place.name}/a.png is 4000x1 pixels: of its shorter side nothing" in printed.err
    assert "b.png is 1x4000 pixels" in printed.err
    assert "c.png  4000x3  nothing" in printed.out and "d.png  1x1  nothing" in printed.out


def test_a_line_for_each_picture_whatever_it_is_called(folder, capsys):
    """A line break in a name is written out, and a link to nothing is refused, not passed over."""
    (folder / "odd").mkdir()
    Image.fromarray(tiny.picture(0, 0, 96, 72)).save(folder / "odd" / "a\nb.jpg")
    (folder / "odd" / "gone.jpg").symlink_to("nowhere")
    assert detect("odd", "--score", "1") == 1
    printed = capsys.readouterr()
    assert "a\\nb.jpg  96x72  nothing\n" in printed.out
    assert "not read: 1 of 2 pictures" in printed.err and "gone.jpg" in printed.err


def test_a_stop_keeps_what_is_finished_and_the_same_command_goes_on(folder, monkeypatch, capsys):
    """A signal in the second picture: two are kept; then the others alone are detected on, and the
    file equals that of one go. A picture that was changed in between is detected on again."""
    words = ("pictures", "--accept", "refused=1", "--output")
    assert detect(*words, "whole.json") == 0
    of_input, seen = picture_folder.PictureDetector.of_input, []

    def counted(self, given):
        seen.append(given["width"])
        if stops and len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return of_input(self, given)

    monkeypatch.setattr(picture_folder.PictureDetector, "of_input", counted)
    stops = True
    assert detect(*words, "out.json") == 143
    page = capsys.readouterr().err
    assert "2 of 5 images of what was given are kept in out.json.parts" in page
    assert "Go on with the same command" in page and not (folder / "out.json").exists()
    stops, seen[:] = False, []
    path = folder / "pictures" / "IMG_0.PNG"
    os.utime(path, ns=(1, 1))
    assert detect(*words, "out.json") == 0
    assert len(seen) == 3
    assert (folder / "out.json").read_bytes() == (folder / "whole.json").read_bytes()


def test_parts_of_something_else_are_not_mixed_in(folder):
    words = ("pictures", "--accept", "refused=1", "--output", "out.json")
    paths = sorted((folder / "pictures").glob("IMG*"))
    parts = finished_pictures.FinishedPictures.open(folder / "out.json.parts", paths, {"other": 1})
    parts.add({"path": str(paths[0]), "bytes": 0, "modified": 0, "width": 1, "height": 1,
               "fixed": [], "refused": "", "detections": []})  # fmt: skip
    parts.write()
    assert detect(*words) == 0
    result = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert [i["width"] for i in result["images"]] == [96] * 4


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["pictures", "--score", "1.5"], "--score is 1.5, expected 0 to 1"),
        (["pictures", "--top", "0"], "--top is 0, expected 1 or more"),
        (["pictures", "--top", "101"], "add at the end: TEST.DETECTIONS_PER_IMAGE 101"),
        (["pictures", "--draw-score", "0.2"], "Add --draw DIR"),
        (["pictures", "--accept", "1"], "--accept is 1, expected refused=N"),
        (["pictures", "--config", "coco_r101"], "has its own config"),
        (["pictures", "--best"], "kept no best model"),
        (["gone.jpg"], "gone.jpg does not exist"),
        (["pictures", "INPUT.SIXTEN_BIT", "stretch"], "SIXTEN_BIT"),
        (["pictures", "INPUT.MIN_SIZE_TEST", "64", "--json"], "--json"),
        (["pictures", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.3", "--keys"], "--keys"),
    ],
)
def test_what_cannot_be_has_a_page(folder, capsys, words, page):
    assert detect(*words) == 2
    assert page in capsys.readouterr().err


def test_an_output_that_is_there_is_not_replaced(folder, capsys):
    (folder / "out.json").write_text("mine")
    assert detect("pictures", "--output", "out.json") == 2
    assert "out.json exists. Name another --output, or add --overwrite" in capsys.readouterr().err
    assert (folder / "out.json").read_text() == "mine"
    words = ("pictures/IMG_0.PNG", "--output", "out.json", "--overwrite")
    assert detect(*words, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.25") == 0
    result = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    key = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"
    assert result["info"]["changed"] == {key: {"run": 0.0, "here": 0.25}}
    assert "is 0.25 here, 0.0 in the run" in capsys.readouterr().out


def test_a_detector_that_detects_nothing_is_noted(folder, capsys):
    assert detect("pictures/IMG_0.PNG", "--score", "1") == 0
    printed = capsys.readouterr().out
    assert "IMG_0.PNG  96x72  nothing" in printed
    assert "No picture has a box with a score of 1 or more" in printed


def test_a_lower_score_than_the_run_s_is_refused_with_the_key(folder, capsys):
    words = ("pictures", "--score", "0.1", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.3")
    assert detect(*words) == 2
    assert "MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.1" in capsys.readouterr().err
