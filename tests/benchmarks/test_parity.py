"""The parity script itself: changes in a program's copy, what the programs are given, the verdict and the page.

The comparisons need the authors' programs, which are not here: name their folder as CROSSMODAL_PROGRAMS to hold one
step of VSE++ against theirs, and losses and scores of other systems.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.language.tokens import Vocabulary, token_table

PARITY = Path(__file__).parents[2] / "benchmarks" / "parity"


@pytest.fixture(autouse=True)
def _beside(monkeypatch):
    """Its modules import each other by their bare names."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(PARITY))
    yield
    for name in set(sys.modules) - before:
        if str(PARITY) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


OLD = """
class Meters(dict):
    def told(self):
        return sorted(self.iteritems())


def placed(rows, ids):
    found = [0, 0, 0]
    for i, value in zip(list(ids), rows):
        found[i] = value
    return found


def half(index, parts):
    return index/parts
"""
"""A program in the old idioms, of our own."""


def program_of(**changed):
    import programs

    changes = (
        programs.Change("iteritems", "Python 2", r"\.iteritems\(\)", ".items()"),
        programs.Change("halves", "Python 2", r"\bindex\s*/\s*", "index // "),
    )
    return programs.Program(
        **{"name": "old", "where": "nobody/old", "files": ("main.py",), "changes": changes, **changed}
    )


def test_a_changed_copy_runs_and_the_users_folder_is_left_alone(tmp_path):
    import programs

    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "main.py").write_text(OLD)
    copy = programs.copied(program_of(), folder, tmp_path / "copy")
    assert (folder / "main.py").read_text() == OLD
    code = "import main, tensorboard_logger; print(main.Meters(b=1, a=2).told(), main.half(7, 5))"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[('a', 2), ('b', 1)] 1"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "git clone https://github.com/nobody/old"),
        ({"files": ("main.py", "model.py")}, "lacks model.py"),
    ],
)
def test_a_program_that_is_not_there_is_told_of_with_its_repository(tmp_path, change, told):
    import programs

    folder = tmp_path / "old"
    if change:
        folder.mkdir()
        (folder / "main.py").write_text(OLD)
    with pytest.raises(programs.UnfitError, match=told) as error:
        programs.copied(program_of(**change), folder, tmp_path / "copy")
    assert "skipped" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_program_in_folders_is_copied_with_them(tmp_path):
    import programs

    folder = tmp_path / "old" / "package" / "inner"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(OLD)
    copy = programs.copied(program_of(files=("package/inner/main.py",)), tmp_path / "old", tmp_path / "copy")
    assert ".items()" in (copy / "package" / "inner" / "main.py").read_text()


def test_captioners_are_compared_on_the_same_words():
    """A program has one mark, 0, for the start, the end and padding; our words are 3 more than its."""
    import captioners

    from crossmodal.models import base

    tokens = base.Tokens(torch.tensor([[2, 4, 6, 3], [2, 9, 3, 0]]), torch.tensor([4, 3]))
    ids, mask = captioners.labels_of(tokens)
    assert ids.tolist() == [[0, 1, 3, 0], [0, 6, 0, 0]]
    assert mask.tolist() == [[True, True, True, True], [True, True, True, False]]
    batch, again = captioners.batch_of(captioners.SMALL, 2), captioners.batch_of(captioners.SMALL, 2, again=True)
    features = batch.inputs["image"].features
    assert again.inputs["image"].features.equal(features.repeat_interleave(2, 0))
    # Both ways of one batch have one loss: what an image's captions share changes nothing.
    for kind, (name, _) in captioners.NAMES.items():
        ours = captioners.ours_of(name, captioners.SMALL)
        one, other = (ours.likelihood(side)["loss"].item() for side in (batch, again))
        assert one == pytest.approx(other, rel=1e-5), kind


def test_another_version_of_a_program_is_not_run_half_changed(tmp_path):
    import programs

    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "main.py").write_text(OLD.replace("iteritems", "items"))
    with pytest.raises(programs.UnfitError, match=r"another version of nobody/old"):
        programs.copied(program_of(), folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = Variable(images, volatile=volatile)", "x = images"),
        ("x = Variable(f(a[b:c]), volatile=True)", "x = f(a[b:c])"),
        ("out[ids] = 1; out[ids,:n] = 2", "out[list(ids)] = 1; out[list(ids),:n] = 2"),
        ("    self.length = 5000", "    self.length = min(5000, self.length)"),
        ("words(str(line).lower().decode('utf-8'))", "words(line.lower().decode('utf-8'))"),
        ("clip_grad_norm(p, 2)", "clip_grad_norm_(p, 2)"),
        ("grouped[kids]", "grouped[kids]"),
    ],
)
def test_changes_do_what_they_say(old, new):
    import re

    import programs

    for change in programs.SHARED:
        old = re.sub(change.pattern, change.replacement, old, flags=re.MULTILINE)
    assert old == new


