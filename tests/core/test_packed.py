"""What another's tables, archives and records may become in memory, before they become it."""

import json
import struct
import zipfile
import zlib
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse

from crossmodal.core import hdf5, limits, packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, read_record, read_rows
from crossmodal.datasets import items
from crossmodal.experiments.settings import read_yaml
from crossmodal.features.engine import store
from crossmodal.inference.opened import OpenedRun
from crossmodal.released.arrays import open_array
from crossmodal.reporting.results import runs

SMALL = limits.Limits(unpacked=1_000_000, line=50_000, record_bytes=1000, yaml_bytes=1000)


def nested(depth):
    kind, value = pa.int8(), 1
    for _ in range(depth):
        kind, value = pa.list_(kind), [value]
    return pa.table({"x": pa.array([value], kind)})


TABLES = {
    "rows without a value": (lambda: pa.table({"x": pa.nulls(10**6, pa.string())}), "would become 24,0"),
    "a number many times": (lambda: pa.table({"x": np.zeros(10**6)}), "would become 8,0"),
    "a text many times": (lambda: pa.table({"x": ["a" * 40_000] * 1000}), "would become 40,000,000 in memory"),
    "one long text": (lambda: pa.table({"x": ["a" * 60_000, ""]}), "x: holds a text of 60,000 bytes"),
    "lists in lists": (lambda: nested(20), "nested too deeply"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("coded", [True, False])
def test_tables_made_to_fill_the_memory(tmp_path, name, coded):
    make, told = TABLES[name]
    if name == "a text many times" and not coded:
        told = "would become"  # three times its bytes, which the page is compressed from
    path, content = tmp_path / "items.parquet", make()
    pq.write_table(content, path, use_dictionary=coded, compression="zstd")
    if not name.startswith("lists"):  # these are no matter of size
        assert read_parquet(path).equals(content.to_pandas())
    limits.use(SMALL)
    with pytest.raises(UserError, match=f"items.parquet.*{told}") as caught:
        read_parquet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        pa.ListArray.from_arrays(pa.array(np.zeros(9_001, np.int32)), pa.array([], pa.int64())),
        pa.nulls(9_000, pa.struct({"a": pa.int64()})),
        pa.array(np.zeros(9_000, np.int32)).cast(pa.date32()),
    ],
    ids=["lists", "records", "dates"],
)
def test_values_that_become_objects_count_for_more_than_numbers(tmp_path, monkeypatch, values):
    """An object of Python's takes more than 100 bytes: 9,000 of them more than 900,000, and nothing in the file."""
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table({"x": values}), path, compression="zstd")
    assert len(read_parquet(path)) == 9_000
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=900_000))
    with pytest.raises(UserError, match="would become"):
        read_parquet(path)


def test_rows_as_mappings_count_for_more_than_columns(tmp_path, monkeypatch):
    """A mapping of one value takes 184 bytes of Python, besides its value."""
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table({"x": pa.nulls(9_000)}), path)
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=9_000 * 184))
    assert len(read_parquet(path)) == 9_000
    with pytest.raises(UserError, match="would become"):
        read_rows(path)


def test_a_table_of_too_many_columns(tmp_path, monkeypatch):
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2]}), path)
    monkeypatch.setattr(packed, "COLUMNS", 1)
    with pytest.raises(UserError, match="has 2 columns, expected at most 1"):
        read_parquet(path)


def test_a_table_of_items_and_an_index_of_features_are_looked_at(tmp_path):
    limits.use(SMALL)
    bomb = pa.table({name: ["x" * 40_000] * 1000 for name in [*items.COLUMNS, "row"]})
    pq.write_table(bomb, tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"limits\.unpacked"):
        items.read(tmp_path)
    pq.write_table(bomb, tmp_path / "image.x.parquet")
    features = store.Features(np.zeros((1000, 2)), {}, tmp_path / "image.x.npy")
    with pytest.raises(UserError, match=r"limits\.unpacked"):
        features.rows(["a"])


