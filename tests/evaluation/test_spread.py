"""Moderated variances: by hand, against the distribution that they assume, and their degrees of freedom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma

from crossmodal.evaluation.spread import Prior, inverse_trigamma, prior_of


def test_a_variance_between_its_own_and_the_priors() -> None:
    """4 degrees of freedom of 1 and 2 of 7 give (4 + 14) / 6 = 3 with 6; all groups together have only 5."""
    assert Prior(1.0, 4.0, 50.0).moderated(7.0, 2.0) == (3.0, 6.0)
    assert Prior(1.0, 4.0, 5.0).moderated(7.0, 2.0) == (3.0, 5.0)
    assert Prior(1.0, 4.0, 50.0).moderated() == (1.0, 4.0)  # of a group with one number
    assert Prior(1.0, np.inf, 50.0).moderated(7.0, 2.0) == (1.0, 50.0)


def test_groups_that_are_alike_have_one_variance() -> None:
    assert prior_of([2.0] * 5, [2, 2, 2, 2, 4]) == Prior(2.0, np.inf, 12.0)


def test_groups_without_spread_do_not_count_unless_none_has_any() -> None:
    assert prior_of([0.0, 2.0, 0.0, 2.0, 2.0], [2] * 5) == prior_of([2.0] * 3, [2] * 3)
    assert prior_of([0.0, 0.0], [2, 1]) == Prior(0.0, 3.0, 3.0)
    assert prior_of([3.0], [2]) == Prior(3.0, 2.0, 2.0)
    assert prior_of([], []) is None


def test_a_prior_is_found_again_from_many_draws() -> None:
    """Variances of true scale 9 with 8 degrees of freedom; one standard error of 20,000 groups is small."""
    rng = np.random.default_rng(0)
    true = 9.0 * 8 / rng.chisquare(8, 20_000)
    drawn = true * rng.chisquare(2, 20_000) / 2
    found = prior_of(drawn, np.full(20_000, 2.0))
    assert found.variance == pytest.approx(9.0, rel=0.03)
    assert found.df == pytest.approx(8.0, rel=0.2)
    assert found.df < 8.5  # taken towards groups that differ


@pytest.mark.parametrize("x", [1e-4, 0.3, 1.0, 40.0, 1e7])
def test_the_inverse_of_trigamma(x: float) -> None:
    assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)
