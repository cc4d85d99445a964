"""Polygons are read as files state them and cut into triangles that cover just them: by hand, and by areas."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import trimesh

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.features import mesh
from crossmodal.features.lightfield import plyfiles, polygonfiles, polygons
from crossmodal.features.lightfield.polygons import Polygons

L = [[0, 0, 0], [3, 0, 0], [3, 1, 0], [1, 1, 0], [1, 3, 0], [0, 3, 0]]  # of area 5
NOTCH = [[0, 0, 0], [4, 0, 0], [4, 3, 0], [2, 1, 0], [0, 3, 0]]  # of area 12 - 4 = 8
TURNS = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]


def polygons_of(vertices, faces):
    """A mesh of faces with any number of corners."""
    counts = np.array([len(face) for face in faces])
    return Polygons(np.asarray(vertices, float), np.concatenate([np.asarray(face) for face in faces]), counts)


def area(vertices, faces):
    a, b, c = (np.asarray(vertices, float)[faces[:, k]] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def star(points=5, inner=0.4):
    """A star of 2 n corners, whose area is n sin(pi / n) inner: a triangle of two sides and their angle 2 n times."""
    angles = np.pi * np.arange(2 * points) / points
    radii = np.where(np.arange(2 * points) % 2, inner, 1)
    flat = np.stack([radii * np.cos(angles), radii * np.sin(angles), 0 * angles], 1)
    return flat, points * inner * np.sin(np.pi / points)


@pytest.mark.parametrize("begin", range(6))
@pytest.mark.parametrize("turned", [np.eye(3), TURNS, -np.eye(3)[::-1]])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_polygon_is_covered_once_wherever_it_begins(begin, turned, backwards):
    for outline, expected in ((L, 5.0), (NOTCH, 8.0), star()):
        vertices = np.asarray(outline, float) @ turned.T * 7 + [5, -3, 1]
        face = np.roll(np.arange(len(vertices)), begin)
        found = polygons.triangles(polygons_of(vertices, [list(face[::-1] if backwards else face)]))
        assert len(found) == len(vertices) - 2
        assert area(vertices, found) == pytest.approx(49 * expected, rel=1e-9)
        # All are turned as the polygon is.
        a, b, c = (vertices[found[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a)
        assert ((normals @ normals[0]) >= 0).all()


def test_a_fan_where_it_is_right():
    """As before: a convex polygon from its first vertex, however many corners it has."""
    angles = np.arange(7) * 2 * np.pi / 7
    vertices = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    faces = [[0, 1, 2], [2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6]]
    expected = [[0, 1, 2], [2, 3, 4], [2, 4, 5], *([0, n, n + 1] for n in range(1, 6))]
    assert polygons.triangles(polygons_of(vertices, faces)).tolist() == expected
    skew = [[0, 0, 0], [1, 0, 0.2], [1, 1, 0], [0, 1, 0.2]]  # a quadrilateral that is not flat
    assert polygons.triangles(polygons_of(skew, [[0, 1, 2, 3]])).tolist() == [[0, 1, 2], [0, 2, 3]]


def test_corners_in_a_line_and_outlines_that_touch_themselves():
    line = [[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 2, 0], [1, 1, 0], [0, 2, 0]]
    found = polygons.triangles(polygons_of(line, [[*range(6)]]))
    assert area(line, found) == pytest.approx(3)  # 4, less the notch of 1
    # A square of 4 x 4 with a hole of 2 x 2, whose outline goes in and out along one cut.
    ring = [[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0], [1, 1, 0], [1, 3, 0], [3, 3, 0], [3, 1, 0]]
    found = polygons.triangles(polygons_of(ring, [[0, 1, 2, 3, 0, 4, 5, 6, 7, 4]]))
    assert area(ring, found) == pytest.approx(12)


def test_an_outline_that_crosses_itself_is_refused(tmp_path):
    bow = [[0, 0, 0], [3, 3, 0], [3, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="the outline of face 0 crosses itself"):
        polygons.triangles(polygons_of(bow, [[0, 1, 2, 3]]))
    (tmp_path / "bow.off").write_text("OFF\n4 1 0\n0 0 0\n3 3 0\n3 0 0\n0 1 0\n4 0 1 2 3\n")
    with pytest.raises(UserError, match=r"bow\.off: is damaged or no mesh \(the outline of face 0 crosses itself\)"):
        mesh.read(tmp_path / "bow.off")


def test_off_dialects():
    triangle = "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    expected = [[0, 1, 2]]
    for text in (
        f"OFF\n3 1 0\n{triangle}",
        f"OFF3 1 0\n{triangle}",
        f"OFF 3 1 3\n{triangle}",
        f"# by hand\n3 1 0\n{triangle}".replace("# by hand", "OFF # by hand"),
        f"OFF\r\n\r\n3 1 # counts\r\n# vertices\r\n{triangle}".replace("\n", "\r\n").replace("\r\r", "\r"),
        "COFF\n3 1 0\n0 0 0 255 0 0\n1 0 0 255 0 0\n0 1 0 0 0 0\n3 0 1 2 9 9 9\n",
        "NOFF\n3 1 0\n0 0 0 0 0 1\n1 0 0 0 0 1\n0 1 0 0 0 1\n3 0 1 2\n",
    ):
        found = polygonfiles.off(text.encode())
        assert polygons.triangles(found).tolist() == expected, text
        assert found.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]], text
    for text, message in (
        ("4OFF\n1 0 0\n0 0 0 1\n", "do not have three dimensions"),
        ("OFF BINARY\n\0\0", "a binary OFF file"),
        ("OFF\n", "does not state its numbers"),
        ("<html>", "does not begin with OFF"),
        ("OFF\n1 0 0\n0 0\n", "vertex 0 has 2 coordinates"),
    ):
        with pytest.raises(ValueError, match=message):
            polygonfiles.off(text.encode())
    with pytest.raises(polygons.CutError, match="3 lines for 3 vertices and 1 faces"):
        polygonfiles.off(b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n")
    with pytest.raises(polygons.CutError, match="face 0 has 2 of 3 vertices"):
        polygonfiles.off(b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\n")


def test_obj_dialects():
    vertices = ["v 0 0 0", "v 1 0 0 1 0 0", "v\t0\t1\t0 1.0", "v 0 0 1"]
    faces = {
        "f 1 2 3": [0, 1, 2],
        "f 1/1/1 2/2/2 3/3/3": [0, 1, 2],
        "f 1//1 2//2 3//3": [0, 1, 2],
        "f -4 -3 -2": [0, 1, 2],
        "f\t2 3 4 # the far side": [1, 2, 3],
        "f 1 2 \\\n 4": [0, 1, 3],
        "f 1 2 \\\r\n 4": [0, 1, 3],
    }
    for face, expected in faces.items():
        text = "\n".join(["mtllib a.mtl", "o one", *vertices, "vn 0 0 1", "vt 0 0", "s off", "usemtl x", face, "l 1 2"])
        found = polygonfiles.obj(text.encode())
        assert polygons.triangles(found).tolist() == [expected], face
        assert found.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    # A name whose last byte is that of a backslash, in Chinese encodings, is no line that goes on.
    assert len(polygonfiles.obj(b"o \xb2\x5c\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n").counts) == 1
    assert polygonfiles.obj(b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -3\nv 9 9 9\nf -1 -2 -3\n").corners.tolist() == [
        2,
        1,
        0,
        3,
        2,
        1,
    ]
    assert polygonfiles.obj(b"v 0 0 0\rv 1 0 0\rv 0 1 0\rf 1 2 3\r").counts.tolist() == [3]
    with pytest.raises(ValueError, match="vertex 1 has 2 coordinates"):
        polygonfiles.obj(b"v 0 0\n")


def ply_of(kind: str, vertices, faces) -> bytes:
    head = f"ply\nformat {kind} 1.0\ncomment by hand\nelement vertex {len(vertices)}\nproperty float x\n"
    head += "property float y\nproperty float z\nproperty uchar red\n"
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nproperty uchar flag\nend_header\n"
    if kind == "ascii":
        body = "".join(f"{x} {y} {z} 7\n" for x, y, z in vertices)
        return (head + body + "".join(f"{len(f)} {' '.join(map(str, f))} 1\n" for f in faces)).encode()
    order = "<" if "little" in kind else ">"
    body = b"".join(struct.pack(f"{order}3fB", *vertex, 7) for vertex in vertices)
    body += b"".join(struct.pack(f"{order}B{len(f)}iB", len(f), *f, 1) for f in faces)
    return head.encode() + body


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_polygons(kind, tmp_path):
    data = ply_of(kind, L, [[1, 2, 3, 4, 5, 0], [0, 1, 2]])
    found = plyfiles.ply(data)
    assert found.vertices.tolist() == L
    assert found.counts.tolist() == [6, 3]
    assert found.corners.tolist() == [1, 2, 3, 4, 5, 0, 0, 1, 2]
    assert area(L, polygons.triangles(found)) == pytest.approx(5 + 1.5)
    with pytest.raises(polygons.CutError, match="it ends at face 1 of 2"):
        plyfiles.ply(data[:-4])
    (tmp_path / "x.ply").write_bytes(data[:-4])
    with pytest.raises(UserError, match=r"x\.ply: is cut off: it ends at face 1 of 2"):
        mesh.read(tmp_path / "x.ply")
    points = data.replace(b"element face 2", b"element strip 2")
    assert plyfiles.ply(points) is None


@pytest.mark.parametrize("kind", ["off", "obj", "ply"])
def test_one_shape_in_each_format(tmp_path, kind):
    """A solid as trimesh writes it is the same solid; an L of six-cornered faces has the surface that it should."""
    solid = trimesh.creation.icosphere(subdivisions=1)
    solid.export(tmp_path / f"ball.{kind}")
    vertices, faces = mesh.read(tmp_path / f"ball.{kind}")
    assert np.array_equal(np.sort(faces, 1), np.sort(solid.faces, 1))
    np.testing.assert_allclose(vertices, solid.vertices, atol=1e-6)
    solid_l = [*L, *([x, y, 1] for x, y, _ in L)]
    sides = [[k, (k + 1) % 6, (k + 1) % 6 + 6, k + 6] for k in range(6)]
    faces = [[1, 2, 3, 4, 5, 0], [6, 11, 10, 9, 8, 7], *sides]
    if kind == "off":
        lines = [f"OFF\n12 {len(faces)} 0", *(f"{x} {y} {z}" for x, y, z in solid_l)]
        data = "\n".join([*lines, *(f"{len(f)} {' '.join(map(str, f))}" for f in faces)]).encode()
    elif kind == "obj":
        lines = [f"v {x} {y} {z}" for x, y, z in solid_l]
        data = "\n".join([*lines, *("f " + " ".join(str(k + 1) for k in f) for f in faces)]).encode()
    else:
        data = ply_of("ascii", solid_l, faces)
    (tmp_path / f"l.{kind}").write_bytes(data)
    assert area(*mesh.read(tmp_path / f"l.{kind}")) == pytest.approx(2 * 5 + 12)  # both ends, and its outline of 12


def test_a_binary_file_of_triangles_alone_is_read_as_one_of_all_kinds_of_faces(tmp_path):
    """Lists that are all of one length are read at once, others row by row; the numbers are the same."""
    vertices = np.array([[0, 0, 0], [2, 0, 0.5], [0, 3, 0], [1, 1, 4]], np.float32)
    for order, named in (("<", "little"), (">", "big")):
        head = (
            f"ply\nformat binary_{named}_endian 1.0\nelement vertex 4\nproperty float x\nproperty uchar red\n"
            "property float y\nproperty float z\nelement face {}\nproperty list uchar int vertex_indices\n"
            "property uchar red\nelement edge 1\nproperty int a\nend_header\n"
        )
        points = b"".join(struct.pack(f"{order}fBff", x, 9, y, z) for x, y, z in vertices)
        alike = [[0, 1, 2], [3, 2, 1]]
        for faces in (alike, [*alike, [0, 1, 3, 2]], [[0, 1, 3, 2], *alike]):
            rows = b"".join(struct.pack(f"{order}B{len(f)}iB", len(f), *f, 7) for f in faces)
            found = plyfiles.ply(head.format(len(faces)).encode() + points + rows + struct.pack(f"{order}i", 1))
            np.testing.assert_array_equal(found.vertices, vertices)
            assert found.counts.tolist() == [len(face) for face in faces]
            assert found.corners.tolist() == [corner for face in faces for corner in face]
            with pytest.raises(polygons.CutError, match="it ends at face"):
                plyfiles.ply(head.format(len(faces) + 1).encode() + points + rows)


@pytest.mark.parametrize(
    ("text", "corners"),
    [
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/4/2 2//7 3\n", [0, 1, 2]),
        (b"v 0 0 0\r\nv 1 0 0\r\nv 0 1 0\r\nf 1/1 2/2 3/3\r\n", [0, 1, 2]),
        (b"v 0 0 0\rv 1 0 0\rv 0 1 0\rf 3 2 1", [2, 1, 0]),
        (b"v 0 0 0 1\nv 1 0 0 1\nv 0 1 0 1\nf 1 2 3\n", [0, 1, 2]),  # with a weight
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n  f -3 -2 -1\n", [0, 1, 2]),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\nf 1 2 3 1\n", [0, 1, 2, 0]),  # no two triangles
        (b"v 0 0 0 # 1\nv 1 0 0\nv 0 1 0\nf 1 2 \\\n3\n", [0, 1, 2]),
    ],
)
def test_an_obj_file_is_read_however_its_program_writes_it(text, corners):
    found = polygonfiles.obj(text)
    assert found.corners.tolist() == corners
    assert found.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_a_word_among_the_numbers_of_an_obj_file_is_named():
    with pytest.raises(ValueError, match="'x' is no number"):
        polygonfiles.obj(b"v 0 0 x\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")


def polygon(*points):
    """An OFF file of one face."""
    corners = "".join(f"{x} {y} 0\n" for x, y in points)
    return f"OFF\n{len(points)} 1 0\n{corners}{len(points)} {' '.join(map(str, range(len(points))))}\n".encode()


@pytest.mark.parametrize(
    ("read", "data", "told"),
    [
        (polygonfiles.off, polygon(*((n, n * n) for n in range(2001))), "face 0 has more than 2,000 corners"),
        (polygonfiles.obj, b"v 0 0 0\n" * 3 + b"f 1 2" + b" 3" * 2000, "face 0 has more than 2,000 corners"),
        (polygonfiles.obj, b"v 0 0 0\n" * 3 + b"\n" * 16_000_000, "has 16,000,003 lines, expected at most 16,000,000"),
    ],
)
def test_faces_and_lines_without_measure_are_refused(read, data, told):
    with pytest.raises(ValueError, match=told):
        read(data)


def test_lists_of_a_ply_file_are_bounded():
    head = "ply\nformat {}\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element other 1\nproperty list uint uchar x\nelement face 1\nproperty list uchar int vertex_indices\n"
    text = f"{head.format('ascii 1.0')}end_header\n0 0 0\n9000000 1 1\n".encode()
    with pytest.raises(ValueError, match="a list of 9,000,000 numbers, expected at most 8,000,000"):
        plyfiles.ply(text)
    packed = f"{head.format('binary_little_endian 1.0')}end_header\n".encode() + struct.pack("<3fI", 0, 0, 0, 9_000_000)
    with pytest.raises(ValueError, match="a list of 9,000,000 numbers, expected at most 8,000,000"):
        plyfiles.ply(packed + b"\1" * 9_000_000)


def test_work_on_faces_that_are_not_convex_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(corners=5))
    arrow = [(0, 0), (2, 0), (1, 1), (2, 2), (0, 2)]  # its notch is at (1, 1)
    corners = "".join(f"{x} {y} 0\n" for x, y in arrow)
    for count, allowed in ((10, True), (11, False)):  # ten faces of five corners
        mesh = polygonfiles.off(f"OFF\n5 {count} 0\n{corners}".encode() + b"5 0 1 2 3 4\n" * count)
        if allowed:
            assert polygons.triangles(mesh).shape == (30, 3)
        else:
            with pytest.raises(ValueError, match="too many faces that are not convex, 11 of them with 5 corners"):
                polygons.triangles(mesh)


def test_an_off_file_at_once_and_by_lines_are_the_same():
    lines = b"0 0 0\n1 0 1e-3\n0 1 -2.5\n3 0 1 2\n3 2 1 0\n"
    whole, by_lines = polygonfiles.off(b"OFF\n3 2 0\n" + lines), polygonfiles.off(b"OFF # by lines\n3 2 0\n" + lines)
    assert whole.vertices.tolist() == by_lines.vertices.tolist() == [[0, 0, 0], [1, 0, 1e-3], [0, 1, -2.5]]
    assert whole.corners.tolist() == by_lines.corners.tolist() == [0, 1, 2, 2, 1, 0]
    # A colour after a face makes it more than numbers in a row, also where it looks like a face of its own.
    coloured = polygonfiles.off(b"OFF\n3 2 0\n" + lines.replace(b"3 0 1 2\n", b"3 0 1 2 3 0 0 0\n"))
    assert coloured.corners.tolist() == [0, 1, 2, 2, 1, 0]
