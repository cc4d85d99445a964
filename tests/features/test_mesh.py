"""LightField descriptors: what leaves them as they are, how far shapes lie apart, and meshes that are no use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trimesh
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from crossmodal.core.errors import UserError
from crossmodal.features import mesh
from crossmodal.features.engine import extraction, store
from crossmodal.features.lightfield import dodecahedron, moments

SHARED = Path(__file__).parents[3] / "shared" / "data" / "media" / "mesh"


def boat() -> trimesh.Trimesh:
    """A shape without any symmetry, of three parts that run into each other; used vertices alone."""
    hull = trimesh.creation.icosphere(subdivisions=3)
    hull.apply_scale([3.0, 1.0, 0.7])
    mast = trimesh.creation.cylinder(0.1, 2.5, sections=12)
    mast.apply_translation([0.4, 0.1, 1.2])
    cabin = trimesh.creation.box([0.9, 0.8, 0.9])
    cabin.apply_translation([-1.2, -0.2, 0.7])
    return trimesh.util.concatenate([hull, mast, cabin])


@pytest.fixture(scope="module")
def base() -> np.ndarray:
    return mesh.lightfield(boat())


@pytest.fixture(scope="module")
def stranger(base) -> float:
    """How far a plain box of the same proportions is away."""
    return mesh.lightfield_distance(base, mesh.lightfield(trimesh.creation.box([6, 2, 3])))


def moved(turn: np.ndarray | None = None, scale: float = 1.0, shift: tuple[float, ...] = (0, 0, 0)) -> tuple:
    shape = boat()
    return shape.vertices @ (np.eye(3) if turn is None else turn).T * scale + shift, np.asarray(shape.faces)


# -- descriptors ------------------------------------------------------------------------------------------------------


def test_shape_and_range(base):
    assert base.shape == (4700,)
    assert base.dtype == np.float32
    assert np.array_equal(base, np.floor(base))
    assert base.min() >= 0
    assert base.max() <= 255
    floats = mesh.lightfield(boat(), mesh.Settings(numbers="floats"))
    np.testing.assert_allclose(base, np.minimum(255, np.floor(256 * floats.astype(np.float64))), atol=1)


@pytest.mark.parametrize("scale", [1e-6, 0.37, 25.4, 1e5])
def test_scaling_changes_nothing(base, scale):
    assert mesh.lightfield_distance(base, mesh.lightfield(moved(scale=scale))) == 0


@pytest.mark.parametrize("shift", [(0.1, -7, 3), (1e4, 1e4, -1e4)])
def test_translation_changes_nothing(base, shift):
    assert mesh.lightfield_distance(base, mesh.lightfield(moved(shift=shift))) == 0


@pytest.mark.parametrize("number", [7, 23, 42, 58])
def test_a_rotation_of_the_dodecahedron_changes_almost_nothing(base, stranger, number):
    turned = mesh.lightfield(moved(dodecahedron.rotations()[number], 3.0, (1, 2, 3)))
    assert np.abs(base - turned).sum() > 0.1 * stranger  # the views have changed places
    assert mesh.lightfield_distance(base, turned) < 0.01 * stranger


def test_any_other_rotation_is_still_near(base, stranger):
    turn = Rotation.from_euler("xyz", [20, 50, 10], degrees=True).as_matrix()
    found = mesh.lightfield_distance(base, mesh.lightfield(moved(turn)))
    assert 0.02 * stranger < found < 0.5 * stranger


def test_an_upright_box_is_another_choice(base):
    settings = mesh.Settings(bounds="box")
    found = [mesh.lightfield(moved(turn), settings) for turn in dodecahedron.rotations()[[0, 23]]]
    assert np.abs(found[0] - base).sum() > 0
    assert mesh.lightfield_distance(*found) > 0


def test_only_the_surface_counts(base):
    """Unused vertices, doubled and unwelded ones, faces turned around, doubled, empty, or in another order."""
    vertices, faces = moved()
    rng = np.random.default_rng(0)
    soup = vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)
    order = rng.permutation(len(faces))
    flipped = np.where(rng.random((len(faces), 1)) < 0.5, faces, faces[:, ::-1])
    for other in (
        (np.concatenate([vertices, [[99, 99, 99], [np.nan, 0, 0]]]), faces),
        soup,
        (vertices, faces[order]),
        (vertices, flipped),
        (vertices, np.concatenate([faces, faces[:50], [[5, 5, 9]]])),
    ):
        np.testing.assert_array_equal(mesh.lightfield(other), base)


def test_scenes_are_put_together(base):
    hull, *others = boat().split(only_watertight=False)
    scene = trimesh.Scene([hull])
    for part in others:
        scene.add_geometry(part)
    np.testing.assert_array_equal(mesh.lightfield(scene), base)


def test_a_ball_looks_like_a_disc_from_everywhere():
    found = mesh.lightfield(trimesh.creation.icosphere(subdivisions=4), mesh.Settings(numbers="floats"))
    found = found.reshape(100, 47)
    expected = moments.describe((np.hypot(*np.mgrid[-127.5:128, -127.5:128]) < 127)[None])[0]
    np.testing.assert_allclose(found, np.tile(expected, (100, 1)), atol=0.02)


def test_a_sheet_has_views_without_a_pixel():
    sheet = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])
    found = mesh.lightfield(sheet).reshape(10, 10, 47)
    assert np.isfinite(found).all()
    assert found[0].any(1).sum() == 8  # two cameras look along it


# -- distance ---------------------------------------------------------------------------------------------------------


def test_distance_by_literal_loops():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 4700)).astype(np.float32)
    b[:470] = a[470:940].reshape(10, 47)[dodecahedron.permutations()[13]].ravel() + rng.integers(0, 3, 470)
    least = np.inf
    for first in a.reshape(10, 10, 47):
        for second in b.reshape(10, 10, 47):
            for places in dodecahedron.permutations():
                apart = np.abs(first - second[places]).sum(0)
                total = apart[:35].sum() + 2 * apart[35:45].sum() + 2 * apart[45] + apart[46]
                least = min(least, total)
    assert mesh.lightfield_distance(a, b) == least
    assert mesh.lightfield_distance(b, a) == least
    assert least < 470 * 3


def test_many_distances_at_once(monkeypatch):
    found = np.random.default_rng(1).integers(0, 256, (7, 4700)).astype(np.float32)
    monkeypatch.setattr(mesh, "CHUNK", 3)
    table = mesh.lightfield_distance_matrix(found[:4], found)
    assert table.shape == (4, 7)
    for n in range(4):
        assert table[n].tolist() == [mesh.lightfield_distance(found[n], other) for other in found]
        assert table[n, n] == 0
    np.testing.assert_array_equal(table[:, :4], table[:, :4].T)
    with pytest.raises(ValueError, match="expected \\(n, 4700\\)"):
        mesh.lightfield_distance_matrix(found[:, 1:], found)


def test_nearest_neighbours_of_real_meshes():
    """20 meshes of ten classes, two of each: the other one should be the nearest of 19."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    paths = sorted(SHARED.glob("*/*.obj"))
    labels = np.array([path.parent.name for path in paths])
    found = np.stack([mesh.lightfield(mesh.read(path)) for path in paths])
    table = mesh.lightfield_distance_matrix(found, found)
    same, other = labels[:, None] == labels, ~np.eye(len(labels), dtype=bool)
    nearer = (table[same & other][:, None] < table[~same]).mean()
    np.fill_diagonal(table, np.inf)
    accuracy = (labels[table.argmin(1)] == labels).mean()
    print(f"nearest neighbour {accuracy:.2f} (chance {1 / 19:.2f}); pairs of a class nearer in {nearer:.1%}")
    assert nearer > 0.8
    assert accuracy >= 0.6


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["off", "obj", "ply", "stl", "glb"])
def test_formats(tmp_path, base, kind):
    path = tmp_path / f"boat.{kind}"
    boat().export(path)
    vertices, faces = mesh.read(path)
    assert faces.shape == (len(boat().faces), 3)
    found = mesh.lightfield((vertices, faces))
    assert mesh.lightfield_distance(found, base) <= 20  # stl and glb hold single precision


OFFS = {
    "polygons": "OFF\n5 2 0\n0 0 0\n2 0 0\n2 1 0\n0 1 0\n1 2 1\n4 0 1 2 3\n3 2 3 4\n",
    "first line joined": "OFF5 3 0\n0 0 0\n2 0 0\n2 1 0\n0 1 0\n1 2 1\n3 0 1 2\n3 0 2 3\n3 2 3 4\n",
    "comments and colours": "OFF\n# a\n5 3 0\n0 0 0\n2 0 0\n2 1 0\n0 1 0\n1 2 1\n3 0 1 2 9 9 9\n3 0 2 3\n3 2 3 4\n",
}


def test_kinds_of_off_and_obj(tmp_path):
    path = tmp_path / "a.off"
    found = []
    for text in OFFS.values():
        path.write_text(text)
        found.append(mesh.lightfield(mesh.read(path)))
    path = tmp_path / "a.obj"
    path.write_text(
        "mtllib none.mtl\no a\nv 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nvt 0 0\nvt 1 1\nusemtl x\nf 1/1 2/2 3/1 4/2\n"
        "o b\nv 1 2 1\nusemtl y\nf 3/2 4/2 -1/1\n"
    )
    found.append(mesh.lightfield(mesh.read(path)))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("kind", ["off", "ply", "stl", "stl_ascii", "glb"])
@pytest.mark.parametrize("share", [0.95, 0.5, 0.01, 0])
def test_files_that_are_cut_off(tmp_path, kind, share):
    data = boat().export(file_type=kind)
    data = data.encode() if isinstance(data, str) else data
    path = tmp_path / f"boat.{kind.split('_')[0]}"
    path.write_bytes(data)
    mesh.read(path)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"is damaged or no mesh|is cut off|no faces"):
        mesh.normalised(*mesh.read(path))


def test_files_that_are_no_mesh(tmp_path):
    with pytest.raises(UserError, match=r"none\.off: cannot be read"):
        mesh.read(tmp_path / "none.off")
    for name, text in (("a.off", "<html>404</html>"), ("a.xyzzy", "?"), ("a.ply", "ply"), ("a.off", "OFF\nx y z\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=f"{name}: is damaged or no mesh"):
            mesh.read(tmp_path / name)


def test_meshes_of_no_use():
    vertices, faces = moved()
    bad = vertices.copy()
    bad[faces[3, 0], 1] = np.nan
    bad[faces[99, 0], 2] = np.inf
    line = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]])
    bent = np.array([[0, 0, 0], [1, 0, 0], [2, 1e-4, 0.0]])
    for given, told in (
        ((vertices, faces[:0]), "no faces"),
        ((bad, faces), "2 of .* vertices are no finite numbers"),
        ((vertices * 0 + 3, faces), "an extent of 0"),
        ((np.array([[-1e308, 0, 0], [1e308, 0, 0], [0, 1, 0]]) * 1.7, np.array([[0, 1, 2]])), "an extent of inf"),
        ((line, np.array([[0, 1, 2]])), "no face with an area"),
        ((bent, np.array([[0, 1, 2]])), "thinner than a pixel"),
        ((vertices, np.array([[0, 1, len(vertices)]])), f"a face of vertex {len(vertices)}; there are"),
        ((vertices, np.array([[0, -1, 2]])), "a face of vertex -1"),
        (trimesh.Trimesh(), "no faces"),
        (trimesh.Scene(), "no faces"),
        (trimesh.PointCloud(vertices), "no faces"),
    ):
        with pytest.raises(UserError, match=told):
            mesh.lightfield(given)


@pytest.mark.parametrize("over", [{"size": 600}, {"size": 4}, {"bounds": "circle"}, {"numbers": "int"}, {"sise": 4}])
def test_settings_that_do_not_fit(over):
    with pytest.raises(ValidationError):
        mesh.Settings(**over)


# -- extraction -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("meshes")
    for n in range(5):
        trimesh.creation.box([1, 1 + n, 2]).export(folder / f"{n}.off")
    (folder / "broken.off").write_text("OFF\n3 1 0\n0 0 0\n")
    (folder / "flat.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    (folder / "nan.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    return folder


def run(folder: Path, names: list[str], target: Path, threads: int = 2, **over) -> store.Features:
    frame = pd.DataFrame({"item_id": names, "modality": "mesh", "partition": "train", "source": names})
    extraction.run("mesh", frame, folder, mesh.Settings(size=64, **over), target, threads=threads, modality="mesh")
    return store.open_features(target)


GOOD = [f"{n}.off" for n in range(5)]


def test_extraction(folder, tmp_path):
    features = run(folder, GOOD, tmp_path / "mesh.a")
    expected = [mesh.lightfield(mesh.read(folder / name), mesh.Settings(size=64)) for name in GOOD]
    np.testing.assert_array_equal(features.array, expected)
    assert features.array.shape == (5, 4700)
    manifest = features.manifest
    assert manifest["settings"]["size"] == 64
    assert manifest["skipped"] == []
    assert {"trimesh", "scipy", "numpy"} <= manifest["versions"].keys()


def test_threads_and_order_do_not_matter(folder, tmp_path):
    one = run(folder, GOOD, tmp_path / "one" / "mesh.a", threads=1)
    two = run(folder, GOOD[::-1], tmp_path / "two" / "mesh.a", threads=2, shard=2)
    np.testing.assert_array_equal(one.array, two.array[::-1])


def test_bad_meshes_stop_or_are_left_out(folder, tmp_path):
    names = ["0.off", "broken.off", "1.off", "flat.off", "nan.obj", "gone.ply"]
    with pytest.raises(UserError, match=r"broken\.off: is cut off: 1 lines for 3 vertices and 1 faces"):
        run(folder, names, tmp_path / "mesh.a", threads=1)
    features = run(folder, names, tmp_path / "mesh.a", on_error="skip")
    assert list(features.index.item_id) == ["0.off", "1.off"]
    assert features.array.any(1).all()
    told = {one["item_id"]: one["reason"] for one in features.manifest["skipped"]}
    assert set(told) == set(names) - {"0.off", "1.off"}
    for name, reason in (
        ("flat.off", "no face with an area"),
        ("nan.obj", "no finite"),
        ("gone.ply", "cannot be read"),
    ):
        assert str(folder / name) in told[name]
        assert reason in told[name]
