"""Region features as they are released: each form against the numbers that were put in."""

import base64
import pickle
import sys

import h5py
import numpy as np
import pytest

from crossmodal import released
from crossmodal.core.errors import UserError
from crossmodal.released import mdb, tsv
from crossmodal.released.arrays import open_array

D = 5
COUNTS = [3, 2, 4]


def sets(counts=COUNTS):
    """Features and boxes of some images, the boxes at random but with a positive area."""
    rng = np.random.default_rng(0)
    corners = [rng.uniform(0, 50, (n, 2)) for n in counts]
    boxes = [np.hstack([low, low + rng.uniform(1, 40, low.shape)]).astype("f4") for low in corners]
    return [rng.normal(size=(n, D)).astype("f4") for n in counts], boxes


def b64(values, dtype="<f4"):
    return base64.b64encode(np.ascontiguousarray(values, dtype)).decode()


def rows_of_6():
    return [
        "\t".join([str(100 + i), "500", "375", str(len(x)), b64(box), b64(x)])
        for i, (x, box) in enumerate(zip(*sets(), strict=True))
    ]


def rows_of_10():
    found = []
    for i, (x, box) in enumerate(zip(*sets(), strict=True)):
        numbers = np.arange(len(x))
        cells = [f"COCO_{i}", "375", "500", b64(numbers + i, "<i8"), b64(numbers / 10), b64(numbers * 2, "<i8")]
        found.append("\t".join([*cells, b64(numbers / 20), str(len(x)), b64(box), b64(x)]))
    return found


def check(file, boxed=True):
    features, boxes = sets()
    assert file.shape == (3, 4, D)
    assert file.counts.tolist() == COUNTS
    for row in range(3):
        found = file.regions(row)
        np.testing.assert_array_equal(found.features, features[row])
        if boxed:
            np.testing.assert_array_equal(found.boxes, boxes[row])
    padded = file.read(np.array([2, 0]))
    np.testing.assert_array_equal(padded[0], features[2])
    np.testing.assert_array_equal(padded[1], np.vstack([features[0], np.zeros((1, D))]))


# -- bottom-up attention's TSV ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_tsv(tmp_path, end, last):
    """Python's csv ends lines by two signs, other tools by one; the last may have none."""
    path = tmp_path / "trainval.tsv.0"
    path.write_bytes((end.join(rows_of_6()) + (end if last else "")).encode())
    file = released.required(path)
    assert file.ids == ["100", "101", "102"]
    check(file)


def test_tsv_of_lxmert_has_classes_and_attributes(tmp_path):
    path = tmp_path / "val.tsv"
    path.write_text("\n".join(rows_of_10()) + "\n")
    file = released.required(path)
    assert file.ids == ["COCO_0", "COCO_1", "COCO_2"]
    check(file)
    found = file.regions(2)
    assert found.classes.tolist() == [2, 3, 4, 5]
    assert found.attributes.tolist() == [0, 2, 4, 6]
    np.testing.assert_allclose(found.confidences, [0, 0.1, 0.2, 0.3], atol=1e-6)


def test_an_image_that_stands_twice_is_kept_once(tmp_path, caplog):
    first, second, third = rows_of_6()
    other = second.replace("101\t", "100\t", 1)
    path = tmp_path / "a.tsv"
    path.write_text("\n".join([first, second, other, third, first]) + "\n")
    file = released.required(path)
    check(file)
    assert "2 row(s) repeat an image" in caplog.text


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("left", [0.5, 0.02])
def test_a_cut_row_is_named_and_the_others_are_read(tmp_path, at, left):
    """A download that broke and went on: the row is shorter than its number of boxes says."""
    rows = rows_of_6()
    rows[at] = rows[at][: max(4, int(left * len(rows[at])))]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join([*rows, *(row.replace("10", "20", 1) for row in rows_of_6())]) + "\n")
    file = released.required(path) if at else tsv.open_regions(path, "")
    features, _ = sets()
    good = [name for name in ("100", "101", "102", "200", "201", "202") if name != f"10{at}"]
    for name in good:
        np.testing.assert_array_equal(file.regions(file.ids.index(name)).features, features[int(name[-1])])
    if f"10{at}" in file.ids:
        with pytest.raises(UserError, match=rf"row {at + 1} is cut, or longer .*'10{at}'"):
            file.regions(file.ids.index(f"10{at}"))


def test_the_good_one_of_two_is_taken(tmp_path):
    rows = rows_of_6()
    path = tmp_path / "a.tsv"
    path.write_text("\n".join([rows[0], rows[1][:60], rows[2], rows[1]]) + "\n")
    file = released.required(path)
    assert sorted(file.ids) == ["100", "101", "102"]
    assert not file.broken
    np.testing.assert_array_equal(file.regions(file.ids.index("101")).features, sets()[0][1])


def test_what_is_no_base64_is_that_row_s_fault(tmp_path):
    rows = rows_of_6()
    rows[1] = rows[1][:-9] + "#" + rows[1][-8:]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(rows) + "\n")
    file = released.required(path)
    with pytest.raises(UserError, match=r"image '101': its features are not 10 numbers in base64"):
        file.regions(1)
    file.regions(0)