@pytest.fixture
def captioned(tmp_path):
    """A prepared data set of four photographs, whose captions lie in another order than the photographs."""
    from crossmodal.features.engine import store

    rows = []
    parts = {"d": "train", "b": "val", "c": "test", "a": "train"}
    for name, partition in parts.items():
        rows.append((name, "image", name, None, partition, f"{name}.jpg"))
    for name, partition in reversed(parts.items()):
        rows += [(f"{name}#{k}", "text", name, None, partition, f"A {name} dog, number {k}.") for k in range(5)]
    columns = ["item_id", "modality", "group_id", "label", "partition", "source"]
    frame = pd.DataFrame(rows, columns=columns)
    folder = tmp_path / "data"
    (folder / "features").mkdir(parents=True)
    frame.to_parquet(folder / "items.parquet")
    token_table(frame).to_parquet(folder / "tokens.parquet")
    target = folder / "features" / "image.x"
    order = ["a", "b", "c", "d"]
    np.save(f"{target}.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    store.save(target, pd.Series(order, name="item_id"), {})
    return folder


def test_the_programs_read_each_photograph_with_its_own_five_captions(captioned, tmp_path):
    import prepared

    assert prepared.write_captioned(captioned, "x", tmp_path / "out") == 2
    assert np.load(tmp_path / "out" / "train_ims.npy").tolist() == [[6, 7], [0, 1]]  # d, a: the items' order
    lines = (tmp_path / "out" / "train_caps.txt").read_text().splitlines()
    assert lines == [f"a {name} dog , number {k} ." for name in "da" for k in range(5)]
    assert len((tmp_path / "out" / "dev_caps.txt").read_text().splitlines()) == 5


def test_gsmns_program_reads_boxes_sizes_and_numbers_of_words_in_the_captions_order(captioned, tmp_path):
    import prepared

    from crossmodal.features.engine import store

    target = captioned / "features" / "image.r"
    np.save(f"{target}.npy", np.zeros((4, 1, 2), np.float32))
    boxes = [[[0.0, 0.0, 10.0 + n, 20.0]] for n in range(4)]
    index = pd.DataFrame({"item_id": list("abcd"), "count": 1, "boxes": boxes, "size": [[50, 40]] * 4})
    store.save(target, index, {})
    out = tmp_path / "out"
    prepared.write_captioned(captioned, "r", out)
    prepared.write_graphs(captioned, "r", out, ["<pad>", "<start>", "<end>", "<unk>", "dog", "a", "d"])
    assert np.load(out / "train_ims_bbx.npy").tolist() == [[[0, 0, 13, 20]], [[0, 0, 10, 20]]]  # d, a
    sizes = np.load(out / "train_ims_size.npy")
    assert (sizes[1]["image_w"], sizes[1]["image_h"]) == (50, 40)
    lines = (out / "train_precaps_stan.txt").read_text().splitlines()
    assert lines[0] == "1,5,6,4,3,3,3,3,2"  # <start> a d dog , number 0 . <end>
    assert len(lines) == 10
    assert json.loads((out / "dev_caps.json").read_text())[0][:3] == [[0, 0], [0, 1], [1, 2]]


def test_ours_is_trained_and_tested_as_a_run_is(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PARITY.parent))
    import ours
    from training import prepared as drawn

    drawn(tmp_path / "data", "full", train=24, regions=4, width=8)
    settings = {"epochs": 1, "batch_size": 16, "dim": 16, "word_dim": 8}
    spec = {"model": "pvse", "settings": settings, "folder": str(tmp_path / "data"), "inputs": {"image": "r"}}
    measured = ours.trained({**spec, "seed": 0})
    assert {f"{a}-to-{b} R@{k}" for a, b in ours.WAYS for k in (1, 5, 10)} <= set(measured["numbers"])
    assert list(measured["epochs"][0]) == ["loss", "recall_sum"]
    assert measured["seconds"]["processor"] > 0


