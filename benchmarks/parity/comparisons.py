"""What is compared: the settings of both sides, and when ours counts as level with theirs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import prepared
import programs

from crossmodal.core import registry
from crossmodal.features.engine.store import open_features
from crossmodal.language.tokens import Vocabulary

Kind = Literal["captioned", "mapped", "labelled", "ranked", "analysed"]
"""Captions with features of images, or with feature maps; items with classes; ranks of encodings; a closed form."""


@dataclass(frozen=True)
class Comparison:
    name: str
    title: str
    program: str
    kind: Kind
    dataset: str
    inputs: dict[str, str]
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    seeded: bool = True

    def smaller(self, epochs: int | None, dim: int | None) -> Comparison:
        """With fewer epochs or dimensions on both sides; the learning rate drops after the same share of the epochs.

        Its name says so: the results of the full size stay beside.
        """
        settings, options = dict(self.settings), dict(self.options)
        if self.kind not in ("captioned", "mapped", "labelled") or not (epochs or dim):
            return self
        name = f"{self.name}{SMALL_END}"
        if self.kind == "labelled":
            epochs = epochs or settings["epochs"]
            return replace(self, name=name, settings=settings | {"epochs": epochs}, options={"epochs": epochs})
        if epochs:
            settings["lr_drop"] = max(1, round(settings["lr_drop"] * epochs / settings["epochs"]))
            settings["epochs"] = epochs
            options["num_epochs"] = epochs
            if "lr_update" in options:  # PVSE's program looks at the validation instead
                options["lr_update"] = settings["lr_drop"]
        if dim:
            settings["dim"] = options["embed_size"] = dim
        return replace(self, name=name, settings=settings, options=options)

    def identity(self, side: str) -> list[Any]:
        """What a side's result depends on, but for its data and the libraries."""
        if side == "ours":
            code = registry.source_hash("models", self.model) if self.model else ""
            return [self.kind, self.dataset, self.inputs, self.settings, code]
        changes = (
            [[one.pattern, one.replacement] for one in programs.PROGRAMS[self.program].changes] if self.program else []
        )
        return [self.kind, self.dataset, self.inputs, self.options, changes]

    def spec(self, side: str, seed: int, data: Path, place: Path) -> dict[str, Any]:
        """What a side's script is told; writes what a program reads into `place`, where it runs."""
        common = {"kind": self.kind, "folder": str(data.resolve()), "inputs": self.inputs}
        if self.kind in ("ranked", "analysed"):
            arrays = {"ranked": encodings, "analysed": arrays_of}[self.kind](data, self.inputs)
            np.savez(place / "arrays.npz", **arrays)
            return {**common, "arrays": str(place / "arrays.npz"), "model": self.model, "settings": self.settings}
        if side == "ours":
            return {**common, "model": self.model, "settings": self.settings}
        if self.kind == "labelled":
            test = prepared.write_labelled(data, self.inputs, place, seed)
            return {**common, "options": self.options, "test": str(test)}
        name = self.options["data_name"]
        target, known = place / "data" / name, words(data)
        width = prepared.write_captioned(data, self.inputs["image"], target)
        options = {**self.options, "data_path": "data", "vocab_path": "vocab", "logger_name": "run"}
        if self.kind == "mapped":
            return {**common, "options": {**options, "log_file": "run/log"}, "words": known, "width": width}
        if self.program == "GSMN":
            prepared.write_graphs(data, self.inputs["image"], target, known)
        return {**common, "options": {**options, "img_dim": width}, "words": known}

    def judged(self, found: dict[str, list[dict]]) -> dict[str, Any]:
        """Means and standard deviations over the seeds, the ratio of times, and whether ours is level with theirs."""
        theirs, ours = found["theirs"], found["ours"]
        seconds = {side: sum(one["seconds"]["processor"] for one in runs) for side, runs in found.items()}
        ratio = seconds["ours"] / seconds["theirs"]
        result: dict[str, Any] = {"seeds": len(theirs), "seconds": seconds, "time_ratio": ratio}
        if self.kind == "ranked":
            same = {way: theirs[0]["ranks"][way] == ours[0]["ranks"][way] for way in theirs[0]["ranks"]}
            for one in (*theirs, *ours):
                del one["ranks"]
            return {**result, "same_ranks": same, "level": all(same.values()), "in_time": ratio <= 1}
        numbers = {}
        for name in theirs[0]["numbers"]:
            sides = {side: [one["numbers"][name] for one in runs] for side, runs in found.items()}
            row = {side: {"mean": statistics.fmean(v), "sd": deviation(v)} for side, v in sides.items()}
            spread = row["theirs"]["sd"]
            least = row["theirs"]["mean"] - (spread if spread is not None else 0.0)
            numbers[name] = row | {"level": row["ours"]["mean"] >= least - TOLERANCE}
        return {
            **result,
            "numbers": numbers,
            "level": all(row["level"] for row in numbers.values()),
            "in_time": ratio <= 1,
        }


