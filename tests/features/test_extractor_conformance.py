"""What every extractor must do, whatever it is. It is found by itself; `CASES` says how it is run on small inputs.

An extractor that is not listed here may say so itself: `CASES` of its module, of (modality, settings).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.features.engine import extraction, store
from tests.features.makers import MAKERS, WORDS
from tests.features.small_clip import open_clip_folder
from tests.features.small_detector import narrow, published
from tests.features.small_towers import hugging_face_folder
from tests.features.test_text_features import tiny

N = 7
PARTS = ["train"] * 5 + ["val", "test"]
BOXES = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 40, "longest": 64}
FOUND = {"boxes": "detected", "network": "resnet50", "regions": 3, "proposals": 4}
SMALL = {"network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 40, "crop": 32}


def glove(folder: Path) -> dict[str, str]:
    path = folder / "glove.txt"
    lines = [f"{word} {' '.join(map(str, np.random.default_rng(n).random(6)))}" for n, word in enumerate(WORDS)]
    path.write_text("\n".join(lines) + "\n")
    return {"vectors": str(path)}


def checkpoint(folder: Path) -> dict[str, str]:
    save_file(published(narrow(), "caffe"), folder / "detector.safetensors")
    return {"weights": str(folder / "detector.safetensors")}


def array_of_rows(folder: Path) -> dict[str, str]:
    np.save(folder / "rows.npy", np.random.default_rng(0).random((N, 5), dtype=np.float32))
    (folder / "ids.txt").write_text("".join(f"i{n}\n" for n in range(N)))
    return {"file": str(folder / "rows.npy"), "ids": str(folder / "ids.txt")}


@dataclass(frozen=True)
class Case:
    """One way to run an extractor: what its block of params.yaml says, and what the test has to make for it."""

    modality: str
    settings: dict[str, Any] = field(default_factory=dict)
    files: Callable[[Path], dict[str, str]] = lambda folder: {}
    """Further settings, which name files that it writes."""
    shown: tuple[str, ...] = ()
    """Keys that the manifest has besides everyone's."""
    source: str = ""
    """What MAKERS makes, where it is not of the modality."""

    @property
    def made(self) -> str:
        return self.source or self.modality


NETWORK = ("weights_sha256", "precision", "device", "transform")
CASES: dict[str, list[Case]] = {
    "image": [Case("image", SMALL, shown=(*NETWORK, "fallback"))],
    "pixels": [Case("image", {"resize": 40, "crop": 32}, shown=("transform",))],
    "precomputed": [Case("image", shown=("files",), source="row")],
    "released": [Case("image", {}, lambda folder: {"files": [str(folder)]}, ("files", "rows"), "released")],
    "vectors": [Case("image", {}, array_of_rows, ("array_sha256", "ids_sha256"))],
    "video": [Case("video", {**SMALL, "frames": 3}, shown=(*NETWORK, "fallback", "sampling"))],
    "audio": [
        Case("audio", shown=("standardised_by", "resampling", "pooling")),
        Case("audio", {"standardise": False}),
    ],
    "mesh": [
        Case("mesh", {"size": 64}, shown=("layout",)),
        Case("mesh", {"size": 64, "numbers": "floats", "bounds": "box"}),
    ],
    "regions": [
        Case("image", {**BOXES, "boxes": "grid", "grid": 2}, shown=("layer", "stride", "fallback")),
        Case("image", {**BOXES, **FOUND}, checkpoint, ("weights_sha256", "convention", "precision")),
    ],
    "open_clip": [
        Case("image", {"weights": "seeded"}, lambda f: {"model": open_clip_folder(f)}, (*NETWORK, "fallback")),
        Case("image", {"output": "patches"}, lambda f: {"model": open_clip_folder(f)}, NETWORK),
        # In bf16 the kernels for one caption and for many round otherwise, by more than is asked for here.
        Case(
            "text",
            {"precision": "fp32"},
            lambda f: {"model": open_clip_folder(f)},
            ("weights_sha256", "context_length"),
        ),
    ],
    "transformers": [
        Case(
            "image",
            {"output": "patches", "precision": "fp32"},
            lambda f: {"model": hugging_face_folder(f, "siglip2")},
            NETWORK,
        ),
        Case(
            "text",
            {"precision": "fp32", "weights": "seeded"},
            lambda f: {"model": hugging_face_folder(f)},
            ("weights_sha256", "context_length", "fallback"),
        ),
    ],
    "text": [
        Case("text", {"kind": "bag_of_words"}, shown=("vocabulary",)),
        Case("text", {"kind": "tfidf"}, shown=("vocabulary", "idf")),
        Case("text", {"kind": "word_vectors"}, glove, ("vectors_sha256", "words_unknown")),
        Case("text", {"kind": "word_vectors", "vectors": "seeded", "dim": 8}, shown=("fallback",)),
        Case("text", {"kind": "skip_thoughts", "vectors": "seeded", "dim": 16}, shown=("fallback",)),
        Case("text", {"kind": "sentence_transformer"}, lambda f: {"model": str(tiny(f))}, ("weights_sha256",)),
    ],
}
OURS = [name for name, module in sorted(registry.names("features").items()) if module.startswith("crossmodal.")]
for name in set(OURS) - set(CASES):
    CASES[name] = [Case(*case) for case in getattr(registry.module("features", name), "CASES", ())]