def test_a_table_is_read_as_pandas_reads_it(tmp_path):
    frame = pd.DataFrame(
        {
            "text": pd.array(["a", None, "b"], "string"),
            "object": ["a", None, "b"],
            "number": [1.5, np.nan, 2],
            "list": [["a"], [], ["b", "c"]],
        },
        index=[5, 6, 7],
    )
    for name, index in (("a.parquet", True), ("b.parquet", False)):
        frame.to_parquet(tmp_path / name, index=index)
        pd.testing.assert_frame_equal(read_parquet(tmp_path / name), pd.read_parquet(tmp_path / name))
        chosen = ["number", "text"]
        pd.testing.assert_frame_equal(
            read_parquet(tmp_path / name, chosen), pd.read_parquet(tmp_path / name, columns=chosen)
        )
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_parquet(tmp_path / "a.parquet", ["other"])


def test_archives_of_arrays(tmp_path):
    path = tmp_path / "embeddings.npz"
    np.savez_compressed(path, image=np.zeros((1000, 1000)), few=np.arange(3), odd=np.array([{}], object))
    limits.use(SMALL)
    with packed.arrays(path) as found:
        assert set(found) == {"image", "few", "odd"}
        assert found["few"].tolist() == [0, 1, 2]
        assert "other" not in found
        with pytest.raises(UserError, match=r"embeddings.npz#image: .* would become 8,000,128"):
            found["image"]
        with pytest.raises(ValueError, match="allow_pickle"):
            found["odd"]
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(Exception, match="no archive"), packed.arrays(tmp_path / "x.npy"):
        pass


def test_kept_embeddings_of_a_run(tmp_path, monkeypatch):
    task = tmp_path / "instance_retrieval"
    task.mkdir()
    np.savez_compressed(task / "embeddings.npz", image=np.zeros((1000, 1000)), image_ids=np.arange(1000))
    (tmp_path / "model.safetensors").touch()
    for path in (task / "metrics.json", tmp_path / "manifest.json"):
        path.write_text(json.dumps({"weights_sha256": "a"}))
    limits.use(SMALL)
    with pytest.raises(UserError, match=r"embeddings.npz.*limits\.unpacked"):
        OpenedRun(tmp_path, tmp_path, SimpleNamespace(dataset="toy", key="")).saved("image", "text")


def test_records_and_settings_are_small(tmp_path, caplog):
    (tmp_path / "metrics.json").write_text(json.dumps({"numbers": [0] * 1000}))
    (tmp_path / "manifest.json").write_text(json.dumps([[]] * 1000))
    (tmp_path / "config.yaml").write_text("settings: [" + "a, " * 1000 + "]")
    assert len(read_record(tmp_path / "metrics.json")["numbers"]) == 1000
    limits.use(SMALL)
    with pytest.raises(UserError, match=r"metrics.json: has 3,0\d\d bytes, expected at most 1,000 \(`limits.record_b"):
        read_record(tmp_path / "metrics.json")
    with pytest.raises(UserError, match=r"config.yaml: has 3,012 bytes, expected at most 1,000 \(`limits.yaml_bytes"):
        read_yaml(tmp_path / "config.yaml")
    assert runs.manifest(tmp_path) == {}
    assert runs.settings(tmp_path) is None
    assert "limits.record_bytes" in caplog.text


def test_texts_and_cells_that_are_many_times_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=2**20, ratio=10))
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        texts = file.create_dataset("x", 500, h5py.string_dtype())
        texts[:] = ["A" * 10_000, *["b"] * 499]
        start = texts.id.get_offset()
    data = bytearray(path.read_bytes())
    data[start : start + 16 * 500] = bytes(data[start : start + 16]) * 500  # each refers to the first one
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"texts\.h5#x: [\d,]+ bytes of the file would become"):
        open_array(path, "x")
    path = tmp_path / "cells.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        text = file.create_dataset("#refs#/a", data=np.full((10_000, 1), 65, np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_("char")
        file.create_dataset("x", (1, 500), h5py.ref_dtype)[...] = text.ref
    with pytest.raises(UserError, match=r"cells\.mat#x: [\d,]+ bytes of the file would become"):
        open_array(path, "x")


def mat_part(kind, shape, inside, name=b"x"):
    """An array of a MATLAB file, of one of its kinds, whatever is inside."""
    head = struct.pack("<4I", 6, 8, kind, 0) + struct.pack("<2I2i", 5, 8, *shape) + struct.pack("<2H4s", 1, 1, name)
    return struct.pack("<2I", 14, len(head) + len(inside)) + head + inside


def mat_file(part, compressed=True):
    begin = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    packed_part = zlib.compress(part)
    return begin + (struct.pack("<2I", 15, len(packed_part)) + packed_part if compressed else part)


