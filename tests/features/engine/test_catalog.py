"""`crossmodal features ls` and `prune`, as a user calls them, over two data sets of the same photographs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from crossmodal import cli
from crossmodal.core.display import readable_bytes
from crossmodal.core.files import write_json
from crossmodal.features import image
from crossmodal.features.engine import catalog, store


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`crossmodal` in a folder with two data sets of the same four photographs, extracted for both."""
    monkeypatch.chdir(tmp_path)
    Path("papers").mkdir()
    Path("raw").mkdir()
    rng = np.random.default_rng(0)
    listed = []
    for i, part in enumerate(("train", "train", "val", "test")):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(f"raw/{i}.jpg")
        listed.append({"filename": f"{i}.jpg", "split": part, "sentences": [{"raw": f"photograph {i}"}]})
    Path("raw/dataset.json").write_text(json.dumps({"images": listed}))
    block = {"reader": "karpathy", "annotations": "raw/dataset.json", "images": "raw"}
    small = {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 32, "crop": 32}
    params = {
        "papers": [],
        "seeds": [0],
        "scale": "full",
        "inputs": {"image": "small"},
        "datasets": {name: {**block, "title": name} for name in ("one", "two")},
        "extractors": {"small": small, "half": {**small, "dtype": "float16"}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    calls = []
    monkeypatch.setattr(image, "forward", lambda *a, original=image.forward: calls.append(1) or original(*a))

    def call(*words, **more):
        done = CliRunner().invoke(cli.app, list(words), catch_exceptions=False, **more)
        assert done.exit_code == 0 or more, done.output
        return done

    call.computed = calls
    for name in ("one", "two"):
        call("prepare", name)
    call("extract", "one", "small")
    return call


def ls(run):
    return json.loads(run("features", "ls", "--json").stdout)


def test_the_same_features_are_made_once(run):
    computed = len(run.computed)
    assert computed
    run("extract", "two", "small")
    assert len(run.computed) == computed
    (entry,) = ls(run)
    assert entry["used_by"] == ["one/image.small", "two/image.small"]
    assert entry["stored"]
    assert entry["shape"] == [4, 1024]
    assert entry["dtype"] == "float32"
    assert entry["extractor"] == "image"
    assert entry["made_from"].startswith("shufflenet_v2_x0_5 seeded (")
    manifest = json.loads(Path("data/one/features/image.small.json").read_text())
    assert entry["identity"] == manifest["identity"]
    assert entry["made"].startswith("20")
    blocks = sum(p.stat().st_blocks for p in (Path("data/.features") / entry["identity"]).iterdir())
    assert entry["bytes"] == 512 * blocks >= 4 * 4 * 1024
    for path in Path("data/one").glob("*"):
        os.utime(path)
    shutil.rmtree("data/one/features")
    run("extract", "one", "small")
    assert len(run.computed) == computed
    assert store.open_features("data/one/features/image.small").manifest == manifest


def test_prune_removes_what_no_data_set_has(run):
    run("extract", "one", "half")
    run("extract", "two", "half")
    assert {entry["dtype"]: len(entry["used_by"]) for entry in ls(run)} == {"float32": 1, "float16": 2}
    assert "nothing to remove" in run("features", "prune").stdout
    shutil.rmtree("data/one/features")
    kept, gone = sorted(ls(run), key=lambda entry: entry["dtype"])
    assert gone["used_by"] == []
    assert run("features", "prune", input="n\n").exit_code == 1
    assert len(ls(run)) == 2
    before = readable_bytes(gone["bytes"])
    assert f"{before} freed" in run("features", "prune", "--yes").stdout
    assert [entry["identity"] for entry in ls(run)] == [kept["identity"]]
    assert store.open_features("data/two/features/image.half").array.dtype == np.float16


def test_what_is_not_in_the_store_is_listed_and_never_removed(run):
    target = Path("data/two/features/text.mine")
    target.parent.mkdir(parents=True)
    np.save(f"{target}.npy", np.zeros((2, 3), np.float32))
    store.save(target, ["a", "b"], {"extractor": "by hand"})
    Path("data/two/features/audio.bad.json").write_text("{")
    (found,) = [entry for entry in ls(run) if not entry["stored"]]
    assert found["used_by"] == ["two/text.mine"]
    assert found["identity"] is None
    assert found["extractor"] == "by hand"
    text = run("features", "ls").stdout
    assert "two/text.mine (not in the store)" in text
    assert "4 x 1024" in text
    shutil.rmtree("data/.features")  # the data set's own links stay good
    assert "nothing to remove" in run("features", "prune", "--yes").stdout
    assert {name for entry in ls(run) for name in entry["used_by"]} == {"two/text.mine", "one/image.small"}


def test_copies_are_uses_and_leavings_are_not(run):
    (entry,) = ls(run)
    array = Path("data/one/features/image.small.npy")
    data = array.read_bytes()
    array.unlink()
    array.write_bytes(data)  # as on a disk without links
    assert "nothing to remove" in run("features", "prune", "--yes").stdout
    left = Path("data/.features/0123456789abcdef")
    left.mkdir()
    (left / ".features.npy.7.part").write_bytes(bytes(100000))
    assert "unfinished" in run("features", "ls").stdout
    lock = catalog.FileLock(left.with_suffix(".lock"))
    with lock:  # somebody is at it
        assert "0 B freed" in run("features", "prune", "--yes").stdout
    assert left.exists()
    run("features", "prune", "--yes")
    assert not left.exists()
    assert [one["identity"] for one in ls(run)] == [entry["identity"]]


def test_an_empty_project(tmp_path):
    assert catalog.entries(tmp_path) == []


def test_manifests_of_others_with_odd_values_are_listed(tmp_path, capsys):
    """A data set that others have prepared brings manifests of its features."""
    odd = {key: ["x"] for key in (*catalog.TYPES, "kind", "network", "model", "weights", "vectors")}
    for number, values in enumerate((odd, dict.fromkeys(odd, 5), {key: {"a": 5} for key in odd}, dict.fromkeys(odd))):
        write_json(tmp_path / "one" / "features" / f"image.odd{number}.json", values)
        write_json(tmp_path / ".features" / f"odd{number}" / "features.json", values)
    catalog.show(catalog.entries(tmp_path))
    assert capsys.readouterr().out.count("one/image.odd") == 4


def test_fallbacks_and_what_texts_were_made_from_are_shown(run):
    params = yaml.safe_load(Path("params.yaml").read_text())
    vectors = {"photograph": "1 0", "0": "0 1", "1": "1 1"}
    Path("raw/vectors.txt").write_text("\n".join(f"{word} {numbers}" for word, numbers in vectors.items()))
    params["extractors"] |= {
        "bow": {"extractor": "text", "modality": "text", "kind": "bag_of_words"},
        "mean": {"extractor": "text", "modality": "text", "kind": "word_vectors", "vectors": "raw/vectors.txt"},
        "random": {"extractor": "text", "modality": "text", "kind": "word_vectors", "vectors": "seeded", "dim": 4},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for name in ("bow", "mean", "random"):
        run("extract", "one", name)
    shown = {entry["used_by"][0]: (entry["made_from"], entry["fallback"]) for entry in ls(run)}
    digest = hashlib.sha256(Path("raw/vectors.txt").read_bytes()).hexdigest()[:8]
    # Of the captions `photograph 0` to `photograph 3` two are training captions; five words are in all of them.
    assert shown["one/text.bow"] == ("bag_of_words, 3 words of the training captions", None)
    assert shown["one/text.mean"] == (
        f"word_vectors vectors.txt ({digest}), 5 words, 2 of them without a vector",
        None,
    )
    assert shown["one/text.random"] == ("word_vectors seeded, 5 words", "seeded random word vectors")
    assert shown["one/image.small"][1] == "seeded random weights"
    text = run("features", "ls").stdout
    assert text.count("fallback: seeded random weights") == 1
    assert text.count("fallback: seeded random word vectors") == 1
    assert "word_vectors vectors.txt" in text
