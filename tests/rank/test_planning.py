"""Rankings that are gone on with: what a stop, a wrong word or a damaged file leaves of them."""

import argparse
import dataclasses
import json
import logging

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.cli.rank import command, fitting, planning, row_parts
from resdet.data import DataOptions, catalog
from resdet.errors import ConfigError, DataError, Interrupted, ResdetError, RunError
from resdet.rank import held_out, random_weights
from resdet.rank.candidates import candidates_of
from resdet.rank.quick_detector import keys_of_row
from resdet.rank.ranking_folder import COST, SCORES, Ranking, RankPlan
from resdet.run.folder import write_json
from tests.support import tiny

PLAN = RankPlan("a", "b", "a", "b", images=600, test_images=400, size=96, steps=3, batch=8, seeds=1)
MEGABYTE = 1_000_000


def cost_of(candidate, **changes):
    return {
        "net": "resnet18", "parameters": 1, "multiply_adds": None, "ms": 5.0, "memory_mb": 9.0,
        "device": "cpu", "threads": 3, "trunk_seconds": 0.001, "step_seconds": 0.01,
        "map_bytes": MEGABYTE, "license": "", "sha256": candidate.label,
        "source": candidate.source, **changes,
    }  # fmt: skip


@pytest.fixture
def ranking(tmp_path):
    """One of two rows, planned and measured."""
    found = Ranking(
        tmp_path / "out", PLAN, tuple(candidates_of(["A=a.pth", "B=random:resnet18"])),
        {"data": "a"}, is_planned=True,
    )  # fmt: skip
    found.write()
    for candidate in found.candidates:
        write_json(found.row(candidate) / COST, cost_of(candidate))
    return found


def words(ranking, **changes):
    given = dict.fromkeys(planning.MAKING) | {"opts": [], "backbones": None, "add": []}
    given |= {"output": str(ranking.path), "cache_gb": 20.0, "full": [], "json": False}
    return argparse.Namespace(**given | changes)


def steps_end_with(monkeypatch, end):
    """Every step of planning ends so, instead of running; gives what was asked for."""
    asked = []

    def run_all(plan, jobs, threads, done=None):
        asked.append((plan, jobs, threads))
        if isinstance(end, Exception):
            raise end
        for step in plan:
            end(step)

    monkeypatch.setattr(fitting, "run_all", run_all)
    monkeypatch.setattr(command, "run_all", run_all)
    return asked


def with_added(ranking, word="C=random:resnet34"):
    return dataclasses.replace(ranking, candidates=(*ranking.candidates, *candidates_of([word])))


# -- rows that are added -----------------------------------------------------------------------


def test_an_added_row_that_was_stopped_and_cannot_be_built_does_not_block_the_ranking(
    ranking, monkeypatch, caplog
):
    """The stop keeps it, since the same command goes on; what then cannot be built goes. A row that
    has trainings stays, whatever became of its cost.json."""
    steps_end_with(monkeypatch, Interrupted("stopped"))
    with pytest.raises(Interrupted):
        fitting.with_costs(with_added(ranking), words(ranking), 1, planning.UserSets())
    there = Ranking.read(ranking.path)
    assert [c.label for c in there.candidates] == ["A", "B", "C"]
    steps_end_with(monkeypatch, ResdetError("no such net"))
    with pytest.raises(ResdetError, match="no such net"):
        fitting.with_costs(there, words(ranking), 1, planning.UserSets())
    assert Ranking.read(ranking.path) == ranking
    assert "C is taken out of" in caplog.text
    (ranking.row(ranking.candidates[0]) / "seed_1").mkdir()
    (ranking.row(ranking.candidates[0]) / COST).unlink()
    with pytest.raises(ResdetError, match="no such net"):
        fitting.with_costs(ranking, words(ranking), 1, planning.UserSets())
    assert Ranking.read(ranking.path) == ranking


def test_what_an_earlier_try_of_a_label_left_is_not_taken_for_this_one(ranking):
    row = ranking.path / "rows" / "C"
    write_json(row / COST, {})
    made = ranking.path / "weights" / "C.safetensors"
    made.parent.mkdir()
    made.write_bytes(b"another net")
    planning.ranking_of(words(ranking, add=["C=random:resnet34"]), planning.UserSets())
    assert not row.exists() and not made.exists()


def test_trainings_of_a_row_that_the_ranking_does_not_name_are_not_removed(ranking):
    (ranking.path / "rows" / "C" / "seed_1").mkdir(parents=True)
    with pytest.raises(ConfigError, match="C has trainings of a row that ranking.json does not"):
        planning.ranking_of(words(ranking, add=["C=random:resnet34"]), planning.UserSets())
    assert (ranking.path / "rows" / "C" / "seed_1").exists()


