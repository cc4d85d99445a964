"""`crossmodal search` on 100,000 kept embeddings: seconds from the start of the process to its answers.

The runs are one of VSE++ in the published size, with the weights of its seed, and one of `zeroshot` on the text tower
of CLIP ViT-B/32, with random weights (where open_clip is installed); the gallery is made up. Floors: a Python that
reads the same embeddings and multiplies them with a vector, and one that imports torch and does nothing. Told are the
least seconds of the clock and, since others on the machine change them less, of processor cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from common import save
from safetensors.torch import save_file

from crossmodal.core import registry
from crossmodal.core.files import sha256_file, write_json, write_parquet
from crossmodal.experiments import Job
from crossmodal.features.engine import extraction
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import base, vsepp, zeroshot
from crossmodal.models.base import described

ROOT = Path(__file__).parents[1]
SENTENCE = "a red ball left of a cup"
WORDS = 8_000
BARE = """
import numpy as np
with np.load({path!r}) as kept:
    ids, gallery = kept["image_ids"], kept["image"]
scores = gallery @ gallery[0]
print(ids[np.argsort(-scores)[:10]])
"""


def project(folder: Path, items: int) -> tuple[Path, pd.DataFrame]:
    """A project in `folder` with a data set of that many images and one sentence; its folder, and the items."""
    for name in ("params.yaml", "papers"):
        (folder / name).symlink_to(ROOT / name)
    ids = [f"{n:06d}" for n in range(items)]
    images = {"item_id": ids, "modality": "image", "partition": "test", "source": [f"images/{n}.jpg" for n in ids]}
    text = {"item_id": ["t"], "modality": "text", "partition": "test", "source": [SENTENCE]}
    frame = pd.concat([pd.DataFrame(images), pd.DataFrame(text)], ignore_index=True)
    frame = frame.assign(group_id="0", label=None)
    data = folder / "data" / "world"
    write_parquet(data / "items.parquet", frame)
    write_json(data / "items.json", {"root": "raw/images"})
    (data / "raw" / "images").mkdir(parents=True)
    return data, frame


def saved(
    folder: Path, job: Job, model: base.Model, vocabulary: Vocabulary, items: int, dim: int, data: dict[str, str]
) -> Path:
    """The run's folder, with an evaluation's embeddings of the images."""
    run = folder / "results" / "runs" / job.key
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    vocabulary.save(run / "vocabulary.json")
    save_file(model.state_dict(), run / "model.safetensors")
    weights = sha256_file(run / "model.safetensors")
    write_json(run / "manifest.json", {"weights_sha256": weights, "context": described(model.context), "data": data})
    gallery = np.random.default_rng(0).standard_normal((items, dim), dtype=np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    (run / "instance_retrieval").mkdir()
    ids = np.array([f"{n:06d}" for n in range(items)])
    np.savez(run / "instance_retrieval" / "embeddings.npz", image=gallery, image_ids=ids)
    write_json(run / "instance_retrieval" / "metrics.json", {"weights_sha256": weights})
    return run


def of_words(folder: Path, items: int, dim: int) -> Path:
    """A run of VSE++."""
    project(folder, items)
    words = (*SPECIAL, *SENTENCE.split(), *(f"word{n}" for n in range(WORDS)))
    vocabulary = Vocabulary(tuple(dict.fromkeys(words)))
    torch.manual_seed(0)
    model = vsepp.Model(vsepp.Settings(dim=dim), base.Context({"image": (2048,)}, len(vocabulary)))
    job = Job(dataset="world", split="full", model="vsepp", seed=0, inputs={"image": "world"}, settings={"dim": dim})
    return saved(folder, job, model, vocabulary, items, dim, {})


def of_tower(folder: Path, items: int, dim: int) -> Path:
    """A run of `zeroshot` on the text tower of CLIP ViT-B/32."""
    data, frame = project(folder, items)
    settings = registry.module("features", "open_clip").Settings(model="ViT-B-32", weights="seeded")
    target = data / "features" / "text.clip"
    extraction.run("open_clip", frame, data, settings, target, threads=1, modality="text")
    features = {"text.clip": json.loads(Path(f"{target}.json").read_text())["sha256"]}
    inputs = {"image": "clip", "text": "clip"}
    job = Job(dataset="world", split="none", model="zeroshot", seed=0, inputs=inputs, settings={})
    model = zeroshot.Model(zeroshot.Settings(), base.Context({"image": (dim,), "text": (dim,)}, len(SPECIAL)))
    return saved(folder, job, model, Vocabulary(SPECIAL), items, dim, features)


def spent(case: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of processor cores, of the processes that a case starts."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    case()
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    command = shutil.which("crossmodal", path=str(Path(sys.executable).parent))
    made = [("vsepp", of_words, 256), ("vsepp", of_words, 1024)]
    made += [("zeroshot on ViT-B/32", of_tower, 512)] if find_spec("open_clip") else []
    found = {"items": given.items, "cases": []}
    for name, make, dim in made:
        with tempfile.TemporaryDirectory() as temporary:
            run = make(Path(temporary), given.items, dim)

            def call(*words: str, folder: str = temporary) -> None:
                subprocess.run(words, check=True, capture_output=True, cwd=folder)

            key = str(run.relative_to(Path(temporary) / "results" / "runs"))
            bare = BARE.format(path=str(run / "instance_retrieval" / "embeddings.npz"))
            cases = {
                "search": lambda call=call, key=key: call(command, "search", key, SENTENCE),
                "read_and_multiply": lambda call=call, bare=bare: call(sys.executable, "-c", bare),
                "import_torch": lambda call=call: call(sys.executable, "-c", "import torch"),
            }
            seconds = {"first": [spent(cases["search"])]}
            if not [*Path(temporary).glob(".encoders/**/*.onnx")]:
                raise SystemExit(f"{name}: its sentence encoder was not exported")
            for _ in range(given.rounds):
                for case, work in cases.items():
                    seconds.setdefault(case, []).append(spent(work))
        least = {
            case: {"clock": round(min(c for c, _ in all_of), 2), "processor": round(min(p for _, p in all_of), 2)}
            for case, all_of in seconds.items()
        }
        found["cases"].append({"run": name, "dim": dim, "seconds": least})
        print(json.dumps(found["cases"][-1], indent=2), flush=True)
    save("search", found)


if __name__ == "__main__":
    main()