SMALL_END = "-small"
"""At the end of the name of a comparison with fewer epochs or dimensions."""

TOLERANCE = 1e-6
"""What rounding may take from a number that is the same."""


def deviation(values: list[float]) -> float | None:
    """Standard deviation over the seeds; None for one seed, which has none."""
    return statistics.stdev(values) if len(values) > 1 else None


def words(data: Path) -> list[str]:
    """Our vocabulary of the training captions, in a program's order."""
    tokens = pd.read_parquet(data / "tokens.parquet").set_index("item_id").tokens
    pairs = pd.read_parquet(data / "splits" / "full.parquet")
    vocabulary = Vocabulary.build(tokens.loc[pairs.caption_id.dropna().unique()])
    return prepared.words_of(vocabulary.words)


def encodings(data: Path, inputs: dict[str, str]) -> dict[str, np.ndarray]:
    """Features of the test photographs as encodings, and these with noise as those of five captions each."""
    items = pd.read_parquet(data / "items.parquet")
    chosen = items[(items.modality == "image") & (items.partition == "test")].item_id
    features = open_features(data / "features" / f"image.{inputs['image']}")
    images = features.array[features.rows(chosen.to_numpy(dtype=object))].astype(np.float32)
    noise = np.random.default_rng(0).standard_normal((5 * len(images), images.shape[1]), np.float32)
    captions = np.repeat(images, 5, axis=0) + noise * 2 / np.sqrt(images.shape[1], dtype=np.float32)
    return {"image": images, "text": captions / np.linalg.norm(captions, axis=1, keepdims=True)}


def arrays_of(data: Path, inputs: dict[str, str]) -> dict[str, np.ndarray]:
    """Features of the training and test items of a labelled data set, in each modality, and the labels of the test."""
    items = pd.read_parquet(data / "items.parquet")
    found = {}
    for modality, extractor in inputs.items():
        features = open_features(data / "features" / f"{modality}.{extractor}")
        for partition in ("train", "test"):
            here = items[(items.modality == modality) & (items.partition == partition)].sort_values("group_id")
            rows = features.rows(here.item_id.to_numpy(dtype=object))
            found[f"{modality}_{partition}"] = features.array[rows].astype(np.float32)
            found[f"labels_{partition}"] = pd.factorize(here.label, sort=True)[0]
    return found


def _schedule(settings: dict[str, Any]) -> dict[str, Any]:
    """Options of VSE++'s program, and of those that are made of it, for the settings of a training."""
    return {
        "num_epochs": settings["epochs"],
        "lr_update": settings["lr_drop"],
        "learning_rate": settings["lr"],
        "batch_size": settings["batch_size"],
        "embed_size": settings["dim"],
        "val_step": NEVER,
    }


