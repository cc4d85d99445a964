import numpy as np
import pytest

from crossmodal.evaluation import rank_both_ways, source
from crossmodal.evaluation.ranking.shards import Shard, cut, gather, rank_shard
from tests.evaluation.literal import near_ties


def data(seed=0):
    """Near ties, captions of 60 images, and a few vectors of other sizes."""
    queries, gallery = near_ties(seed, 60, 300, 24)
    queries[:20] = np.random.default_rng(seed).normal(size=(20, 24)) * 3
    return queries, gallery, np.arange(60), np.arange(300) // 5


@pytest.mark.parametrize("n", [1, 2, 6, 7])
@pytest.mark.parametrize("cosine", [False, True])
def test_gathered_shards_have_the_bits_of_one_process(n, cosine, tmp_path):
    queries, gallery, groups, items = data()
    np.save(tmp_path / "g.npy", gallery)
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    rectangles = cut((60, 300), n)
    assert len(rectangles) == n
    shards = []
    for place, rectangle in enumerate(rectangles):
        shard = rank_shard(queries, mapped, groups, items, rectangle, 9, cosine=cosine, budget=20000)
        np.savez(tmp_path / f"{place}.npz", **shard.arrays())
        with np.load(tmp_path / f"{place}.npz") as file:
            shards.append(Shard.of_arrays(dict(file)))
    for one, whole in zip(
        gather(shards[::-1], (60, 300)),
        rank_both_ways(source(queries, gallery, cosine=cosine), groups, items, 9),
        strict=True,
    ):
        assert (one.ranks == whole.ranks).all()
        assert (one.top == whole.top).all()
        assert (one.top_scores == whole.top_scores).all()
        assert one.precision.keys() == whole.precision.keys()
        for name, values in whole.precision.items():
            assert (one.precision[name] == values).all()


def test_values_of_other_sizes_in_other_shards():
    """A shard of small integers, whose products are exact, and one of fractions: their scores are in one unit."""
    rng = np.random.default_rng(1)
    gallery = rng.integers(-3, 4, (40, 6)).astype(np.float64)
    gallery[20:] *= 1e-5 * np.pi
    queries, groups, items = rng.integers(-3, 4, (40, 6)) * 1e4, np.arange(40), rng.permutation(40)
    shards = [rank_shard(queries, gallery, groups, items, r, 50) for r in cut((40, 40), 4)]
    for one, whole in zip(
        gather(shards, (40, 40)), rank_both_ways(source(queries, gallery), groups, items, 50), strict=True
    ):
        assert (one.ranks == whole.ranks).all()
        assert (one.top == whole.top).all()


def test_cuts_cover_everything_once():
    for shape, n in (((10, 7), 6), ((5, 1000), 12), ((1, 30), 5)):
        seen = np.zeros(shape, int)
        for rows, cols in cut(shape, n):
            seen[rows, cols] += 1
        assert (seen == 1).all()
    with pytest.raises(ValueError, match="cannot be cut into 11"):
        cut((2, 3), 11)


def test_missing_and_doubled_shards():
    queries, gallery, groups, items = data()
    shards = [rank_shard(queries, gallery, groups, items, r, precision=False) for r in cut((60, 300), 4)]
    found = gather(shards, (60, 300))
    assert found[0].precision == {}
    with pytest.raises(ValueError, match="compared with"):
        gather(shards[:3], (60, 300))
    with pytest.raises(ValueError, match="occurs twice"):
        gather([*shards, shards[0]], (60, 300))
    with pytest.raises(ValueError, match="none to gather"):
        gather([], (60, 300))


def test_too_many_relevant_items_for_precision():
    queries, gallery, *_ = data()
    with pytest.raises(ValueError, match="precision=False"):
        rank_shard(queries, gallery, np.zeros(60), np.zeros(300), cut((60, 300), 2)[0])


def test_cuts_are_as_near_to_squares_as_can_be():
    assert cut((100, 100), 4) == [(slice(a, a + 50), slice(b, b + 50)) for a in (0, 50) for b in (0, 50)]
    assert cut((100, 1000), 4) == [(slice(0, 100), slice(b, b + 250)) for b in (0, 250, 500, 750)]
    assert cut((1000, 100), 2) == [(slice(0, 500), slice(0, 100)), (slice(500, 1000), slice(0, 100))]
    assert [r.stop - r.start for r, _ in cut((10, 1), 3)] == [3, 3, 4]
    with pytest.raises(ValueError, match="cannot be cut into 0"):
        cut((2, 3), 0)


def test_what_is_missing_is_named():
    queries, gallery, groups, items = data()
    left, right = (
        rank_shard(queries, gallery, groups, items, (slice(0, 60), c)) for c in (slice(0, 100), slice(100, 300))
    )
    with pytest.raises(ValueError, match="queries 0 was compared with 100 of 300 items"):
        gather([left], (60, 300))
    top = rank_shard(queries, gallery, groups, items, (slice(0, 40), slice(0, 300)))
    with pytest.raises(ValueError, match="queries 40 was compared with 0 of 300 items"):
        gather([top], (60, 300))
    low = rank_shard(queries, gallery, groups, items, (slice(40, 60), slice(0, 100)))
    with pytest.raises(ValueError, match="queries 40 was compared with 100 of 300 items"):
        gather([top, low], (60, 300))
    whole = gather([right, left], (60, 300))
    assert (whole[0].ranks == rank_both_ways(source(queries, gallery), groups, items)[0].ranks).all()


def test_scores_that_are_too_large():
    large = np.full((4, 2), 1e200)
    with pytest.raises(ValueError, match="too large for float64"):
        rank_shard(large, large, np.arange(4), np.arange(4), (slice(0, 4), slice(0, 4)))


def test_shards_of_other_precision_have_none_together():
    queries, gallery, groups, items = data()
    one, other = cut((60, 300), 2)
    shards = [rank_shard(queries, gallery, groups, items, one, precision=True)]
    shards.append(rank_shard(queries, gallery, groups, items, other, precision=False))
    there, _ = gather(shards, (60, 300))
    assert there.precision == {}
    assert (there.ranks == rank_both_ways(source(queries, gallery), groups, items)[0].ranks).all()
