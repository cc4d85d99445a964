"""Zero-shot retrieval of LAION-AI/CLIP_benchmark and of ours with one model: `zeroshot.py SPEC.json`.

The model's weights are random: what is compared is the recalls of the same towers on the same files and captions, from
the files to the JSON, not what a model is worth. Theirs reads the photographs by open_clip's own preprocessing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import pandas as pd
import torch
from exact import imported
from PIL import Image
from safetensors.torch import save_file

from crossmodal.core.files import read_json
from crossmodal.datasets import items
from crossmodal.experiments import Job
from crossmodal.inference import export
from crossmodal.inference.opened import OpenedRun
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job

AT = (1, 5, 10)
BATCH = 50
CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def make(folder: Path) -> Path:
    """A model of open_clip with random weights, in the form of a folder of the Hugging Face hub."""
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        cfg = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": cfg}))
        torch.manual_seed(0)
        weights = open_clip.CLIP(**CONFIG).state_dict()
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    return folder


def theirs(copy: Path, clip: Path, data: Path) -> dict[str, float]:
    frame = items.read(data)
    frame = frame[frame.partition == "test"]
    texts = frame[frame.modality == "text"].groupby("group_id", sort=False).source.apply(list)
    images = frame[frame.modality == "image"]
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip}")
    root = items.root(data)

    def batches() -> Any:
        for start in range(0, len(images), BATCH):
            part = images.iloc[start : start + BATCH]
            pixels = [preprocess(Image.open(root / source)) for source in part.source]
            yield torch.stack(pixels), [texts[group] for group in part.group_id]

    with imported(copy, "clip_benchmark.metrics.zeroshot_retrieval") as program:
        return program.evaluate(model.eval(), batches(), tokenizer, "cpu", amp=False, recall_k_list=[*AT])


def ours(inputs: dict[str, str], data: Path, place: Path) -> dict[str, float]:
    job = Job(dataset=data.name, split="full", model="zeroshot", seed=0, inputs=inputs, settings={})
    folder = place / "runs" / job.key
    train_job(job, folder, data.parent)
    evaluate(job, folder, data.parent, "embedded")
    export.clip_benchmark(OpenedRun(folder, data.parent), place / "recalls.json")
    return read_json(place / "recalls.json")["metrics"]


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    data = Path(spec["data"])
    recalls = {"theirs": theirs(Path(spec["copy"]), Path(spec["clip"]), data)}
    recalls["ours"] = ours(spec["inputs"], data, Path(sys.argv[1]).parent)
    frame = pd.read_parquet(data / "items.parquet", columns=["modality", "partition"])
    counts = frame[frame.partition == "test"].modality.value_counts()
    same = all(abs(recalls["ours"][name] - value) < 1e-6 for name, value in recalls["theirs"].items())
    found = {"images": int(counts["image"]), "captions": int(counts["text"]), **recalls, "same": same}
    Path(spec["found"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