def _vsepp(name: str, title: str, dataset: str, hardest: bool, settings: dict[str, Any]) -> Comparison:
    """VSE++'s program with the hardest negatives or their sum, and ours with the same settings."""
    options = {"data_name": "f8k_precomp", **_schedule(settings), **({"max_violation": True} if hardest else {})}
    model = "vsepp" if hardest else "vse0"
    return Comparison(name, title, "vsepp", "captioned", dataset, {"image": "mobilenet"}, model, settings, options)


def _scan(name: str, way: str, smooth: float, sharpness: float) -> Comparison:
    """SCAN's program with attention one way, and ours with its slope of the clipped cosines."""
    settings = {
        # With batches of 128 six epochs end on the plateau of the hardest negatives, on either side.
        **{"epochs": 6, "lr_drop": 4, "lr": 5e-4, "batch_size": 32, "dim": 256},
        **{"attention": way, "smooth": smooth, "sharpness": sharpness, "slope": 0.1},
    }
    options = {
        "data_name": "f30k_precomp",
        **_schedule(settings),
        "cross_attn": {"text-to-image": "t2i", "image-to-text": "i2t"}[way],
        "lambda_softmax": smooth,
        "lambda_lse": sharpness,
        **{"max_violation": True, "bi_gru": True, "model_name": "run/checkpoint"},
    }
    title = f"SCAN, {way}, log-sum-exp, on Flickr8K-1000's nine grid cells a photograph"
    return Comparison(name, title, "SCAN", "captioned", "flickr8k_1000", {"image": "cells"}, "scan", settings, options)


def _pvse(settings: dict[str, Any]) -> Comparison:
    """PVSE's program with two vectors an item, both regularisers and words that are trained; ours with the same."""
    options = {
        "data_name": "coco",
        "num_epochs": settings["epochs"],
        "lr": settings["lr"],
        "batch_size": settings["batch_size"],
        "embed_size": settings["dim"],
        "num_embeds": settings["heads"],
        "mmd_weight": settings["discrepancy"],
        "div_weight": settings["diversity"],
        **dict.fromkeys(("max_violation", "img_attention", "txt_attention", "txt_finetune"), True),
    }
    notes = (
        "The program's settings on MS-COCO, but for the words, which are trained from random vectors. The cells of the "
        "grid take the place of its image network's map, and the epoch is chosen on the validation items, where the "
        "program takes the test items. With so few epochs its learning rate stays as it is."
    )
    title = "PVSE, two vectors an item, on Flickr8K-1000's 7 x 7 grid cells a photograph"
    inputs = {"image": "map"}
    return Comparison("pvse", title, "pvse", "mapped", "flickr8k_1000", inputs, "pvse", settings, options, notes)


def _gsmn(settings: dict[str, Any]) -> Comparison:
    """GSMN's program with its dense graph and the sum of hinges, and ours with the program's propagation."""
    options = {
        "data_name": "f30k_precomp",
        **_schedule(settings),
        **{"lambda_softmax": settings["smooth"], "bi_gru": True, "model_name": "run/checkpoint"},
    }
    notes = (
        "All negatives count: with the hardest ones six epochs are too few for the program to rank better than chance. "
        "Its sparse graph is the same function. It divides its boxes by the size of the photograph again at "
        "every visit, as it does anywhere; ours does not."
    )
    title = "GSMN, dense, on Flickr8K-1000's nine grid cells a photograph"
    inputs = {"image": "cells"}
    return Comparison("gsmn", title, "GSMN", "captioned", "flickr8k_1000", inputs, "gsmn", settings, options, notes)


NEVER = 10**9
"""Steps between validations inside an epoch, which choose nothing in the programs."""

# At a constant rate: with a tenth of it after 15 epochs, the default of VSE++'s program, neither side leaves the
# plateau of the hardest negatives on so few photographs.
SMALL = {"epochs": 30, "lr_drop": 30, "lr": 2e-4, "batch_size": 128, "dim": 1024}
WHOLE = {"epochs": 6, "lr_drop": 4, "lr": 4e-4, "batch_size": 128, "dim": 512}

