"""Published arrays with labels and partitions become items, or one clear error."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.datasets import items, partitions, precomputed
from crossmodal.experiments import validated

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(1, 6), 8)  # five classes of eight


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    facts = {"I_tr": RNG.normal(size=(40, 6)), "I_te": RNG.normal(size=(10, 6)), "T_tr": RNG.normal(size=(20, 4))}
    labels = {"img_tr": LABELS[:, None], "img_te": LABELS[::4][:, None], "txt_tr": LABELS[::2][:, None]}
    savemat(root / "x.mat", {**facts, **labels, "turned": facts["I_tr"].T})
    return root


def settings(root, modalities, **more):
    return validated(precomputed.Settings, {"root": root, "file": "x.mat", "modalities": modalities, **more}, "params")


def made(tmp_path, root, modalities, **more):
    precomputed.make(settings(root, modalities, **more), tmp_path / "data" / "x", title="X")
    return items.read(tmp_path / "data" / "x"), read_json(tmp_path / "data" / "x" / "items.json")


IMAGES = [
    {"partition": "train", "array": "I_tr", "labels": "img_tr"},
    {"partition": "test", "array": "I_te", "labels": "img_te"},
]


def test_nothing_is_kept_for_validation_where_none_is_wanted(tmp_path, root):
    frame, manifest = made(tmp_path, root, {"image": IMAGES}, val=0)
    assert frame.partition.value_counts().to_dict() == {"train": 40, "test": 10}
    assert manifest["carved"]["items"] == 0
    with pytest.raises(UserError, match="greater than or equal to 0"):
        settings(root, {"image": IMAGES}, val=-0.1)


def test_modalities_of_different_counts(tmp_path, root):
    text = {"partition": "train", "array": "T_tr", "labels": "txt_tr"}
    frame, manifest = made(tmp_path, root, {"image": IMAGES, "text": text}, val=0.25)
    counts = frame.groupby(["modality", "partition"]).size().to_dict()
    expected = {("image", "test"): 10, ("image", "train"): 30, ("image", "val"): 10}
    assert counts == {**expected, ("text", "train"): 15, ("text", "val"): 5}
    # In proportion: a quarter of each class of each modality.
    shares = frame[frame.partition == "val"].groupby(["modality", "label"]).size()
    assert shares.loc["image"].tolist() == [2] * 5
    assert shares.loc["text"].tolist() == [1] * 5
    assert frame.label[:9].tolist() == ["1"] * 8 + ["2"]
    assert frame.source[39] == "x.mat#I_tr/39"
    assert frame.item_id[40] == "image/test/0"
    assert frame.group_id.equals(frame.item_id)
    assert manifest["carved"] == {"share": 0.25, "seed": 0, "groups": 15, "items": 15}
    assert items.root(tmp_path / "data" / "x").samefile(root)
    one, other = (made(tmp_path, root, {"image": IMAGES}, seed=seed)[0] for seed in (0, 1))
    assert not one.partition.equals(other.partition)
    assert one.partition.equals(made(tmp_path, root, {"image": IMAGES}, seed=0)[0].partition)


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 30], [2, 2, 2, 2], [7, 3, 11], [5]])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_a_share_in_proportion_that_empties_no_class(sizes, share):
    strata = np.repeat([f"c{i}" for i in range(len(sizes))], sizes)
    picked = partitions.stratified(strata, share, np.random.default_rng(0))
    assert len(set(picked)) == len(picked)
    taken = np.array([(strata[picked] == f"c{i}").sum() for i in range(len(sizes))])
    assert (taken <= np.maximum(np.array(sizes) - 1, 0)).all()
    assert (np.abs(taken - share * np.array(sizes)) < 1 + 1e-9).all()
    if all(size > 1 / (1 - share) for size in sizes):
        assert len(picked) == round(share * len(strata))


def test_pairs_in_their_order_with_captions(tmp_path, root):
    parts = []
    for partition, n in (("train", 4), ("val", 2), ("test", 3)):
        np.save(root / f"{partition}.npy", RNG.normal(size=(n, 6)))
        (root / f"{partition}.txt").write_text("".join(f"caption {k} of {i}\n" for i in range(n) for k in range(5)))
        parts.append(partition)
    image = [{"partition": p, "file": f"{p}.npy"} for p in parts]
    text = [{"partition": p, "captions": f"{p}.txt"} for p in parts]
    frame, manifest = made(tmp_path, root, {"image": image, "text": text}, paired=["image", "text"])
    assert manifest["carved"] is None
    images, texts = frame[frame.modality == "image"], frame[frame.modality == "text"]
    assert len(texts) == 45
    for row in images.itertuples():
        own = texts[texts.group_id == row.group_id]
        number = row.source.rpartition("/")[2]
        assert own.source.tolist() == [f"caption {k} of {number}" for k in range(5)]
        assert set(own.partition) == {row.partition}
    # The first authors' files have each image of val and test five times: every fifth is taken.
    np.save(root / "test.npy", np.repeat(np.load(root / "test.npy"), 5, axis=0))
    image[2] = {**image[2], "rows": "::5"}
    again, _ = made(tmp_path, root, {"image": image, "text": text}, paired=["image", "text"])
    assert again.source[again.partition == "test"][:3].tolist() == ["test.npy#/0", "test.npy#/5", "test.npy#/10"]
    assert again.group_id.equals(frame.group_id)
    image[2] = {"partition": "test", "file": "test.npy", "rows": "1:"}
    with pytest.raises(UserError, match="paired: 14 image, 15 text items of test"):
        made(tmp_path, root, {"image": image, "text": text}, paired=["image", "text"])


def test_a_table_with_a_partition_group_and_name_of_each_row(tmp_path, root):
    frame = pd.DataFrame({"f0": RNG.normal(size=6), "f1": 0.5, "who": list("abcdef"), "shot": [1, 1, 2, 2, 3, 3]})
    frame["part"] = ["train", "train", "val", "val", "test", "test"]
    frame.to_parquet(root / "x.parquet")
    common = {"partitions": "part", "groups": "shot", "ids": "who", "file": "x.parquet"}
    audio = {**common, "array": "f?", "rows": "::2"}
    video = {**common, "array": "f?", "partitions": "x.parquet#part[1::2]", "rows": "1::2"}
    found, _ = made(tmp_path, root, {"audio": audio, "video": video})
    assert found.item_id.tolist() == ["audio/a", "audio/c", "audio/e", "video/b", "video/d", "video/f"]
    assert found.group_id.tolist() == ["1", "2", "3"] * 2
    assert found.partition.tolist() == ["train", "val", "test"] * 2
    assert found.source[3] == "x.parquet#f?/1"
    with pytest.raises(UserError, match="partition 'a' is none of train, val, test"):
        made(tmp_path, root, {"audio": {**audio, "partitions": "who"}})


def test_lists_of_rows_and_items_in_columns(tmp_path, root):
    """The layout of the zero-shot benchmarks: D x N features, and 1-based rows of each partition."""
    savemat(root / "splits.mat", {"trainval": np.array([[40], [1], [9]]), "test": np.array([[2]]), "over": [[41]]})
    part = {"array": "turned", "items": "columns", "labels": "img_tr"}
    chosen = [{**part, "partition": p, "rows": f"splits.mat#{n}"} for p, n in (("train", "trainval"), ("test", "test"))]
    frame, manifest = made(tmp_path, root, {"image": chosen}, val=0.1)
    assert frame.source.tolist() == [f"x.mat#turned.T/{i}" for i in (39, 0, 8, 1)]
    assert frame.label.tolist() == ["5", "1", "2", "1"]
    assert next(iter(manifest["arrays"].values()))["shape"] == [40, 6]
    with pytest.raises(UserError, match=r"rows 41 to 41, but .*has 40"):
        made(tmp_path, root, {"image": {**part, "partition": "train", "rows": "splits.mat#over"}})


def test_labels_of_every_kind(tmp_path, root):
    np.savez(
        root / "l.npz", one_hot=np.eye(5)[LABELS - 1], two=np.ones((40, 5)), names=np.array(list("abcde"))[LABELS - 1]
    )
    savemat(root / "l.mat", {"one_hot": np.eye(5)[LABELS - 1]})
    with h5py.File(root / "l.h5", "w") as file:
        file["names"] = list("abcde" * 8)
    (root / "l.txt").write_text("\n".join("abcde" * 8))
    given = {
        "l.npz#one_hot": "0",
        "l.mat#one_hot": "1",
        "l.npz#names": "a",
        "l.h5#names": "a",
        "l.txt": "a",
        "img_tr": "1",
    }
    for reference, first in given.items():
        part = {"partition": "train", "array": "I_tr", "labels": reference}
        assert made(tmp_path, root, {"image": part})[0].label[0] == first, reference
    with pytest.raises(UserError, match=r"l\.npz#two: row 0 has 5 classes"):
        made(tmp_path, root, {"image": {"partition": "train", "array": "I_tr", "labels": "l.npz#two"}})


@pytest.mark.parametrize("low", [0, -1])
def test_a_matrix_that_names_several_classes_is_read_so(tmp_path, root, caplog, low):
    """As the labels of NUS-WIDE and MIRFlickr stand in .mat files, whose classes are counted from 1."""
    caplog.set_level("INFO")
    given = np.where(np.eye(5)[LABELS - 1] > 0, 1, low)
    given[3, 4] = given[3, 2] = 1  # beside its own, 1
    savemat(root / "m.mat", {"y": given.astype(np.int8)})
    part = {"partition": "train", "array": "I_tr", "labels": "m.mat#y"}
    frame, _ = precomputed.read(settings(root, {"image": part}))
    assert [items.labels_of(label) for label in frame.label[2:5]] == [["1"], ["1", "3", "5"], ["1"]]
    assert "1 of 40 rows have several classes" in caplog.text
    with pytest.raises(UserError, match=r"m\.mat#y: row 3 has 3 classes; .*`several: true`"):
        precomputed.read(settings(root, {"image": part}, several=False))
    given[7] = low
    savemat(root / "m.mat", {"y": given})
    with pytest.raises(UserError, match=r"m\.mat#y: row 3 has 3 classes; .*`several: true`"):
        precomputed.read(settings(root, {"image": part}))
    frame, _ = precomputed.read(settings(root, {"image": part}, several=True))
    assert frame.label.isna().tolist() == [n == 7 for n in range(40)]


@pytest.mark.parametrize("several", [None, True, False])
def test_columns_of_numbers_are_no_matrix_of_ones(tmp_path, root, several):
    np.save(root / "y.npy", np.stack([LABELS - 1, LABELS], 1))
    part = {"partition": "train", "array": "I_tr", "labels": "y.npy"}
    with pytest.raises(UserError, match=r"y\.npy: 2 columns with numbers such as 2 are neither one label per item nor"):
        precomputed.read(settings(root, {"image": part}, several=several))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"array": "I_tra"}, r"x\.mat: has no array 'I_tra'; did you mean 'I_tr'\? \(known: I_te, I_tr, T_tr"),
        ({"array": "I_tr", "labels": "img_te"}, r"x\.mat#img_te: 10 values for the 40 rows of .*x\.mat#I_tr"),
        ({"array": "turned", "labels": "img_tr"}, "40 values for the 6 rows .*items: columns"),
        ({"array": "I_tr", "labels": "other.mat#y"}, r"other\.mat: not found"),
        ({"array": "img_tr", "items": "columns", "counts": "img_tr"}, "values for the 1 rows|apply to region sets"),
        ({"file": "y.pkl"}, r"y\.pkl: has an unknown format"),
        ({"captions": "captions.txt"}, "`captions` are for text alone"),
        ({"array": "I_tr", "labls": "img_tr"}, "labls: unknown key; did you mean 'labels'"),
        ({"array": "I_tr", "partitions": "img_tr"}, "either `partition` .* or `partitions`"),
    ],
)
def test_mistakes_are_named(tmp_path, root, part, said):
    with pytest.raises(UserError, match=said):
        made(tmp_path, root, {"image": {"partition": "train", **part}})
    assert not (tmp_path / "data" / "x" / "items.parquet").exists()


def test_more_mistakes(tmp_path, root):
    with pytest.raises(UserError, match="some items already belong to the partition val"):
        made(tmp_path, root, {"image": {"partition": "val", "array": "I_tr"}}, val=0.1)
    with pytest.raises(UserError, match=r"an item has shape \(4,\), in .*I_tr \(6,\)"):
        made(tmp_path, root, {"image": [IMAGES[0], {"partition": "test", "array": "T_tr"}]})
    with pytest.raises(UserError, match="paired: text is none of the modalities"):
        settings(root, {"image": IMAGES}, paired=["text"])
    (root / "c.txt").write_text("a dog\n\na cat\n")
    with pytest.raises(UserError, match=r"c\.txt: caption 1 is empty"):
        made(tmp_path, root, {"text": {"partition": "train", "captions": "c.txt"}})
    np.save(root / "sets.npy", np.zeros((3, 4, 2), np.float32))
    np.save(root / "counts.npy", np.array([4, 0, 5]))
    part = {"partition": "train", "file": "sets.npy", "counts": "counts.npy"}
    with pytest.raises(UserError, match=r"counts\.npy: row 1 has count 0, expected 1 to 4"):
        made(tmp_path, root, {"image": part})
    with pytest.raises(UserError, match=r"no such folder; set datasets\.x\.root"):
        made(tmp_path, tmp_path / "gone", {"image": IMAGES})


def test_labels_in_files_of_their_own(tmp_path, root):
    """A file of text with a line each, a column of a table, and a file of no known format, which is told as that."""
    names = [f"class {label}" for label in LABELS]
    (root / "labels.txt").write_text("\n".join(names) + "\n")
    (root / "items.tsv").write_text("id\tclass\n" + "".join(f"{i:03d}\t{name}\n" for i, name in enumerate(names)))
    (root / "labels.dat").write_text("\n".join(names) + "\n")
    part = {"partition": "train", "array": "I_tr"}
    for labels in ("labels.txt", "labels.dat", "items.tsv#class", "items.tsv#2"):
        frame, _ = made(tmp_path / labels, root, {"image": {**part, "labels": labels, "ids": "items.tsv#id"}})
        assert frame.label.tolist() == names
        assert frame.item_id.tolist() == [f"image/{i:03d}" for i in range(40)]
    (root / "labels.dat").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=r"labels\.dat: has an unknown format; expected a name that ends in \.npy"):
        made(tmp_path / "dat", root, {"image": {**part, "labels": "labels.dat"}})


def scan_folder(root, times=5, **image):
    """A folder as VSE++ and SCAN publish it: an image's row once per caption in dev and test, once in train."""
    for part, count, repeats in (("train", 20, 1), ("val", 6, times), ("test", 6, times)):
        np.save(root / f"{part}.npy", np.repeat(RNG.normal(size=(count, 3, 4)).astype(np.float32), repeats, axis=0))
        lines = [f"image {n} caption {k}" for n in range(count) for k in range(times)]
        (root / f"{part}.txt").write_text("".join(f"{line}\n" for line in lines))
    parts = ("train", "val", "test")
    images = [{"partition": p, "file": f"{p}.npy"} | (image if p != "train" else {}) for p in parts]
    texts = [{"partition": p, "captions": f"{p}.txt"} for p in parts]
    return settings(root, {"image": images, "text": texts}, paired=["image", "text"])


