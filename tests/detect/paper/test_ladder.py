"""The ladder of table 9: rows as they are apart, computed once, gone on with after a kill."""

import dataclasses
import json
import os
import shutil

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.data import DataOptions, catalog
from resdet.detect.from_run import built_detector
from resdet.detect.paper import ladder, ladder_pass
from resdet.detect.paper.members import member
from resdet.detect.testing import inference, partial_results
from resdet.errors import ConfigError, Interrupted
from resdet.run import layout
from resdet.run.folder import Run
from tests.support import children, improved, tiny, trainings

SET = "voc:voc:test"
SCALES = (48, 64, 96)
ROWS = {
    "baseline": ("plain",),
    "refinement": ("plain", "TEST.BOX_REFINEMENT", "on"),
    "context": ("context", "TEST.BOX_REFINEMENT", "on"),
    "scales": ("context", "TEST.BOX_REFINEMENT", "on", "TEST.SCALES", str(SCALES)),
    "member_2": ("other", "TEST.BOX_REFINEMENT", "on", "TEST.SCALES", str(SCALES)),
    "ensemble": ("context", "TEST.BOX_REFINEMENT", "on", "TEST.SCALES", str(SCALES),
                 "TEST.ENSEMBLE", "('other',)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three runs beside a set, and this process in their folder."""
    place, before = tmp_path_factory.mktemp("ladder"), os.getcwd()
    tiny.voc_tree(place / "voc")
    config = trainings.detector(trainings.FROM_SCRATCH, {"EVAL.SAMPLES": 1})
    (place / "c.yaml").write_text(config, encoding="utf-8")
    os.chdir(place)
    improved.run_folder(place / "plain", "c.yaml")
    improved.run_folder(place / "context", "c.yaml", "MODEL.REGION_HEADS.CONTEXT", "True")
    improved.run_folder(
        place / "other", "c.yaml", "MODEL.NET.NAME", "plain18", "INPUT.FORMAT", "RGB",
        "INPUT.MIN_SIZE_TEST", "56", "INPUT.MAX_SIZE_TEST", "64",
    )  # fmt: skip
    yield place
    os.chdir(before)


@pytest.fixture(scope="module")
def data(place):
    return catalog.load_detection(SET, options=DataOptions(masks=False))


@pytest.fixture(scope="module")
def planned(place):
    rows, absent = ladder.plan(
        member("plain", "cpu"),
        context=member("context", "cpu"),
        others={"other": member("other", "cpu")},
        scales=SCALES,
    )
    assert absent == {} and [row.name for row in rows] == list(ROWS)
    return rows


@pytest.fixture(scope="module")
def filled(place, data, planned):
    """The rows' folders, and how often each model's trunk and RPN ran."""
    models = {id(one.model): one.model for row in planned for one in row.every}
    counts = dict.fromkeys(models, 0)
    hooks = [
        part.register_forward_hook(lambda *_, n=number: counts.update({n: counts[n] + 1}))
        for number, model in models.items()
        for part in (model.backbone, model.proposal_generator)
    ]
    reader = planned[0].detector.reader
    folders = ladder_pass.fill(planned, place / "plain", [data], reader, lambda _: None)
    for hook in hooks:
        hook.remove()
    return folders, list(counts.values())


def results(folder):
    path = Run.open(folder).results(SET) / layout.COCO_RESULTS
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_its_keys_give_apart_to_the_bit(name, filled, data):
    """As `train_det --eval-only` with the row's keys has it: its form, its mapper, its loop."""
    source, *opts = ROWS[name]
    apart = built_detector(source, ["MODEL.DEVICE", "cpu", *opts])
    expected, _, _ = inference.detect(apart.for_detecting, data, apart.mapper)
    assert len(expected) > 3
    folder = dict(zip(ROWS, filled[0], strict=True))[name]
    assert results(folder) == expected
    config = built_detector(folder, ["MODEL.DEVICE", "cpu"]).cfg.TEST
    assert (config.BOX_REFINEMENT, config.SCALES, config.ENSEMBLE) == (
        apart.cfg.TEST.BOX_REFINEMENT, apart.cfg.TEST.SCALES, apart.cfg.TEST.ENSEMBLE
    )  # fmt: skip


def test_a_member_alone_is_tested_in_its_own_form_and_in_the_firsts_together(place, data):
    """ENGINE.FAST_INFERENCE of the member's run, which its own row states; the ladder's run has it
    off."""
    improved.run_folder(place / "quick", "c.yaml", "ENGINE.FAST_INFERENCE", "on")
    rows, _ = ladder.plan(
        member("plain", "cpu"), others={"quick": member("quick", "cpu")}, scales=SCALES
    )
    reader = rows[0].detector.reader
    folders = ladder_pass.fill(rows, place / "formed", [data], reader, lambda _: None)
    keys = ["MODEL.DEVICE", "cpu", "TEST.BOX_REFINEMENT", "on", "TEST.SCALES", str(SCALES)]
    alone = built_detector("quick", keys)
    together = built_detector("plain", [*keys, "TEST.ENSEMBLE", "('quick',)"])
    for folder, apart in zip(folders[-2:], (alone, together), strict=True):
        assert results(folder) == inference.detect(apart.for_detecting, data, apart.mapper)[0]


def turn_classes(run):
    """Its list of classes the other way round: its outputs mean the other class."""
    file = run / "model_final.pth"
    state = torch.load(file)
    torch.save({**state, "classes": state["classes"][::-1]}, file)


def test_rows_of_runs_with_their_classes_in_another_order(place, data):
    """A member and a twin whose lists are turned: as each is tested on its own, by official ids."""
    turned = {
        "turned": improved.run_folder(place / "turned", "c.yaml", "MODEL.NET.NAME", "plain18"),
        "turned_context": improved.run_folder(
            place / "turned_context", "c.yaml", "MODEL.REGION_HEADS.CONTEXT", "True"
        ),
    }
    for run in turned.values():
        turn_classes(run)
    rows, _ = ladder.plan(
        member("plain", "cpu"), context=member("turned_context", "cpu"),
        others={"turned": member("turned", "cpu")}, scales=SCALES,
    )  # fmt: skip
    reader = rows[0].detector.reader
    folders = ladder_pass.fill(rows, place / "in_order", [data], reader, lambda _: None)
    keys = ["MODEL.DEVICE", "cpu", "TEST.BOX_REFINEMENT", "on"]
    scaled = [*keys, "TEST.SCALES", str(SCALES)]
    apart = {
        "context": built_detector("turned_context", keys),
        "scales": built_detector("turned_context", scaled),
        "member_2": built_detector("turned", scaled),
        "ensemble": built_detector("turned_context", [*scaled, "TEST.ENSEMBLE", "('turned',)"]),
    }
    by_class = dict(zip(data.classes, data.category_ids, strict=True))
    for row, folder in zip(rows, folders, strict=True):
        if row.name not in apart:
            continue
        # train_det --eval-only reads the set in the order of the run.
        own = dataclasses.replace(
            data, classes=apart[row.name].classes,
            category_ids=tuple(by_class[name] for name in apart[row.name].classes),
        )  # fmt: skip
        expected, _, _ = inference.detect(
            apart[row.name].for_detecting, own, apart[row.name].mapper
        )
        assert len({r["category_id"] for r in expected}) == 2
        assert results(folder) == expected, row.name


def test_a_member_with_other_classes_is_refused_before_anything_is_filled(place):
    improved.run_folder(place / "odd", "c.yaml")
    file = place / "odd" / "model_final.pth"
    torch.save({**torch.load(file), "classes": ["ape", "cow"]}, file)
    with pytest.raises(ConfigError, match="not in both: bee, cow"):
        ladder.plan(member("plain", "cpu"), others={"odd": member("odd", "cpu")}, scales=SCALES)


def test_what_rows_share_is_computed_once(filled, data):
    """Per image: the trunk once a size, the RPN once a model, whatever the number of rows.

    The test's size 64 is one of the pyramid's three; the other member's 56 is not. That one's
    longest side, 64, limits its own three and the test's, which the ensemble's 48 gives, too; the
    ensemble's are limited as its first member's.
    """
    assert filled[1] == [len(data) * n for n in (1 + 1, 3 + 1, 3 + 3 + 1)]


def test_the_members_of_a_row_are_found_from_every_folder(filled, place, tmp_path, monkeypatch):
    """Its config has them as they were typed, relative to another folder."""
    folder, other = place / filled[0][-1], place / "other" / layout.DETECTOR
    monkeypatch.chdir(tmp_path)
    built = built_detector(folder, ["MODEL.DEVICE", "cpu"])
    assert [one.file.resolve() for one in built.members] == [other.resolve()]
    weights = [m["weights"] for m in Run.open(folder).info["ensemble"]]
    assert weights[1] == partial_results.weights_digest(built.members[0].model)


def test_rows_that_are_there_are_not_filled_again(filled, planned, data, place, monkeypatch):
    monkeypatch.setattr(ladder_pass, "_visit", lambda *_: pytest.fail("visited"))
    lines = []
    reader = planned[0].detector.reader
    ladder_pass.fill(planned, place / "plain", [data], reader, lines.append)
    assert lines == [f"{SET}: {row.title} is there" for row in planned]


def test_another_detector_in_the_run_is_not_taken_for_the_one_that_was(planned, data, place):
    row = planned[0]
    run = ladder.row_run(place / "plain", row)
    weights = partial_results.weights_digest(row.detector.model)
    mark = ladder.mark_of(row, {id(row.detector.model): weights}, data)
    assert ladder.is_filled(run, data, mark)
    other = ladder.mark_of(row, {id(row.detector.model): "another"}, data)
    assert not ladder.is_filled(run, data, other)


def test_a_row_states_what_its_results_are_of_until_new_ones_are_there(place, data, monkeypatch):
    """Other scales, stopped in the second image; then done, which leaves nothing of the others."""
    improved.run_folder(place / "again", "c.yaml")
    folder, reader = place / "again" / layout.LADDER / "scales", member("plain", "cpu").reader

    def fill(*scales):
        rows, _ = ladder.plan(member("again", "cpu"), scales=scales)
        ladder_pass.fill(rows, place / "again", [data], reader, lambda _: None)

    fill(64, 96)
    run = Run.open(folder)
    before = results(folder)
    shutil.copytree(run.results(SET), run.results("another"))
    run.update(leak="of another detector")
    detect, seen = ladder_pass._detect, []

    def stopped(*words):
        if seen:
            raise Interrupted("stopped")
        seen.append(detect(*words))

    monkeypatch.setattr(ladder_pass, "_detect", stopped)
    with pytest.raises(Interrupted):
        fill(48, 64)
    assert results(folder) == before
    assert built_detector(folder, ["MODEL.DEVICE", "cpu"]).cfg.TEST.SCALES == (64, 96)
    monkeypatch.undo()
    fill(48, 64)
    run = Run.open(folder)
    assert run.detected_sets() == [SET] and results(folder) != before
    assert built_detector(folder, ["MODEL.DEVICE", "cpu"]).cfg.TEST.SCALES == (48, 64)
    assert "leak" not in run.info


KILLED = """
import os, signal, sys
from resdet.cli.main import main
from resdet.detect.testing import partial_results
from resdet.detect.paper import ladder_pass
partial_results.PART_IMAGES, detect, seen = 1, ladder_pass._detect, []
def killed(*words):
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    seen.append(words)
    detect(*words)
ladder_pass._detect = killed
main(sys.argv[1:])
"""


def test_killed_and_typed_again_gives_the_same_numbers(place, filled, planned, data, capsys):
    """By SIGKILL in the third image: two are there, one is left, and each row is what it was."""
    improved.run_folder(place / "killed", "c.yaml")
    torch.save(torch.load(place / "plain" / "model_final.pth") | {"run": None},
               place / "killed" / "model_final.pth")  # fmt: skip
    words = ["compare", "--ladder", "killed", "--scales", *map(str, SCALES)]
    done = children.python("-c", KILLED, *words, cwd=place)
    assert done.returncode == -9, done.stderr
    parts = list((place / "killed" / layout.LADDER / "scales").rglob("part_*.json"))
    assert len(parts) == 2
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "1 of 1 images" in printed.err
    for name in ("baseline", "refinement"):
        assert results(place / "killed" / "ladder" / name) == results(place / "plain/ladder" / name)
    assert not list((place / "killed").rglob("part_*"))
    assert "+ context is not there: it is trained" in printed.out
    assert "ensemble is not there" in printed.out


def test_the_command_gives_a_table_a_page_and_json(place, filled, capsys):
    words = ["compare", "--ladder", "plain", "--context", "context", "--with", "other"]
    words += ["--scales", *map(str, SCALES)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert [line.split("  ")[0] for line in text.splitlines()[3:9]] == [
        "baseline", "+ box refinement", "+ context", "+ multi-scale testing", "other alone",
        "ensemble (2 networks)",
    ]  # fmt: skip
    assert "+ box refinement, from baseline: TEST.BOX_REFINEMENT on." in text
    assert "+ context, from + box refinement: MODEL.REGION_HEADS.CONTEXT True." in text
    assert "no interval, which needs 50 images (3 here)" in text
    assert main([*words, "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    (of_set,) = page["sets"]
    assert [row["name"] for row in of_set["rows"]] == list(ROWS)
    assert [row["above"] for row in of_set["rows"]] == [
        None, "baseline", "+ box refinement", "+ context", "+ multi-scale testing",
        "+ multi-scale testing",
    ]  # fmt: skip
    html = (place / "plain" / "ladder" / "ladder.html").read_text(encoding="utf-8")
    assert "ensemble (2 networks)" in html and page["files"]["html"] == "plain/ladder/ladder.html"


def test_the_papers_scales_follow_the_tests_size(place):
    """200, 400, 600, 800, 1000 for 600; a third to five thirds of 64."""
    rows, absent = ladder.plan(member("plain", "cpu"))
    assert rows[-1].cfg.TEST.SCALES == (21, 43, 64, 85, 107)
    assert list(absent) == ["+ context", "ensemble"]
    cfg = rows[0].detector.cfg.clone()
    assert (rows[0].cfg.TEST.BOX_REFINEMENT, cfg.TEST.BOX_REFINEMENT) == ("off", "off")


@pytest.mark.parametrize("scales", [(96, 48), (48, 48), (0, 64), (-5,)], ids=str)
def test_scales_that_the_key_would_refuse_are_refused(place, scales):
    """A row with them would state a config that nothing reads again."""
    with pytest.raises(ConfigError, match="--scales is .*, expected rising numbers of pixels"):
        ladder.plan(member("plain", "cpu"), scales=scales)


def test_a_run_whose_images_are_not_resized_has_no_row_of_scales(place):
    """Its longest side on a scale is not known; all other rows are there."""
    as_they_are = member("plain", "cpu")
    as_they_are.cfg.INPUT.MIN_SIZE_TEST = 0
    rows, absent = ladder.plan(as_they_are, others={"other": member("other", "cpu")})
    assert [(row.name, row.above) for row in rows] == [
        ("baseline", ""), ("refinement", "baseline"), ("member_2", "refinement"),
        ("ensemble", "refinement"),
    ]  # fmt: skip
    assert absent["+ multi-scale testing"].startswith("images are not resized")
    assert not any(row.cfg.TEST.SCALES for row in rows)
    with pytest.raises(ConfigError, match="MIN_SIZE_TEST of the run is 0: .* Leave --scales out"):
        ladder.plan(as_they_are, scales=(64, 96))
    rows, _ = ladder.plan(member("plain", "cpu"), others={"as they are": as_they_are})
    assert [bool(row.cfg.TEST.SCALES) for row in rows] == [False, False, True, False, True]


def test_rows_state_the_reading_of_the_runs_own_images(place):
    """One pass reads each image once, by the run's rule: another one's own would be untrue."""
    other = member("other", "cpu")
    other.cfg.INPUT.EXIF, other.cfg.DATASETS.VOC_ORIGIN = "ignore", 0
    rows, _ = ladder.plan(member("plain", "cpu"), others={"other": other})
    stated = {(row.cfg.INPUT.EXIF, row.cfg.DATASETS.VOC_ORIGIN) for row in rows}
    assert stated == {("apply", 1)}
    assert other.cfg.INPUT.EXIF == "ignore"


def test_a_twin_without_context_is_refused_and_a_run_with_it_has_no_such_row(place):
    plain, context = member("plain", "cpu"), member("context", "cpu")
    with pytest.raises(ConfigError, match="--context plain was trained without global context"):
        ladder.plan(plain, context=plain)
    with pytest.raises(ConfigError, match="context has MODEL.REGION_HEADS.CONTEXT itself"):
        ladder.plan(context, context=context)
    assert ladder.plan(context)[1]["+ context"] == "the run has it in every row"


def test_options_that_do_not_belong_together_are_refused(place, capsys):
    assert main(["compare", "plain", "other", "--with", "context"]) == 2
    assert "--set belong to --ladder RUN" in capsys.readouterr().err
    assert main(["compare", "other", "--ladder", "plain"]) == 2
    assert "--ladder takes one run" in capsys.readouterr().err