def test_an_added_row_is_measured_by_as_many_threads_as_the_others(ranking, monkeypatch):
    """Whatever --jobs is now: ms and memory are columns of one table."""
    more = with_added(ranking)
    asked = steps_end_with(
        monkeypatch, lambda step: write_json(step.makes, cost_of(more.candidates[2]))
    )
    fitting.with_costs(more, words(ranking), 1, planning.UserSets())
    assert [(jobs, threads) for _, jobs, threads in asked] == [(1, 3)]


def test_an_added_row_whose_maps_have_no_room_is_refused_and_leaves_the_ranking(
    ranking, monkeypatch
):
    """1,000 images of 2 MB are 2 GB."""
    more = with_added(ranking)
    large = cost_of(more.candidates[2], map_bytes=2 * MEGABYTE)
    steps_end_with(monkeypatch, lambda step: write_json(step.makes, large))
    with pytest.raises(ConfigError, match="maps of C on the 1,000 .* 2.0 GB.*--cache-gb 2$"):
        fitting.with_costs(more, words(ranking, cache_gb=1.5), 1, planning.UserSets())
    assert Ranking.read(ranking.path) == ranking


# -- a machine that had other work ---------------------------------------------------------------


def test_a_plan_of_a_busy_machine_is_told(ranking, monkeypatch, caplog):
    """B waited nearly all of the time, and the plan has steps of that length."""
    unplanned = dataclasses.replace(ranking, is_planned=False)
    for candidate, waited in zip(ranking.candidates, (0.02, 0.95), strict=True):
        write_json(ranking.row(candidate) / COST, cost_of(candidate, waited=waited))
    monkeypatch.setattr(fitting, "_with_sets", lambda path, plan, sets: plan)
    fitting.with_costs(unplanned, words(ranking), 1, planning.UserSets())
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        "(no core for a part of the time: B 95 %)" in warning
        and f"remove {ranking.path}" in warning
    )


@pytest.mark.parametrize(("budget", "told"), [(3600.0, True), (0.0, False), (76.0, False)])
def test_a_budget_that_is_not_used_up_is_told(ranking, monkeypatch, caplog, budget, told):
    """By hand: a row is 20 s, 1.25 x 1,000 images of 1 ms, 15 s and 1.25 x (3 steps of 10 ms and
    400 images of 4 ms) = 38.3 s; two one after the other are 76.6 s, and 74.7 s with 420 and 280
    images."""
    plan = dataclasses.replace(PLAN, budget=budget)
    unplanned = dataclasses.replace(ranking, plan=plan, is_planned=False)
    monkeypatch.setattr(fitting, "_with_sets", lambda path, plan, sets: plan)
    with caplog.at_level(logging.INFO, "resdet.cli.rank"):
        made = fitting.with_costs(unplanned, words(ranking), 1, planning.UserSets())
    assert made.plan.test_images == (280 if budget == 76 else 400)
    assert ("nothing was cut for --budget, which is 60.0 min" in caplog.text) == told


def test_a_set_is_read_once_in_a_call(train, tmp_path, monkeypatch):
    """Its counts are printed where it is read."""
    read = []
    load = planning.load_set
    monkeypatch.setattr(planning, "load_set", lambda *given: read.append(given) or load(*given))
    sets, name, other = (
        planning.UserSets(),
        f"voc:{tmp_path / 'voc'}:train",
        DataOptions(allow_missing=1),
    )
    assert sets.train(name, DataOptions()) is sets.train(name, DataOptions())
    assert sets.train(name, other) is not sets.train(name, DataOptions())
    assert read == [(name, DataOptions()), (name, other)]
    assert sets.test(name, name, other) is sets.test(name, name, other)
    sets.forget()
    assert sets.train(name, other) is not None and read[2:] == [(name, other)]


# -- room for maps -----------------------------------------------------------------------------


def test_fewer_images_for_the_room_are_told_with_what_all_need(caplog):
    """0.5 GB hold 500 images of 1 MB of one row at a time: half of the 1,000."""
    with caplog.at_level(logging.WARNING, "resdet.cli.rank"):
        found = fitting._within_room(PLAN, MEGABYTE, 0.5, 1)
    assert (found.images, found.test_images) == (300, 200)
    assert "300 of 600 training and 200 of 400 test images are taken" in caplog.text
    assert "--cache-gb 1," in caplog.text
    assert fitting._within_room(PLAN, MEGABYTE, 1.0, 1) == PLAN
    with pytest.raises(ConfigError, match="100 images .* in 5 rows side by side. Give more"):
        fitting._within_room(PLAN, MEGABYTE, 0.5, 5)