def test_images_that_stand_once_per_caption_are_noticed(root):
    with pytest.raises(
        UserError, match=r'val\.npy: repeats each row 5 times in succession.*`rows: "::5"` in modalities.image\[1\]'
    ):
        precomputed.read(scan_folder(root))
    frame, _ = precomputed.read(scan_folder(root, rows="::5"))
    tested = frame[frame.partition == "test"]
    assert tested.modality.value_counts().to_dict() == {"text": 30, "image": 6}
    assert tested.group_id.nunique() == 6
    # Two equal rows are no rule: the rest of the array does not repeat.
    once = scan_folder(root, times=1)
    values = np.load(root / "train.npy")
    values[1] = values[0]
    np.save(root / "train.npy", values)
    assert len(precomputed.read(once)[0]) == 2 * 32


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c", "\x1e", "\r"])
def test_captions_stay_with_their_images(root, mark):
    """Lines end at line feeds alone: a sentence from the web may hold what Python calls another line's end."""
    chosen = scan_folder(root, rows="::5")
    lines = [f"image {n} {mark if n == 3 and k < 5 else ''}caption {k}" for n in range(20) for k in range(5)]
    (root / "train.txt").write_bytes(("\ufeff" + "".join(f"{line}\r\n" for line in lines)).encode())
    frame, _ = precomputed.read(chosen)
    texts = frame[(frame.modality == "text") & (frame.partition == "train")]
    assert texts.source.tolist() == [f"image {n} caption {k}" for n in range(20) for k in range(5)]
    assert texts.group_id.tolist() == [f"train/{n}" for n in range(20) for _ in range(5)]


