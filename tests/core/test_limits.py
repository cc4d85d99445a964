"""Files made to fill the memory, to read other files or to hang are one clear error; all bounds are settings."""

import bz2
import gzip
import json
import struct
import time
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import yaml

from crossmodal.core import limits, sounds
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.experiments.settings import read_yaml
from crossmodal.features import mesh
from crossmodal.language import wordvectors
from crossmodal.released.arrays import open_array

ZEROS = np.zeros(100_000)  # 800 kB, of some hundred bytes packed
TRIANGLE = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"


@pytest.fixture
def small():
    limits.use(limits.Limits(unpacked=100_000, mesh_bytes=100_000))


def hdf5(path, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", **options)


PACKED = {
    "x.npz": lambda path: np.savez_compressed(path, x=ZEROS),
    "x.mat": lambda path: scipy.io.savemat(path, {"x": ZEROS}, do_compression=True),
    "sparse.mat": lambda path: scipy.io.savemat(path, {"x": scipy.sparse.csc_matrix((1000, 1000))}),
    "x.h5": lambda path: hdf5(path, data=ZEROS, compression="gzip"),
    "unwritten.h5": lambda path: hdf5(path, shape=(10**6, 10**6), dtype="f8", chunks=(1, 1)),
    "chunk.h5": lambda path: hdf5(path, shape=(1,), maxshape=(None,), dtype="f8", chunks=(10**6,)),
}


@pytest.mark.parametrize("name", PACKED)
def test_arrays_that_unpack_to_many_times_their_bytes(tmp_path, small, name):
    path = tmp_path / name
    PACKED[name](path)
    with pytest.raises(UserError, match=rf"{name}(#x)?: .* bytes of the file would become .*`limits\.unpacked`"):
        open_array(path, "x")
    if "." not in name.removesuffix(path.suffix) and name.startswith("x"):
        limits.use(limits.Limits())
        np.testing.assert_array_equal(open_array(path, "x").all().ravel(), ZEROS)


def test_parquet_of_one_value_many_times(tmp_path, small):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": ZEROS}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="would become 800,000 in memory"):
        open_array(tmp_path / "x.parquet", "x")


def test_hdf5_reads_no_other_file(tmp_path):
    (tmp_path / "secret").write_bytes(b"a private key...")
    hdf5(tmp_path / "external.h5", shape=(16,), dtype="u1", external=[(str(tmp_path / "secret"), 0, 16)])
    hdf5(tmp_path / "source.h5", data=np.arange(4))
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(tmp_path / "source.h5", "x", shape=(4,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["x"] = h5py.ExternalLink(tmp_path / "source.h5", "x")
    for name, words in (("external", "lie in other files"), ("virtual", "lie in other files"), ("linked", "no arrays")):
        for ending in ("h5", "mat"):
            path = tmp_path / f"{name}.{ending}"
            if ending == "mat":
                path.write_bytes((tmp_path / f"{name}.h5").read_bytes())
            with pytest.raises(UserError, match=words):
                open_array(path)


def test_a_cell_of_another_files_text_is_not_read(tmp_path, matlab73):
    (tmp_path / "secret").write_bytes(np.array(list(map(ord, "key")), np.uint16).tobytes())
    path = matlab73(tmp_path / "x.mat", names=["a", "b"])
    with h5py.File(path, "r+") as file:
        other = file.create_dataset("#refs#/other", (3, 1), "u2", external=[(str(tmp_path / "secret"), 0, 6)])
        file["names"][0, 1] = other.ref
    with pytest.raises(UserError, match="lie in other files"):
        open_array(path, "names")


@pytest.mark.parametrize("count", [10**12, 5 * 10**17])
def test_npy_headers_that_claim_what_is_not_there(tmp_path, count):
    np.save(tmp_path / "x.npy", np.zeros(3))
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data.replace(b"(3,), }".ljust(30), f"({count},), }}".encode().ljust(30)))
    with pytest.raises(UserError, match=r"x\.npy: is truncated or damaged"):
        open_array(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    with pytest.raises(UserError, match=r"x\.npz: is truncated or damaged"):
        open_array(tmp_path / "x.npz")


# -- words ------------------------------------------------------------------------------------------------------------


def test_word_vectors_of_lying_dimension_and_endless_lines(tmp_path):
    path = tmp_path / "v.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(b"5 400000000\nword " + b"\0" * 1000)
    with pytest.raises(UserError, match="5 vectors of 400000000 numbers, expected at most 100,000"):
        wordvectors.read(path, ["word"])
    limits.use(limits.Limits(line=10_000))
    with gzip.open(path, "wb") as stream:
        stream.write(b"word 1 2\n" + b"x" * 1_000_000)
    with pytest.raises(UserError, match="holds a line of more than 10,000 bytes"):
        wordvectors.read(path, ["word"])
    path.write_bytes(b"9" * 5000 + b" 3\nword 1 2 3\n")
    with pytest.raises(UserError, match=r"announces 9{20} vectors of 3 numbers"):
        wordvectors.read(path, ["word"])


# -- sounds and meshes ------------------------------------------------------------------------------------------------


def wav(path, rate, samples=800):
    data = np.zeros(samples, np.int16).tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16,
                       b"data", len(data))  # fmt: skip
    path.write_bytes(head + data)
    return path


def test_sounds_of_absurd_rates_and_lengths(tmp_path):
    with pytest.raises(UserError, match=r"x\.wav: has 1,999,999,973 samples per second, expected at most 1,000,000"):
        sounds.read(wav(tmp_path / "x.wav", 1_999_999_973))
    assert sounds.read(wav(tmp_path / "x.wav", 768_000))[1] == 768_000
    limits.use(limits.Limits(samples=799))
    with pytest.raises(UserError, match="has 800 samples, expected at most 799"):
        sounds.read(wav(tmp_path / "x.wav", 8000))


@pytest.mark.parametrize("ending", ["zip", "off.bz2", "off.gz"])
def test_packed_meshes_that_unpack_to_too_much(tmp_path, small, ending):
    path, bomb = tmp_path / f"x.{ending}", TRIANGLE.encode() + b"#" * 200_000
    if ending == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.off", bomb)
    else:
        path.write_bytes((bz2 if ending == "off.bz2" else gzip).compress(bomb))
    with pytest.raises(UserError, match=r"unpacks to more than 100,000 bytes \(`limits\.mesh_bytes`"):
        mesh.read(path)


def test_a_mesh_opens_only_what_lies_beside_it(tmp_path):
    folder = tmp_path / "meshes"
    folder.mkdir()
    buffer = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32).tobytes() + np.arange(3, dtype=np.uint32).tobytes()
    accessors = [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0] * 3, "max": [1, 1, 0]},
                 {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"}]  # fmt: skip
    views = [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 12}]
    scene = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]}
    scene |= {"accessors": accessors, "bufferViews": views}
    scene |= {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}]}
    for place, name in ((folder, "b.bin"), (tmp_path, "../b.bin")):
        (place / "b.bin").write_bytes(buffer)
        (folder / "x.gltf").write_text(json.dumps(scene | {"buffers": [{"uri": name, "byteLength": 48}]}))
        if place is folder:
            assert mesh.read(folder / "x.gltf")[1].tolist() == [[0, 1, 2]]
    with pytest.raises(UserError, match="leads out of its folder"):
        mesh.read(folder / "x.gltf")


