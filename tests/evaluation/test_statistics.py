import numpy as np
import pytest
from scipy import stats

from crossmodal.evaluation.statistics import (
    bootstrap_interval,
    clustered,
    holm,
    permutation_p_values,
    permutation_test,
    resampled_means,
)


def test_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    low, high = bootstrap_interval(values, n_resamples=4000)
    error = stats.norm.ppf(0.975) * values.std(ddof=1) / np.sqrt(4000)
    assert low == pytest.approx(values.mean() - error, abs=0.05 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.05 * error)


def test_coverage_of_means_over_queries():
    rng = np.random.default_rng(1)
    hits = sum(low <= 40 <= high for low, high in (_drawn_interval(rng) for _ in range(300)))
    assert stats.binom.cdf(hits, 300, 0.95) > 1e-3
    assert stats.binom.sf(hits, 300, 0.95) > 1e-3


def _drawn_interval(rng):
    return bootstrap_interval(100.0 * (rng.random(250) < 0.4), n_resamples=400, seed=int(rng.integers(2**31)))


def test_queries_of_a_group_are_not_independent():
    """Five equal captions per image tell no more than one."""
    rng = np.random.default_rng(2)
    one = rng.normal(size=300)
    five, groups = np.repeat(one, 5), np.repeat(np.arange(300), 5)
    assert bootstrap_interval(five, groups) == pytest.approx(bootstrap_interval(one))
    narrow = np.subtract(*bootstrap_interval(five)[::-1])
    assert narrow < 0.6 * np.subtract(*bootstrap_interval(five, groups)[::-1])


def test_seeds_widen_the_interval():
    rng = np.random.default_rng(3)
    queries = rng.normal(size=1000)
    apart = np.stack([queries + shift for shift in (-1.0, 0.0, 1.0)])
    alike = np.stack([queries] * 3)
    width = [np.subtract(*bootstrap_interval(values)[::-1]) for values in (apart, alike)]
    assert width[0] > 5 * width[1]


def test_groups_of_unequal_size_give_the_mean_over_queries():
    values, groups = np.arange(10.0), np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 2])
    data = clustered([values], groups)
    assert data.means[0] == pytest.approx(4.5)
    _, _, drawn = resampled_means(data, 2000)
    assert drawn.min() == pytest.approx(3.0)  # the first group thrice
    assert drawn.max() == pytest.approx(8.5)


def test_permutations_against_every_sign():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, 12), rng.normal(0, 1, 12)
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_test(a, b, n_permutations=40000) == pytest.approx(expected, abs=0.01)


def test_p_values_count_the_observed_difference_too():
    """Phipson and Smyth 2010: (reached + 1) / (draws + 1), so that no p-value is 0."""
    apart = np.ones(60)  # all 60 signs alike: one draw in 2^59 reaches it
    assert permutation_test(apart, np.zeros(60), n_permutations=999) == pytest.approx(1 / 1000, rel=1e-12)
    assert permutation_test(np.zeros(60), apart, n_permutations=49) == pytest.approx(1 / 50, rel=1e-12)
    # Either sign of one difference is as far from 0 as the other: every draw reaches it.
    assert permutation_test(np.ones(1), np.zeros(1), n_permutations=99) == 1.0


@pytest.mark.parametrize(
    ("differences", "share"),
    [
        ((1.0, 1.0), 1 / 2),  # 2, 0, 0, -2
        ((1.0, 1.0, 1.0), 1 / 4),  # all signs alike
        ((0.1, 0.2, -0.3), 1.0),  # a sum of 0 is reached by all, though 0.1 + 0.2 - 0.3 is not 0 in binary
        ((3.0, 1.0, 1.0, -1.0), 1 / 2),  # at least 4 from 0: those of 3 and of two of the ones, or of all, agree
    ],
)
def test_p_values_of_few_queries_by_hand(differences, share):
    values = np.array(differences)
    found = permutation_test(values, np.zeros(len(values)), n_permutations=40000)
    assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 40000) + 1e-4)


def test_captions_of_an_image_change_signs_together():
    """Five captions of each of three images: one draw in four has all signs alike, not one in 2^14."""
    found = permutation_test(np.ones(15), np.zeros(15), np.repeat(np.arange(3), 5), n_permutations=40000)
    assert found == pytest.approx(1 / 4, abs=0.01)