def test_a_data_set_without_five_captions_an_image_is_refused(captioned, tmp_path):
    import prepared

    items = pd.read_parquet(captioned / "items.parquet")
    items[items.item_id != "a#3"].to_parquet(captioned / "items.parquet")
    with pytest.raises(SystemExit, match="five captions"):
        prepared.write_captioned(captioned, "x", tmp_path / "out")


def test_both_sides_know_the_same_words_and_the_programs_marks_come_first():
    import prepared

    vocabulary = Vocabulary.build([["dog", "dog", "cat"]], min_count=1)
    words = prepared.words_of(vocabulary.words)
    assert words == ["<pad>", "<start>", "<end>", "<unk>", "dog", "cat"]
    assert set(words) == set(vocabulary.words)


def runs(values, seconds):
    return [{"numbers": {"R@1": value}, "seconds": {"processor": seconds, "wall": 99.0}} for value in values]


@pytest.mark.parametrize(
    ("ours", "level"),
    [([19.0, 19.0, 19.0], True), ([18.9, 18.9, 18.9], False), ([30.0, 10.0, 17.0], True), ([30.0, 10.0, 16.6], False)],
)
def test_level_is_at_most_one_standard_deviation_of_theirs_below(ours, level):
    """Theirs is 19, 20 and 21: a mean of 20 and a sample's deviation of 1, whatever that of ours is."""
    import comparisons

    judged = comparisons.COMPARISONS["vsepp-sum"].judged(
        {"theirs": runs([19.0, 20.0, 21.0], 2.0), "ours": runs(ours, 1.0)}
    )
    assert judged["numbers"]["R@1"]["theirs"] == {"mean": 20.0, "sd": 1.0}
    assert judged["level"] is judged["numbers"]["R@1"]["level"] is level
    assert judged["time_ratio"] == 0.5
    assert judged["in_time"]


def test_one_seed_has_no_deviation_to_hide_in():
    import comparisons

    judged = comparisons.COMPARISONS["vsepp-sum"].judged({"theirs": runs([20.0], 2.0), "ours": runs([19.99], 2.1)})
    assert judged["numbers"]["R@1"]["theirs"]["sd"] is None
    assert not judged["level"]
    assert not judged["in_time"]


def test_fewer_epochs_shorten_both_sides_alike():
    import comparisons

    one = comparisons.COMPARISONS["vsepp-hardest"].smaller(10, 64)
    assert (one.settings["epochs"], one.settings["lr_drop"], one.settings["dim"]) == (10, 10, 64)
    assert (one.options["num_epochs"], one.options["lr_update"], one.options["embed_size"]) == (10, 10, 64)


def test_both_sides_of_every_comparison_have_the_same_settings():
    """Those of ours that have a name on a program's command line."""
    import comparisons

    names = {
        **{"epochs": "num_epochs", "lr_drop": "lr_update", "lr": "learning_rate", "batch_size": "batch_size"},
        **{"dim": "embed_size", "smooth": "lambda_softmax", "sharpness": "lambda_lse"},
    }
    # PVSE's program lowers its learning rate by a look at the validation, after ten epochs at the earliest.
    more_names = {"lr": "lr", "heads": "num_embeds", "discrepancy": "mmd_weight", "diversity": "div_weight"}
    more_names |= {"train_words": "txt_finetune", "lr_drop": None}
    for one in comparisons.COMPARISONS.values():
        if one.kind in ("captioned", "mapped"):
            more = {} if one.kind == "captioned" else more_names
            for ours, theirs in {**names, **more}.items():
                if theirs:
                    assert one.settings.get(ours) == one.options.get(theirs), (one.name, ours)
            hardest = one.model != "vse0" and one.settings.get("warm_up") != 1.0
            assert bool(one.options.get("max_violation")) is hardest