def test_maps_of_rows_that_ended_in_another_call_make_room(ranking, monkeypatch):
    """Two rows of 1 GB each had room in 2 GB; of three only one may lie there at a time."""
    more = with_added(ranking)
    monkeypatch.setattr(command.Step, "is_done", lambda step: "/C/" not in str(step.folder))
    for candidate in more.candidates:
        write_json(more.row(candidate) / COST, cost_of(candidate))
        more.features(candidate).mkdir(parents=True)
    for candidate in ranking.candidates:
        write_json(more.row(candidate) / SCORES, {"logme": 0.0, "total_logme": 0.0, "objects": 1})
    asked = steps_end_with(monkeypatch, lambda step: None)
    assert command._run_rows(more, words(ranking, cache_gb=3.0), 4)
    assert all(more.features(c).exists() for c in more.candidates) and asked[-1][1] == 4
    assert command._run_rows(more, words(ranking, cache_gb=2.5), 4)
    assert [more.features(c).exists() for c in more.candidates] == [False, False, True]
    assert asked[-1][1] == 2


# -- wrong words and damaged files -------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "page"),
    [
        (("--cache-gb", "nan"), "--cache-gb is nan, expected more than 0"),
        (("--cache-gb", "0"), "--cache-gb is 0, expected more than 0"),
        (("--size", "96"), "was started without --size, and 96 is given"),
        (("--data", "x"), "was started with --data a, and x is given"),
        (("SEED", "5"), "was started without KEY VALUE, and SEED 5 is given"),
    ],
)
def test_words_that_do_not_fit_are_a_page(ranking, given, page, capsys):
    assert main(["rank", "--output", str(ranking.path), *given]) == 2
    assert page in capsys.readouterr().err


@pytest.mark.parametrize("key", sorted(planning.STATED_BY))
def test_keys_that_words_of_rank_state_are_refused(key, tmp_path, monkeypatch, capsys):
    """They would be written over, or make a ranking that is not the one that is shown."""
    monkeypatch.chdir(tmp_path)
    given = ["--backbones", "random:resnet18", "random:resnet34", "--data", "digits_test"]
    assert main(["rank", *given, key, "5"]) == 2
    assert f"{key} is what {planning.STATED_BY[key]} states" in capsys.readouterr().err


def test_rows_without_their_ranking_are_not_taken_for_those_of_another(ranking):
    """Finished trainings of other steps would stand in the new table."""
    (ranking.path / "ranking.json").unlink()
    given = words(ranking, backbones=["random:resnet18", "random:resnet34"], data="digits_test")
    with pytest.raises(ConfigError, match="has rows of a ranking, and no ranking.json. Bring"):
        planning.ranking_of(given, planning.UserSets())


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("{}", "cost.json is damaged: .* is missing.* Or remove it: rank makes it again"),
        ("{", "cost.json is not readable as JSON.* Or remove it: rank makes it again"),
    ],
)
def test_a_damaged_file_of_a_row_is_a_page(ranking, text, page):
    (ranking.path / "rows" / "A" / COST).write_text(text)
    with pytest.raises(RunError, match=page):
        fitting.with_costs(ranking, words(ranking), 1, planning.UserSets())


def test_weights_that_changed_since_they_were_measured_are_refused(ranking, monkeypatch):
    """The row is not to be of two files: its measures of one, its scores of another."""
    card = argparse.Namespace(tensors_sha256="of another file")
    monkeypatch.setattr(row_parts.cost, "built", lambda *_: (None, None, card))
    with pytest.raises(ConfigError, match="a.pth has other weights than when A was .*rows/A: rank"):
        row_parts.compute_scores(ranking, ranking.candidates[0])


def test_a_ranking_of_another_release_is_a_page_and_unknown_entries_are_left(ranking):
    path = ranking.path / "ranking.json"
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, "plan": {**text["plan"], "unknown": 1}}))
    assert Ranking.read(ranking.path) == ranking
    path.write_text(json.dumps({**text, "version": 2}))
    with pytest.raises(RunError, match="has version 2, and this release reads 1"):
        Ranking.read(ranking.path)


# -- sets --------------------------------------------------------------------------------------


def coco_file(root, names, image="000003"):
    """One image and one object of the last class."""
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    box = {"id": 1, "image_id": 1, "category_id": len(names), "bbox": [9, 9, 30, 30],
           "area": 900, "iscrowd": 0}  # fmt: skip
    images = [{"id": 1, "file_name": f"{image}.jpg", "width": 72, "height": 96}]
    write_json(root / "t.json", {"images": images, "annotations": [box], "categories": categories})
    return f"coco:{root / 't.json'}:{root / 'voc' / 'JPEGImages'}"


@pytest.fixture
def train(tmp_path):
    tiny.voc_tree(tmp_path / "voc")
    return catalog.load_detection(f"voc:{tmp_path / 'voc'}:train")