def test_each_pair_has_its_own_p_value():
    rng = np.random.default_rng(8)
    rows = [rng.normal(size=(1, 40)), rng.normal(0.3, 1, (1, 40)), rng.normal(size=(1, 40))]
    pairs = [(0, 1), (2, 0), (1, 2)]
    together = permutation_p_values(clustered(rows), pairs, 500, seed=3)
    alone = [permutation_test(rows[a], rows[b], n_permutations=500, seed=3) for a, b in pairs]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert len(permutation_p_values(clustered(rows), [], 500)) == 0


def test_seeds_that_do_not_differ_among_themselves():
    values = np.random.default_rng(9).normal(size=50)
    same = np.stack([values, values])
    assert permutation_test(same, same) == 1.0
    assert permutation_test(same + 1, same, n_permutations=99) == pytest.approx(1 / 100)


def test_an_interval_is_two_percentiles_of_the_drawn_means():
    data = clustered([np.random.default_rng(10).random(80)])
    low, high, drawn = resampled_means(data, 500, confidence=0.8)
    assert drawn.shape == (1, 500)
    np.testing.assert_allclose([low[0], high[0]], np.percentile(drawn[0], [10, 90]), rtol=1e-12)
    narrow = bootstrap_interval(np.random.default_rng(10).random(80), confidence=0.8, n_resamples=500)
    assert narrow == pytest.approx((low[0], high[0]), rel=1e-12)


def test_rows_are_drawn_together():
    """The same queries for all rows: the drawn means of a row and of the row plus 1 differ by 1."""
    rng = np.random.default_rng(11)
    values, many = rng.random((1, 30)), rng.random((3, 30))
    rows = [many, values, many + 1, values + 1]
    low, high, drawn = resampled_means(clustered(rows), 200, seed=5)
    np.testing.assert_allclose(drawn[2] - drawn[0], 1, rtol=1e-9)
    np.testing.assert_allclose(drawn[3] - drawn[1], 1, rtol=1e-9)
    for place, row in enumerate(rows):
        alone = resampled_means(clustered([row]), 200, seed=5)
        np.testing.assert_allclose(drawn[place], alone[2][0], rtol=1e-9)
        assert (low[place], high[place]) == pytest.approx((alone[0][0], alone[1][0]), rel=1e-9)


def test_values_are_kept_to_a_part_in_2_to_the_50():
    for scale in (1e-9, 1.0, 1e9):
        values = scale * np.random.default_rng(12).random(1000)
        data = clustered([values])
        assert data.means[0] == pytest.approx(values.mean(), rel=1e-12)
        shuffled = np.random.default_rng(0).permutation(data.sums[0][0])
        assert shuffled.sum() == data.sums[0][0].sum()  # exact, in any order
        assert np.cumsum(data.sums[0][0])[-1] == np.cumsum(shuffled)[-1]
    assert clustered([np.zeros(4)]).means[0] == 0.0


def test_p_values_without_a_difference_are_uniform():
    rng = np.random.default_rng(5)
    found = [permutation_test(*rng.normal(size=(2, 60)), n_permutations=199, seed=n) for n in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 1e-3
    assert permutation_test(np.ones(5), np.ones(5)) == 1.0


def test_a_difference_must_hold_over_seeds_too():
    rng = np.random.default_rng(6)
    base = rng.normal(size=(1, 2000))
    steady = base + np.array([[0.4], [0.41], [0.39]])
    unsteady = base + np.array([[1.6], [-0.6], [0.2]])
    zero = base + np.array([[0.0], [0.01], [-0.01]])
    assert permutation_test(steady, zero) < 1e-3
    assert permutation_test(unsteady, zero) == pytest.approx(
        stats.ttest_ind(unsteady.mean(1), zero.mean(1), equal_var=False).pvalue, rel=1e-6
    )
    assert permutation_test(unsteady[:1], zero[:1]) < 1e-3  # one seed can say nothing of seeds


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.9]), [1.0, np.nan, 1.0])
    # By size .01, .02, .02, .6 times 4, 3, 2, 1; none is below one before it, none above 1.
    np.testing.assert_allclose(holm([0.02, 0.6, 0.01, 0.02]), [0.06, 0.6, 0.04, 0.06])
    np.testing.assert_allclose(holm([0.04, 0.045]), [0.08, 0.08])
    assert len(holm([])) == 0


