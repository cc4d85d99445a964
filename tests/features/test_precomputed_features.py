"""From files of other tools to what a model is given: the very numbers, in their order."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.io import savemat

from crossmodal import cli, experiments
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus.opening import load
from crossmodal.datasets import items
from crossmodal.datasets import precomputed as reader
from crossmodal.experiments import validated
from crossmodal.features import precomputed
from crossmodal.features.engine import extraction, store

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(30, 8)).astype(np.float32)
TEXTS = RNG.normal(size=(30, 5)).astype(np.float32)
CLASSES = np.arange(30) % 3 + 1


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which `crossmodal` runs, and the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").mkdir()
    (tmp_path / "raw").mkdir()

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["crossmodal", *words])
        cli.app(standalone_mode=False)

    return run


def params(modalities, extractors=None, **block):
    datasets = {"mine": {"kind": "precomputed", "title": "Mine", "root": "raw", "modalities": modalities, **block}}
    text = {"papers": [], "seeds": [0], "datasets": datasets, "extractors": extractors or {}, "scale": "full"}
    Path("params.yaml").write_text(yaml.safe_dump(text))


def written(kind, matlab73):
    """Image and text arrays with labels in one file of a kind; {name: array name}."""
    path = Path("raw") / kind
    values = {"I_tr": IMAGES[:20], "I_te": IMAGES[20:], "T_tr": TEXTS[:20], "T_te": TEXTS[20:]}
    values |= {"y_tr": CLASSES[:20, None].astype(float), "y_te": CLASSES[20:, None].astype(float)}
    if kind == "v5.mat":
        savemat(path, values)
    elif kind == "v7.3.mat":
        matlab73(path, **values)
    elif kind == "x.npz":
        np.savez(path, **values)
    elif kind == "x.h5":
        with h5py.File(path, "w") as file:
            for name, value in values.items():
                file[f"all/{name}"] = value
        return {name: f"all/{name}" for name in values}
    else:  # a table has one length: one a partition
        for part in ("tr", "te"):
            names = {f"I_{part}": "I", f"T_{part}": "T", f"y_{part}": "y"}
            columns = {short: list(np.squeeze(values[name])) for name, short in names.items()}
            pd.DataFrame(columns).to_parquet(f"raw/{part}.parquet")
        return {name: name[0] for name in values}
    return {name: name for name in values}


@pytest.mark.parametrize("kind", ["v5.mat", "v7.3.mat", "x.npz", "x.h5", "x.parquet"])
def test_prepare_extract_load(project, kind, matlab73):
    names = written(kind, matlab73)

    def parts(letter):
        file = "{}.parquet" if kind == "x.parquet" else kind
        return [
            {"partition": p, "file": file.format(s), "array": names[f"{letter}_{s}"], "labels": names[f"y_{s}"]}
            for p, s in (("train", "tr"), ("test", "te"))
        ]

    params({"image": parts("I"), "text": parts("T")}, paired=["image", "text"], val=0.3)
    project("prepare", "mine")
    project("split", "mine", "full")
    plan = experiments.plan(experiments.load())
    assert plan.inputs_of("mine") == {"image": "precomputed", "text": "precomputed"}
    for modality, name in plan.inputs_of("mine").items():
        project("extract", "mine", name, "--modality", modality)
    corpus = load(Path("data/mine"), "full", {"image": "vector", "text": "vector"}, plan.inputs_of("mine"))
    frame = items.read(Path("data/mine"))
    for modality, expected in (("image", IMAGES), ("text", TEXTS)):
        one = corpus.inputs[modality]
        assert np.array_equal(one.gather(np.arange(30)).numpy(), expected)
        assert frame.label[frame.modality == modality].tolist() == [str(c) for c in CLASSES]
        assert (one.partition == "val").sum() == 6
    assert corpus.n_pairs == 14
    assert np.array_equal(corpus.pairs["image"], corpus.pairs["text"])  # row i with row i
    manifest = read_json("data/mine/features/text.precomputed.json")
    assert len(manifest["files"]) == (2 if kind == "x.parquet" else 1)
    with pytest.raises(UserError, match="its texts are arrays"):
        project("tokenize", "mine")


def test_what_a_model_reads_must_be_there(project):
    np.save("raw/a.npy", IMAGES)
    params({"text": {"partition": "train", "file": "a.npy"}})
    plan = experiments.plan(experiments.load())
    with pytest.raises(UserError, match="'vsepp' reads text as words, of which there are none, only arrays"):
        plan.job(experiments.Experiment(model="vsepp", dataset="mine"), 0)
    params({"image": {"partition": "train", "file": "a.npy"}, "text": {"partition": "train", "captions": "c.txt"}})
    plan = experiments.plan(experiments.load())
    assert plan.job(experiments.Experiment(model="vsepp", dataset="mine"), 0).inputs == {"image": "precomputed"}
    params({"image": {"partition": "train", "file": "a.npy"}}, reader="karpathy")
    with pytest.raises(UserError, match="gives both reader: karpathy and kind: precomputed"):
        experiments.load()
    params({"image": {"partition": "train", "file": "a.npy", "lables": "y"}})
    plan = experiments.plan(experiments.load())
    with pytest.raises(UserError, match=r"modalities\.image\.0\.lables: unknown key; did you mean 'labels'"):
        project("prepare", "mine")


def frame_of(sources, modality="image"):
    return pd.DataFrame(
        {
            "item_id": [str(i) for i in range(len(sources))],
            "modality": modality,
            "partition": "train",
            "source": sources,
        }
    )


def extracted(folder, sources, **settings):
    chosen = validated(precomputed.Settings, settings, "extractors.precomputed")
    extraction.run(
        "precomputed",
        frame_of(sources),
        folder,
        chosen,
        folder / "f" / "image.precomputed",
        threads=2,
        modality="image",
    )
    return store.open_features(folder / "f" / "image.precomputed")


def test_region_sets_with_counts_and_half_floats(tmp_path):
    sets = RNG.normal(size=(6, 4, 3)).astype(np.float16)
    sets[2, 3] = np.nan  # padding
    np.save(tmp_path / "r.npy", sets)
    found = extracted(tmp_path, [*(f"r.npy#/{i}[:{c}]" for i, c in ((5, 4), (2, 3), (0, 1))), "r.npy#/1"])
    assert found.array.dtype == np.float16
    assert found.counts.tolist() == [4, 3, 1, 4]
    assert np.array_equal(found.array[0], sets[5])
    assert np.array_equal(found.array[1, :3], sets[2, :3])
    assert not found.array[1, 3:].any()
    assert not found.array[2, 1:].any()


def test_types_are_kept_or_as_told(tmp_path):
    np.save(tmp_path / "d.npy", np.array([[1.5, 1e-3], [2, 70000]]))
    sources = ["d.npy#/0", "d.npy#/1"]
    found = extracted(tmp_path, sources)
    assert found.array.dtype == np.float32
    assert found.manifest["settings"] == {"dtype": "float32"}
    assert np.array_equal(found.array, np.array([[1.5, 1e-3], [2, 70000]], np.float32))
    with pytest.raises(UserError, match="too large for float16"):
        extracted(tmp_path, sources, dtype="float16")


def test_bad_rows_are_refused_or_left_out(tmp_path):
    values = IMAGES.copy()
    values[[3, 7], 2] = np.nan, np.inf
    np.savez(tmp_path / "x.npz", a=values)
    sources = [f"x.npz#a/{i}" for i in range(30)]
    with pytest.raises(UserError, match=r"x\.npz#a: row 3 \(3\) is not all finite numbers"):
        extracted(tmp_path, sources)
    found = extracted(tmp_path, sources, on_error="skip")
    assert found.skipped == ["3", "7"]
    assert np.array_equal(found.array, np.delete(IMAGES, [3, 7], axis=0))


def test_files_that_have_changed_or_gone(tmp_path):
    np.savez(tmp_path / "x.npz", a=IMAGES)
    sources = [f"x.npz#a/{i}" for i in range(30)]
    one = extracted(tmp_path, sources).manifest["identity"]
    np.savez(tmp_path / "x.npz", a=-IMAGES)
    found = extracted(tmp_path, sources)
    assert found.manifest["identity"] != one
    assert np.array_equal(found.array, -IMAGES)
    np.savez(tmp_path / "x.npz", a=IMAGES[:20])
    with pytest.raises(UserError, match="has 20 rows, not 21"):
        extracted(tmp_path, sources)
    np.save(tmp_path / "y.npy", IMAGES)
    (tmp_path / "y.npy").write_bytes((tmp_path / "y.npy").read_bytes()[:-9])
    found = extracted(tmp_path, [*sources[:3], "y.npy#/0", "y.npy#/1", "gone.npy#/0"], on_error="skip")
    assert found.skipped == ["3", "4", "5"]
    assert "y.npy: is truncated" in found.manifest["skipped"][0]["reason"]
    np.savez(tmp_path / "x.npz", b=IMAGES)
    with pytest.raises(UserError, match=r"has no array 'a'; .*\(known: b\)"):
        extracted(tmp_path, sources)
    with pytest.raises(UserError, match=r"'photograph\.jpg' is no row of an array"):
        extracted(tmp_path, ["photograph.jpg"])


def test_the_example_over_a_small_world(project, tmp_path):
    """examples/precomputed.yaml on what this pipeline itself makes of photographs and captions."""
    rows = [(f"i{i}", "image", f"i{i}", None, p, f"{i}.jpg") for i, p in enumerate(["train"] * 8 + ["val", "test"] * 2)]
    rows += [(f"{g}#{k}", "text", g, None, p, f"caption {k} of {g}") for _, _, g, _, p, _ in rows for k in range(5)]
    world = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(world, Path("data/scenes"), {"root": "."})
    Path("data/scenes/features").mkdir()
    np.save("data/scenes/features/image.scenes.npy", IMAGES[:12])
    example = (ROOT / "examples/precomputed.yaml").read_text()
    Path("over.yaml").write_text(example.replace("4400", "12"))
    both = experiments.merge(*(experiments.read_yaml(path) for path in (ROOT / "params.yaml", Path("over.yaml"))))
    Path("params.yaml").write_text(yaml.safe_dump(both))
    params = experiments.load()
    assert str(params.datasets["scenes"].settings["images"]) in example  # the images that the example counts on
    plan = experiments.plan(params, ROOT / "papers")
    assert {job.dataset for job in plan.jobs.values()} == {"elsewhere"}
    read = {job.model for job in plan.jobs.values()}
    assert "vsepp" in read
    assert not read & {"scan", "a3vse", "dan", "sg"}  # they read regions
    for name in ("vsepp_files", "xmedia_arrays"):
        validated(reader.Settings, params.datasets[name].settings, name)
    shutil.copytree(ROOT / "papers", "papers", dirs_exist_ok=True)
    project("prepare", "elsewhere")
    project("extract", "elsewhere", "precomputed")
    found = items.read(Path("data/elsewhere"))
    for column in ("modality", "group_id", "partition"):
        assert found[column].tolist() == world[column].tolist()
    assert found.source[12:].tolist() == world.source[12:].tolist()
    assert np.array_equal(store.open_features("data/elsewhere/features/image.precomputed").array, IMAGES[:12])