RUNS = [pytest.param((name, case), id=f"{name}-{n}") for name in OURS for n, case in enumerate(CASES[name])]


@pytest.mark.parametrize("name", OURS)
def test_it_is_tried(name):
    assert CASES.get(name), (
        f"add the extractor {name!r} to CASES in {Path(__file__).name}: a Case for each way to run it"
    )
    for case in CASES[name]:
        assert case.made in MAKERS, f"add {case.made!r} to MAKERS in makers.py: how a small file of it is made"


class Extractor:
    """Runs one case on items of its modality."""

    def __init__(self, name: str, case: Case, folder: Path):
        self.name, self.case, self.folder, self.maker = name, case, folder, MAKERS[case.made]
        self.given = {**case.settings, **case.files(folder)}
        self.sources = [self.maker.make(folder, n) for n in range(N)]
        self.items = self.frame(self.sources)
        self.whole = self.run(folder / "whole")

    def frame(self, sources: list[str], ids: list[str] | None = None) -> pd.DataFrame:
        ids = ids or [f"i{n}" for n in range(len(sources))]
        parts = PARTS[: len(sources)] + ["test"] * (len(sources) - N)
        other = {"item_id": "other", "modality": "none of these", "partition": "train", "source": "x"}
        rows = pd.DataFrame({"item_id": ids, "modality": self.case.modality, "partition": parts, "source": sources})
        return pd.concat([pd.DataFrame([other]), rows], ignore_index=True)

    def run(self, place: Path, items=None, change=None, threads: int = 2, **over) -> store.Features:
        """The features, in a store of their own; `change` is applied to the extractor's `Work`."""
        module = registry.module("features", self.name)
        settings = module.Settings.model_validate({**self.given, **over})
        target = place / f"{self.case.modality}.{self.name}"
        made = module.recipe

        def changed(*args):
            recipe = made(*args)
            return replace(recipe, begin=(lambda listed: change(recipe.begin(listed))) if change else recipe.begin)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "recipe", changed)
            items = self.items if items is None else items
            words = {"threads": threads, "modality": self.case.modality}
            extraction.run(self.name, items, self.folder, settings, target, **words)
        return store.open_features(target)


@pytest.fixture(scope="module", params=RUNS)
def made(request, tmp_path_factory) -> Extractor:
    return Extractor(*request.param, tmp_path_factory.mktemp("inputs"))


def near(found, expected) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-3, atol=2e-5 * np.abs(expected).max())


def test_a_row_an_item(made):
    array = made.whole.array
    assert array.dtype == (np.uint8 if made.name == "pixels" else np.float32)
    assert array.ndim in (2, 3, 4)
    assert len(array) == N
    assert np.isfinite(array).all()
    assert made.whole.index.item_id.tolist() == [f"i{n}" for n in range(N)]
    assert made.whole.index.row.tolist() == list(range(N))
    flat = np.array(array).reshape(N, -1)
    assert np.abs(flat).max(1).min() > 0, "a vector of zeros"
    assert len(np.unique(flat, axis=0)) == N, "other items have the same features"


