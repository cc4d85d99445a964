"""The real DAG over the store: what one data set has had extracted, no other extracts again."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from crossmodal.core.files import read_json
from crossmodal.features.engine import store
from tests.pipeline.commands import ROOT, ok
from tests.warm import snakemake, variables

pytestmark = pytest.mark.slow
SMALL = {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 32, "crop": 32}


def made(folder, *words):
    code, text = snakemake(folder, *words)
    assert code == 0, text
    return text


def photographs(folder):
    """Twelve photographs with two captions each, as Karpathy's files name them."""
    (folder / "raw").mkdir()
    rng = np.random.default_rng(0)
    listed = []
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"raw/{i}.jpg")
        split = "train" if i < 6 else "val" if i < 9 else "test"
        listed.append({"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"thing {i}"}, {"raw": "seen"}]})
    (folder / "raw/dataset.json").write_text(json.dumps({"images": listed}))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with two data sets of the same photographs and a paper of one system."""
    folder = tmp_path_factory.mktemp("features")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "papers").mkdir()
    photographs(folder)
    table = {"id": "t", "title": "T", "source": "S", "dataset": "one", "protocol": "P", "rows": [], "columns": []}
    experiments = {"vse0": {"model": "vse0", "dataset": "one"}}
    paper = {"title": "T", "authors": "A", "venue": "V", "year": 2020, "doi": "d", "tables": [table]}
    (folder / "papers/p.yaml").write_text(yaml.safe_dump({**paper, "experiments": experiments}))
    block = {"reader": "karpathy", "annotations": "raw/dataset.json", "images": "raw"}
    params = {
        "papers": ["p"],
        "seeds": [0],
        "scale": "full",
        "inputs": {"image": "small"},
        "datasets": {name: {**block, "title": name} for name in ("one", "two")},
        "extractors": {"small": SMALL},
        "tracking": {"enabled": False},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def extracted(folder, dataset):
    """Whether the last extraction of a data set computed anything."""
    log = (folder / f"logs/extract/{dataset}.image.small.log").read_text()
    assert ("nothing to extract" in log) != ("12 items in" in log)
    return "12 items in" in log


def test_the_same_photographs_are_extracted_once(project):
    """Also where two data sets want them at the same moment; and what is deleted or outdated is linked again."""
    one, two = (project / f"data/{name}" for name in ("one", "two"))
    wanted = ("features", "data/two/features/image.small.json")
    made(project, *wanted)
    assert sorted([extracted(project, "one"), extracted(project, "two")]) == [False, True]
    arrays = [store.paths(folder / "features/image.small")[0] for folder in (one, two)]
    assert arrays[0].samefile(arrays[1])
    before = read_json(one / "features/image.small.json")
    assert read_json(two / "features/image.small.json") == before

    shutil.rmtree(one / "features")
    table = pd.read_parquet(two / "items.parquet")
    table.to_parquet(two / "items.parquet", compression="gzip")  # other bytes, the same items
    text = made(project, *wanted)
    assert "rule items" not in text
    for name in ("one", "two"):
        assert f"data/{name}/features/image.small.npy" in text
        assert not extracted(project, name)
        assert store.open_features(project / f"data/{name}/features/image.small").manifest == before
    assert "Nothing to be done" in made(project, "-n", *wanted)


def planned(folder, *words):
    """The rules that a dry run would run."""
    text = made(folder, "-n", *words)
    return {line.removeprefix("rule ").rstrip(":") for line in text.splitlines() if line.startswith("rule ")}


def test_what_people_bring_is_looked_at_before_each_run(project):
    """A replaced photograph is extracted again, a mended caption read again; a touched file is neither."""
    target = "data/two/features/image.small.json"
    path, captions = project / "raw/3.jpg", project / "raw/dataset.json"
    made(project, target)
    before = read_json(project / target)
    path.touch()
    captions.touch()
    assert planned(project, target) == set()

    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    assert planned(project, target) == {"extract"}
    made(project, target)
    assert read_json(project / target)["sha256"] != before["sha256"]
    captions.write_text(captions.read_text().replace("thing 7", "thing seven"))
    assert planned(project, target) == {"items", "extract"}
    captions.write_text(captions.read_text().replace("thing seven", "thing 7"))
    assert planned(project, target) == set()


@pytest.fixture
def versioned(project):
    """The same under DVC."""
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    shutil.copytree(ROOT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__"))
    params = yaml.safe_load((project / "params.yaml").read_text())
    params |= {
        "models": {},
        "scales": {},
        "splits": {"seed": 0},
        "evaluation": {},
        "threads": {},
        "encoders": {},
        "sweeps": {},
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    ok(project, "git", "init", "--quiet")
    return project


def test_dvc_makes_again_what_a_replaced_photograph_changes(versioned):
    manifest = versioned / "data/one/features/image.small.json"
    ok(versioned, "dvc", "repro", "data", **variables())
    before = read_json(manifest)
    assert "Stage 'data' didn't change" in ok(versioned, "dvc", "repro", "data", **variables())
    Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(versioned / "raw/5.jpg")
    assert "Running stage 'data'" in ok(versioned, "dvc", "repro", "data", **variables())
    after = read_json(manifest)
    assert after["sha256"] != before["sha256"]
    assert extracted(versioned, "one")
    assert "Stage 'data' didn't change" in ok(versioned, "dvc", "repro", "data", **variables())


def test_a_failed_step_says_why_though_rules_are_quiet(project):
    """As `make demo` runs them."""
    captions = project / "raw/dataset.json"
    before = captions.read_text()
    captions.write_text("{")
    try:
        code, text = snakemake(project, "data/one/items.parquet", "--quiet", "rules")
    finally:
        captions.write_text(before)
    assert code != 0
    assert "raw/dataset.json: is not valid JSON" in text


def test_one_core_is_one_core_in_the_pools_of_a_step(project):
    target = "data/two/features/image.small.json"
    made(project, target)
    before = read_json(project / target)["sha256"]
    shutil.rmtree(project / "data/.features")
    made(project, target, "--cores", "1", "--forcerun", "extract")
    log = (project / "logs/extract/two.image.small.log").read_text()
    assert "image.small: 12 items are extracted on 1 core\n" in log
    assert "image.small: 12 items will be made of a fallback: seeded random weights\n" in log
    assert read_json(project / target)["sha256"] == before
