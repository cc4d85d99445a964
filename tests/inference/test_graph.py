"""The approximate index of a folder's vectors, against the exact order of all of them."""

import json
import shutil

import numpy as np
import pytest

from crossmodal.core.errors import UserError
from crossmodal.evaluation.ranking.nearest import nearest
from crossmodal.inference import folder, graph


def drawn(count, dim=24):
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_nearly_all_of_the_nearest_are_found_with_exact_scores(tmp_path):
    pytest.importorskip("usearch")
    vectors = drawn(1500)
    opened = graph.opened(tmp_path / "x.npz", "a", lambda: vectors)
    common = 0
    for query in vectors[:20] + 0.5 * drawn(20):
        places, scores = graph.nearest(opened, query, 10)
        np.testing.assert_allclose(scores, vectors[places].astype(float) @ query.astype(float), rtol=1e-12)
        assert (np.diff(scores) <= 0).all()
        common += len({*places} & {*nearest(query, vectors, 10)[0]})
    assert common >= 190  # of 200


def test_a_graph_is_built_again_for_other_files_or_when_it_is_cut_off(tmp_path):
    pytest.importorskip("usearch")
    calls = []

    def vectors():
        calls.append(1)
        return drawn(50)

    kept = tmp_path / "x.npz"
    for state, built in (("a", 1), ("a", 1), ("b", 2)):
        graph.opened(kept, state, vectors)
        assert len(calls) == built
    path = kept.with_suffix(".usearch")
    path.write_bytes(path.read_bytes()[:-10])
    assert len(graph.opened(kept, "b", vectors)) == 50
    assert len(calls) == 3
    with pytest.raises(UserError, match="more than one vector each"):
        graph.opened(kept, "c", lambda: np.zeros((4, 3, 2), np.float32))


def test_a_graph_that_another_has_put_there_is_not_opened(tmp_path):
    """usearch follows the numbers in it wherever they lead; a copy of a folder with both files was taken for ours."""
    pytest.importorskip("usearch")
    kept, theirs = tmp_path / "x.npz", tmp_path / "theirs"
    graph.opened(kept, "a", lambda: drawn(50))
    shutil.copytree(tmp_path, theirs)
    path = theirs / "x.usearch"
    data = path.read_bytes()
    path.write_bytes(data[:-4000] + b"\xff" * 4000)
    shutil.copystat(tmp_path / "x.usearch", path)
    built = []
    assert len(graph.opened(theirs / "x.npz", "a", lambda: built.append(1) or drawn(50))) == 50
    assert built == [1]
    assert path.read_bytes()[-4000:] != b"\xff" * 4000


def test_a_folder_is_searched_by_its_graph(tmp_path, monkeypatch):
    pytest.importorskip("usearch")
    vectors = drawn(30)
    kept, names = tmp_path / "x.npz", [f"{n}.jpg" for n in range(30)]
    np.savez(kept, paths=folder._joined(names), vectors=vectors)
    kept.with_suffix(".json").write_text(json.dumps({"files_sha256": "a"}))
    monkeypatch.setattr(folder, "_kept", lambda *given: (kept, names))
    paths, places, scores = folder.approximate(None, tmp_path, "image", "text", vectors[7], 3)
    assert paths == names
    assert places.tolist() == nearest(vectors[7], vectors, 3)[0].tolist()
    assert scores[0] == pytest.approx(1)
    for spoilt, said in ((names[:29], "30 vectors"), ([*names[:29], "../30.jpg"], "'../30.jpg' is no file")):
        np.savez(kept, paths=folder._joined(spoilt), vectors=vectors)
        with pytest.raises(UserError, match=f"x.npz: is truncated or damaged .*{said}"):
            folder.approximate(None, tmp_path, "image", "text", vectors[7], 3)


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    with pytest.raises(UserError, match=r"pip install 'crossmodal\[approximate\]'"):
        graph.opened(tmp_path / "x.npz", "a", lambda: drawn(3))