def test_the_same_bits_with_any_number_of_threads():
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(7)
    data = clustered(list(rng.random((6, 2, 900))), np.arange(900) // 3)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append((*resampled_means(data, 300), permutation_p_values(data, [(0, 1), (2, 3)], 500)))
    for one, two in zip(*found, strict=True):
        assert (one == two).all()


def test_errors_name_the_fault():
    with pytest.raises(ValueError, match="same queries"):
        clustered([np.ones(3), np.ones(4)])
    for wrong in ([], [np.empty((0, 3))], [np.ones((2, 2, 2))]):
        with pytest.raises(ValueError, match="same queries"):
            clustered(wrong)
    with pytest.raises(ValueError, match="not finite"):
        clustered([np.array([1.0, np.nan])])
    with pytest.raises(ValueError, match="not finite"):
        clustered([np.ones(2), np.array([1.0, np.inf])])
    with pytest.raises(ValueError, match="2 groups for 3 queries"):
        clustered([np.ones(3)], np.array([1, 2]))


def test_the_observed_order_is_one_of_the_draws():
    """No draw of 99 is as far as thirty differences of one sign, and yet the p-value is not 0 (2^-29 are)."""
    ones, zeros = np.ones(30), np.zeros(30)
    assert permutation_test(ones, zeros, n_permutations=99) == 1 / 100
    assert permutation_test(zeros, ones, n_permutations=399) == 1 / 400  # to either side


def test_ties_with_the_observed_difference_count():
    """Of eight choices of three signs two are as far as what was seen: +++ and ---."""
    assert permutation_test(np.ones(3), np.zeros(3), n_permutations=20000) == pytest.approx(2 / 8, abs=0.015)


def test_queries_are_tested_by_their_mean_over_seeds():
    """The first of two seeds differs in nothing, their mean does in every query; the other row has one seed."""
    base = np.arange(30.0)
    assert permutation_test(np.stack([base, base + 2]), base, n_permutations=99) == 1 / 100
    assert permutation_test(np.stack([base + 2, base - 2]), base, n_permutations=99) == 1.0


def test_seeds_that_make_no_difference():
    """Two systems without chance in them: their difference is sure if there is one."""
    base = np.arange(30.0)
    apart, alike = np.stack([base + 1] * 3), np.stack([base] * 2)
    assert permutation_test(apart, alike, n_permutations=99) == 1 / 100
    assert permutation_test(alike, alike, n_permutations=99) == 1.0


def test_holm_counts_what_is_there_and_ends_at_1():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.6, 0.8]), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(holm([0.02, 0.001, 0.011]), [0.022, 0.003, 0.022])


def ratio(sums):
    """The first of two sums over the second."""
    return sums[..., 0] / sums[..., 1]


def test_a_formula_that_is_a_mean_has_the_interval_and_the_p_value_of_a_mean():
    """The sum of values over the number of queries, as a formula of two sums, is the mean."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.3, 1, (2, 60)), rng.normal(0, 1, (2, 60))
    groups = np.arange(60) // 3
    counted = [np.stack([x, np.ones_like(x)], 2) for x in (a, b)]
    plain, formula = clustered([a, b], groups), clustered(counted, groups, ratio)
    assert formula.means == pytest.approx(plain.means)
    for one, other in zip(resampled_means(plain), resampled_means(formula), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert permutation_p_values(formula, [(0, 1)]) == pytest.approx(permutation_p_values(plain, [(0, 1)]))


def test_a_formula_is_not_the_mean_of_its_values():
    """Two queries, 1 of 1 and 0 of 9: drawn, they are 1/1, 1/10 (twice) and 0/9, whose 95 % run from 0 to 1."""
    data = clustered([[[[1, 1], [0, 9]]]], formula=ratio)
    assert data.means == pytest.approx([0.1])
    low, high, drawn = resampled_means(data, 2000)
    assert (low[0], high[0]) == (0, 1)
    assert set(np.round(drawn[0], 6)) == {0, 0.1, 1}
    assert np.mean(np.isclose(drawn[0], 0.1)) == pytest.approx(0.5, abs=0.05)


def test_groups_are_exchanged_between_two_formulas_by_hand():
    """A is 1/1 and 1/3, B is 0/1 and 3/9. Exchanged: both or none .4, the first alone 2/6... of four patterns each."""
    a, b = [[1, 1], [1, 3]], [[0, 1], [3, 9]]

    def value(first, second):
        return (first[0] + second[0]) / (first[1] + second[1])

    distances = [abs(value(x, y) - value(u, v)) for (x, u) in ((a[0], b[0]), (b[0], a[0]))
                 for (y, v) in ((a[1], b[1]), (b[1], a[1]))]  # fmt: skip
    share = np.mean([d >= distances[0] - 1e-12 for d in distances])
    p = permutation_p_values(clustered([[a], [b]], formula=ratio), [(0, 1)])
    assert p[0] == pytest.approx(share, abs=0.02)
    assert 0 < share < 1