def compressed_mat(shape, values):
    """A MATLAB file with one compressed matrix `x` of doubles, whatever its values are."""
    return mat_file(mat_part(6, shape, struct.pack("<2I", 9, len(values)) + values))


@pytest.mark.parametrize("compressed", [True, False])
def test_cells_that_are_not_there_or_hold_cells(tmp_path, compressed):
    """SciPy makes room for all that are claimed, and follows cells in cells until its stack is full."""
    path = tmp_path / "x.mat"
    path.write_bytes(mat_file(mat_part(1, (2**30, 1), b""), compressed))
    with pytest.raises(UserError, match=r"x: has 1,073,741,824 cells, of which 0 are there"):
        open_array(path, "x")
    one = mat_part(6, (1, 1), struct.pack("<2Id", 9, 8, 2.5), b"")
    path.write_bytes(mat_file(mat_part(1, (2, 1), one + mat_part(1, (2**30, 1), b"", b"")), compressed))
    with pytest.raises(UserError, match="x: cell 2 holds no text or number"):
        open_array(path, "x")
    blank = mat_part(4, (2**30, 1), struct.pack("<2I", 16, 0), b"")  # SciPy would make that many blanks
    path.write_bytes(mat_file(mat_part(1, (1, 1), blank), compressed))
    with pytest.raises(UserError, match="x: cell 1 holds no text or number"):
        open_array(path, "x")
    word = mat_part(4, (1, 2), struct.pack("<2I2s6x", 16, 2, b"ab"), b"")
    path.write_bytes(mat_file(mat_part(1, (2, 1), one + word), compressed))
    assert open_array(path, "x").all().tolist() == [["2.5"], ["ab"]]


def test_small_cells_count_for_more_than_their_bytes(tmp_path, monkeypatch):
    """Each becomes an object of Python, however few bytes it has: 4,000 of them are 220 KB of the unpacked file."""
    cells = np.full((4000, 1), "", object)
    cells[:, 0] = "a"
    scipy.io.savemat(tmp_path / "x.mat", {"x": cells}, do_compression=True)
    assert open_array(tmp_path / "x.mat", "x").all().shape == (4000, 1)
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=2**21, ratio=10))
    with pytest.raises(UserError, match=r"x\.mat: [\d,]+ bytes of the file would become"):
        open_array(tmp_path / "x.mat", "x")


def test_chunks_of_a_few_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "CHUNKS", 1000)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=np.arange(1001), chunks=(1,))
        file.create_dataset("y", data=np.arange(1000), chunks=(1,))
        file.create_dataset("z", data=np.zeros((1001, 128)), chunks=(1, 128))
    with pytest.raises(UserError, match=r"x\.h5#x: lies in 1,001 chunks of a few bytes each"):
        open_array(tmp_path / "x.h5", "x")
    assert open_array(tmp_path / "x.h5", "y").all().tolist() == [*range(1000)]
    assert open_array(tmp_path / "x.h5", "z").shape == (1001, 128)


def test_what_many_cells_refer_to_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "cells.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        references = []
        for name in ("ab", "", "c"):
            codes = np.array([[ord(letter)] for letter in name] or [[0], [0]], np.uint16)
            text = file.create_dataset(f"#refs#/a{name}", data=codes)
            text.attrs["MATLAB_class"] = np.bytes_("char")
            if not name:
                text.attrs["MATLAB_empty"] = 1
            references.append(text.ref)
        cells = file.create_dataset("x", (2, 3000), h5py.ref_dtype)
        cells[0, :], cells[1, :] = references[0], references[1]
        cells[1, 2999] = references[2]
    read = []
    contents = hdf5._contents
    monkeypatch.setattr(hdf5, "_contents", lambda part: read.append(part.name) or contents(part))
    assert open_array(path, "x").all().tolist() == [*["ab", ""] * 2999, "ab", "c"]
    assert sorted(read) == ["/#refs#/a", "/#refs#/aab", "/#refs#/ac"]


