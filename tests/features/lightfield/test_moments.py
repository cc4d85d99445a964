"""The numbers of a silhouette against integrals, a literal double loop and shapes whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from crossmodal.features.lightfield import moments
from crossmodal.features.lightfield.silhouettes import contours

SIZE = 256


def picture(inside, size: int = SIZE) -> np.ndarray:
    """(1, s, s) of inside(x, y), the middle at (0, 0), in pixels."""
    middles = np.arange(size) + 0.5 - size / 2
    return np.asarray(inside(*np.meshgrid(middles, middles)))[None]


def disc(radius: float, x0: float = 0.0, y0: float = 0.0) -> np.ndarray:
    return picture(lambda x, y: (x - x0) ** 2 + (y - y0) ** 2 <= radius**2)


def square(side: float, degrees: float = 0.0, ratio: float = 1.0) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return picture(lambda x, y: (abs(c * x + s * y) <= side / 2) & (abs(c * y - s * x) <= side / 2 / ratio))


def circularity(pictures: np.ndarray) -> float:
    return float(moments.describe(pictures)[0, -2])


def test_moments_of_a_disc():
    found = moments.describe(disc(90))[0, : moments.MOMENTS]
    rim = 90 / (SIZE / 2 - 1)
    expected = np.zeros(36)
    for n in (0, 1, 2):
        expected[12 * n] = abs(quad(lambda r, n=n: np.cos(np.pi * n * r) * r, 0, rim)[0]) * 2 / rim**2
    np.testing.assert_allclose(found, expected[1:], atol=1e-3)  # a disc of pixels is not quite round


def test_moments_of_a_wedge():
    """The first quarter: the angular integral is (exp(i m pi / 2) - 1) / (i m), the radial one separate."""
    rim = 100 / (SIZE / 2 - 1)
    found = moments.moments(picture(lambda x, y: (x > 0) & (y > 0) & (x**2 + y**2 < 100**2)))[0]
    found /= 100**2 * np.pi / 4
    angular = [np.pi / 2, *(abs((np.exp(1j * m * np.pi / 2) - 1) / m) for m in range(1, 12))]
    radial = [quad(lambda r, n=n: np.cos(np.pi * n * r) * r, 0, rim)[0] for n in range(3)]
    expected = np.abs(np.outer(radial, angular)).ravel() * 4 / (np.pi * rim**2)
    np.testing.assert_allclose(found, expected[1:], atol=2e-3)


def test_moments_by_a_literal_double_loop():
    size = 20
    pixels = np.random.default_rng(0).random((size, size)) < 0.4
    pixels[[0, -1]] = pixels[:, [0, -1]] = False
    expected = []
    for n in range(3):
        for m in range(12):
            total = 0j
            for row in range(size):
                for column in range(size):
                    if pixels[row, column]:
                        z = complex(column + 0.5 - size / 2, row + 0.5 - size / 2) / (size / 2 - 1)
                        total += np.cos(np.pi * n * abs(z)) * np.exp(1j * m * np.angle(z))
            expected.append(abs(total) / pixels.sum())
    found = moments.describe(pixels[None])[0, : moments.MOMENTS]
    np.testing.assert_allclose(found, expected[1:], rtol=1e-5, atol=1e-6)


def test_moments_do_not_change_with_a_turn_or_a_mirror():
    shape = picture(lambda x, y: (x > -80) & (y > -30) & (x + y < 40))
    found = moments.describe(shape)[0]
    for other in (np.rot90(shape, 1, (1, 2)), shape[:, :, ::-1], shape[:, ::-1]):
        np.testing.assert_allclose(moments.describe(np.ascontiguousarray(other))[0], found, atol=2e-3)


def test_the_same_bits_with_any_number_of_threads():
    before = torch.get_num_threads()
    pictures = np.concatenate([square(100, 10 * n) for n in range(9)])
    try:
        torch.set_num_threads(1)
        one = moments.moments(pictures)
        torch.set_num_threads(2)
        two = moments.moments(pictures)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("radius", [8, 30.3, 60, 120])
def test_circularity_of_a_disc(radius):
    assert circularity(disc(radius, 0.3, 0.1)) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("degrees", [0, 10, 30, 45])
def test_circularity_of_a_square(degrees):
    assert circularity(square(120, degrees)) == pytest.approx(np.pi / 4, rel=0.02)


def test_circularity_of_a_ring_counts_both_borders():
    ring = disc(100) & ~disc(50)
    expected = 4 * np.pi * (100**2 - 50**2) * np.pi / (2 * np.pi * 150) ** 2
    assert circularity(ring) == pytest.approx(expected, rel=0.02)


def lengths(pictures: np.ndarray) -> np.ndarray:
    lines = contours(pictures)
    return np.add.reduceat(moments.steps(lines), lines.first)


def test_lengths_of_lines():
    one = np.zeros((1, 9, 9), bool)
    one[0, 4, 4] = True
    np.testing.assert_allclose(lengths(one), [4 * 0.5**0.5])  # a square on its tip
    one[0, 4, 2:7] = True
    # 12 sides: chords over 3 of them; in each half two along, two over a corner, two around an end
    expected = 2 * (3 + 3 + 2 * np.hypot(2.5, 0.5) + 2 * np.hypot(1, 1)) / 3
    np.testing.assert_allclose(lengths(one), [expected])
    both = lengths(disc(100) & ~disc(50))
    np.testing.assert_allclose(both, [2 * np.pi * 100, 2 * np.pi * 50], rtol=0.01)


@pytest.mark.parametrize(("ratio", "expected"), [(1, 0), (2, (3 / 5) ** 2), (3, (8 / 10) ** 2)])
@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_eccentricity_of_rectangles(ratio, expected, degrees):
    assert moments.describe(square(150, degrees, ratio))[0, -1] == pytest.approx(expected, abs=0.015)


def test_area_and_eccentricity_by_the_pixels_themselves():
    rng = np.random.default_rng(3)
    pictures = rng.random((4, 16, 16)) < 0.5
    pictures[:, [0, -1]] = pictures[:, :, [0, -1]] = False
    lines = contours(pictures)
    sides = lines.first[np.searchsorted(lines.picture, np.arange(4))]
    area, eccentricity = moments.area_and_eccentricity(lines, sides)
    for n in range(4):
        y, x = np.nonzero(pictures[n])
        x, y = x - x.mean(), y - y.mean()
        i20, i02, i11 = (x * x).sum(), (y * y).sum(), (x * y).sum()
        assert area[n] == len(x)
        assert eccentricity[n] == pytest.approx(((i20 - i02) ** 2 + 4 * i11**2) / (i20 + i02) ** 2)


def test_fourier_of_a_disc_beside_the_middle():
    found = moments.describe(disc(70, 40, 0))[0, moments.MOMENTS : -2] / 2
    angle = np.arange(4096) * 2 * np.pi / 4096
    spectrum = np.abs(np.fft.fft(np.hypot(40 + 70 * np.cos(angle), 70 * np.sin(angle))))
    np.testing.assert_allclose(found, spectrum[1:11] / spectrum[0], atol=3e-3)
    assert found[0] > 0.25
    assert moments.describe(disc(100))[0, moments.MOMENTS : -2].max() < 0.01


def test_the_contour_is_that_of_the_largest_part():
    alone = moments.describe(disc(60))[0]
    crumbs = disc(60) | disc(5, 90, 0) | disc(5, -90, 30)
    crumbs &= ~disc(20)
    found = moments.describe(crumbs)[0]
    np.testing.assert_array_equal(found[moments.MOMENTS : -2], alone[moments.MOMENTS : -2])
    assert found[-2] < alone[-2]


def test_empty_and_tiny_silhouettes():
    pictures = np.zeros((4, 16, 16), bool)
    pictures[1, 8, 8] = True
    pictures[3, 4:9, 8] = True
    found = moments.describe(pictures)
    assert np.isfinite(found).all()
    assert not found[[0, 2]].any()
    assert found[1, -2] == 1
    assert found[1, -1] == 0
    assert found[3, -1] == pytest.approx(1)
    np.testing.assert_array_equal(found[1], moments.describe(pictures[1:2])[0])
