import numpy as np
import pytest

from crossmodal.evaluation.efficiency import annotation_ratio, annotations_to_reach, area, crossover


def test_a_line_over_log_annotations():
    amounts = np.array([10.0, 100.0, 1000.0])
    assert area(amounts, np.array([10.0, 20.0, 30.0])) == pytest.approx(20.0)
    assert area(amounts[::-1], np.array([30.0, 20.0, 10.0])) == pytest.approx(20.0)
    assert area(7 * amounts, np.array([10.0, 20.0, 60.0])) == pytest.approx((15 + 40) / 2)


def test_annotations_to_reach_by_interpolation():
    amounts, recalls = np.array([10.0, 100.0, 1000.0]), np.array([10.0, 20.0, 60.0])
    assert annotations_to_reach(amounts, recalls, 20.0) == pytest.approx(100)
    assert annotations_to_reach(amounts, recalls, 15.0) == pytest.approx(10**1.5)
    assert annotations_to_reach(amounts, recalls, 40.0) == pytest.approx(10**2.5)
    assert annotations_to_reach(amounts, recalls, 5.0) == pytest.approx(10)
    assert np.isnan(annotations_to_reach(amounts, recalls, 61.0))
    many = annotations_to_reach(amounts, np.array([recalls, recalls + 10]), 20.0)
    np.testing.assert_allclose(many, [100, 10])


def test_two_points_in_any_order():
    assert area(np.array([8.0, 2.0]), np.array([30.0, 10.0])) == pytest.approx(20.0)
    amounts, recalls = np.array([100.0, 10.0]), np.array([40.0, 20.0])
    assert annotations_to_reach(amounts, recalls, 40.0) == pytest.approx(100)
    assert annotations_to_reach(amounts, recalls, 20.0) == pytest.approx(10)
    assert annotations_to_reach(amounts, recalls, 25.0) == pytest.approx(10**1.25)


def test_curves_of_several_models():
    amounts = np.array([1.0, 10.0, 100.0])
    curves = np.array([[[0.0, 10.0, 20.0]], [[30.0, 30.0, 30.0]]])
    np.testing.assert_allclose(area(amounts, curves), [[10.0], [30.0]])
    # A curve that falls and rises again reaches the target where it does so first.
    falling = annotations_to_reach(amounts, np.array([[0.0, 20.0, 10.0], [5.0, 5.0, 10.0]]), 10.0)
    np.testing.assert_allclose(falling, [10**0.5, 100])


def test_a_model_that_needs_a_third():
    amounts, recalls = np.array([10.0, 100.0, 1000.0]), np.array([10.0, 20.0, 30.0])
    assert annotation_ratio(amounts / 3, recalls, amounts, recalls, 25.0) == pytest.approx(3.0)
    assert np.isnan(annotation_ratio(amounts, recalls, amounts, recalls - 30, 25.0))


def test_two_curves_meet_where_their_lines_do():
    amounts = np.array([10.0, 1000.0])
    rising, falling = np.array([10.0, 30.0]), np.array([25.0, 15.0])
    # 10 + 10 t = 25 - 5 t at t = 1 decade
    assert crossover(amounts, rising, amounts, falling) == pytest.approx(100)
    assert crossover(amounts[::-1], rising[::-1], amounts, falling) == pytest.approx(100)  # in any order
    # A level between two of three points, whose curve bends at 100: 10 -> 20 -> 60.
    bent = np.array([10.0, 100.0, 1000.0]), np.array([10.0, 20.0, 60.0])
    assert crossover(*bent, amounts, np.array([40.0, 40.0])) == pytest.approx(10**2.5)


def test_curves_meet_on_what_both_span_alone():
    first = np.array([1.0, 100.0]), np.array([0.0, 20.0])
    assert crossover(*first, np.array([10.0, 1000.0]), np.array([15.0, 15.0])) == pytest.approx(10**1.5)
    assert np.isnan(crossover(*first, np.array([10.0, 1000.0]), np.array([5.0, 5.0])))  # it meets at 10 ** 0.5
    assert np.isnan(crossover(*first, np.array([200.0, 1000.0]), np.array([20.0, 20.0])))
    assert np.isnan(crossover(*first, first[0], first[1] + 0.1))
    # They share one amount alone.
    assert crossover(*first, np.array([100.0, 1000.0]), np.array([20.0, 9.0])) == pytest.approx(100)
    assert np.isnan(crossover(*first, np.array([100.0, 1000.0]), np.array([19.0, 30.0])))


def test_the_fewest_annotations_at_which_curves_meet():
    amounts = np.array([1.0, 10.0, 100.0, 1000.0])
    level = np.full(4, 10.0)
    assert crossover(amounts, np.array([0.0, 20.0, 0.0, 20.0]), amounts, level) == pytest.approx(10**0.5)
    assert crossover(amounts, level, amounts, level) == pytest.approx(1)  # alike from the start
    assert crossover(amounts, np.array([0.0, 10.0, 0.0, 0.0]), amounts, level) == pytest.approx(10)  # touching
    assert crossover(amounts, np.array([0.0, 0.0, 0.0, 10.0]), amounts, level) == pytest.approx(1000)


def test_errors_name_the_fault():
    with pytest.raises(ValueError, match="at least two amounts"):
        area(np.array([1.0]), np.array([1.0]))
    with pytest.raises(ValueError, match="different amounts above 0"):
        area(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="different amounts above 0"):
        area(np.array([2.0, 1.0, 2.0]), np.ones(3))
    with pytest.raises(ValueError, match="a recall for each"):
        area(np.array([1.0, 2.0]), np.ones(3))
    with pytest.raises(ValueError, match="at least two amounts"):
        area(np.ones((2, 2)), np.ones((2, 2)))
