"""The page's captions: which images and runs are shown, beside what people wrote, and where captioners looked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from crossmodal.core.files import write_parquet
from crossmodal.datasets import items
from crossmodal.experiments import Job
from crossmodal.reporting.page import showcase
from crossmodal.reporting.page.showcases import captions
from crossmodal.tasks.captions.references import shown

BOXES = [[0.0, 0.0, 20.0, 30.0], [20.0, 0.0, 40.0, 30.0]]


@pytest.fixture
def made(tmp_path: Path):
    """Twenty test images with two captions each; two seeds of NIC, and updown with attention, also of a tenth."""
    data, results = tmp_path / "data", tmp_path / "results"
    folder = data / "toy"
    rows = []
    for i in range(20):
        rows.append((f"i{i}", "image", f"g{i}", None, "test", f"i{i}.png"))
        rows += [(f"i{i}#{k}", "text", f"g{i}", None, "test", f"text {k} of <{i}>") for k in range(2)]
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (10 * i, 0, 0)).save(folder / "raw" / f"i{i}.png")
    items.write(pd.DataFrame(rows, columns=list(items.COLUMNS)), folder, {"root": "raw"})
    ids = [f"i{i}" for i in range(20)]
    index = pd.DataFrame({"item_id": ids, "row": range(20), "boxes": [BOXES] * 20})
    write_parquet(folder / "features" / "image.regions.parquet", index)
    jobs = {}
    scores = {("full", "nic", 0): 20.0, ("full", "nic", 1): 90.0, ("full", "updown", 0): 30.0,
              ("10pct-1cap", "updown", 0): 10.0}  # fmt: skip
    for (split, model, seed), score in scores.items():
        inputs = {"image": "regions" if model == "updown" else "raw"}
        job = Job(dataset="toy", split=split, model=model, seed=seed, inputs=inputs, settings={})
        jobs[job.key] = job
        task = results / "runs" / job.key / "captioning"
        said = [f"{model} {split} {seed} of {i}" for i in range(20)]
        facts = {"protocol": "all", "aspect": "image-to-caption", "fold": 0, "query_id": ids, "query_group": ids}
        write_parquet(task / "examples.parquet", pd.DataFrame({**facts, "caption": said, "cider": score}))
        if model == "updown":
            looked = [{"query_id": "i0", "place": n, "word": w, "weights": np.array(v)}
                      for n, (w, v) in enumerate((("updown", [0.9, 0.1]), ("full", [0.0, 1.0])))]  # fmt: skip
            write_parquet(task / "attention.parquet", pd.DataFrame(looked[::-1]))
    params = SimpleNamespace(datasets={"toy": SimpleNamespace(title="Toy photographs")})
    plan = SimpleNamespace(params=params, shown=lambda jobs: [])
    return plan, jobs, results, data


def test_images_are_evenly_spaced():
    assert shown(20).tolist() == [0, 3, 5, 8, 11, 14, 16, 19]
    assert shown(3).tolist() == [0, 1, 2]
    assert shown(1).tolist() == [0]


def test_each_image_with_its_references_and_the_best_first(made):
    plan, jobs, results, data = made
    chosen = captions._chosen([*jobs.values()], plan, jobs, results)
    assert [job.key for job, _ in chosen] == ["toy/full/updown/seed0", "toy/full/nic/seed0"]
    images = captions._images(chosen, results, data / "toy")
    assert [image.name for image in images] == ["i0", "i3", "i5", "i8", "i11", "i14", "i16", "i19"]
    assert images[1].references == ["text 0 of <3>", "text 1 of <3>"]
    assert [(line.run, line.caption, line.cider) for line in images[1].lines] == [
        ("updown", "updown full 0 of 3", 30.0),
        ("nic", "nic full 0 of 3", 20.0),
    ]
    assert images[0].drawn[1:] == (40, 30)
    first, second = images[0].lines[0].looks  # in the order of the words, whatever that of the rows
    assert (first.word, second.word) == ("updown", "full")
    assert [(light.x, light.opacity) for light in first.lights] == [(20.0, 0.1), (0.0, 0.9)]
    assert images[1].lines[0].looks is None


def test_marked_runs_of_sparse_splits_stand_beside_them(made):
    plan, jobs, results, _ = made
    plan.shown = lambda jobs: [jobs["toy/10pct-1cap/updown/seed0"]]
    chosen = captions._chosen([*jobs.values()], plan, jobs, results)
    assert captions._label(chosen[-1][0]) == "updown, 10pct-1cap"


def test_the_part_of_the_page(made):
    (part,) = showcase.parts(*made)
    assert (part.name, part.short) == ("captions", "Captions")
    assert part.html.count("<article>") == 8
    assert "Toy photographs" in part.html
    assert "text 0 of &lt;3&gt;" in part.html
    assert part.html.count("<details>") == 1
    ids = [piece.split('"')[0] for piece in part.html.split(' id="')[1:]]
    assert len(ids) == len({*ids}) == 3  # the stored picture and a mask for each of two words


def test_nothing_to_show_is_no_part(made, tmp_path, caplog):
    plan, jobs, results, data = made
    assert showcase.parts(plan, {}, results, data) == []
    assert showcase.parts(plan, jobs, tmp_path / "elsewhere", data) == []
    (data / "toy" / "items.parquet").write_bytes(b"damaged")
    assert showcase.parts(plan, jobs, results, data) == []
    assert "no captions of toy are shown" in caplog.text


def test_boxes_that_are_not_there_are_a_line_in_the_log(made, caplog):
    plan, jobs, results, data = made
    (data / "toy" / "features" / "image.regions.parquet").unlink()
    (part,) = showcase.parts(plan, jobs, results, data)
    assert "<details>" not in part.html
    assert "the attention cannot be drawn" in caplog.text


def test_examples_that_are_listed_twice_are_shown_once(made):
    """The examples of a run may come from others."""
    plan, jobs, results, data = made
    path = results / "runs" / "toy/full/nic/seed0" / "captioning" / "examples.parquet"
    frame = pd.read_parquet(path)
    write_parquet(path, pd.concat([frame, frame]))
    chosen = captions._chosen([*jobs.values()], plan, jobs, results)
    assert [len(table) for _, table in chosen] == [20, 20]
    assert len(captions._images(chosen, results, data / "toy")) == 8