def test_the_page_shows_what_is_level_and_what_is_not(tmp_path):
    import comparisons
    import table

    from crossmodal.core.files import write_json

    one = comparisons.COMPARISONS["vsepp-sum"]
    found = {"theirs": runs([19.0, 20.0, 21.0], 2.0), "ours": runs([10.0, 10.0, 10.0], 1.0)}
    for side in found.values():
        for run in side:
            run["epochs"] = [{"loss": 4.0}, {"loss": 2.0}]
    about = {"title": one.title, "program": "fartashf/vsepp", "notes": "", "settings": {"ours": one.settings}}
    write_json(tmp_path / "parity-vsepp-sum.json", {**about, **found, **one.judged(found)})
    table.write(tmp_path, tmp_path / "parity.md")
    page = (tmp_path / "parity.md").read_text()
    # Welch: t = 10 / sqrt(1 / 3) with two degrees of freedom, whose two-sided p is 1 - t / sqrt(t² + 2).
    assert "| R@1 | 20.0 ± 1.0 | 10.0 ± 0.0 | **no** | 0.003 |" in page
    assert "(epochs 30, d 1024, batch 128, lr 0.0002) | fartashf/vsepp | 3 | **no** | 3.0 | 6.0 | 0.50 | yes |" in page
    assert "- theirs: 4, 2" in page
    assert "penghu-cs/DSCMR" in page


def test_the_page_shows_the_captioners(tmp_path):
    import table

    from crossmodal.core.files import write_json

    seconds = {"floor": 0.5, "ours": 1.0, "ours, pairs": 1.25, "theirs": 2.0, "our beams": 0.5, "their beams": 4.0}
    gradients = {"a": 3e-16, "look.weight.bias": 1.0}
    systems = {
        "updown": {"loss": 1e-12, "gradients": gradients, "seconds": seconds},
        "soft": {"seconds": {"ours": 1.0}},
    }
    write_json(tmp_path / "parity-captioners.json", {"systems": systems})
    table.write(tmp_path, tmp_path / "parity.md")
    page = (tmp_path / "parity.md").read_text()
    assert "| updown | 1e-12 | 3e-16 | 0.50 | 1.00 | 1.25 | 2.00 | 0.50 | 4.00 |" in page
    assert "| soft |  |  |  | 1.00 |  |  |  |  |" in page


@pytest.mark.slow
@pytest.mark.skipif("CROSSMODAL_PROGRAMS" not in os.environ, reason="the authors' programs are not named")
@pytest.mark.parametrize("kind", ["updown", "att2in2"])
def test_captioners_take_the_steps_of_a_public_program(tmp_path, kind):
    import captioners
    import programs

    folder = Path(os.environ["CROSSMODAL_PROGRAMS"]) / programs.LUO.name
    copy = programs.copied(programs.LUO, folder, tmp_path / "program")
    found = captioners.compared(copy, kind)
    assert found["same"]
    assert max(found["gradients"].values()) < 1e-6


@pytest.mark.slow
@pytest.mark.skipif("CROSSMODAL_PROGRAMS" not in os.environ, reason="the authors' programs are not named")
@pytest.mark.parametrize("hardest", [False, True])
def test_vsepp_takes_the_steps_of_its_authors_program(tmp_path, monkeypatch, hardest):
    monkeypatch.syspath_prepend(str(PARITY.parent))
    import exact
    import programs
    from training import prepared as drawn  # a drawn data set with made-up features

    from crossmodal.corpus.opening import load

    folder = Path(os.environ["CROSSMODAL_PROGRAMS"]) / "vsepp"
    copy = programs.copied(programs.VSEPP, folder, tmp_path / "vsepp")
    drawn(tmp_path / "data", "full", train=40)
    corpus = load(tmp_path / "data", "full", {"image": "vector", "text": "tokens"}, {"image": "x"})
    settings = {"dim": 16, "batch_size": 16, "warm_up": 0.0 if hardest else 1.0}
    sizes = {"embed_size": 16, "img_dim": 2048, "vocab_size": len(corpus.vocabulary)}
    options = {**exact.OPTIONS, **sizes, "max_violation": hardest}
    found = exact.compared("vsepp", copy, corpus, settings, options)
    assert found["same"], found["differences"]


@pytest.mark.skipif("CROSSMODAL_PROGRAMS" not in os.environ, reason="the authors' programs are not named")
@pytest.mark.parametrize("name", ["cmpm", "cmrsc", "pvse", "gsmn", "dsve", "order"])
def test_losses_and_scores_are_those_of_the_authors_program(tmp_path, name):
    import programs
    import scores

    program = scores.PROGRAMS[name]
    copy = programs.copied(program, Path(os.environ["CROSSMODAL_PROGRAMS"]) / program.name, tmp_path / name)
    found = scores.compared(name, copy)
    assert found["same"], found["differences"]
