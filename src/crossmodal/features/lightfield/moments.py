"""Shape numbers of a LightField silhouette: 35 region moments, 10 Fourier magnitudes, circularity and eccentricity.

Chen et al. (2003), section 3.2, name Zernike moments. Their public code, like this module, instead uses the angular
radial transform of MPEG-7 (ISO/IEC 15938-3, 6.10) without its factors: the absolute value of the sum of
cos(pi n r) exp(i m phi) over the pixels, divided by the number of pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from crossmodal.features.lightfield.silhouettes import DOWN, DY, UP, Contours, contours

ANGULAR, RADIAL = 12, 3  # orders of the transform
MOMENTS, FOURIER = ANGULAR * RADIAL - 1, 10
NUMBERS = MOMENTS + FOURIER + 2  # 47
SAMPLES = 256  # points at which a contour is sampled
CHORD = 5  # pixel sides over which a contour is smoothed before its length is measured


def describe(pictures: np.ndarray) -> np.ndarray:
    """(n, 47) float64 numbers between 0 and 1 that describe (n, s, s) bool silhouettes, centred in their pictures.

    Pixels at the border must be empty; the radius 1 lies one pixel inside the border. The columns are the moments
    (n = 0: m = 1 ... 11, then n = 1 and 2 with m = 0 ... 11), the doubled Fourier magnitudes 1 ... 10 of the distance
    from the middle to the contour, the circularity, and the eccentricity. An empty silhouette gives zeros.
    """
    lines = contours(pictures)
    visible = np.unique(lines.picture)
    out = np.zeros((len(pictures), NUMBERS))
    if not len(visible):
        return out
    begin = np.searchsorted(lines.picture, visible)  # each picture's first line
    along = steps(lines)
    area, out[visible, -1] = area_and_eccentricity(lines, lines.first[begin])
    out[visible, :MOMENTS] = moments(pictures)[visible] / area[:, None]
    out[visible, MOMENTS:-2] = np.minimum(1, 2 * fourier(lines, along, begin, pictures.shape[1] / 2))
    perimeter = np.add.reduceat(along, lines.first[begin])  # includes the contours of holes
    out[visible, -2] = np.minimum(1, 4 * np.pi * area / perimeter**2)
    return out


def area_and_eccentricity(lines: Contours, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of pixels of each picture, and its eccentricity ((i20 - i02)^2 + 4 i11^2) / (i20 + i02)^2.

    i20, i02 and i11 are the second central moments. They are computed from the vertical sides of the contours only:
    the sum over a run of pixels in a row is the difference of the running sums at its two ends.
    """
    up = (lines.direction == UP).astype(np.float64) - (lines.direction == DOWN)
    x, y = lines.x.astype(np.float64), lines.y + np.where(lines.direction == UP, 0.5, -0.5)
    terms = (x, x**2 / 2, x * y, x**3 / 3 - x / 12, x * y**2, x**2 / 2 * y)
    m00, m10, m01, m20, m02, m11 = (np.add.reduceat(up * term, sides) for term in terms)
    i20, i02, i11 = m20 - m10**2 / m00, m02 - m01**2 / m00, m11 - m10 * m01 / m00
    total = i20 + i02
    total = np.where(total > 1e-6, total, np.inf)  # a single pixel has no direction
    return m00, ((i20 - i02) ** 2 + 4 * i11**2) / total**2


def steps(lines: Contours) -> np.ndarray:
    """(K,) contour length in pixels at each side of the contours, which does not depend on the direction.

    It is that of the line through the middles of the sides, smoothed by a running mean over `CHORD` of them: from one
    side to the next, this mean moves by the chord over `CHORD` sides divided by `CHORD`.
    """
    count = lines.last - lines.first
    line = np.repeat(np.arange(len(count)), count)
    first, count = lines.first[line], count[line]
    chord = np.maximum(1, np.minimum(CHORD, count // 4))  # small parts are smoothed less, to keep their shape
    place = np.arange(len(line)) - first
    ahead, behind = first + (place + chord // 2) % count, first + (place + chord // 2 - chord) % count
    x, y = lines.middles
    return np.hypot(x[ahead] - x[behind], y[ahead] - y[behind]) / chord


def _areas(lines: Contours) -> np.ndarray:
    """(L,) area inside each contour; that of a hole is negative."""
    return np.add.reduceat(lines.x * DY[lines.direction], lines.first)


def fourier(lines: Contours, along: np.ndarray, begin: np.ndarray, middle: float) -> np.ndarray:
    """(n, 10) Fourier magnitudes of the distance from the middle to the contour, divided by the mean distance.

    The contour is that of the largest connected part, without its holes, sampled at `SAMPLES` points that are evenly
    spaced along its length.
    """
    areas = _areas(lines)
    x, y = lines.middles
    away = np.hypot(x - middle, y - middle)
    distances = np.empty((len(begin), SAMPLES))
    for n, (start, stop) in enumerate(zip(begin, np.append(begin[1:], len(areas)), strict=True)):
        largest = start + int(areas[start:stop].argmax())
        part = slice(lines.first[largest], lines.last[largest])
        at = np.cumsum(along[part])
        places = np.arange(SAMPLES) * (at[-1] / SAMPLES)
        distances[n] = np.interp(places, at, away[part], period=at[-1])
    spectrum = np.abs(np.fft.rfft(distances))
    return spectrum[:, 1 : FOURIER + 1] / spectrum[:, :1]


def moments(pictures: np.ndarray) -> np.ndarray:
    """(n, 35) magnitudes of the angular radial transform, not yet divided by the number of pixels.

    One thread computes the matrix product, so that the order of summation and hence the bits are always the same.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sums = torch.from_numpy(pictures.reshape(len(pictures), -1)).float() @ table(pictures.shape[1])
    finally:
        torch.set_num_threads(before)
    return np.hypot(*sums.double().numpy().reshape(len(pictures), -1, 2).transpose(2, 0, 1))[:, 1:]


@lru_cache(2)
def table(size: int) -> torch.Tensor:
    """(size * size, 72) float32: cos(pi n r) times cosine and sine of m phi at each pixel's centre; m varies faster."""
    middles = (np.arange(size) + 0.5 - size / 2) / (size / 2 - 1)
    r, phi = np.hypot(middles, middles[:, None]).ravel(), np.arctan2(middles[:, None], middles).ravel()
    out = np.empty((size * size, RADIAL, ANGULAR, 2), np.float32)
    for n in range(RADIAL):
        for m in range(ANGULAR):
            out[:, n, m, 0] = np.cos(np.pi * n * r) * np.cos(m * phi)
            out[:, n, m, 1] = np.cos(np.pi * n * r) * np.sin(m * phi)
    return torch.from_numpy(out.reshape(size * size, -1))