def test_a_table_is_no_such_file(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("image\tw\th\tn\tboxes\tfeatures\na\t1\t2\t3\t4\t5\n")
    assert released.opened(path) is None
    assert open_array(path, "w").all().tolist() == [1.0]
    with pytest.raises(UserError, match=r"no region features in a known format; expected a \.tsv of base64"):
        released.required(path)
    with pytest.raises(UserError, match=r"gone\.tsv: not found"):
        released.required(tmp_path / "gone.tsv")


# -- a folder of .npz -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_npz_per_image(tmp_path, turned):
    """MCAN's and OpenVQA's files have an image's regions as columns, others' as rows."""
    for i, (x, box) in enumerate(zip(*sets(), strict=True)):
        np.savez(tmp_path / f"{i}.jpg.npz", x=x.T if turned else x, bbox=box, num_bbox=len(x), image_w=500)
    file = released.required(tmp_path)
    assert file.ids == ["0.jpg", "1.jpg", "2.jpg"]
    check(file)


def test_npz_that_are_padded_or_have_their_boxes_beside_them(tmp_path):
    features, boxes = sets()
    (tmp_path / "cocobu_att").mkdir()
    (tmp_path / "cocobu_box").mkdir()
    for i, (x, box) in enumerate(zip(features, boxes, strict=True)):
        np.savez(tmp_path / "cocobu_att" / f"{i}.npz", feat=x)
        np.save(tmp_path / "cocobu_box" / f"{i}.npy", box)
    check(released.required(tmp_path / "cocobu_att"))
    (tmp_path / "padded").mkdir()
    for i, x in enumerate(features):
        np.savez(tmp_path / "padded" / f"{i}.npz", x=np.pad(x, ((0, 9 - len(x)), (0, 0))), num_bbox=len(x))
    check(released.required(tmp_path / "padded"), boxed=False)


def test_a_damaged_npz_is_that_image_s_fault(tmp_path):
    for i, x in enumerate(sets()[0]):
        np.savez(tmp_path / f"{i}.npz", x=x)
    (tmp_path / "1.npz").write_bytes((tmp_path / "1.npz").read_bytes()[:80])
    file = released.required(tmp_path)
    assert file.counts.tolist() == [3, 0, 4]
    with pytest.raises(UserError, match=r"1\.npz is truncated or damaged"):
        file.regions(1)


# -- HDF5 -------------------------------------------------------------------------------------------------------------


def write_flat(path, spans=None, **more):
    features, boxes = sets()
    ends = np.cumsum(COUNTS)
    with h5py.File(path, "w") as file:
        file["image_features"], file["image_bb"] = np.concatenate(features), np.concatenate(boxes)
        file["pos_boxes"] = np.stack([ends - COUNTS, ends], 1) if spans is None else spans
        for key, value in more.items():
            file[key] = value


def test_flat_hdf5(tmp_path):
    write_flat(tmp_path / "a.hdf5")
    file = released.required(tmp_path / "a.hdf5")
    assert file.ids is None
    check(file)
    write_flat(tmp_path / "b.h5", image_ids=np.array([7, 8, 9]))
    assert released.required(tmp_path / "b.h5").ids == ["7", "8", "9"]
    write_flat(tmp_path / "c.h5", spans=np.array([[0, 3], [3, 3], [5, 9]]))
    with pytest.raises(UserError, match=r"pos_boxes: image 1 has rows 3 to 3 of 9"):
        released.required(tmp_path / "c.h5")


def test_hdf5_of_a_fixed_number_of_regions(tmp_path):
    features = np.random.default_rng(0).normal(size=(2, 3, D)).astype("f4")
    with h5py.File(tmp_path / "36.h5", "w") as file:
        file["image_features"], file["image_bb"] = features, np.zeros((2, 3, 4), "f4")
    file = released.required(tmp_path / "36.h5")
    assert file.counts.tolist() == [3, 3]
    np.testing.assert_array_equal(file.all(), features)


# -- LMDB -------------------------------------------------------------------------------------------------------------


def test_lmdb(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    features, boxes = sets()
    with lmdb.open(str(tmp_path / "a.lmdb"), map_size=2**20) as store, store.begin(write=True) as writer:
        for i, (x, box) in enumerate(zip(features, boxes, strict=True)):
            values = {"features": b64(x).encode(), "boxes": b64(box).encode(), "num_boxes": len(x), "image_h": 375}
            values = values if i else {"features": x, "bbox": box, "num_boxes": len(x), "objects": np.arange(len(x))}
            writer.put(str(i).encode(), pickle.dumps(values))
        writer.put(b"keys", pickle.dumps([b"0", b"1", b"2"]))
    file = released.required(tmp_path / "a.lmdb")
    assert file.ids == ["0", "1", "2"]
    check(file)
    assert file.regions(0).classes.tolist() == [0, 1, 2]
    (tmp_path / "bad.lmdb").mkdir()
    (tmp_path / "bad.lmdb" / "data.mdb").write_bytes(b"\0" * 99)
    with pytest.raises(UserError, match=r"bad\.lmdb: is truncated or no LMDB"):
        released.required(tmp_path / "bad.lmdb")


def test_lmdb_says_which_package_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (tmp_path / "a.lmdb").mkdir()
    with pytest.raises(UserError, match=r"a\.lmdb: is an LMDB, .*pip install 'crossmodal\[lmdb\]'"):
        released.required(tmp_path / "a.lmdb")


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_runs_nothing(capsys):
    array = np.arange(6.0).reshape(2, 3)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found = mdb.plain(pickle.dumps({"x": array, "n": np.int64(3), "b": b"\xff"}, protocol), "here")
        np.testing.assert_array_equal(found["x"], array)
        assert found["n"] == 3
        with pytest.raises(UserError, match="here: is no pickle of plain values and arrays"):
            mdb.plain(pickle.dumps({"x": Evil()}, protocol), "here")
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="is no pickle"):
        mdb.plain(b"none", "here")
