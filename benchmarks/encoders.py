"""A tower of open_clip: our extraction against a bare loop of it, and a folder's index against the extraction.

The loop is that of the library's own examples: files read by Pillow, preprocessed, stacked in batches, encoded. The
model has random weights, in a size in which reading the photographs and the tower take about the same time, or in that
of the model of open_clip that `--model` names. Compared are seconds of a processor core, which others on the machine
change least; those of the clock are told beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
import yaml
from common import save
from extraction import draw
from PIL import Image
from safetensors.torch import save_file

from crossmodal.core import registry
from crossmodal.core.files import sha256_file, write_json, write_parquet
from crossmodal.experiments import Job
from crossmodal.features.engine import extraction, store
from crossmodal.inference import folder as folders
from crossmodal.inference.opened import OpenedRun
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import base
from crossmodal.models.base import described

CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 224, "layers": 6, "width": 192, "head_width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
BATCH = 16
BOUNDS = {"extraction": 1.2, "folder": 1 / 0.9}


def model_in(folder: Path, config: dict) -> Path:
    """A model with random weights in the form of a folder of the hub."""
    folder.mkdir()
    seen = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": seen})
    torch.manual_seed(0)
    weights = open_clip.CLIP(**config).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    return folder


def bare(clip: Path, paths: list[Path]) -> np.ndarray:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip}")
    model.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            pixels = torch.stack([preprocess(Image.open(path)) for path in paths[start : start + BATCH]])
            out.append(torch.nn.functional.normalize(model.encode_image(pixels), dim=-1))
    return torch.cat(out).numpy()


def run_in(place: Path, clip: Path, dim: int) -> OpenedRun:
    """A run of `zeroshot` on this model, with eight items of its data set."""
    data, job_inputs = place / "data" / "mine", {"image": "clip", "text": "clip"}
    job = Job(dataset="mine", split="none", model="zeroshot", seed=0, inputs=job_inputs, settings={})
    data.mkdir(parents=True)
    frame = draw(data, 8).assign(partition="test", group_id="0", label=None)
    write_parquet(data / "items.parquet", frame)
    write_json(data / "items.json", {"root": "."})
    settings = registry.module("features", "open_clip").Settings(model=str(clip), precision="fp32")
    target = data / "features" / "image.clip"
    target.parent.mkdir()
    extraction.run("open_clip", frame, data, settings, target, threads=1, modality="image")
    run = place / "results" / "runs" / job.key
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    Vocabulary(SPECIAL).save(run / "vocabulary.json")
    context = base.Context({"image": (dim,), "text": (dim,)}, len(SPECIAL))
    save_file({}, run / "model.safetensors")
    features = {"image.clip": json.loads(target.with_name("image.clip.json").read_text())["sha256"]}
    weights = sha256_file(run / "model.safetensors")
    write_json(run / "manifest.json", {"weights_sha256": weights, "context": described(context), "data": features})
    return OpenedRun(run, place / "data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="a model of open_clip, such as ViT-B-32")
    given = parser.parse_args()
    config = open_clip.get_model_config(given.model) if given.model else CONFIG
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        place = Path(name)
        (place / "photos").mkdir()
        items: pd.DataFrame = draw(place / "photos", given.images)
        clip = model_in(place / "clip", config)
        run = run_in(place, clip, config["embed_dim"])
        settings = registry.module("features", "open_clip").Settings(model=str(clip), precision="fp32")
        vectors = {}

        def extract() -> None:
            target = Path(tempfile.mkdtemp(dir=place)) / "image.clip"  # an empty store: nothing is found again
            extraction.run("open_clip", items, place / "photos", settings, target, threads=os.cpu_count(),
                           modality="image")  # fmt: skip
            vectors["extraction"] = np.array(store.open_features(target).array)

        def loop() -> None:
            vectors["bare"] = bare(clip, [place / "photos" / source for source in items.source])

        def index() -> None:
            with contextlib.chdir(tempfile.mkdtemp(dir=place)):
                indexed = folders.index(run, place / "photos", "image", "text")
            order = np.argsort(indexed.paths)[np.argsort(np.argsort(items.source.to_numpy()))]
            vectors["folder"] = indexed.vectors[order]

        run.trained  # noqa: B018 - opened before the clock runs, as a search opens it once
        spent: dict[str, list[tuple[float, float]]] = {}
        for _ in range(given.rounds):
            for case, work in (("bare", loop), ("extraction", extract), ("folder", index)):
                began = time.perf_counter(), time.process_time()
                work()
                clock, processor = time.perf_counter() - began[0], time.process_time() - began[1]
                spent.setdefault(case, []).append((processor, clock))
    seconds = {
        case: {"processor": min(values)[0], "clock": min(c for _, c in values)} for case, values in spent.items()
    }
    ratios = {
        "extraction": seconds["extraction"]["processor"] / seconds["bare"]["processor"],
        "folder": seconds["folder"]["processor"] / seconds["extraction"]["processor"],
    }
    least = min(float((vectors["bare"] * vectors[case]).sum(1).min()) for case in ("extraction", "folder"))
    for case, ratio in ratios.items():
        floor = {"extraction": "the bare loop", "folder": "the extraction"}[case]
        print(f"{case}: {ratio:.2f} x {floor} (at most {BOUNDS[case]:.2f})")
    print(f"least cosine to the bare loop's vectors: {least:.6f}")
    found = {"images": given.images, "seconds": seconds, "ratio": ratios, "bounds": BOUNDS, "least_cosine": least}
    save(
        f"encoders-{given.model.lower()}" if given.model else "encoders",
        found | {"open_clip": open_clip.__version__, "torch": torch.__version__},
    )


if __name__ == "__main__":
    main()
