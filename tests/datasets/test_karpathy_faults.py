"""Karpathy's layout: what is read from small hand-made files, each fault's message, and the real photographs."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, karpathy, raw

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


# -- files as people have them ----------------------------------------------------------------------------------------


def test_tokens_stand_in_for_a_caption_that_is_null_or_empty(tmp_path):
    entries = three()
    for number, raw_text in enumerate((None, "", "  ")):
        entries[number]["sentences"] = [{"raw": raw_text, "tokens": ["a", "grey", "cat"]}]
    texts = karpathy.read(lay(tmp_path, entries)).set_index("item_id").source
    assert texts[["a#0", "b#0", "c#0"]].tolist() == ["a grey cat"] * 3
    entries[1]["sentences"] = [{"raw": None}]
    assert "images[1].sentences[0] has neither `raw` nor `tokens`" in fault(lay(tmp_path / "b", entries))


def test_images_that_share_a_name_are_called_by_their_paths(tmp_path):
    """In two folders, named by `filepath` or within `filename`; with two endings; and digits are no numbers."""
    entries = [
        *three(),
        entry("x.jpg", "train", "A hen.", filepath="n01"),
        entry("n02/x.jpg", "test", "An owl."),
        entry("y.jpg", "train", "A hen."),
        entry("y.png", "test", "An owl."),
        entry("0012.jpg", "train", "A hen."),
        entry("12.jpg", "test", "An owl."),
    ]
    places = ["n01/x.jpg", "n02/x.jpg", "y.jpg", "y.png", "0012.jpg", "12.jpg"]
    frame = karpathy.read(lay(tmp_path, entries, ("a.jpg", "b.jpg", "c.jpg", *places)))
    images = frame[frame.modality == "image"].set_index("item_id").source
    assert images.iloc[3:].to_dict() == {
        **{place: place for place in places[:4]},
        **{"0012": "0012.jpg", "12": "12.jpg"},
    }
    assert frame.set_index("item_id").group_id["n02/x.jpg#0"] == "n02/x.jpg"
    entries = [*three(), entry("a.jpg", "test", "A dog.")]
    assert "listed twice (keep one): 'a.jpg' (images[0] and images[3])" in fault(lay(tmp_path / "b", entries))


def test_names_with_accents_however_the_disk_writes_them(tmp_path):
    whole, apart = (unicodedata.normalize(form, "d\u00e9j\u00e0/caf\u00e9.jpg") for form in ("NFC", "NFD"))
    assert whole != apart
    for number, (listed, on_disk) in enumerate([(whole, apart), (apart, whole), (apart, apart)]):
        entries = [*three(), entry(listed, "train", "A bar.")]
        frame = karpathy.read(lay(tmp_path / str(number), entries, ("a.jpg", "b.jpg", "c.jpg", on_disk)))
        source = frame[frame.modality == "image"].source.iloc[3]
        assert (tmp_path / str(number) / "images" / source).is_file()


def test_a_byte_order_mark_and_windows_lines(tmp_path):
    settings = lay(tmp_path, three())
    text = json.dumps(json.loads(settings.annotations.read_text()), indent=1).replace("\n", "\r\n")
    settings.annotations.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(karpathy.read(settings)) == 7


def test_other_splits_go_where_the_block_says(tmp_path):
    entries = [entry("a.jpg", "train", "A dog."), entry("b.jpg", "dev", "A cat."), entry("c.jpg", "test", "A cow.")]
    settings = lay(tmp_path, entries)
    assert "datasets.pets.splits: {dev: val} in params.yaml" in fault(settings)
    frame = karpathy.read(settings.model_copy(update={"splits": {"dev": "val"}}))
    assert frame.set_index("item_id").partition[["a", "b", "c"]].tolist() == ["train", "val", "test"]
    more = lay(tmp_path, [*three(), entry("x.jpg", "extra", "A hen.")])
    assert len(karpathy.read(more.model_copy(update={"splits": {"extra": "drop"}}))) == 7


@pytest.mark.parametrize("words", ["auto", "raw", "tokens"])
def test_words_of_captions_without_blanks(tmp_path, words, caplog):
    """The makers of such files put the words that they cut beside the captions."""
    tokens = ["\u4e00", "\u53ea", "\u72d7"]
    entries = [entry(f"{name}.jpg", split) for name, split in zip("abc", ("train", "val", "test"), strict=True)]
    for one in entries:
        one["sentences"] = [{"raw": "".join(tokens), "tokens": tokens}]
    settings = lay(tmp_path, entries).model_copy(update={"words": words})
    expected = "".join(tokens) if words == "raw" else " ".join(tokens)
    assert set(karpathy.read(settings).source.iloc[3:]) == {expected}
    assert ("written without spaces" in caplog.text) == (words == "auto")
    english = three()
    for one in english:
        one["sentences"] = [{"raw": "It's a dog, isn't it?", "tokens": ["it's", "a", "dog", "isn't", "it"]}]
    settings = lay(tmp_path / "b", english).model_copy(update={"words": words})
    expected = "it's a dog isn't it" if words == "tokens" else "It's a dog, isn't it?"
    assert set(karpathy.read(settings).source.iloc[3:]) == {expected}
