"""Mesh files of strangers: sizes are checked before memory is taken, and nothing but geometry is read."""

import io
import json
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.features import mesh
from crossmodal.features.lightfield import gltf, meshfiles, meshtext, plyfiles, polygonfiles, polygons

OFF = b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n1 1 1\n3 0 1 2\n4 0 1 3 2\n"
PLY = (
    "ply\nformat {} 1.0\n{}element vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
)


@pytest.fixture(autouse=True)
def _usual_limits(monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(faces=1000))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [1, 7, 2**20])
def test_the_size_of_blocks_and_the_ends_of_lines_change_nothing(monkeypatch, ending, step):
    monkeypatch.setattr(meshtext, "STEP", step)
    found = polygonfiles.off(OFF.replace(b"\n", ending.encode()))
    assert found.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]]
    assert (found.counts.tolist(), found.corners.tolist()) == ([3, 4], [0, 1, 2, 0, 1, 3, 2])
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0 # v 5\nf 1/2/3 \\\n2 \\ \n -1\nv 7 7 7\nf -1 -2 -3\nusemtl f \\\nf 1 2 3\n"
    found = polygonfiles.obj(text.replace("\n", ending).encode())
    assert (len(found.vertices), found.corners.tolist()) == (4, [0, 1, 2, 3, 2, 1, 0, 1, 2])
    rows = "0 0\n0 1 0 0 0\n1 0 3 2 1\n0"
    found = plyfiles.ply((PLY.format("ascii", "") + rows.replace("\n", ending)).encode())
    assert (found.vertices.tolist(), found.corners.tolist()) == ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [2, 1, 0])


@pytest.mark.parametrize("text", [b"\n" * 9000, b"\r\n" * 9000, b"\r" * 9000, b"#\n" * 9000])
@pytest.mark.parametrize(("read", "head"), [(polygonfiles.off, b"OFF\n"), (polygonfiles.obj, b"v 0 0 0\n")])
def test_blank_lines_and_comments_are_counted(read, head, text):
    with pytest.raises(ValueError, match=r"it has 9,00\d lines, expected at most 8,000, by `limits\.faces`"):
        read(head + text)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize(
    ("element", "message"),
    [
        ("element x 3000\n" * 30_000, None),  # rows without values
        ("element x 3000\nproperty list uchar int a\nproperty list uchar int b\n", "it has 6,001 lists"),
        ("comment\n" * 150_000, "it has no header of a PLY file"),
    ],
)
def test_headers_that_state_more_than_there_is(kind, element, message):
    body = b"0 0 0 1 0 0 0 1 0 3 0 1 2\n" if kind == "ascii" else struct.pack("<9fB3i", *[0] * 9, 3, 0, 1, 2)
    data = PLY.format(kind, element).encode() + body
    if message is None:
        assert plyfiles.ply(data).corners.tolist() == [0, 1, 2]
        return
    with pytest.raises(ValueError, match=message):
        plyfiles.ply(data)


def test_an_stl_file_is_what_trimesh_reads_of_it(tmp_path):
    ball = trimesh.creation.icosphere(1)
    for kind in ("stl", "stl_ascii"):
        data = ball.export(file_type=kind)
        (tmp_path / "x.stl").write_bytes(data.encode() if isinstance(data, str) else data)
        vertices, faces = mesh.read(tmp_path / "x.stl")
        expected = trimesh.load_mesh(tmp_path / "x.stl", process=False)
        np.testing.assert_array_equal(vertices[faces], expected.vertices[expected.faces])
    with pytest.raises(ValueError, match="it has 1,001 of 'face', expected at most 1,000"):
        polygonfiles.stl(bytes(80) + struct.pack("<I", 1001) + bytes(50 * 1001))
    with pytest.raises(polygons.CutError, match="1 of 4,294,967,295 faces"):
        polygonfiles.stl(bytes(80) + b"\xff" * 4 + bytes(50))