def test_labels_that_are_counted_from_another_number_are_warned_of(tmp_path, root, caplog):
    """As where one program writes 1 to C in training and another 0 to C-1 in test."""
    np.save(root / "from_0.npy", LABELS[::4] - 1)
    images = [IMAGES[0], {**IMAGES[1], "labels": "from_0.npy"}]
    _, manifest = made(tmp_path, root, {"image": images})
    (warning,) = manifest["warnings"]
    assert warning.startswith("the labels of image items of test are 0 to 4, those of image items of train 1 to 5")
    assert warning in caplog.text
    assert made(tmp_path, root, {"image": IMAGES})[1]["warnings"] == []


def test_labels_by_a_column_of_a_list(root):
    (root / "pairs.list").write_text("".join(f"text{n}\timg{n}\t{n % 3 + 1}\n" for n in range(40)))
    image = {"partition": "train", "array": "I_tr", "labels": "pairs.list#3"}
    frame, _ = precomputed.read(settings(root, {"image": image}))
    assert frame.label[:4].tolist() == ["1", "2", "3", "1"]
    with pytest.raises(
        UserError, match=r"pairs\.list: its lines hold 3 columns \('text0.timg0.t1'\); .* pairs\.list#3"
    ):
        precomputed.read(settings(root, {"image": {**image, "labels": "pairs.list"}}))


