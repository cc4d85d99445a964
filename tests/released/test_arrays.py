"""Arrays of other tools' files: the same numbers, whatever wrote them; damage is told."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from scipy.sparse import csr_matrix

from crossmodal.core import hdf5, limits
from crossmodal.core.errors import UserError
from crossmodal.released.arrays import Place, open_array

VALUES = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
SETS = np.random.default_rng(1).normal(size=(7, 3, 5)).astype(np.float32)


def write(path, kind, matlab73):
    """VALUES, SETS and labels in a file of each kind."""
    labels = np.arange(1.0, 8)[:, None]
    if kind == "v5.mat":
        savemat(path, {"a": VALUES, "sets": SETS, "labels": labels}, do_compression=True)
    elif kind == "v7.3.mat":
        matlab73(path, a=VALUES, sets=SETS, labels=labels)
    elif kind == "x.npz":
        np.savez_compressed(path, a=VALUES, sets=SETS, labels=labels)
    elif kind == "x.h5":
        with h5py.File(path, "w") as file:
            file["a"], file["sets"], file["labels"] = VALUES, SETS, labels
    else:
        pd.DataFrame(
            {"a": list(VALUES), "sets": [list(map(list, s)) for s in SETS], "labels": labels[:, 0]}
        ).to_parquet(path)
    return path


KINDS = ("v5.mat", "v7.3.mat", "x.npz", "x.h5", "x.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_the_very_numbers(tmp_path, kind, matlab73):
    path = write(tmp_path / kind, kind, matlab73)
    for name, expected in (("a", VALUES), ("sets", SETS)):
        found = open_array(path, name)
        assert found.shape == expected.shape
        assert np.array_equal(found.all(), expected)
        assert np.array_equal(found[4], expected[4])
        assert np.array_equal(found.read(np.array([6, 0, 6])), expected[[6, 0, 6]])
    assert open_array(path, "labels").all().ravel().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert np.array_equal(open_array(path, "a", columns=True).all(), VALUES.T)
    with pytest.raises(UserError, match=r"has no array 'b'.*\(known: a, labels, sets\)"):
        open_array(path, "b")
    with pytest.raises(UserError, match="holds several arrays; name one of them: a, labels, sets"):
        open_array(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [0.0, 0.6, 0.95])
def test_a_truncated_file_is_told(tmp_path, kind, cut, matlab73):
    path = write(tmp_path / kind, kind, matlab73)
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(UserError, match=r"is truncated or damaged|has no array 'labels'"):
        open_array(path, "labels")


def test_a_damaged_member_of_an_archive(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=VALUES)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.npz: is truncated or damaged \(Bad CRC"):
        open_array(path, "a")


def test_an_npy_file_is_read_by_rows(tmp_path):
    np.save(tmp_path / "c.npy", SETS)
    np.save(tmp_path / "f.npy", np.asfortranarray(VALUES))
    assert np.array_equal(open_array(tmp_path / "c.npy").read(np.array([5, 5, 0])), SETS[[5, 5, 0]])
    assert np.array_equal(open_array(tmp_path / "c.npy", columns=True).all(), SETS.T)
    assert np.array_equal(open_array(tmp_path / "f.npy").all(), VALUES)
    with pytest.raises(UserError, match="one array without a name"):
        open_array(tmp_path / "c.npy", "a")
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-4])
    with pytest.raises(UserError, match="is truncated"):
        open_array(tmp_path / "c.npy")


@pytest.mark.parametrize("kind", ["x.h5", "v7.3.mat"])
@pytest.mark.parametrize("chunks", [None, (2, 2)])
def test_a_large_hdf5_array_is_read_in_blocks(tmp_path, kind, chunks, monkeypatch):
    monkeypatch.setattr(hdf5, "WHOLE", 0)
    monkeypatch.setattr(hdf5, "BLOCK", 3 * VALUES[0].nbytes)
    monkeypatch.setattr(hdf5, "KEPT", 1)
    with h5py.File(tmp_path / kind, "w") as file:
        file.create_dataset("a", data=VALUES if kind == "x.h5" else VALUES.T, chunks=chunks)
    found = open_array(tmp_path / kind, "a")
    assert np.array_equal(found.read(np.array([6, 0, 3, 3, 5])), VALUES[[6, 0, 3, 3, 5]])
    assert np.array_equal(found.all(), VALUES)


def test_texts(tmp_path, matlab73):
    names = ["dog", "a cat"]
    savemat(tmp_path / "five.mat", {"names": np.array(names, dtype=object), "padded": np.array(names)})
    matlab73(tmp_path / "seven.mat", names=names)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["names"] = names
    pd.DataFrame({"names": names}).to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.txt").write_text("dog\na cat\n")
    for name in ("five.mat", "seven.mat", "x.h5", "x.parquet"):
        assert open_array(tmp_path / name, "names").all().ravel().tolist() == names
    assert open_array(tmp_path / "x.txt").all().tolist() == names
    assert open_array(tmp_path / "five.mat", "padded").all().tolist() == ["dog  ", "a cat"]


def test_columns_side_by_side_and_bags_of_words(tmp_path):
    frame = pd.DataFrame(VALUES, columns=[f"f{i}" for i in range(5)])
    frame.assign(label=1).to_parquet(tmp_path / "x.parquet")
    assert np.array_equal(open_array(tmp_path / "x.parquet", "f*").all(), VALUES)
    savemat(tmp_path / "s.mat", {"bow": csr_matrix(VALUES), "s": {"field": 1}})
    assert np.array_equal(open_array(tmp_path / "s.mat", "bow").all(), VALUES)
    with pytest.raises(UserError, match="'s' is a struct"):
        open_array(tmp_path / "s.mat", "s")
    pd.DataFrame({"a": [[1.0, 2], [3.0]]}).to_parquet(tmp_path / "u.parquet")
    with pytest.raises(UserError, match="lists differ in length"):
        open_array(tmp_path / "u.parquet", "a")
    pd.DataFrame({"a": [[[1.0, 2], [3.0]], [[1.0], [2.0, 3]]]}).to_parquet(tmp_path / "u.parquet")
    with pytest.raises(UserError, match="lists differ in length"):
        open_array(tmp_path / "u.parquet", "a")


def test_what_is_no_array_file(tmp_path):
    with pytest.raises(UserError, match=r"x\.pkl: has an unknown format: a pickle could run .* save it as an \.npy"):
        open_array(tmp_path / "x.pkl")
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\0")
    with pytest.raises(UserError, match="has an unknown format"):
        open_array(tmp_path / "x.jpg")
    with pytest.raises(UserError, match=r"x\.mat: not found"):
        open_array(tmp_path / "x.mat")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", a=np.array([{}], dtype=object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(UserError, match=r"holds Python objects, stored as a pickle.* save it as"):
            open_array(tmp_path / name)
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"x\.json: is no list of texts or numbers"):
        open_array(tmp_path / "x.json")


@pytest.mark.parametrize("place", [Place("a/b.mat", "c/d", True, 12), Place("x.npy", "", False, 0, 7)])
def test_a_place_is_a_source(place):
    assert Place.parse(str(place)) == place
    with pytest.raises(UserError, match=r"'a\.jpg' is no row of an array"):
        Place.parse("a.jpg")


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_columns_of_a_table_of_text(tmp_path, suffix, separator):
    path = tmp_path / f"items.{suffix}"
    rows = [["name", "class", "code", "f1", "f2"], ["a b", "NA", "007", "1.5", "2"], ["ö", "", "12", "-1", "3e2"]]
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    assert open_array(path, "name").all().tolist() == ["a b", "ö"]
    assert open_array(path, "class").all().tolist() == ["NA", ""]  # a class may be called so
    assert open_array(path, "code").all().tolist() == ["007", "12"]  # a name, not the number 7
    numbers = open_array(path, "f*")
    assert numbers.dtype == np.float64
    assert numbers.all().tolist() == [[1.5, 2.0], [-1.0, 300.0]]
    assert open_array(path, "f2")[1] == 300
    with pytest.raises(UserError, match=r"has no array 'clas'; did you mean 'class'"):
        open_array(path, "clas")
    with pytest.raises(UserError, match="holds several arrays; name one of them: class, code, f1, f2, name"):
        open_array(path)
    (tmp_path / f"one.{suffix}").write_text("label\nx\ny\n")
    assert open_array(tmp_path / f"one.{suffix}").all().tolist() == ["x", "y"]


def test_a_table_without_names_of_columns_is_said_to_be_one(tmp_path):
    """Such as the bottom-up-attention program's: a number of the first row would be taken for a column's name."""
    path = tmp_path / "features.tsv"
    path.write_text("000375\t500\tKC8ev6s36T\n000376\t480\tiA6m51kpv\n")
    with pytest.raises(UserError, match=r"features\.tsv: its first line names no columns \(it holds '000375'\)"):
        open_array(path, "500")


def test_a_column_by_its_number(tmp_path):
    """Such as the labels of the Wikipedia set's lists: the third of columns that have no names."""
    for name, separator in (("pairs.list", "\t"), ("pairs.tsv", "\t"), ("pairs.csv", ","), ("pairs", " ")):
        rows = [["t1", "i1", "10"], ["t2", "i2", "2"], ["t3", "i3", "7"]]
        (tmp_path / name).write_text("\ufeff" + "".join(separator.join(row) + "\r\n" for row in rows))
        assert open_array(tmp_path / name, "3").all().tolist() == [10, 2, 7]
        assert open_array(tmp_path / name, "1").all().tolist() == ["t1", "t2", "t3"]
    (tmp_path / "named.csv").write_text("text,class\nt1,dog\nt2,cat\n")
    assert open_array(tmp_path / "named.csv", "2").all().tolist() == ["dog", "cat"]
    (tmp_path / "short.list").write_text("a\tb\nc\n")
    with pytest.raises(UserError, match=r"short\.list: line 2 has 1 columns, and column 2 is wanted: 'c'"):
        open_array(tmp_path / "short.list", "2")
    with pytest.raises(UserError, match="has no column 'class'; its columns have no names"):
        open_array(tmp_path / "short.list", "class")