COMPARISONS = {
    one.name: one
    for one in (
        _vsepp("vsepp-sum", "VSE++, sum of hinges, on Flickr8K-1000", "flickr8k_1000", False, SMALL),
        _vsepp("vsepp-hardest", "VSE++, hardest negatives, on Flickr8K-1000", "flickr8k_1000", True, SMALL),
        _scan("scan-t2i", "text-to-image", 9.0, 6.0),
        _scan("scan-i2t", "image-to-text", 4.0, 5.0),
        _pvse(
            {
                **{"epochs": 8, "lr_drop": 11, "lr": 5e-4, "batch_size": 64, "dim": 256, "heads": 2},
                **{"discrepancy": 0.01, "diversity": 0.1, "train_words": True},
            }
        ),
        _gsmn(
            {
                **{"epochs": 4, "lr_drop": 3, "lr": 5e-4, "batch_size": 32, "dim": 128},
                **{"smooth": 20.0, "warm_up": 1.0},
            }
        ),
        Comparison(
            "dscmr",
            "DSCMR on Pascal Sentence",
            "DSCMR",
            "labelled",
            "pascal",
            {"image": "mobilenet", "text": "bow"},
            "dscmr",
            {"hidden": (2048,), "scale": 0.5, "clip": 0.0, "epochs": 500},
            {"epochs": 500},
            notes="The program's weights of the losses, 500 epochs; it chooses the epoch on the validation items here.",
        ),
        Comparison(
            "pvse-ranks",
            "PVSE's ranks of Flickr8K's 1,000 test photographs and 5,000 made captions",
            "pvse",
            "ranked",
            "flickr8k",
            {"image": "mobilenet"},
            seeded=False,
        ),
        Comparison(
            "cca",
            "CCA on Pascal Sentence, ten directions of fifty principal components",
            "",
            "analysed",
            "pascal",
            {"image": "mobilenet", "text": "bow"},
            "cca",
            {"dim": 10, "components": 50},
            seeded=False,
        ),
        _vsepp("vsepp-sum-whole", "VSE++, sum of hinges, on Flickr8K", "flickr8k", False, WHOLE),
        _vsepp("vsepp-hardest-whole", "VSE++, hardest negatives, on Flickr8K", "flickr8k", True, WHOLE),
    )
}


def exact_cases(copies: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What is compared number by number, of the programs that are there."""
    small = {"dim": 128, "batch_size": 32}
    cases: dict[str, dict[str, Any]] = {}
    if "vsepp" in copies:
        common = {"model": "vsepp", "copy": str(copies["vsepp"]), "inputs": {"image": "mobilenet"}}
        for title, hardest in (("VSE++, sum of hinges", False), ("VSE++, hardest negatives", True)):
            settings = {**small, "warm_up": 0.0 if hardest else 1.0}
            cases[title] = {**common, "settings": settings, "options": {"embed_size": 128, "max_violation": hardest}}
    if "SCAN" in copies:
        common = {"model": "scan", "copy": str(copies["SCAN"]), "inputs": {"image": "cells"}}
        for way, its, smooth, sharpness in (("text-to-image", "t2i", 9.0, 6.0), ("image-to-text", "i2t", 4.0, 5.0)):
            for pooling, its_pooling in (("logsumexp", "LogSumExp"), ("mean", "Mean")):
                settings = {**small, "attention": way, "smooth": smooth, "sharpness": sharpness, "pooling": pooling}
                options = {"embed_size": 128, "max_violation": True, "cross_attn": its, "agg_func": its_pooling}
                options |= {"lambda_softmax": smooth, "lambda_lse": sharpness}
                case = {**common, "settings": {**settings, "slope": 0.1}, "options": options}
                cases[f"SCAN, {way}, {pooling}"] = case
        title = "SCAN, text-to-image, logsumexp"
        cases[f"{title}, the program's 1e-8 in its norms at 0"] = {**cases[title], "bare": True}
    return cases