def test_the_manifest_is_complete(made):
    told = made.whole.manifest
    settings = registry.module("features", made.name).Settings.model_validate(made.given)
    assert told["extractor"] == made.name
    assert set(told["settings"]) == set(type(settings).model_fields) - {"shard", "on_error"}
    for key, value in made.given.items():
        assert told["settings"][key] == value
    common = {"identity", "inputs_sha256", "items_sha256", "versions", "hardware", "seconds", "items_now"}
    assert common | {"shape", "dtype", "sha256", "index_sha256", "skipped"} <= set(told)
    assert set(made.case.shown) <= set(told)
    assert {"python", "numpy", "torch"} <= set(told["versions"])
    assert ("fallback" in told) == ("fallback" in made.case.shown)


def test_half_precision(made, tmp_path):
    if made.name == "pixels":
        with pytest.raises(ValueError, match="uint8"):
            made.run(tmp_path, dtype="float16")
        return
    found = made.run(tmp_path, dtype="float16")
    assert found.array.dtype == np.float16
    np.testing.assert_array_equal(found.array, np.array(made.whole.array).astype(np.float16))


def test_the_same_bits_again(made, tmp_path):
    made.run(tmp_path, threads=1)
    for one, other in zip(
        store.paths(made.whole.path.with_suffix("")), store.paths(tmp_path / made.whole.path.stem), strict=True
    ):
        if one.suffix != ".json":
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("batch", [1, 32])
def test_an_item_does_not_feel_its_batch(made, tmp_path, batch):
    near(made.run(tmp_path, change=lambda work: replace(work, batch=batch)).array, made.whole.array)


def test_another_order_is_the_same_rows_in_that_order(made, tmp_path):
    order = np.random.default_rng(0).permutation(N)
    items = pd.concat([made.items.iloc[:1], made.items.iloc[1 + order]], ignore_index=True)
    found = made.run(tmp_path, items)
    assert found.index.item_id.tolist() == [f"i{n}" for n in order]
    near(found.array, np.array(made.whole.array)[order])


def test_no_items(made, tmp_path):
    with pytest.raises(UserError, match=f"holds no {made.case.modality} items"):
        made.run(tmp_path, made.items.iloc[:1])


@pytest.mark.parametrize("harm", ["spoil", "empty"])
def test_a_bad_item_stops_or_is_left_out(made, tmp_path, harm):
    bad = getattr(made.maker, harm)(made.folder, made.sources[2])
    items = made.frame([*made.sources, bad])
    with pytest.raises(UserError) as error:
        made.run(tmp_path, items)
    assert (bad.strip() or "i7") in str(error.value) or "i7" in str(error.value)
    assert not list(tmp_path.glob("*.json"))
    found = made.run(tmp_path, items, on_error="skip")
    assert [one["item_id"] for one in found.manifest["skipped"]] == ["i7"]
    assert len(found.manifest["skipped"][0]["reason"]) > 20
    assert found.index.item_id.tolist() == [f"i{n}" for n in range(N)]
    near(found.array, made.whole.array)


def test_goes_on_after_a_kill_to_the_same_bits(made, tmp_path):
    seen: list[str] = []

    def small(work):
        return replace(work, batch=2)

    def killed(work):
        def load(item):
            if item.item_id == "i5":
                raise KeyboardInterrupt
            return work.load(item)

        return replace(small(work), load=load)

    def counted(work):
        def load(item):
            seen.append(item.item_id)
            return work.load(item)

        return replace(small(work), load=load)

    unbroken = made.run(tmp_path / "whole", change=small, shard=2)
    with pytest.raises(KeyboardInterrupt):
        made.run(tmp_path / "broken", change=killed, threads=1, shard=2)
    assert not list((tmp_path / "broken").glob("*.json"))
    resumed = made.run(tmp_path / "broken", change=counted, shard=2)
    assert {"i4", "i5"} <= set(seen) <= {"i4", "i5", "i6"}  # what had begun at the kill may be done
    assert resumed.path.read_bytes() == unbroken.path.read_bytes()
    assert resumed.manifest["items_now"] == len(seen)