def test_values_of_any_file_of_text(tmp_path):
    for name in ("labels", "labels.lst", "labels.txt"):
        (tmp_path / name).write_bytes("\ufeffa\u2028b\r\n\nc\n".encode())
        assert open_array(tmp_path / name).all().tolist() == ["a\u2028b", "", "c"]
    (tmp_path / "labels.json").write_text('["a", "b"]')
    assert open_array(tmp_path / "labels.json").all().tolist() == ["a", "b"]
    (tmp_path / "labels.json").write_text("[3, 1]")
    assert open_array(tmp_path / "labels.json").all().tolist() == [3, 1]
    (tmp_path / "one.csv").write_text("\ufefflabel\nx\n")
    assert open_array(tmp_path / "one.csv", "label").all().tolist() == ["x"]


def test_matlab_7_3_as_matlab_writes_it(tmp_path):
    """Sparse matrices are groups, char matrices have a row per text, an empty cell has its shape for its values."""
    dense = np.array([[0, 2.5, 0], [0, 0, -1], [3, 0, 0], [0, 4, 0]])
    with h5py.File(tmp_path / "x.mat", "w") as file:
        for name, rows, (data, ir, jc) in (
            ("bow", 4, ([3, 2.5, 4, -1], [2, 0, 3, 1], [0, 1, 3, 4])),  # by columns, as a hand writes them down
            ("none", 2, (None, None, [0, 0, 0, 0])),
        ):
            group = file.create_group(name)
            group.attrs["MATLAB_sparse"] = np.uint64(rows)
            group["jc"] = np.array(jc, np.uint64)
            if data:
                group["data"], group["ir"] = np.array(data), np.array(ir, np.uint64)
        names = np.array([[ord(letter) for letter in text] for text in ("dog ", "bird")], np.uint16)
        file["names"] = names.T
        file["names"].attrs["MATLAB_class"] = np.bytes_("char")
        cells = []
        for key, value, kind, empty in (
            ("a", np.array([[99], [97], [116]], np.uint16), "char", 0),
            ("b", np.array([0, 0], np.uint64), "char", 1),
            ("c", np.array([[7.0]]), "double", 0),
        ):
            data = file.create_dataset(f"#refs#/{key}", data=value)
            data.attrs["MATLAB_class"] = np.bytes_(kind)
            if empty:
                data.attrs["MATLAB_empty"] = np.uint8(1)
            cells.append(data.ref)
        bad = file.create_dataset("#refs#/d", data=np.ones((2, 3)))
        bad.attrs["MATLAB_class"] = np.bytes_("double")
        file.create_dataset("cells", data=np.array([cells]), dtype=h5py.ref_dtype)
        file.create_dataset("bad", data=np.array([[bad.ref]]), dtype=h5py.ref_dtype)
    assert np.array_equal(open_array(tmp_path / "x.mat", "bow").all(), dense)
    assert np.array_equal(open_array(tmp_path / "x.mat", "bow", columns=True).all(), dense.T)
    assert np.array_equal(open_array(tmp_path / "x.mat", "none").all(), np.zeros((2, 3)))
    assert open_array(tmp_path / "x.mat", "names").all().tolist() == ["dog", "bird"]
    assert open_array(tmp_path / "x.mat", "cells").all().tolist() == ["cat", "", "7.0"]
    with pytest.raises(UserError, match=r"#bad: cell 1 holds a float64 array of shape \(3, 2\), expected one text or"):
        open_array(tmp_path / "x.mat", "bad")
    with pytest.raises(UserError, match=r"known: bad, bow, cells, names, none"):
        open_array(tmp_path / "x.mat", "bag")
    cells = np.empty(2, dtype=object)
    cells[:] = [np.ones(3), "dog"]
    savemat(tmp_path / "five.mat", {"cells": cells})
    with pytest.raises(UserError, match="#cells: cell 1 holds a float64 array"):
        open_array(tmp_path / "five.mat")


