"""Embeddings in two dimensions: which items, which runs, and that pairs of good vectors lie together."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.reporting.figures import embeddings
from tests.reporting.drawn import ROOT

GROUPS = {**{f"i{n}": f"g{n}" for n in range(300)}, **{f"i{n}#{k}": f"g{n}" for n in range(300) for k in range(2)}}


def saved(folder, images, texts, n=300):
    ids = {"image_ids": [f"i{i}" for i in range(n)], "text_ids": [f"i{i}#{k}" for i in range(n) for k in range(2)]}
    (folder / "instance_retrieval").mkdir(exist_ok=True)
    np.savez(folder / "instance_retrieval" / "embeddings.npz", image=images, text=texts, **ids)


def test_images_stand_beside_their_first_captions(tmp_path):
    saved(tmp_path, np.arange(300.0)[:, None], np.repeat(np.arange(300.0), 2)[:, None] + [[0.0], [0.5]] * 300)
    images, texts = embeddings.paired(tmp_path, GROUPS)
    assert len(images) == embeddings.ITEMS
    np.testing.assert_array_equal(images, texts)
    again, _ = embeddings.paired(tmp_path, GROUPS)
    np.testing.assert_array_equal(images, again)


def test_runs_without_vectors_are_none_and_damaged_ones_are_told(tmp_path):
    assert embeddings.paired(tmp_path, GROUPS) is None
    (tmp_path / "instance_retrieval").mkdir()
    np.savez(tmp_path / "instance_retrieval" / "embeddings.npz", audio=np.zeros(3))
    assert embeddings.paired(tmp_path, GROUPS) is None
    (tmp_path / "instance_retrieval" / "embeddings.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"embeddings\.npz: cannot be read"):
        embeddings.paired(tmp_path, GROUPS)


def test_pairs_of_near_vectors_lie_together():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(40, 16))
    found = embeddings.placed(images, 3 * images + generator.normal(scale=0.01, size=images.shape))
    ends = found.reshape(2, 40, 2)
    distances = np.linalg.norm(ends[0][:, None] - ends[1][None], axis=2)
    assert (distances.argmin(1) == np.arange(40)).mean() > 0.9


def test_the_figure_has_a_panel_a_run():
    places = np.random.default_rng(0).normal(size=(20, 2))
    drawn = embeddings.embeddings({"a3vse, 10pct-1cap": places, "other": places})
    assert drawn == embeddings.embeddings({"a3vse, 10pct-1cap": places, "other": places})
    ElementTree.fromstring(drawn)
    assert "a3vse, 10pct-1cap" in drawn
    assert "No run with vectors" in embeddings.embeddings({})


def test_papers_name_the_runs(plan):
    made = experiments.plan(plan.params, ROOT / "papers")
    assert [job.key for job in made.mapped(made.jobs)] == [
        "world/10pct-1cap/a3vse/seed0",
        "world/10pct-5cap/a3vse/seed0",
        "world/10pct-5cap/a3vse.no-s/seed0",
    ]
    assert made.mapped({}) == []