def test_compressed_parts_of_a_matlab_file(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=2**20))
    zeros = scipy.sparse.csc_array((np.zeros(10**6), np.zeros(10**6, np.int32), [0, 10**6]), shape=(5, 1))
    cell = np.empty((1, 1), object)
    cell[0, 0] = np.zeros((1000, 1000))
    for name, value in (("sparse", zeros), ("cell", cell)):
        scipy.io.savemat(tmp_path / f"{name}.mat", {"x": value}, do_compression=True)
        with pytest.raises(UserError, match=rf"{name}\.mat: [\d,]+ bytes of the file would become"):
            open_array(tmp_path / f"{name}.mat", "x")
    large = np.random.default_rng(0).bytes(2**17) + bytes(2**22)  # begins like features, and then hardly takes a byte
    (tmp_path / "x.mat").write_bytes(compressed_mat((2, 2), large))
    with pytest.raises(UserError, match=r"x: holds 4,325,376 bytes of values, expected 32 for its shape"):
        open_array(tmp_path / "x.mat")
    numbers = np.arange(4.0)
    (tmp_path / "x.mat").write_bytes(compressed_mat((2, 2), numbers.tobytes()))
    assert open_array(tmp_path / "x.mat").all().tolist() == [[0, 2], [1, 3]]
    many = compressed_mat((500, 100), np.zeros(50_000).tobytes())
    (tmp_path / "x.mat").write_bytes(many + many[128:] * 3)  # each could be unpacked, and all are in order to be listed
    with pytest.raises(UserError, match=r"x\.mat: [\d,]+ bytes of the file would become 1,20\d,\d{3}"):
        open_array(tmp_path / "x.mat", "x")
    one = mat_file(mat_part(6, (1, 1), struct.pack("<2Id", 9, 8, 2.5)), compressed=False)
    (tmp_path / "x.mat").write_bytes(one + one[128:] * 100_000)
    with pytest.raises(UserError, match=r"x\.mat: holds more than 100,000 arrays"):
        open_array(tmp_path / "x.mat", "x")
    features = np.random.default_rng(0).normal(size=(500, 400))
    scipy.io.savemat(tmp_path / "x.mat", {"x": features}, do_compression=True)
    assert (open_array(tmp_path / "x.mat", "x").all() == features).all()


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    pd.DataFrame({"row": [0], "value": [1.5]}).to_parquet(tmp_path / "cells.parquet")
    with pytest.raises(UserError, match=r"cells.parquet.*has no column metric; its columns are row, value"):
        read_parquet(tmp_path / "cells.parquet", ["metric", "row"])


def test_a_text_of_a_matlab_file_takes_more_than_its_bytes(tmp_path, monkeypatch):
    """NumPy holds a character in 4 bytes, and SciPy each twice, of which the file has one."""
    path = tmp_path / "text.mat"
    scipy.io.savemat(path, {"x": "a" * 100_000}, do_compression=True)
    assert len(open_array(path, "x")[0]) == 100_000
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=700_000))
    with pytest.raises(UserError, match="would become 800,000"):
        open_array(path, "x")


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2**40, 0), "<f8"), ((2**30,), "|V0"), ((2**15, 2**15), "<U0"), ((5, 0, 2**30), "<f8")],
)
def test_rows_without_a_value_are_no_rows(tmp_path, shape, kind):
    """A header of 128 bytes claims any number of rows of nothing, whose numbers alone would fill the memory."""
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    with pytest.raises(UserError, match="rows without a value"):
        open_array(tmp_path / "x.npy")
    with pytest.raises(UserError, match="rows without a value"):
        packed.mapped(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    with packed.arrays(tmp_path / "x.npz") as arrays, pytest.raises(UserError, match="rows without a value"):
        arrays["x"]


def test_numbers_that_are_no_characters_are_no_texts(tmp_path):
    """NumPy makes texts of them, which Python cannot print, compare or write."""
    texts = np.array(["ab", "\U0010ffff"])
    np.save(tmp_path / "x.npy", texts)
    assert packed.mapped(tmp_path / "x.npy").tolist() == texts.tolist()
    texts.view("u4")[1] = 0x110000
    np.save(tmp_path / "x.npy", texts)
    np.savez(tmp_path / "x.npz", x=texts)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(UserError, match=f"{name}.*: holds numbers that are no characters"):
            open_array(tmp_path / name)


@pytest.mark.parametrize(("at", "value"), [(6, 64), (8, 1), (10, 99)], ids=["version", "encrypted", "compression"])
def test_archives_that_zipfile_does_not_know(tmp_path, at, value):
    """Byte 6 of an entry of the directory: the version that is needed; 8: its flags; 10: its compression."""
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones(3))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + at] = value
    if at > 6:
        data[at - 2] = value  # the entry's own header, which has no version of its maker
    path.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match=r"version|encrypted|compression"), packed.arrays(path) as found:
        found["x"]
