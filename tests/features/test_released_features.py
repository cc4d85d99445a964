"""From released files of regions to the features of a data set."""

import base64
import pickle

import numpy as np
import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, precomputed, table
from crossmodal.features import precomputed as gathering
from crossmodal.features import released
from crossmodal.features.engine import extraction, placed, store

D = 6
NAMES = ["COCO_val2014_000000000042.jpg", "1000092795.jpg", "cat.jpg", "2258277193_586949ec62.jpg"]
IDS = ["42", "1000092795", "cat", "2258277193_586949ec62.jpg"]
COUNTS = [3, 2, 4, 1]


def b64(values):
    return base64.b64encode(np.ascontiguousarray(values, "<f4")).decode()


def features_of(n):
    return np.random.default_rng(n).normal(size=(COUNTS[n], D)).astype("f4")


def boxes_of(n):
    return np.tile([1.0, 2.0, 10.0 + n, 20.0], (COUNTS[n], 1)).astype("f4")


def row(n, name=None):
    return "\t".join([name or IDS[n], "500", "375", str(COUNTS[n]), b64(boxes_of(n)), b64(features_of(n))])


@pytest.fixture
def corpus(tmp_path):
    """Four photographs in a table; returns a function that prepares it with files of regions."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        (tmp_path / "images" / name).touch()
    parts = ["train", "train", "val", "test"]
    lines = "".join(f"{name},a dog,{part}\n" for name, part in zip(NAMES, parts, strict=True))
    (tmp_path / "captions.csv").write_text(f"image,caption,partition\n{lines}")

    def prepare(regions, **more):
        given = {"images": tmp_path / "images", "annotations": tmp_path / "captions.csv", **more}
        settings = table.Settings(**given, columns={"partition": "partition"}, regions=regions)
        table.make(settings, tmp_path / "data", title="t")
        return tmp_path / "data"

    return prepare


def extract(folder, module=released, name="released", **settings):
    target = folder / "features" / f"image.{name}"
    chosen = module.Settings(**settings)
    extraction.run(name, items.read(folder), items.root(folder), chosen, target, threads=2, modality="image")
    return store.open_features(target)


def check(found):
    assert found.array.shape == (4, 4, D)
    assert found.counts.tolist() == COUNTS
    for n in range(4):
        np.testing.assert_array_equal(found.array[n, : COUNTS[n]], features_of(n))
        assert not found.array[n, COUNTS[n] :].any()
        np.testing.assert_array_equal(np.stack(found.index.boxes[n]), boxes_of(n))


def test_images_are_found_by_name_and_by_number(corpus, tmp_path):
    """In two files, in another order, one image in both."""
    (tmp_path / "a.tsv.0").write_text("\n".join([row(2), row(0), row(1)]) + "\n")
    (tmp_path / "a.tsv.1").write_text("\n".join([row(3), row(1)]) + "\n")
    folder = corpus([tmp_path / "a.tsv.0", tmp_path / "a.tsv.1"])
    check(extract(folder))


def test_rows_without_names_are_named_beside_them(corpus, tmp_path):
    import h5py

    ends = np.cumsum(COUNTS)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["image_features"] = np.concatenate([features_of(n) for n in range(4)])
        file["image_bb"] = np.concatenate([boxes_of(n) for n in range(4)])
        file["pos_boxes"] = np.stack([ends - COUNTS, ends], 1)
    with pytest.raises(UserError, match=r"a\.hdf5: does not name the images of its rows; .*`region_ids`"):
        extract(corpus(tmp_path / "a.hdf5"))
    (tmp_path / "ids.txt").write_text("\n".join(IDS) + "\n")
    check(extract(corpus(tmp_path / "a.hdf5", region_ids=tmp_path / "ids.txt")))
    with (tmp_path / "imgid2idx.pkl").open("wb") as stream:  # as BAN's files come with
        pickle.dump({name: n for n, name in enumerate(IDS)}, stream)
    check(extract(corpus(tmp_path / "a.hdf5", region_ids=tmp_path / "imgid2idx.pkl")))
    (tmp_path / "short.txt").write_text("42\n")
    with pytest.raises(UserError, match=r"1 names for the 4 rows"):
        extract(corpus(tmp_path / "a.hdf5", region_ids=tmp_path / "short.txt"))


def test_a_broken_row_or_one_that_lacks_is_that_image_s_fault(corpus, tmp_path):
    (tmp_path / "a.tsv").write_text("\n".join([row(0), row(1)[:80], row(2)]) + "\n")
    folder = corpus(tmp_path / "a.tsv")
    with pytest.raises(UserError, match=r"row 2 is cut.*'1000092795'"):
        extract(folder)
    found = extract(folder, on_error="skip")
    reasons = {one["item_id"]: one["reason"] for one in found.manifest["skipped"]}
    assert set(reasons) == {"1000092795", "2258277193_586949ec62"}
    assert "has no regions of 2258277193_586949ec62.jpg" in reasons["2258277193_586949ec62"]
    np.testing.assert_array_equal(found.array[1], features_of(2))


def test_numbers_of_classes_have_names(corpus, tmp_path):
    def line(n):
        numbers = np.arange(COUNTS[n])
        cells = [IDS[n], "375", "500", base64.b64encode(numbers.astype("<i8")).decode(), b64(numbers / 4)]
        cells += [base64.b64encode((numbers % 2).astype("<i8")).decode(), b64(numbers)]
        return "\t".join([*cells, str(COUNTS[n]), b64(boxes_of(n)), b64(features_of(n))])

    (tmp_path / "a.tsv").write_text("\n".join(line(n) for n in range(4)) + "\n")
    (tmp_path / "objects.txt").write_text("dog\ncat,kitten\ntree\nsky")
    (tmp_path / "attributes.txt").write_text("red\nbig")
    folder = corpus(tmp_path / "a.tsv")
    index = extract(folder, objects=tmp_path / "objects.txt", attributes=tmp_path / "attributes.txt").index
    assert list(index["class"][2]) == ["dog", "cat", "tree", "sky"]
    assert list(index["attribute"][0]) == ["red", "big", "red"]
    assert list(index["confidence"][0]) == [0.0, 0.25, 0.5]
    assert list(extract(folder, regions=2).index["class"][2]) == ["0", "1"]
    with pytest.raises(UserError, match=r"attributes\.txt: has 2 names, but .*a\.tsv numbers up to 2 \(COCO"):
        extract(folder, objects=tmp_path / "attributes.txt")


def test_another_file_is_converted_again(corpus, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(row(n) for n in range(4)) + "\n")
    folder = corpus(path)
    check(extract(folder))
    path.write_text("\n".join([row(0, IDS[1]), row(1, IDS[0]), row(2), row(3)]) + "\n")
    found = extract(folder)
    np.testing.assert_array_equal(found.array[0, :2], features_of(1))


def test_a_data_set_of_such_a_file_alone(tmp_path):
    """`kind: precomputed` takes the images from the file, with their names, and keeps the boxes."""
    (tmp_path / "a.tsv").write_text("\n".join(row(n) for n in range(4)) + "\n")
    (tmp_path / "captions.txt").write_text("".join(f"a dog {n}\n" for n in range(8)))
    (tmp_path / "groups.txt").write_text("".join(f"{IDS[n // 2]}\n" for n in range(8)))
    parts = [{"partition": p, "file": "a.tsv", "rows": r} for p, r in (("train", ":2"), ("val", "2:3"), ("test", "3:"))]
    text = [
        {"partition": p, "captions": "captions.txt", "groups": "groups.txt", "rows": r}
        for p, r in (("train", ":4"), ("val", "4:6"), ("test", "6:"))
    ]
    settings = precomputed.Settings(root=tmp_path, modalities={"image": parts, "text": text})
    precomputed.make(settings, tmp_path / "data", title="t")
    frame = items.read(tmp_path / "data")
    assert frame.group_id.value_counts().to_dict() == dict.fromkeys(IDS, 3)
    check(extract(tmp_path / "data", gathering, "precomputed"))


def test_rows_that_are_left_out_leave_no_gap(tmp_path):
    """Blocks of three with two, none and one good row: what is kept comes together in order, to the byte."""
    array = placed.Placed(tmp_path / "array.npy", (9, 2), "float32")
    values = np.arange(18, dtype=np.float32).reshape(9, 2)
    array.write(6, values[6:7], "x")
    array.write(0, values[:2], "x")
    array.finish(tmp_path / "done.npy", [2, 0, 1], 3)
    np.testing.assert_array_equal(np.load(tmp_path / "done.npy"), values[[0, 1, 6]])
    np.save(tmp_path / "same.npy", values[[0, 1, 6]])
    assert (tmp_path / "done.npy").read_bytes() == (tmp_path / "same.npy").read_bytes()


def test_marks_of_an_array_that_is_gone_are_not_believed(tmp_path):
    placed.Placed(tmp_path / "array.npy", (4, 2), "float32")
    for name in ("0.abc.parquet", "2.abc.parquet"):
        (tmp_path / name).touch()
    placed.Placed(tmp_path / "array.npy", (4, 2), "float32").forget([2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.abc.parquet", "array.npy"]
    placed.Placed(tmp_path / "array.npy", (5, 2), "float32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["array.npy"]


def test_a_value_that_half_precision_cannot_hold(tmp_path):
    array = placed.Placed(tmp_path / "array.npy", (1, 1), "float16")
    with pytest.raises(UserError, match="a value of 100000 is too large for float16"):
        array.write(0, np.array([[1e5]]), "x")
