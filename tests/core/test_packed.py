"""What another's tables, archives and records may become in memory, before they become it."""

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import scipy.sparse

from crossmodal.core import limits, packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, read_record
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
    "rows without a value": (lambda: pa.table({"x": pa.nulls(10**6, pa.string())}), "would become 8,0"),
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


def test_compressed_parts_of_a_matlab_file(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(unpacked=2**20))
    zeros = scipy.sparse.csc_array((np.zeros(10**6), np.zeros(10**6, np.int32), [0, 10**6]), shape=(5, 1))
    cell = np.empty((1, 1), object)
    cell[0, 0] = np.zeros((1000, 1000))
    for name, value in (("sparse", zeros), ("cell", cell)):
        scipy.io.savemat(tmp_path / f"{name}.mat", {"x": value}, do_compression=True)
        with pytest.raises(UserError, match=rf"{name}\.mat: [\d,]+ bytes of the file would become"):
            open_array(tmp_path / f"{name}.mat", "x")
    features = np.random.default_rng(0).normal(size=(500, 400))
    scipy.io.savemat(tmp_path / "x.mat", {"x": features}, do_compression=True)
    assert (open_array(tmp_path / "x.mat", "x").all() == features).all()


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    pd.DataFrame({"row": [0], "value": [1.5]}).to_parquet(tmp_path / "cells.parquet")
    with pytest.raises(UserError, match=r"cells.parquet.*has no column metric; its columns are row, value"):
        read_parquet(tmp_path / "cells.parquet", ["metric", "row"])