def glb(tree: dict, binary: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def test_textures_of_a_mesh_are_not_opened(tmp_path, monkeypatch):
    """Two textured meshes are joined, for which trimesh would open the textures: pictures of any format."""
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (4, 4)))
    boxes = []
    for n in range(2):
        box = trimesh.creation.box().apply_translation([2 * n, 0, 0])
        box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(box.vertices), 2)), material=material)
        boxes.append(box)
    (tmp_path / "x.glb").write_bytes(trimesh.Scene(boxes).export(file_type="glb"))

    opened, usual = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **more: opened.append(1) or usual(*args, **more))
    trimesh.load_mesh(tmp_path / "x.glb")
    assert opened.pop()
    opened.clear()
    vertices, faces = mesh.read(tmp_path / "x.glb")
    assert not opened
    corners = vertices[faces].reshape(-1, 3)
    assert (len(faces), corners.min(), corners[:, 0].max()) == (24, -0.5, 2.5)


def test_a_mesh_that_many_nodes_show_is_counted_each_time():
    part = {"attributes": {"POSITION": 0}, "indices": 1}
    accessors = [
        {"componentType": 5126, "count": 3, "type": "VEC3"},
        {"componentType": 5125, "count": 3, "type": "SCALAR"},
    ]
    tree = {"asset": {"version": "2.0"}, "meshes": [{"primitives": [part]}], "accessors": accessors}
    assert json.loads(gltf.geometry(json.dumps({**tree, "images": [{}]}).encode(), "gltf", "x")).keys() == tree.keys()
    for more, message in (
        ({"nodes": [{"mesh": 0}] * 1001}, "it has 1,001 of 'face', expected at most 1,000"),
        ({"nodes": [{"children": [1]}, {"children": [2, 2]}, {"mesh": 0}]}, "a node is the child of two others"),
        ({"accessors": [{**accessors[0], "count": 3001}, accessors[1]]}, "it has 3,001 of 'vertex'"),
        ({"accessors": [{**accessors[0], "type": "MAT4"}, accessors[1]]}, "expected positions and indices"),
    ):
        with pytest.raises(ValueError, match=message):
            gltf.geometry(glb(tree | more), "glb", "x.glb")
    with pytest.raises(UserError, match="is compressed"):
        gltf.geometry(glb(tree | {"extensionsRequired": ["KHR_draco_mesh_compression"]}), "glb", "x.glb")


def test_meshes_in_an_archive_are_joined_and_bounded_together(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.off", OFF)
        archive.writestr("read me.txt", "x")
        archive.writestr("b/b.off", OFF)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for name in ("a.off", "b.off"):
            entry = tarfile.TarInfo(name)
            entry.size = len(OFF)
            archive.addfile(entry, io.BytesIO(OFF))
    for name in ("x.zip", "x.tar.gz"):
        vertices, faces = mesh.read(tmp_path / name)
        assert (len(vertices), len(faces), faces[3:].min()) == (8, 6, 4)
    limits.use(limits.Limits(faces=5))
    with pytest.raises(UserError, match="has 6 faces, expected at most 5"):
        mesh.read(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("x.txt", "x")
    with pytest.raises(UserError, match="it holds no mesh"):
        mesh.read(tmp_path / "none.zip")
    assert meshfiles.suffix("A.TAR.OFF") == "off"


def test_loose_triangles_of_the_whole_size_are_bounded():
    """Each of 2 triangles has 3 edges, which cross at most 2 * 256 rows in each of 100 pictures."""
    vertices = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 9], [4, 0, 9], [0, 4, 9.0]])
    faces = np.arange(6).reshape(2, 3)
    limits.use(limits.Limits(outline=102_400))
    assert mesh.lightfield((vertices, faces)).shape == (4700,)
    limits.use(limits.Limits(outline=10_000))
    with pytest.raises(UserError, match=r"expected at most 10,000 \(`limits\.outline`"):
        mesh.lightfield((vertices, faces))
