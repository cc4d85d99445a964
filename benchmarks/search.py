"""`crossmodal search` on 100,000 kept embeddings: seconds from the start of the process to its answers.

The run is one of VSE++ in the published size, with the weights of its seed; the gallery is made up. Floors: a Python
that reads the same embeddings and multiplies them with a vector, and one that imports torch and does nothing. The
exact search in 1,000,000 x 512 vectors has the bare float32 product with the same vector as its floor, and an
approximate index of usearch (if it is installed) is measured against it: recall and seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from common import alternate, save
from safetensors.torch import save_file

from crossmodal.core.files import sha256_file, write_json, write_parquet
from crossmodal.experiments import Job
from crossmodal.language.tokens import SPECIAL, Vocabulary
from crossmodal.models import base, vsepp
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


def made(folder: Path, items: int, dim: int) -> Path:
    """A project in `folder` with one run and its kept embeddings; the run's folder."""
    for name in ("params.yaml", "papers"):
        (folder / name).symlink_to(ROOT / name)
    generator = np.random.default_rng(0)
    ids = np.array([f"{n:06d}" for n in range(items)])
    about = {"item_id": ids, "modality": "image", "partition": "test", "source": [f"images/{n}.jpg" for n in ids]}
    data = folder / "data" / "world"
    write_parquet(data / "items.parquet", pd.DataFrame(about))
    write_json(data / "items.json", {"root": "."})
    settings = vsepp.Settings(dim=dim)
    words = (*SPECIAL, *SENTENCE.split(), *(f"word{n}" for n in range(WORDS)))
    vocabulary = Vocabulary(tuple(dict.fromkeys(words)))
    context = base.Context({"image": (2048,)}, len(vocabulary))
    torch.manual_seed(0)
    model = vsepp.Model(settings, context)
    job = Job(dataset="world", split="full", model="vsepp", seed=0, inputs={"image": "world"}, settings={"dim": dim})
    run = folder / "results" / "runs" / job.key
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    vocabulary.save(run / "vocabulary.json")
    save_file(model.state_dict(), run / "model.safetensors")
    manifest = {"weights_sha256": sha256_file(run / "model.safetensors"), "context": described(context)}
    write_json(run / "manifest.json", manifest)
    gallery = generator.standard_normal((items, dim), dtype=np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    (run / "instance_retrieval").mkdir()
    np.savez(run / "instance_retrieval" / "embeddings.npz", image=gallery, image_ids=ids)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    command = shutil.which("crossmodal", path=str(Path(sys.executable).parent))
    found = {"items": given.items, "cases": []}
    for dim in (256, 1024):
        with tempfile.TemporaryDirectory() as temporary:
            run = made(Path(temporary), given.items, dim)

            def call(*words: str, folder: str = temporary) -> None:
                subprocess.run(words, check=True, capture_output=True, cwd=folder)

            search = (command, "search", "world/full/vsepp/seed0", SENTENCE)
            first = alternate({"first": lambda search=search: call(*search)}, 1)["first"]
            bare = BARE.format(path=str(run / "instance_retrieval" / "embeddings.npz"))
            cases = {
                "search": lambda search=search: call(*search),
                "read_and_multiply": lambda bare=bare: call(sys.executable, "-c", bare),
                "import_torch": lambda: call(sys.executable, "-c", "import torch"),
            }
            spent = alternate(cases, given.rounds)
        found["cases"].append(
            {"dim": dim, "first_seconds": round(first, 2)} | {k: round(v, 2) for k, v in spent.items()}
        )
    print(json.dumps(found, indent=2))
    save("search", found)


if __name__ == "__main__":
    main()