def test_a_test_set_may_have_its_classes_in_another_order(train, tmp_path):
    """As train_det takes it; the object stays a bee."""
    test = planning.set_to_score(coco_file(tmp_path, ["bee", "ape"][::-1]), DataOptions(), train)
    turned = planning.set_to_score(coco_file(tmp_path, ["bee", "ape"]), DataOptions(), train)
    assert test.classes == turned.classes == train.classes == ("ape", "bee")
    labels = [s.records[0]["annotations"][0]["category_id"] for s in (test, turned)]
    assert labels == [1, 0]


def test_a_set_to_score_other_classes_is_refused_with_their_names(train, tmp_path):
    name = coco_file(tmp_path, ["ape", "bee", "cat"])
    with pytest.raises(ConfigError, match="2 classes and coco:.* 3; not in both: cat"):
        planning.set_to_score(name, DataOptions(), train)


def test_a_test_set_is_whole_whatever_may_be_missing_of_the_training_set(train, tmp_path):
    name = coco_file(tmp_path, ["ape", "bee"], image="absent")
    with pytest.raises(DataError, match="absent"):
        planning.set_to_score(name, DataOptions(allow_missing=1), train)


def test_a_random_net_is_measured_on_the_set_as_the_keys_read_it(train, tmp_path, monkeypatch):
    (tmp_path / "voc" / "JPEGImages" / "000001.jpg").unlink()
    plan = dataclasses.replace(
        PLAN, data=f"voc:{tmp_path / 'voc'}:train", keys=("DATASETS.ALLOW_MISSING", "1")
    )
    made = Ranking(tmp_path / "out", plan, tuple(candidates_of(["random:resnet18", "b"])))
    given = []
    monkeypatch.setattr(random_weights, "make", lambda c, path, data, size: given.append(data))
    monkeypatch.setattr(row_parts.cost, "measure", lambda *_: argparse.Namespace(to_json=dict))
    row_parts.measure_cost(made, made.candidates[0])
    assert [len(data) for data in given] == [2]


def test_a_random_net_is_measured_on_none_of_the_images_held_out(tmp_path, monkeypatch):
    """Without --test; its norms hold statistics of images."""
    tiny.voc_tree(tmp_path / "voc", images=600)
    name = f"voc:{tmp_path / 'voc'}:train"
    whole = catalog.load_detection(name)
    plan = dataclasses.replace(PLAN, data=name, test="")
    made = Ranking(tmp_path / "out", plan, tuple(candidates_of(["random:resnet18", "b"])))
    given = []
    monkeypatch.setattr(random_weights, "make", lambda c, path, data, size: given.append(data))
    monkeypatch.setattr(row_parts.cost, "measure", lambda *_: argparse.Namespace(to_json=dict))
    row_parts.measure_cost(made, made.candidates[0])
    train, _ = held_out.split(len(whole))
    expected = {whole.records[place]["file_name"] for place in train}
    names = [record["file_name"] for record in given[0].records]
    assert len(names) == random_weights.IMAGES and set(names) <= expected


def test_a_net_of_one_size_is_built_for_the_squares_of_its_ranking(train, tmp_path):
    """MaxViT beside a ResNet: its row alone has the key. By hand: windows of 128 / 32 cells."""
    pytest.importorskip("timm")
    plan = dataclasses.replace(PLAN, data=f"voc:{tmp_path / 'voc'}:train", size=128)
    words = ["square=random:timm:test_maxvit", "any=random:resnet18"]
    made = Ranking(tmp_path / "out", plan, tuple(candidates_of(words)))
    for candidate, side in zip(made.candidates, (128, 0), strict=True):
        row_parts.measure_cost(made, candidate)
        assert made.read_row(candidate, COST)["image_size"] == side
        keys = keys_of_row(made, candidate, 1)
        assert ("MODEL.NET.IMAGE_SIZE" in keys) == bool(side)
        config, *_ = row_parts.cost.built(made, candidate, 1)
        assert side == config.cfg.MODEL.NET.IMAGE_SIZE


def test_a_net_that_cannot_be_built_for_the_squares_is_a_page(train, tmp_path, monkeypatch):
    """What its library says of the size, and what to do, without a trace."""
    pytest.importorskip("timm")
    build = random_weights.nets.build

    def of_other_sides(name, *classes, **options):
        if options.get("image_size"):
            raise ValueError(f"{name} has no size 128; leave them out")
        return build(name, *classes, **options)

    monkeypatch.setattr(random_weights.nets, "build", of_other_sides)
    (candidate,) = candidates_of(["square=random:timm:test_maxvit"])
    page = "images of 128 pixels alone: timm:test_maxvit has no size 128. Leave this backbone out"
    with pytest.raises(ConfigError, match=page):
        random_weights.make(candidate, tmp_path / "s.safetensors", train, 128)
    assert not (tmp_path / "s.safetensors").exists()


def test_a_row_of_an_older_ranking_states_no_size(ranking):
    assert "MODEL.NET.IMAGE_SIZE" not in keys_of_row(ranking, ranking.candidates[0], 1)
