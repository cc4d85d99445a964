"""Runs our system as an authors' program is run, by itself: `ours.py SPEC.json`, whose `found` names the result."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference import Clock

from crossmodal.core import registry
from crossmodal.corpus.opening import Options, load
from crossmodal.evaluation import average_precision, retrieval_ranks_both_ways
from crossmodal.models.base import Batch, Context
from crossmodal.tasks.base import chooser_of
from crossmodal.tasks.ranked.selection import validate
from crossmodal.training.loop import Selection, train

METRICS = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "map": "mAP"}
WAYS = (("image", "text"), ("text", "image"))


def trained(spec: dict[str, Any]) -> dict[str, Any]:
    """A system trained, its epoch chosen on the validation items, and tested."""
    module = registry.module("models", spec["model"])
    settings = module.Settings(**spec["settings"])
    relevance = "label" if module.Model.needs_classes else "group"
    options = Options(relevance=relevance, settings=settings.model_dump())
    corpus = load(Path(spec["folder"]), "full", module.Model.reads, spec["inputs"], options)
    torch.manual_seed(spec["seed"])
    model = module.Model(settings, corpus.context)
    device = torch.device("cpu")
    task = chooser_of(spec["model"], relevance)
    selection = Selection(task.criterion, validate)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        history = train(model, corpus, spec["seed"], device, selection, Path(folder) / "checkpoint.pt").history
        seconds = clock.read()
        rows = task.evaluate(model, corpus, [1], device, Path(folder))
    numbers = {
        f"{row['aspect']} {METRICS[row['metric']]}": row["value"]
        for row in rows
        if row["metric"] in METRICS and row["aspect"] in ("image-to-text", "text-to-image")
    }
    kept = {"loss": "loss", f"val_{task.criterion}": task.criterion}
    epochs = history[list(kept)].rename(columns=kept).to_dict("records")
    return {"numbers": numbers, "seconds": seconds, "epochs": epochs}


def ranked(spec: dict[str, Any]) -> dict[str, Any]:
    given = np.load(spec["arrays"])
    groups = np.arange(len(given["image"]))
    clock = Clock()
    found = retrieval_ranks_both_ways(given["image"], given["text"], groups, np.repeat(groups, 5))
    seconds = clock.read()
    ranks = dict(zip(("image-to-text", "text-to-image"), (x.tolist() for x in found), strict=True))
    return {"ranks": ranks, "seconds": seconds}


def analysed(spec: dict[str, Any]) -> dict[str, Any]:
    """Our CCA on the same arrays."""
    module = registry.module("models", spec["model"])
    given = np.load(spec["arrays"])
    sides = {part: {m: torch.from_numpy(given[f"{m}_{part}"]) for m in ("image", "text")} for part in ("train", "test")}
    model = module.Model(
        module.Settings(**spec["settings"]), Context({m: x.shape[1:] for m, x in sides["train"].items()})
    )
    clock = Clock()
    model.fit([Batch(sides["train"])])
    encoded = [model.encode(m, Batch(sides["train"]), other).double().numpy() for m, other in WAYS]
    seconds = clock.read()
    # The cosine is for ranking; correlations are of the projections before it.
    projected = [
        (model.features(m, Batch(sides["train"])).double() @ model.get_buffer(f"{m}_to_{other}").double()).numpy()
        for m, other in WAYS
    ]
    numbers = {
        f"canonical correlation {i + 1:02d}": float(np.corrcoef(projected[0][:, i], projected[1][:, i])[0, 1])
        for i in range(encoded[0].shape[1])
    }
    image, text = (model.encode(m, Batch(sides["test"]), other).double().numpy() for m, other in WAYS)
    labels = given["labels_test"]
    numbers["image-to-text mAP"] = 100 * float(average_precision(image, text, labels, labels).mean())
    numbers["text-to-image mAP"] = 100 * float(average_precision(text, image, labels, labels).mean())
    return {"numbers": numbers, "seconds": seconds}


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    found = {"ranked": ranked, "analysed": analysed}.get(spec["kind"], trained)(spec)
    Path(spec["found"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
