"""A form and a model of another package, one file each; and that nothing else of this package knows forms by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal import experiments
from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus import forms
from crossmodal.experiments import Job
from crossmodal.inference.encoding import inputs_of
from crossmodal.inference.run import open_run
from crossmodal.reporting.tracking.embedder import embed, without
from crossmodal.runs.evaluate import evaluate as run_test
from crossmodal.runs.train import train_job
from tests.prepared import forget

ROOT = Path(__file__).parents[3]
FORM = '''
"""The sign of each number."""
from crossmodal.corpus.forms import base


class Form(base.Form):
    axes, holds = 2, "one vector per item, whose signs are read"
    options = {"zero": 0.5}
    outside = "numbers"

    def files(self, modality):
        return ("thresholds.txt",) if modality == "audio" else ()

    def of_rows(self, rows, counts):
        return rows.sign()
'''
MODEL = '''
"""Signs of an image's coordinates, and of each caption how often each word is there."""
import torch
from crossmodal.models import base


class Settings(base.Settings):
    zero: float = 0.5
    min_count: int = 1


class Model(base.Model):
    reads = {"image": "signs", "text": "tokens"}
    trains = False

    def encode(self, modality, batch, partner):
        if modality == "image":
            return batch.inputs["image"]
        ids = batch.inputs["text"].ids - 4
        return torch.stack([(ids == n).sum(1) for n in range(15)], 1).float()
'''


@pytest.fixture
def signs(outside, tmp_path, monkeypatch):
    """The folder of a package `signs` with a form and a model of that name."""
    monkeypatch.chdir(tmp_path)
    return outside("signs", {"form": FORM, "model": MODEL}, {"forms": {"signs": "form"}, "models": {"signed": "model"}})


def test_a_form_and_a_model_of_another_package(signs, prepared, tmp_path):
    job = Job(dataset="toy", split="full", model="signed", seed=0, inputs={"image": "raw"}, settings={})
    train_job(job, tmp_path / "run", prepared)
    run_test(job, tmp_path / "run", prepared, "embedded")
    array = np.load(prepared / "toy" / "features" / "image.raw.npy")
    kept = np.load(tmp_path / "run" / "instance_retrieval" / "embeddings.npz")
    np.testing.assert_array_equal(kept["image"], np.sign(array[48:]))
    run = open_run(tmp_path / "run")
    (found,) = inputs_of(run, prepared / "toy", "image", ["i7.jpg"], "i7")
    np.testing.assert_array_equal(found, np.sign(array[[7]]))
    assert without(job, tmp_path / "run") == ""
    vectors = embed(run, {"image": [15]}, pd.DataFrame({"image": [[*range(-7, 8)]]}))
    assert vectors.tolist() == [[-1] * 7 + [0] + [1] * 7]
    assert set(read_json(tmp_path / "run" / "manifest.json")["data"]) == {
        "items", "split", "image.raw", "image.raw.index", "text", "vocabulary",
    }  # fmt: skip


def test_it_is_planned_like_others(signs):
    params = experiments.load(ROOT / "params.yaml").model_dump()
    params["papers"] = []
    params["datasets"]["world"]["inputs"] = {"image": {"vector": "world", "signs": "pixels32"}}
    plan = experiments.plan(experiments.Params.model_validate(params), ROOT / "papers")
    job = plan.job(experiments.Experiment(model="signed", dataset="world"), 0, dataset="world")
    assert job.inputs == {"image": "pixels32"}
    files = [f"data/world/{name}" for name in ("items.parquet", "splits/full.parquet", "tokens.parquet")]
    assert plan.files_of(job) == [*files, "data/world/features/image.pixels32.json"]
    assert registry.form("signs", "audio") == {
        "array": "signs", "files": ["thresholds.txt"], "axes": 2, "outside": "numbers"
    }  # fmt: skip
    params["datasets"]["world"]["inputs"] = {"image": {"sign": "pixels32"}}
    with pytest.raises(ValueError, match=r"datasets\.world\.inputs\.image: 'sign' is no form .*; did you mean 'signs'"):
        experiments.Params.model_validate(params)


def test_a_changed_form_changes_the_models_that_read_it(signs):
    before = {name: registry.source_hash("models", name) for name in ("signed", "cca")}
    (signs / "form.py").write_text(FORM.replace("rows.sign()", "rows.sign() + 1"))
    forget("signs")
    after = {name: registry.source_hash("models", name) for name in ("signed", "cca")}
    assert before["signed"] != after["signed"]
    assert before["cca"] == after["cca"]


def test_a_module_that_is_no_form(signs):
    (signs / "form.py").write_text("import not_installed_anywhere\n")
    forget("signs")
    with pytest.raises(UserError, match=r"form of input 'signs' \(signs\.form\): No module named"):
        registry.form("signs", "image")


def test_which_forms_a_model_may_read():
    assert registry.forms_of("a3vse") == ("region_names", "regions", "tokens")
    assert registry.forms_of("sg") == ("concepts",)
    assert registry.forms_of("mcvs") == ("vector",)
    assert {"pixels", "images", "tokens", "vector"} == set(registry.forms_of("mfsr"))
    assert registry.further("a3vse") == {"semantics": ("image", "region_names")}


@pytest.mark.parametrize(
    ("name", "modality", "array", "files"),
    [
        ("vector", "audio", "vector", []),
        ("tokens", "text", None, ["tokens.parquet"]),
        ("concepts", "image", "regions", []),
        ("concepts", "text", None, ["tokens.parquet", "items.json"]),
        ("classes", "class", None, []),
        ("region_names", "image", None, []),
    ],
)
def test_what_must_be_made_first(name, modality, array, files):
    declared = registry.form(name, modality)
    assert (declared["array"], declared["files"]) == (array, files)


def test_what_must_be_made_first_is_known_without_torch():
    registry.form("regions", "image")  # remembered from now on
    code = "import sys; from crossmodal.core import registry; registry.form('regions', 'image')"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- that forms are known by name to nobody else ----------------------------------------------------------------------

SOURCE = ROOT / "src" / "crossmodal"
ELSEWHERE = ("corpus/forms/", "models/", "datasets/", "features/", "released/", "registry.py")
"""Forms themselves and who chooses them; readers and extractors, whose files have words of their own (`images`)."""


def branches(text: str) -> set[str]:
    """Names of forms that a module compares something with, or holds in a set."""
    known = set(registry.names("forms"))
    parts = [part for part in ast.walk(ast.parse(text)) if isinstance(part, ast.Compare | ast.Set | ast.MatchValue)]
    inside = [part for one in parts for part in ast.walk(one) if isinstance(part, ast.Constant)]
    return {part.value for part in inside if isinstance(part.value, str)} & known


def test_what_counts_as_a_branch():
    assert branches('if form == "tokens": pass') == {"tokens"}
    assert branches('x = form in ("pixels", "images")') == {"pixels", "images"}
    assert branches('x = {"tokens", "concepts"} & reads') == {"tokens", "concepts"}
    assert branches('x = {"images": 3}') == set()


def test_no_other_module_branches_on_the_name_of_a_form():
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(ELSEWHERE):
            found[name] = branches(path.read_text())
    assert len(found) > 90
    assert {name: names for name, names in found.items() if names} == {}


def test_every_form_is_a_form():
    for name in registry.names("forms"):
        one = forms.form(name)
        assert one.name == name
        assert (one.holds != "") == (one.axes is not None)
        assert one.outside in ("", "sentences", "numbers")
    torch.testing.assert_close(forms.form("vector").of_rows(torch.ones(1, 2).half(), None), torch.ones(1, 2))
