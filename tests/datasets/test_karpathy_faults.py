"""Karpathy's layout: what is read from small hand-made files, each fault's message, and the real photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossmodal.datasets import items, karpathy, raw
from crossmodal.errors import UserError

PHOTOGRAPHS = Path(__file__).parents[2] / ".." / "shared" / "data" / "flickr8k-1000"


def entry(name: str, split: str, *raws: str, **more) -> dict:
    return {"filename": name, "split": split, "sentences": [{"raw": raw} for raw in raws], **more}


def three() -> list[dict]:
    return [
        entry("a.jpg", "train", "A dog .", "  Two\n dogs run ."),
        entry("b.jpg", "val", "A cat."),
        entry("c.jpg", "test", "A cow."),
    ]


def lay(folder: Path, entries: object, on_disk: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> karpathy.Settings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"images": entries, "dataset": "x"}))
    (folder / "images").mkdir(exist_ok=True)
    for name in on_disk:
        (folder / "images" / name).parent.mkdir(exist_ok=True)
        (folder / "images" / name).touch()
    return karpathy.Settings(annotations=folder / "dataset.json", images=folder / "images")


def fault(settings: karpathy.Settings) -> str:
    with pytest.raises(UserError) as caught:
        karpathy.read(settings, "pets")
    return str(caught.value)


def test_images_then_captions_in_the_order_of_the_file(tmp_path):
    frame = karpathy.read(lay(tmp_path, three()))
    assert frame.item_id.tolist() == ["a", "b", "c", "a#0", "a#1", "b#0", "c#0"]
    assert frame.modality.tolist() == ["image"] * 3 + ["text"] * 4
    assert frame.group_id.tolist() == ["a", "b", "c", "a", "a", "b", "c"]
    assert frame.partition.tolist() == ["train", "val", "test", "train", "train", "val", "test"]
    assert frame.source.tolist() == ["a.jpg", "b.jpg", "c.jpg", "A dog .", "Two dogs run .", "A cat.", "A cow."]


def test_tokens_stand_in_for_a_missing_raw_caption(tmp_path):
    entries = three()
    entries[1]["sentences"] = [{"tokens": ["a", "grey", "cat"]}]
    assert karpathy.read(lay(tmp_path, entries)).set_index("item_id").source["b#0"] == "a grey cat"


@pytest.mark.parametrize(("choice", "images"), [("train", ["a", "b", "c", "r"]), ("drop", ["a", "b", "c"])])
def test_restval_is_trained_on_or_dropped(tmp_path, choice, images):
    settings = lay(tmp_path, [*three(), entry("r.jpg", "restval", "A hen.")], ("a.jpg", "b.jpg", "c.jpg", "r.jpg"))
    frame = karpathy.read(settings.model_copy(update={"restval": choice}))
    assert frame[frame.modality == "image"].item_id.tolist() == images
    assert set(frame[frame.group_id == "r"].partition) == ({"train"} if choice == "train" else set())


def test_coco_folders_by_filepath_by_name_or_flat(tmp_path):
    entries = [
        entry("COCO_train2014_000000000001.jpg", "train", "A dog."),
        entry("COCO_val2014_000000000002.jpg", "val", "A cat.", filepath="val2014", cocoid=2),
        entry("x.jpg", "test", "A cow.", filepath="elsewhere"),
        entry("COCO_val2014_000000000004.jpg", "test", "A hen."),
    ]
    places = (
        "train2014/COCO_train2014_000000000001.jpg",
        "val2014/COCO_val2014_000000000002.jpg",
        "elsewhere/x.jpg",
        "COCO_val2014_000000000004.jpg",
    )
    frame = karpathy.read(lay(tmp_path, entries, places))
    assert tuple(frame[frame.modality == "image"].source) == places


def test_the_folder_is_listed_once_and_no_file_is_asked_for(tmp_path, monkeypatch):
    settings = lay(tmp_path, three())
    listed = []
    scandir = raw.os.scandir
    monkeypatch.setattr(raw.os, "scandir", lambda path: (listed.append(path), scandir(path))[1])
    karpathy.read(settings)
    assert len(listed) == 1


def test_missing_files_name_the_key_to_set(tmp_path):
    settings = lay(tmp_path, three())
    gone = settings.model_copy(update={"annotations": tmp_path / "no.json"})
    assert "no.json: not found" in fault(gone)
    assert "datasets.pets.annotations in params.yaml" in fault(gone)
    gone = settings.model_copy(update={"images": tmp_path / "nowhere"})
    assert "nowhere: no such folder" in fault(gone)
    assert "datasets.pets.images in params.yaml" in fault(gone)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "a list `images`"),
        ('{"images": []}', "a list `images`"),
        ('{"images": {}}', "a list `images`"),
        ('{"images": [3]}', "images[0] is no object but int"),
        ('{"images": [{}]}', "images[0] lacks `filename`"),
        ('{"images": [{"filename": "a.jpg", "split": 1}]}', "images[0].split is no str but int"),
        ('{"images": [{"filename": "", "split": "val", "sentences": []}]}', "images[0].filename is empty"),
        ('{"images": [{"filename": "a", "split": "val", "sentences": ["x"]}]}', "images[0].sentences[0] has neither"),
        ('{"images": [{"filename": "a", "split": "val", "sentences": [], "filepath": 1}]}', "images[0].filepath is no"),
    ],
)
def test_a_malformed_file_names_the_entry_and_the_key(tmp_path, text, said):
    settings = lay(tmp_path, three())
    settings.annotations.write_text(text)
    assert said in fault(settings)
    assert fault(settings).startswith(str(settings.annotations))


def test_all_faults_are_named_at_once(tmp_path):
    entries = three()
    entries[0]["sentences"][1]["raw"] = " .!_ "
    entries[1]["sentences"] = []
    entries += [entry("a.jpg", "val", "Again."), entry("d.jpg", "dev", "A pig."), entry("e.jpg", "test", "A hen.")]
    said = fault(lay(tmp_path, entries))
    assert "caption 1 of 'a.jpg' (' .!_ ')" in said
    assert "1 image(s) with no captions" in said
    assert ": 'b.jpg'" in said
    assert "'a.jpg' (images[0] and images[3])" in said
    assert "images[4] ('d.jpg'): 'dev'" in said
    assert "1 of the 6 images of dataset.json are not there: e.jpg" in said
    assert len(said.splitlines()) == 5


def test_missing_images_are_counted_and_where_was_looked_is_said(tmp_path):
    entries = three() + [entry(f"COCO_val2014_{i}.jpg", "train", "A pig.") for i in range(9)]
    said = fault(lay(tmp_path, entries))
    assert "9 of the 12 images" in said
    assert "COCO_val2014_4.jpg and 4 more" in said
    assert "COCO_val2014_5.jpg" not in said
    assert f"looked in {tmp_path / 'images'}, {tmp_path / 'images' / 'val2014'};" in said
    assert "datasets.pets.images in params.yaml" in said


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_partition_needs_an_image(tmp_path, split):
    entries = [e for e in three() if e["split"] != split]
    assert f"no image is of the split(s) {split};" in fault(lay(tmp_path, entries))


def test_the_root_is_found_again_from_the_prepared_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk" / "deep" / "down").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "deep" / "down")  # `..` from there is not `tmp_path`
    lay(Path("raw/pets"), three())
    relative = karpathy.Settings(annotations="raw/pets/dataset.json", images="raw/pets/images")
    absolute = relative.model_copy(update={"images": tmp_path / "raw/pets/images"})
    lay(Path("data/pets/raw"), three())
    inside = karpathy.Settings(annotations="data/pets/raw/dataset.json", images=tmp_path / "data/pets/raw/images")
    for settings, root in ((relative, None), (absolute, str(tmp_path / "raw/pets/images")), (inside, "raw/images")):
        karpathy.make(settings, Path("data/pets"), title="Pets")
        assert items.root(Path("data/pets")).resolve() == settings.images.resolve()
        manifest = json.loads(Path("data/pets/items.json").read_text())
        assert manifest["title"] == "Pets"
        assert root in (None, manifest["root"])
        assert not (settings is relative and Path(manifest["root"]).is_absolute())


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not on this machine")
def test_the_real_photographs(tmp_path):
    settings = karpathy.Settings(annotations=PHOTOGRAPHS / "dataset_flickr8k.json", images=PHOTOGRAPHS / "images")
    karpathy.make(settings, tmp_path / "flickr8k", title="Flickr8K")
    frame = items.read(tmp_path / "flickr8k")
    images = frame[frame.modality == "image"]
    assert images.partition.value_counts().to_dict() == {"train": 750, "val": 100, "test": 150}
    assert (frame.modality == "text").sum() == 5000
    assert images.item_id.iloc[0] == "1000268201_693b08cb0e"
    assert all((items.root(tmp_path / "flickr8k") / source).is_file() for source in images.source[::100])
    raw = json.loads(settings.annotations.read_text())["images"][0]["sentences"][2]["raw"]
    assert frame.set_index("item_id").source["1000268201_693b08cb0e#2"] == raw
