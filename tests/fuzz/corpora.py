"""Folders of several files, as data sets and region features come in; a mutated one takes the place of a good one."""

import json
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crossmodal import released
from crossmodal.core.errors import UserError
from crossmodal.datasets import (
    coco_captions,
    cub,
    flickr_csv,
    flickr_token,
    folders,
    hf_datasets,
    items,
    karpathy,
    lavis,
    nuswide,
    pascal,
    precomputed,
    table,
    webdataset,
    xmedia,
)
from crossmodal.features.engine import store
from crossmodal.features.region_annotations import annotations
from crossmodal.reporting.results import runs

TESTS = Path(__file__).parents[1]
FOLDERS = ("", "datasets", "features", "released")  # their small folders are good seeds
sys.path += [str(TESTS / folder) for folder in FOLDERS]

import clips  # noqa: E402, F401
import test_cub  # noqa: E402
import test_embedded  # noqa: E402
import test_nuswide  # noqa: E402
import test_pascal  # noqa: E402
import test_region_files  # noqa: E402
import test_xmedia  # noqa: E402

NAMES = [f"{n}.jpg" for n in range(6)]
PARTS = ["train", "train", "train", "train", "val", "test"]


@dataclass(frozen=True)
class Folder:
    """Files below a root, each of which may be mutated, and a reader of them all."""

    root: Path
    files: list[str]
    read: Callable[[], object]


def of(root: Path) -> dict[str, Folder]:
    """Each kind of folder by its name, laid below `root`."""
    found = {}
    for build in (*_captioned(), _cub, _nuswide, _xmedia, _pascal, _folders, _saved, _snapshot, _shards, _arrays,
                  *_released(), _regions, _run, _prepared):  # fmt: skip
        folder = root / build.__name__.strip("_")
        folder.mkdir()
        found[build.__name__.strip("_")] = build(folder)
    return found


def _captioned() -> list[Callable[[Path], Folder]]:
    pairs = [(name, k) for name in NAMES for k in (0, 1)]
    by_name = dict(zip(NAMES, PARTS, strict=True))
    coco = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(NAMES)],
        "annotations": [{"image_id": n, "id": k, "caption": f"a dog {k}"} for n in range(len(NAMES)) for k in (0, 1)],
    }
    blip = [{"image": name, "caption": [f"a dog {k}" for k in (0, 1)], "image_id": name} for name in NAMES]
    split = [
        {"filename": n, "split": by_name[n], "sentids": [0], "sentences": [{"raw": "a dog 0", "tokens": ["a", "dog"]}]}
        for n in NAMES
    ]
    csv = "\r\n".join(["image,caption", *(f'{n},"a dog {k}"' for n, k in pairs)])
    token = "\n".join(f"{n}#{k}\ta dog {k}" for n, k in pairs)
    tsv = "\n".join(["split\tfile\ttext", *(f"{by_name[n]}\t{n}\ta dog {k}" for n, k in pairs)])
    lines = "\n".join(json.dumps({"split": by_name[n], "file": n, "text": f"a dog {k}"}) for n, k in pairs)
    columns = {"columns": {"image": "file", "caption": "text", "partition": "split"}}
    layouts = [
        ("coco_captions", coco_captions, "x.json", json.dumps(coco), {}),
        ("lavis", lavis, "x.json", json.dumps(blip), {}),
        ("karpathy", karpathy, "x.json", json.dumps({"images": split}), {}),
        ("flickr_csv", flickr_csv, "x.txt", csv, {}),
        ("flickr_token", flickr_token, "x.token", token, {}),
        ("table_tsv", table, "x.tsv", tsv, columns),
        ("table_jsonl", table, "x.jsonl", lines, columns),
        ("table_parquet", table, "x.parquet", "", columns),
    ]

    def build(name, module, file, content, more):
        def lay(folder: Path) -> Folder:
            (folder / "images").mkdir()
            for photograph in NAMES:
                (folder / "images" / photograph).touch()
            (folder / file).write_text(content)
            if file.endswith(".parquet"):
                rows = [(by_name[n], n, f"a dog {k}") for n, k in pairs]
                pd.DataFrame(rows, columns=["split", "file", "text"]).to_parquet(folder / file)
            settings = module.Settings(images=folder / "images", annotations=folder / file, **more)
            return Folder(folder, [file], lambda: module.read(settings))

        lay.__name__ = name
        return lay

    return [build(*layout) for layout in layouts]


