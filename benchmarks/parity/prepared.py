"""The data that both sides read: prepared by the product's own commands, and written out as the programs read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from crossmodal.experiments.settings import merge, read_yaml
from crossmodal.features.engine.store import open_features

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTS = {"train": "train", "dev": "val", "test": "test"}
"""The programs' names of the partitions, and ours."""
MARKS = ("<pad>", "<start>", "<end>", "<unk>")
"""The first words of the programs' vocabularies; ours begins with the same in another order."""


def prepare(dataset: str, extractors: dict[str, str], raw: Path, data: Path, **places: str) -> Path:
    """The folder of a prepared data set, whose steps are taken where they are not yet done.

    Parameters
    ----------
    extractors : modality to extractor, of `data.yaml` or `params.yaml`. raw : the folder that `data.yaml` describes.
    data : what all prepared data sets lie in. places : further places of `data.yaml`, such as `clip`.
    """
    params = merge(read_yaml(ROOT / "params.yaml"), read_yaml(HERE / "data.yaml"))
    params |= {**places, "data": str(raw.resolve()), "paths": {"data": str(data), "results": str(data.parent / "runs")}}
    data.mkdir(parents=True, exist_ok=True)
    merged = data / "params.yaml"
    merged.write_text(yaml.safe_dump(params))
    folder = data / dataset
    steps = [("items.parquet", ["prepare", dataset]), ("tokens.parquet", ["tokenize", dataset])]
    steps.append(("splits/full.parquet", ["split", dataset, "full"]))
    for modality, extractor in extractors.items():
        steps.append((f"features/{modality}.{extractor}.json", ["extract", dataset, extractor, "--modality", modality]))
    for made, step in steps:
        if not (folder / made).exists():
            command = [sys.executable, "-m", "crossmodal", "--params", str(merged), *step]
            subprocess.run(command, check=True, cwd=ROOT)
    return folder


def write_captioned(folder: Path, extractor: str, target: Path) -> int:
    """What VSE++'s and SCAN's programs read as precomputed features; gives the dimensions of these.

    A file of features and one of captions for each partition, one caption per line, five for each image in turn.
    Captions are words with spaces between them: those that our own training reads, so that no tokenizer makes a
    difference.
    """
    items = pd.read_parquet(folder / "items.parquet")
    tokens = pd.read_parquet(folder / "tokens.parquet").set_index("item_id").tokens
    features = open_features(folder / "features" / f"image.{extractor}")
    target.mkdir(parents=True)
    for name, partition in PARTS.items():
        here = items[items.partition == partition]
        images, texts = here[here.modality == "image"], here[here.modality == "text"]
        captions = texts.groupby("group_id", sort=False).item_id.apply(list)
        if set(captions.map(len)) != {5}:
            raise SystemExit(f"{folder}: not every image has five captions, which the programs take for granted")
        rows = features.rows(images.item_id.to_numpy(dtype=object))
        np.save(target / f"{name}_ims.npy", features.array[rows])
        lines = [" ".join(tokens[one]) for group in images.group_id for one in captions[group]]
        (target / f"{name}_caps.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return features.array.shape[-1]


def write_graphs(folder: Path, extractor: str, target: Path, words: list[str]) -> None:
    """What GSMN's program reads beside the features and captions that `write_captioned` has written.

    Boxes of the regions in pixels, sizes of the photographs, captions as the numbers of their words, and pairs of words
    that depend on each other, which are neighbours here: its dense graph does not look at them.
    """
    items = pd.read_parquet(folder / "items.parquet")
    index = open_features(folder / "features" / f"image.{extractor}").index.set_index("item_id")
    numbers = {word: number for number, word in enumerate(words)}
    for name, partition in PARTS.items():
        here = index.loc[items[(items.partition == partition) & (items.modality == "image")].item_id]
        np.save(target / f"{name}_ims_bbx.npy", np.array([np.stack(one) for one in here.boxes], np.float32))
        sizes = np.array([tuple(one) for one in here["size"]], [("image_w", "f4"), ("image_h", "f4")])
        np.save(target / f"{name}_ims_size.npy", sizes)
        captions = [
            ["<start>", *line.split(" "), "<end>"]
            for line in (target / f"{name}_caps.txt").read_text(encoding="utf-8").splitlines()
        ]
        lines = (",".join(str(numbers.get(word, numbers["<unk>"])) for word in one) for one in captions)
        (target / f"{name}_precaps_stan.txt").write_text("\n".join(lines) + "\n")
        pairs = [[(0, 0), *((n, n + 1) for n in range(len(one) - 1))] for one in captions]
        (target / f"{name}_caps.json").write_text(json.dumps(pairs))


def words_of(words: tuple[str, ...]) -> list[str]:
    """The words of our vocabulary in a program's order."""
    return [*MARKS, *(word for word in words if word not in MARKS)]


def write_labelled(folder: Path, inputs: dict[str, str], copy: Path, seed: int) -> Path:
    """What DSCMR's program reads: MATLAB files of the training items, and the validation items as its `test`.

    It chooses the epoch by what it calls test, so that this is our validation; our test items lie beside, in the file
    that is returned. It never shuffles, so the training items come in an order of the seed's.
    """
    from scipy.io import savemat

    items = pd.read_parquet(folder / "items.parquet")
    labels = {label: i for i, label in enumerate(sorted(items.label.unique()))}
    of_image = items[items.modality == "image"].set_index("group_id")
    of_text = items[items.modality == "text"].set_index("group_id").loc[of_image.index]
    target = copy / "data" / "pascal"
    target.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    arrays = {m: open_features(folder / "features" / f"{m}.{extractor}") for m, extractor in inputs.items()}
    for name, partition in (("train", "train"), ("test", "val"), ("tested", "test")):
        places = np.flatnonzero(of_image.partition == partition)
        places = rng.permutation(places) if partition == "train" else places
        codes = of_image.label.iloc[places].map(labels).to_numpy()
        found = {
            m: arrays[m].array[arrays[m].rows(of.item_id.iloc[places].to_numpy(dtype=object))].astype(np.float32)
            for m, of in (("image", of_image), ("text", of_text))
        }
        if name == "tested":
            np.savez(target / "tested.npz", labels=codes, **found)
            continue
        for key, value in (("img", found["image"]), ("txt", found["text"]), ("img_lab", codes[:, None])):
            savemat(target / f"{name}_{key}.mat", {f"{name}_{key}": value})
    return target / "tested.npz"