def test_a_table_is_not_a_caption_per_line(root):
    (root / "captions.txt").write_text("image,caption\n0.jpg,a dog\n")
    text = {"partition": "train", "captions": "captions.txt"}
    with pytest.raises(UserError, match=r"a table of the columns image, caption.*captions: captions\.csv#caption"):
        precomputed.read(settings(root, {"text": text}))
    (root / "results.token").write_text("0.jpg#0\ta dog\n0.jpg#1\ta cat\n")
    with pytest.raises(UserError, match=r"its lines hold 2 columns .*captions: results\.token#2"):
        precomputed.read(settings(root, {"text": {**text, "captions": "results.token"}}))
    frame, _ = precomputed.read(settings(root, {"text": {**text, "captions": "results.token#2"}}))
    assert frame.source.tolist() == ["a dog", "a cat"]
    (root / "captions.txt").rename(root / "captions.csv")
    frame, _ = precomputed.read(settings(root, {"text": {**text, "captions": "captions.csv#caption"}}))
    assert frame.source.tolist() == ["a dog"]


NO_TEXT, NO_ROWS, NO_COUNTS, SINGLE = "no text in UTF-8", "a list of row numbers", "a list of counts", "a single value"
ODD = [
    (np.full(6, np.inf), {"labels": "is infinite", "ids": "is infinite", "rows": NO_ROWS, "counts": "has count inf"}),
    (np.full(6, b"\xff"), dict.fromkeys(("labels", "ids", "groups", "partitions", "captions"), NO_TEXT)),
    (np.full(6, "\ud800"), dict.fromkeys(("labels", "groups", "captions"), NO_TEXT) | {"rows": NO_ROWS}),
    (np.ones(6, "c8"), {"rows": NO_ROWS, "counts": NO_COUNTS}),
    (np.zeros(6, "M8[s]"), {"rows": NO_ROWS, "counts": NO_COUNTS}),
    (np.zeros(6, [("a", "f8")]), {"rows": NO_ROWS, "counts": NO_COUNTS}),
    (np.full(6, "word"), {"rows": NO_ROWS, "counts": NO_COUNTS}),
    (np.array(1.0), dict.fromkeys(("labels", "ids", "groups", "partitions", "rows", "counts", "captions"), SINGLE)),
    (np.full((6, 2), 2), {"rows": NO_ROWS, "counts": NO_COUNTS}),
]


@pytest.mark.parametrize(("values", "key", "said"), [(v, key, said) for v, of in ODD for key, said in of.items()])
def test_arrays_of_odd_values_are_one_error(tmp_path, values, key, said):
    """What is no label, row, count or caption is told with the file that holds it, whatever NumPy makes of it."""
    np.save(tmp_path / "x.npy", RNG.normal(size=(6, 3, 2)))
    np.save(tmp_path / "odd.npy", values)
    part = {"captions": "odd.npy"} if key == "captions" else {"file": "x.npy", key: "odd.npy"}
    part |= {} if key == "partitions" else {"partition": "train"}
    with pytest.raises(UserError, match=rf"odd\.npy: .*{said}"):
        precomputed.read(settings(tmp_path, {"text" if key == "captions" else "image": part}, file=""))


def test_captions_of_bytes_are_read_as_text(tmp_path):
    np.save(tmp_path / "captions.npy", np.array([b"a  dog ", "größer".encode()]))
    text = {"partition": "train", "captions": "captions.npy"}
    assert precomputed.read(settings(tmp_path, {"text": text}, file=""))[0].source.tolist() == ["a dog", "größer"]