def _listed(folder: Path, *endings: str) -> list[str]:
    found = sorted(path for ending in endings for path in folder.rglob(f"*{ending}") if path.stat().st_size)
    return [str(path.relative_to(folder)) for path in found]


def _cub(folder: Path) -> Folder:
    settings = test_cub.lay(folder)
    return Folder(folder, _listed(folder, ".txt"), lambda: cub.read(settings, "cub"))


def _nuswide(folder: Path) -> Folder:
    settings = test_nuswide.lay(folder)
    return Folder(folder, _listed(folder, ".txt", ".dat"), lambda: nuswide.read(settings))


def _xmedia(folder: Path) -> Folder:
    settings = test_xmedia.lay(folder)
    return Folder(folder, _listed(folder, ".txt"), lambda: xmedia.read(settings))


def _pascal(folder: Path) -> Folder:
    settings = test_pascal.lay(folder)
    return Folder(folder, _listed(folder, ".txt"), lambda: pascal.read(settings))


def _folders(folder: Path) -> Folder:
    for kind in ("cat", "sea_lion"):
        (folder / kind).mkdir()
        for n in range(8):
            (folder / kind / f"{n}.jpg").touch()
        (folder / kind / "3.txt").write_text("A cat sleeps.\n\nIt is black.\n")
    return Folder(folder, _listed(folder, ".txt"), lambda: folders.read(folders.Settings(root=folder)))


def _saved(folder: Path) -> Folder:
    settings = test_embedded.saved(folder / "raw")
    return Folder(folder, _listed(folder, ".arrow", ".json"), lambda: hf_datasets.read(settings))


def _snapshot(folder: Path) -> Folder:
    settings = test_embedded.snapshot(folder / "raw")
    return Folder(folder, _listed(folder, ".parquet"), lambda: hf_datasets.read(settings))


def _shards(folder: Path) -> Folder:
    settings = test_embedded.shards(folder / "raw", "json")
    return Folder(folder, _listed(folder, ".tar"), lambda: webdataset.read(settings))


def _arrays(folder: Path) -> Folder:
    rng, labels = np.random.default_rng(0), np.repeat([1, 2, 3], 4)
    np.save(folder / "image.npy", rng.normal(size=(12, 3)))
    (folder / "labels.txt").write_text("\n".join(map(str, labels)))
    (folder / "captions.txt").write_text("\n".join(f"a dog {n}" for n in range(12)))
    image = {"partition": "train", "file": "image.npy", "labels": "labels.txt"}
    text = {"partition": "train", "captions": "captions.txt", "labels": "labels.txt"}
    given = {"root": folder, "modalities": {"image": image, "text": text}, "paired": ["image", "text"]}
    settings = precomputed.Settings(**given, val=0)
    return Folder(folder, _listed(folder, ".txt", ".npy"), lambda: precomputed.read(settings))


def _released() -> list[Callable[[Path], Folder]]:
    def read(path: Path) -> Callable[[], object]:
        def run() -> None:
            file = released.required(path)
            for row in range(min(3, len(file))):
                if row not in file.broken:
                    file.regions(row)
            file.read(np.arange(0, min(3, len(file)), 2))

        return run

    def tsv_of_6(folder: Path) -> Folder:
        (folder / "x.tsv").write_text("\n".join(test_region_files.rows_of_6()))
        return Folder(folder, ["x.tsv"], read(folder / "x.tsv"))

    def tsv_of_10(folder: Path) -> Folder:
        (folder / "x.tsv").write_text("\n".join(test_region_files.rows_of_10()))
        return Folder(folder, ["x.tsv"], read(folder / "x.tsv"))

    def npz_per_image(folder: Path) -> Folder:
        for i, (x, box) in enumerate(zip(*test_region_files.sets(), strict=True)):
            np.savez(folder / f"{i}.npz", x=x, bbox=box, num_bbox=len(x))
        return Folder(folder, _listed(folder, ".npz"), read(folder))

    def flat_hdf5(folder: Path) -> Folder:
        test_region_files.write_flat(folder / "x.h5")
        return Folder(folder, ["x.h5"], read(folder / "x.h5"))

    def lmdb_regions(folder: Path) -> Folder:
        import lmdb

        features, boxes = test_region_files.sets()
        with lmdb.open(str(folder / "x.lmdb"), map_size=2**17) as held, held.begin(write=True) as writer:
            for i, (x, box) in enumerate(zip(features, boxes, strict=True)):
                values = {"features": x, "bbox": box, "num_boxes": len(x), "objects": np.arange(len(x))}
                writer.put(str(i).encode(), pickle.dumps(values))
            writer.put(b"keys", pickle.dumps([b"0", b"1", b"2"]))
        return Folder(folder, ["x.lmdb/data.mdb"], _forked(read(folder / "x.lmdb")))

    return [tsv_of_6, tsv_of_10, npz_per_image, flat_hdf5, lmdb_regions]


