"""Contrasts over seeds and queries: by hand, against SciPy's t-tests, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crossmodal.evaluation.contrasts import Contrast, above, below, interval, mean, negative, seeds_needed

A, B = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 6.0])


def test_variances_are_added_over_units_and_queries_by_hand() -> None:
    """Sample variances 1 and 12 of three seeds; groups that move it by half up and down: 2 / 1 * (1/4 + 1/4) = 1."""
    found = Contrast({"a": A, "b": B}, np.array([0.5, -0.5]), offset=1.5)
    assert found.estimate == pytest.approx(2.0 + 2.0 - 1.5)
    (variance,), (freedom,) = found.variances()
    assert variance == pytest.approx(1 / 3 + 12 / 3 + 1)
    assert freedom == pytest.approx((16 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 4**2 / 2 + 1**2 / 1))
    variance, _ = found.variances(np.array([3, 30]))
    assert variance.tolist() == pytest.approx([16 / 3, 13 / 30 + 1])  # more seeds leave the queries as they are


def test_without_queries_it_is_welchs_test() -> None:
    expected = stats.ttest_ind(A, B, equal_var=False, alternative="greater").pvalue
    assert above(Contrast({"a": A, "b": -B})) == pytest.approx(expected)
    assert below(Contrast({"a": A, "b": -B})) == pytest.approx(1 - expected)


def test_seeds_of_one_unit_are_paired() -> None:
    expected = stats.ttest_rel(A + B, B, alternative="greater")
    found = Contrast({"a": (A + B) - B})
    assert above(found) == pytest.approx(expected.pvalue)
    assert interval(found) == pytest.approx(stats.ttest_rel(A + B, B).confidence_interval(0.95))


def test_with_seeds_that_are_alike_it_is_a_paired_test_over_queries() -> None:
    values = np.array([0.0, 100.0, 100.0, 0.0, -100.0, 100.0, 100.0])
    moves = (values - values.mean()) / len(values)
    found = Contrast({"a": np.full(3, values.mean())}, moves)
    assert above(found) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert above(found, 20.0) == pytest.approx(stats.ttest_1samp(values, 20, alternative="greater").pvalue)
    assert below(negative(found), -20.0) == pytest.approx(above(found, 20.0))


def test_one_seed_says_nothing() -> None:
    found = Contrast({"a": A, "b": B[:1]}, np.array([0.5, -0.5]))
    assert np.isnan(above(found))
    assert np.isnan(interval(found)).all()
    assert seeds_needed(found, 0.05) is None


def test_what_never_varies_is_certain() -> None:
    same = Contrast({"a": np.full(3, 0.25)}, np.zeros(4))
    assert (above(same), above(same, 0.25), above(same, 0.3)) == (0.0, 1.0, 1.0)
    assert (below(same), below(same, 0.3)) == (1.0, 0.0)
    assert interval(same) == (0.25, 0.25)
    rounded = Contrast({"a": np.array([1e-14, -1e-14, 0.0])}, np.array([1e-15, -1e-15]))
    assert (above(rounded), below(rounded), above(rounded, -0.1)) == (1.0, 1.0, 0.0)


def test_the_mean_of_contrasts_shares_their_units() -> None:
    found = mean([Contrast({"a": A, "b": -B}, np.array([1.0, -1.0])), Contrast({"a": A}, np.array([-1.0, 1.0]), 2.0)])
    assert found.units["a"].tolist() == A.tolist()
    assert found.units["b"].tolist() == (-B / 2).tolist()
    assert found.queries.tolist() == [0.0, 0.0]
    assert found.estimate == pytest.approx(2.0 - 1.0 - 1.0)


def test_seeds_needed_give_the_power_that_the_noncentral_t_says() -> None:
    """Of one unit: the power of S seeds is that of t beyond its quantile, about the effect times the root of S."""
    for shift in (0.4, 0.8, 2.0):
        found = Contrast({"a": A - 2.0 + shift})  # of s.d. 1
        needed = seeds_needed(found, 0.05)
        powers = [
            stats.nct.sf(stats.t.ppf(0.95, s - 1), s - 1, shift * s**0.5) for s in (needed - 1, needed, needed + 1)
        ]
        assert powers[0] < 0.8 + 0.02
        assert powers[2] > 0.8 - 0.02
        assert seeds_needed(Contrast({"a": 2.0 - A - shift}), 0.05) == needed  # to find that it is below


def test_no_seeds_help_where_the_queries_are_too_few() -> None:
    found = Contrast({"a": A - 1.5}, np.array([2.0, -2.0]))
    assert seeds_needed(found, 0.05) is None
    assert seeds_needed(Contrast({"a": A - 1.5}), 0.05) is not None


@pytest.mark.parametrize("over_queries", [0.0, 1.0, 3.0])
def test_a_difference_that_is_none_is_called_one_seldom_enough(over_queries: float) -> None:
    """Seeds and queries both shift the difference of two rows, by as much or one more than the other."""
    rng = np.random.default_rng(0)
    wrong, n, seeds, groups = 0, 1500, 3, 40
    for _ in range(n):
        shared = over_queries * rng.standard_normal(groups)
        rows = {
            name: rng.standard_normal((seeds, 1)) / groups**0.5 + rng.standard_normal((seeds, groups)) for name in "ab"
        }
        rows["a"] = rows["a"] + shared
        moves = (rows["a"] - rows["b"]).mean(0)
        found = Contrast({"a": rows["a"].mean(1), "b": -rows["b"].mean(1)}, (moves - moves.mean()) / groups)
        wrong += above(found) < 0.05
    assert wrong / n < 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5
