import json
from pathlib import Path

import pytest
from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_file
from crossmodal.datasets import items, karpathy
from tests.datasets.noticed import changed

SPLITS = ("train", "val", "test")
PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "flickr8k-1000"


def entry(name, split, captions=("A dog runs.",), **more):
    return {"filename": name, "split": split, "sentences": [{"raw": c} for c in captions], **more}


@pytest.fixture
def corpus(tmp_path):
    """Three pictures, one per split; returns a function that writes other annotations over them."""
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")

    def write(entries=None, text=None):
        entries = (
            entries if entries is not None else [entry("a.jpg", "train"), entry("b.jpg", "val"), entry("c.jpg", "test")]
        )
        path = tmp_path / "dataset.json"
        path.write_text(text if text is not None else json.dumps({"images": entries}))
        return karpathy.Settings(annotations=path, images=tmp_path)

    return write


def good():
    return [entry("a.jpg", "train", ["One  cat.", "A cat"]), entry("b.jpg", "val"), entry("c.jpg", "test")]


def test_items_of_a_small_corpus(corpus, tmp_path):
    frame = karpathy.read(corpus(good()))
    assert list(frame.item_id) == ["a", "b", "c", "a#0", "a#1", "b#0", "c#0"]
    assert list(frame.group_id) == ["a", "b", "c", "a", "a", "b", "c"]
    assert list(frame.source[:4]) == ["a.jpg", "b.jpg", "c.jpg", "One cat."]
    karpathy.make(corpus(good()), tmp_path / "out", title="t")
    assert items.read(tmp_path / "out").equals(frame)
    assert items.root(tmp_path / "out").resolve() == tmp_path


def test_a_folder_of_coco_that_is_replaced_is_noticed(tmp_path):
    """By another one in which the photographs lie otherwise; items name the places at which they were found."""
    images = tmp_path / "raw/coco"
    (images / "val2014").mkdir(parents=True)
    names = [f"COCO_val2014_{n:012d}.jpg" for n in range(3)]
    for name in names:
        (images / "val2014" / name).touch()
    entries = [entry(name, part, filepath="val2014") for name, part in zip(names, SPLITS, strict=True)]
    (tmp_path / "raw/dataset_coco.json").write_text(json.dumps({"images": entries}))
    settings = karpathy.Settings(annotations=tmp_path / "raw/dataset_coco.json", images=images)
    karpathy.make(settings, tmp_path / "data/coco", title="COCO")
    assert not changed(tmp_path / "data/coco")
    for name in names:
        (images / "val2014" / name).rename(images / name)
    assert changed(tmp_path / "data/coco")
    karpathy.make(settings, tmp_path / "data/coco", title="COCO")
    assert list(items.read(tmp_path / "data/coco").source[:3]) == names


def test_region_annotations_are_named_in_the_manifest(corpus, tmp_path):
    settings = corpus(good())
    karpathy.make(settings, tmp_path / "out", title="t")
    assert "regions" not in read_json(tmp_path / "out" / "items.json")
    path = tmp_path / "regions.json"
    with pytest.raises(UserError, match=r"regions\.json: not found; set datasets\.out\.regions"):
        karpathy.make(settings.model_copy(update={"regions": path}), tmp_path / "out", title="t")
    path.write_text("{}")
    karpathy.make(settings.model_copy(update={"regions": path}), tmp_path / "out", title="t")
    named = read_json(tmp_path / "out" / "items.json")["regions"]
    assert (tmp_path / "out" / named["file"]).samefile(path)
    assert named["exact"] is False
    assert named["sha256"] == sha256_file(path)


def test_coco_folders_and_restval(tmp_path):
    (tmp_path / "train2014").mkdir()
    (tmp_path / "val2014").mkdir()
    names = {"COCO_train2014_1.jpg": "train2014", "COCO_val2014_2.jpg": "val2014", "COCO_val2014_3.jpg": "val2014"}
    names |= {"COCO_val2014_4.jpg": "val2014"}
    for name, folder in names.items():
        Image.new("RGB", (8, 8)).save(tmp_path / folder / name)
    splits = ["train", "restval", "val", "test"]
    entries = [
        entry(n, s, **({"filepath": f} if s != "train" else {}))
        for (n, f), s in zip(names.items(), splits, strict=True)
    ]
    (tmp_path / "d.json").write_text(json.dumps({"images": entries}))
    settings = karpathy.Settings(annotations=tmp_path / "d.json", images=tmp_path)
    images = karpathy.read(settings).query("modality == 'image'")
    assert list(images.partition) == ["train", "train", "val", "test"]
    assert images.source.iloc[1] == "val2014/COCO_val2014_2.jpg"
    dropped = karpathy.read(settings.model_copy(update={"restval": "drop"}))
    assert (dropped.modality == "image").sum() == 3


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([*good(), entry("a.jpg", "train")], ["'a.jpg'", "listed twice"]),
        ([*good(), entry("gone.jpg", "train")], ["gone.jpg", "1 of the 4 images"]),
        ([entry("a.jpg", "train", ["fine", " ... "]), *good()[1:]], ["caption 1", "'a.jpg'", "no words"]),
        ([entry("a.jpg", "train", []), *good()[1:]], ["'a.jpg'", "no captions"]),
        ([entry("a.jpg", "dev"), *good()[1:]], ["images[0]", "'dev'"]),
        ([{"filename": "a.jpg"}, *good()[1:]], ["images[0]", "`split`"]),
        (good()[:2], ["split(s) test"]),
        ([], ["a list `images`"]),
    ],
)
def test_faults_are_named(corpus, entries, words):
    with pytest.raises(UserError) as error:
        karpathy.read(corpus(entries))
    for word in words:
        assert word in str(error.value)


def test_malformed_json_names_the_file(corpus):
    with pytest.raises(UserError, match=r"dataset\.json: is not valid JSON"):
        karpathy.read(corpus(text='{"images": ['))


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not beside the checkout")
def test_real_photographs():
    settings = karpathy.Settings(annotations=PHOTOGRAPHS / "dataset_flickr8k.json", images=PHOTOGRAPHS / "images")
    frame = karpathy.read(settings)
    images = frame[frame.modality == "image"]
    assert images.partition.value_counts().to_dict() == {"train": 750, "test": 150, "val": 100}
    assert len(frame) == 6000