def _forked(read: Callable[[], object]) -> Callable[[], None]:
    """Read in another process: LMDB trusts its file, and dies of pages that are none (`crossmodal.core.isolation`)."""

    def run() -> None:
        if child := os.fork():
            number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert number <= 0, "another exception than a UserError"
            return
        try:
            read()
        except UserError:
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    return run


def _regions(folder: Path) -> Folder:
    dog = {"box": [10, 20, 50, 60], "class": "dog", "attribute": "brown", "confidence": 0.5}
    (folder / "regions.json").write_text(json.dumps({"a.jpg": [dog, {"box": [0, 0, 30.5, 40], "class": "cat"}]}))
    (folder / "items.json").write_text(json.dumps({"regions": {"file": "regions.json", "exact": True}}))

    def read() -> None:
        annotations.read(folder, annotations.Worsening()).of("a.jpg", 100, 80)

    return Folder(folder, ["regions.json", "items.json"], read)


def _run(folder: Path) -> Folder:
    """What `dvc pull` brings of a run."""
    job = {"dataset": "x", "split": "full", "model": "vsepp", "variant": "", "seed": 0}
    number = {"aspect": "x", "metric": "x", "protocol": "x", "value": 1.5, "n_queries": 4, "n_gallery": 4}
    task = folder / "instance_retrieval"
    task.mkdir()
    (task / "metrics.json").write_text(json.dumps({"job": job, "numbers": [number]}))
    (folder / "manifest.json").write_text(json.dumps({"weights_sha256": "a", "hardware": {"cpu": "x"}}))
    (folder / "config.yaml").write_text("dataset: x\nsplit: full\nmodel: vsepp\nsettings: {dim: 8, margin: 0.2}\n")
    pd.DataFrame({"epoch": [0, 1], "loss": [1.5, 1]}).to_parquet(folder / "history.parquet")
    pd.DataFrame({"query_id": ["a", "b"], "rank": [1, 2], "top1": [0, 1]}).to_parquet(task / "examples.parquet")
    np.savez(task / "embeddings.npz", image=np.ones((2, 3), np.float32), image_ids=np.array(["a", "b"]))

    class Job:
        key, dataset, split, model, variant, seed = "x", "x", "full", "vsepp", "", 0
        tasks = ("instance_retrieval",)

    def read() -> None:
        from crossmodal.inference.opened import OpenedRun

        runs.numbers(folder, Job)
        runs.manifest(folder)
        runs.settings(folder)
        runs.history(folder)
        runs.examples(folder / "instance_retrieval")
        (folder / "model.safetensors").touch()
        (task / "metrics.json").exists() and OpenedRun(folder, folder, Job).saved("image", "text")

    return Folder(folder, _listed(folder, ".json", ".yaml", ".parquet", ".npz"), read)


def _prepared(folder: Path) -> Folder:
    """What `dvc pull` brings of a data set."""
    rows = [(f"a{n}", "image", f"g{n}", None, PARTS[n], NAMES[n]) for n in range(6)]
    items.write(pd.DataFrame(rows, columns=list(items.COLUMNS)), folder, {"root": "."})
    (folder / "features").mkdir()
    np.save(folder / "features" / "image.x.npy", np.ones((6, 3), np.float32))
    index = pd.DataFrame({"item_id": [f"a{n}" for n in range(6)], "boxes": [[1.0, 2.0]] * 6, "count": 2})
    store.save(folder / "features" / "image.x", index, {"extractor": "x"})

    def read() -> None:
        items.read(folder)
        items.root(folder)
        items.words(folder)
        found = store.open_features(folder / "features" / "image.x", verify=False)
        found.rows(["a0"]), found.counts, found.index

    return Folder(folder, _listed(folder, ".json", ".parquet", ".npy"), read)