def test_comments_of_an_off_file_are_read_in_no_time(tmp_path):
    began = time.perf_counter()
    for comments in (b"#" * 200_000, b"#\n" * 100_000, b" #" * 100_000):
        (tmp_path / "x.off").write_bytes(b"OFF" + comments)
        with pytest.raises(UserError, match=r"x\.off: "):
            mesh.read(tmp_path / "x.off")
    assert time.perf_counter() - began < 2
    (tmp_path / "x.off").write_bytes(b"OFF # one\n# two\n\n8 6 0\n0 0 0\n")
    with pytest.raises(UserError, match=r"x\.off: is cut off"):
        mesh.read(tmp_path / "x.off")


# -- JSON and YAML ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "valid JSON"),
        (r'{"a": "\ud800"}', "surrogates not allowed"),
    ],
)
def test_json_that_nothing_holds(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=rf"x\.json: .*{words}"):
        read_json(tmp_path / "x.json")


def test_pairs_of_surrogates_are_characters(tmp_path):
    (tmp_path / "x.json").write_text(r'["\ud83d\ude00"]')
    assert read_json(tmp_path / "x.json") == ["😀"]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "aliases repeat more than 50,000 values"),
        ("a: &a [*a]", "an alias refers to a value that contains it"),
        ("? [1, 2]\n: x", "a list cannot be a key"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: " + "[" * 5000, "not valid YAML"),
        ("a: " + "[" * 900_000, "nested too deeply"),
        ("a: " + "{a: " * 400_000, "nested too deeply"),
        ("a: 2020-13-45", "not valid YAML"),
        ("__use_yte__: true\nseeds: [0]", "__use_yte__: makes the file a template"),
    ],
)
def test_yaml_that_nothing_holds(tmp_path, text, words):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"x\.yaml: .*{words}"):
        read_yaml(tmp_path / "x.yaml")


def test_aliases_of_settings_are_read(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {b: [1, 2]}\nc: [*a, *a]\n")
    assert read_yaml(tmp_path / "x.yaml") == yaml.safe_load((tmp_path / "x.yaml").read_text())


@pytest.mark.parametrize(
    ("name", "text"),
    {
        "x.off": "OFF\n3 3 0\n0 0 0\n1 0 0\n0 1 0\n" + "3 0 1 2\n" * 3,
        "x.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\n" + "f 1 2 3\n" * 3,
        "x.ply": "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 3\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n" + "3 0 1 2\n" * 3,
    }.items(),
)
def test_faces_are_counted_before_they_are_read(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert len(mesh.read(path)[1]) == 3
    limits.use(limits.Limits(faces=2))
    with pytest.raises(UserError, match=rf"{name}: .*3 of 'face', expected at most 2, by `limits\.faces`"):
        mesh.read(path)