def test_groups_of_hdf5_within_each_other_without_end(tmp_path):
    """HDF5 takes minutes for 20,000 of them, in a file of 3 MB."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/" * 100 + "x"] = [1.0]
    assert open_array(tmp_path / "a.h5").all().tolist() == [1.0]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["g/" * 101 + "x"] = [1.0]
    with pytest.raises(UserError, match=r"a\.h5: has groups nested more than 100 times"):
        open_array(tmp_path / "a.h5")


def npy(path, shape, dtype, fortran=False):
    """An .npy file of zeros, which takes no room on the disk."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": fortran, "shape": shape})
        stream.truncate(stream.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return path


def test_a_large_array_is_read_by_rows_and_not_by_columns_or_as_a_whole(tmp_path):
    """Those of 4 GB took as much memory, and six seconds."""
    by_rows = open_array(npy(tmp_path / "c.npy", (10**6, 1000), "<f4"))
    assert by_rows.read(np.arange(10**6 - 3, 10**6)).shape == (3, 1000)
    with pytest.raises(UserError, match=r"c\.npy: to choose from all 1,000,000 rows takes 8,000,000,000 bytes"):
        by_rows.all()
    with pytest.raises(UserError, match=r"c\.npy: to read it column by column takes 4,000,000,000 bytes of memory"):
        open_array(tmp_path / "c.npy", columns=True)
    with pytest.raises(UserError, match=r"f\.npy: to read it as it is stored, in Fortran order, takes 4,000,000,000"):
        open_array(npy(tmp_path / "f.npy", (10**6, 1000), "<f4", fortran=True))
    with pytest.raises(UserError, match=r"u\.npy: to read its texts takes 4,000,000,000"):
        open_array(npy(tmp_path / "u.npy", (10**9,), "<U1"))


def test_the_largest_array_that_is_read_by_columns_or_as_a_whole(tmp_path):
    limits.use(limits.Limits(whole_bytes=160))
    for shape, fortran in (((4, 10), True), ((10, 4), True), ((4, 5), False)):
        array = open_array(npy(tmp_path / "a.npy", shape, "<f4", fortran), columns=fortran)
        assert array[0].shape == (shape[:1] if fortran else shape[1:])
    assert array.all().shape == (4, 5)
    limits.use(limits.Limits(whole_bytes=159))
    with pytest.raises(UserError, match="takes 160 bytes of memory, expected at most 159"):
        array.all()
    with pytest.raises(UserError, match="takes 160 bytes of memory, expected at most 159"):
        open_array(npy(tmp_path / "a.npy", (4, 10), "<f4", fortran=True))
