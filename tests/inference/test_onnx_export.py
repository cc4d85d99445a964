"""Runs that read the vectors of a text tower: their sentence encoder as ONNX, tower and tokenizer included."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json, write_parquet
from crossmodal.experiments import Job
from crossmodal.features.engine import extraction
from crossmodal.inference import encoding, onnx_export
from crossmodal.inference.onnx_encoder import cleaned, open_exported, place, refusal, state_of
from crossmodal.inference.run import TrainedRun
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import adapter, base, zeroshot
from tests.features.small_clip import open_clip_folder
from tests.features.small_towers import hugging_face_folder

CAPTIONS = ["a red dog runs", "Two cats &amp; the dog,  asleep", "don't " * 30, "naïve café ½ 日本"]
FURTHER = [
    "the dog",
    "a cat and two red dogs and a dog and a cat and a dog",
    "A  DOG's 3 cafe\u0301s &lt;b&gt;",
    "\U0001f600",
]


def made(folder: Path, extractor: str, system: str = "zeroshot", **settings) -> tuple[TrainedRun, Path]:
    """A run of a model on the vectors of texts, and the folder of its data set; its own is the working directory."""
    data = folder / "data" / "toy"
    items = pd.DataFrame({"item_id": [f"t{n}" for n in range(4)], "modality": "text", "source": CAPTIONS})
    items = items.assign(partition="train", group_id="0", label=None)
    write_parquet(data / "items.parquet", items)
    write_json(data / "items.json", {"root": "."})
    given = registry.module("features", extractor).Settings.model_validate(settings)
    target = data / "features" / "text.words"
    extraction.run(extractor, items, data, given, target, threads=1, modality="text")
    manifest = json.loads(Path(f"{target}.json").read_text())
    dim = np.load(f"{target}.npy").shape[1]
    torch.manual_seed(0)
    context = base.Context({"image": (dim,), "text": (dim,)})
    kind = {"zeroshot": zeroshot, "adapter": adapter}[system]
    job = Job(dataset="toy", split="none", model=system, seed=0, inputs={"text": "words"}, settings={})
    features = {"text.words": manifest["sha256"]}
    write_json(folder / "manifest.json", {"weights_sha256": "a", "data": features})
    return TrainedRun(job, kind.Model(kind.Settings(), context).eval(), Vocabulary(SPECIAL), features), data


CASES = {
    "open_clip": ("open_clip", open_clip_folder, "zeroshot", {}),
    "prompts": ("open_clip", open_clip_folder, "adapter", {"prompts": ("a photo of {}.", "{}"), "dtype": "float16"}),
    "clip": ("transformers", partial(hugging_face_folder, kind="clip"), "adapter", {}),
    "siglip2": ("transformers", partial(hugging_face_folder, kind="siglip2"), "zeroshot", {}),
    "blip": ("transformers", partial(hugging_face_folder, kind="blip"), "zeroshot", {"l2": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_exported_tower_comes_to_the_vectors_of_its_library(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    extractor, write, system, settings = CASES[case]
    run, data = made(tmp_path, extractor, system, model=write(tmp_path), precision="fp32", **settings)
    onnx_export.export(run, tmp_path, "image", data)
    state = state_of(run.job, "a", run.features)
    assert refusal(run.job, "image", state) is None
    exported = open_exported(tmp_path, run.job, "image")
    expected = encoding.encode(run, data, "text", FURTHER, "image").numpy()
    np.testing.assert_allclose([exported.encode(sentence) for sentence in FURTHER], expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    with pytest.raises(UserError, match="the sentence is empty"):
        exported.encode(" ")
    # The same weights on the vectors of another tower are another encoder: zeroshot has no weights at all.
    write_json(tmp_path / "manifest.json", {"weights_sha256": "a", "data": {"text.words": "b"}})
    assert open_exported(tmp_path, run.job, "image") is None


def test_sentences_of_other_extractors_are_not_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, data = made(tmp_path, "text", kind="bag_of_words")
    onnx_export.export(run, tmp_path, "image", data)
    reason = refusal(run.job, "image", state_of(run.job, "a", run.features))
    assert reason == "the extractor 'text' of its sentences cannot be written as ONNX"
    assert not place(run.job, "image").exists()


def test_a_tower_that_no_file_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, data = made(tmp_path, "open_clip", model=open_clip_folder(tmp_path))
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    onnx_export.export(run, tmp_path, "image", data)
    assert "an ONNX file holds less than 1,000" in refusal(run.job, "image", state_of(run.job, "a", run.features))


@pytest.mark.parametrize("how", ["lower", "whitespace", "canonicalize"])
def test_sentences_are_cleaned_as_open_clip_does(how):
    tokenizer = pytest.importorskip("open_clip.tokenizer", reason="the extra is not installed")
    for sentence in (*CAPTIONS, *FURTHER, "l\u2019oe\u0301il_de:  the \u201ccat\u201d &amp;quot;", "schÃ¶n"):
        assert cleaned(sentence, how) == tokenizer.get_clean_fn(how)(sentence)
        assert cleaned(sentence, "") == sentence
