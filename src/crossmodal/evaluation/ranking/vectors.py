"""Vectors whose inner products are compared exactly, although most products are only ever computed in float32.

This module alone defines the score of a pair: float64 products summed by halves (`scores`). It is a function of the
two vectors alone, so that no result depends on how the work is cut up, on threads, on the device or on the rest of the
gallery. A matrix product is only a filter: it lies within a proven distance of the score (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, eq. 3.5, which holds for any order of summation), and the score itself decides
the pairs that the filter leaves open. This module knows nothing of ranks.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossmodal.evaluation.ranking.nearest import halving_sums

Array = np.ndarray | Tensor

SCAN = 2**22  # values in a chunk of vectors (32 MiB of float64)
PAIRS = 2**17  # values in a chunk of pairs, which should fit into the cache
DEPTH = 256  # approximate number of dimensions that a matrix product sums at once
PART = 64  # number of dimensions of a pair whose products are added in float32
MANY = 2**17  # number of pairs from which a search for equal vectors saves time


class Vectors:
    """(N, d) vectors from an array (memory-mapped too) or a tensor, read block by block and never copied whole.

    Parameters
    ----------
    x : (N, d) of any real type. float16, bfloat16 and float32 are used as they are, all others as float64.
    name : how error messages refer to the vectors.
    cosine : divide each vector by its norm, so that inner products are cosines; a vector of zeros stays as it is.

    Raises
    ------
    ValueError : another shape, no vectors, values that are not real or not finite.
    """

    def __init__(self, x: Array, name: str = "vectors", *, cosine: bool = False):
        if isinstance(x, np.ndarray) and x.dtype == object:
            raise ValueError(f"{name}: expected numbers, found an array of objects")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only memory maps, which are only read
            x = torch.as_tensor(x).detach()
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"{name}: expected (items, dimensions) with at least one item, found {tuple(x.shape)}")
        if x.dtype.is_complex or x.dtype == torch.bool:
            raise ValueError(f"{name}: expected real numbers, found {x.dtype}")
        self.x, self.name, self.cosine = x, name, cosine
        self.single = x.dtype in (torch.float16, torch.bfloat16, torch.float32) and not cosine
        self._scan()

    def __len__(self) -> int:
        return len(self.x)

    @property
    def dim(self) -> int:
        """The dimension d of the vectors."""
        return self.x.shape[1]

    @property
    def device(self) -> torch.device:
        """The device that holds the vectors."""
        return self.x.device

    def _scan(self) -> None:
        """Check that values are finite, and find the norms and the power of two that scales values into float32."""
        norms, largest = [], 0.0
        step = max(1, SCAN // self.dim)
        for start in range(0, len(self), step):
            part = self.x[start : start + step]
            if not self.single or self.x.dtype != torch.float32:
                part = part.double()
            low, high = part.aminmax()
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise ValueError(
                    f"{self.name}: holds values that are not finite; a model that diverged cannot be ranked"
                )
            largest = max(largest, -float(low), float(high))
        # Scaling by a power of two is exact. After it nothing overflows, and the bound covers what underflows.
        self.exponent = 0 if largest == 0 or (self.single and 2**-10 <= largest <= 2**10) else -math.frexp(largest)[1]
        self.lengths = None
        if self.cosine:
            self.lengths = torch.cat([self._lengths(slice(s, s + step)) for s in range(0, len(self), step)])
            self.norms = np.ones(len(self)) * (1 + 1e-9)
            return
        for start in range(0, len(self), step):
            part = self._scaled(self.x[start : start + step])
            norms.append(torch.linalg.vector_norm(part.float(), dim=1))
        slack = 1 + 2 * self.dim * 2.0**-24  # covers rounding; the term that is added below covers underflow
        self.norms = torch.cat(norms).double().cpu().numpy() * slack + math.sqrt(self.dim) * 2.0**-62  # upper bounds

    def _scaled(self, part: Tensor) -> Tensor:
        if self.exponent == 0:
            return part
        half = self.exponent // 2  # two steps stay within float64; torch.ldexp computes its powers in float32
        return part.double() * 2.0**half * 2.0 ** (self.exponent - half)

    def _lengths(self, rows: slice) -> Tensor:
        part = self._scaled(self.x[rows]).double()
        lengths = halving_sums(part * part).sqrt()
        return torch.where(lengths > 0, lengths, 1.0)

    def _exact(self, rows: slice | Tensor) -> Tensor:
        """(n, d) vectors on which the score is defined, in float32 where that is exact and in float64 otherwise."""
        part = self._scaled(self.x[rows])
        if self.lengths is not None:
            return part.double() / self.lengths[rows, None]
        return part.float() if self.single and self.exponent == 0 else part.double()

    @property
    def plain(self) -> bool:
        """Whether the score is defined on the stored values as they are, in float32."""
        return self.x.dtype == torch.float32 and self.single and self.exponent == 0

    def copy(self, rows: np.ndarray, out: np.ndarray, taken: np.ndarray) -> None:
        """Copy the rows, as `_exact` returns them, into (n, d) `out`; `taken` is an (n, d) float32 work buffer."""
        if self.plain:
            np.take(self.x.numpy(), rows, axis=0, out=out if out.dtype == np.float32 else taken, mode="clip")
            if out.dtype != np.float32:
                out[:] = taken
        elif self.x.dtype in (torch.float32, torch.float64):
            out[:] = self.x.numpy()[rows]
            if self.exponent:
                np.ldexp(out, self.exponent, out=out)
            if self.lengths is not None:
                out /= self.lengths.numpy()[rows, None]
        else:
            out[:] = self._exact(torch.from_numpy(rows)).double().numpy()

    def block(self, rows: slice, dtype: torch.dtype = torch.float32) -> Tensor:
        """(n, d) vectors for a matrix product, rounded to `dtype`, without a copy where nothing changes."""
        return self._exact(rows).to(dtype)

    @cached_property
    def grid(self) -> int | None:
        """An a up to 24 such that all values are multiples of 2^-a (integers, binary codes), or None.

        Sums of the products of such values are exact in float32 in any order, as long as they are small enough.
        """
        first = self._exact(slice(0, 4)).double()
        powers = (a for a in range(25) if bool((torch.ldexp(first, torch.tensor(a)).frac() == 0).all()))
        a = next(powers, None)
        if a is None:
            return None
        step = max(1, SCAN // self.dim)
        parts = (self._exact(slice(start, start + step)).double() for start in range(0, len(self), step))
        whole = all(bool((torch.ldexp(part, torch.tensor(a)).frac() == 0).all()) for part in parts)
        return a if whole else None

    @cached_property
    def first(self) -> np.ndarray | None:
        """(N,) index of the first vector that equals each vector; None where all vectors differ."""
        generator = torch.Generator().manual_seed(0)
        odd = torch.randint(-(2**62), 2**62, (self.dim,), generator=generator).to(self.device) * 2 + 1
        step = max(1, SCAN // self.dim)
        hashes = []
        for start in range(0, len(self), step):
            part = self._exact(slice(start, start + step)).double() + 0.0  # -0.0 is 0.0
            hashes.append((part.contiguous().view(torch.int64) * odd).sum(1))
        _, index, inverse = np.unique(torch.cat(hashes).cpu().numpy(), return_index=True, return_inverse=True)
        if len(index) == len(self):
            return None
        first = index[inverse]
        for start in range(0, len(self), step):  # different vectors may have equal hashes
            rows = slice(start, start + step)
            same = (self._exact(rows) == self._exact(self.index(first[rows]))).all(1).cpu().numpy()
            first[rows] = np.where(same, first[rows], np.arange(start, start + len(same)))
        return first

    def index(self, values: np.ndarray) -> Tensor:
        """An array, such as indices of vectors, as a tensor on the device of the vectors."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def scores(queries: Vectors, gallery: Vectors, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(P,) float64 exact scores of the pairs (i, j), which define the ranking everywhere in the library.

    The unit is 2^-(sum of the two exponents), the same for all pairs (`unscaled`).
    """
    if len(i) > MANY and (queries.first is not None or gallery.first is not None):
        a = i if queries.first is None else queries.first[i]
        b = j if gallery.first is None else gallery.first[j]
        codes, inverse = np.unique(a * np.int64(len(gallery)) + b, return_inverse=True)
        return _scores(queries, gallery, codes // len(gallery), codes % len(gallery))[inverse]
    return _scores(queries, gallery, i, j)


def _scores(queries: Vectors, gallery: Vectors, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    products = np.empty(len(i))
    if _on_cpu(queries):
        _in_numpy(queries, gallery, i, j, products, np.float64, _folded)
        return products
    step = max(1, SCAN // queries.dim)
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        product = queries._exact(queries.index(i[part])).double()
        product *= gallery._exact(gallery.index(j[part]))
        products[part] = halving_sums(product).cpu().numpy()
    return products


def _on_cpu(of: Vectors) -> bool:
    return of.device.type == "cpu"


def near(queries: Vectors, gallery: Vectors, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Approximate scores of pairs: parts of `PART` dimensions are summed in float32 and added in float64.

    So few roundings leave a far smaller error than a matrix product's, for less than half the work of the exact score.

    Returns
    -------
    (P,) products and (P,) bounds of their errors; None where this would save nothing.
    """
    if not (queries.plain and gallery.plain and _on_cpu(queries)):
        return None
    products = np.empty(len(i))
    _in_numpy(queries, gallery, i, j, products, np.float32, _by_parts)
    parts = queries.dim // PART + 2
    each = 1.02 * (min(PART, queries.dim) * 2.0**-24 + (parts + queries.dim) * 2.0**-53)
    return products, each * queries.norms[i] * gallery.norms[j] + tiny(queries)


def _by_parts(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) float64 sums of the float32 inner products of the parts of each row."""
    whole = left.shape[1] - left.shape[1] % PART
    parts = (x[:, :whole].reshape(len(x), -1, PART) for x in (left, right))
    rest = np.einsum("nj,nj->n", left[:, whole:], right[:, whole:])
    return np.einsum("nij,nij->ni", *parts).sum(1, dtype=np.float64) + rest


def _folded(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left *= right
    return halving_sums(left)


def _in_numpy(
    queries: Vectors,
    gallery: Vectors,
    i: np.ndarray,
    j: np.ndarray,
    out: np.ndarray,
    dtype: type,
    product: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    """Write `product` of all pairs, taken as (n, d) vectors in `dtype`, into `out`; buffers fit into the cache."""
    dim = queries.dim
    step = max(1, PAIRS // dim)

    def some(begin: int) -> None:
        end = min(begin + 64 * step, len(i))
        shape = min(step, end - begin), dim
        left, right = np.empty(shape, dtype), np.empty(shape, dtype)
        taken = np.empty(shape, np.float32)
        for start in range(begin, end, step):
            part = slice(start, min(start + step, end))
            n = part.stop - part.start
            queries.copy(i[part], left[:n], taken[:n])
            gallery.copy(j[part], right[:n], taken[:n])
            out[part] = product(left[:n], right[:n])

    spread(some, range(0, len(i), 64 * step))


def spread(task: Callable[[int], object], starts: range) -> list[Any]:
    """The result of `task` for each start, on as many threads as torch may use; tasks must not use torch's threads."""
    n = min(torch.get_num_threads(), len(starts))
    if n <= 1 or threading.current_thread() is not threading.main_thread():
        return [task(start) for start in starts]
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(task, starts))


def unscaled(queries: Vectors, gallery: Vectors, values: np.ndarray) -> np.ndarray:
    """Scores in the units of the vectors as they were passed in."""
    shift = sum(vectors.exponent for vectors in (queries, gallery) if not vectors.cosine)
    return values if shift == 0 else np.ldexp(values, -shift)


def exact(queries: Vectors, gallery: Vectors, digits: int = 24) -> bool:
    """Whether every sum in a matrix product is exact with `digits` binary digits, because the values lie on a grid."""
    if queries.grid is None or gallery.grid is None:
        return False
    return queries.norms.max() * gallery.norms.max() * 2.0 ** (queries.grid + gallery.grid) <= 2.0**digits


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """(n, m) inner products of (n, d) and (m, d) float32 blocks, summed over a few hundred dimensions at a time.

    This costs nothing, and the rounding error of a few hundred terms is a fraction of that of thousands.
    """
    parts, depth = _parts(left.shape[1])
    with full_precision():
        out = torch.mm(left[:, :depth], right[:, :depth].T, out=out)
        for start in range(depth, parts * depth, depth):
            part = slice(start, start + depth)
            out.addmm_(left[:, part], right[:, part].T)
    return out


def _parts(dim: int) -> tuple[int, int]:
    """The number of parts in which a product's dimensions are summed, and the number of dimensions per part."""
    parts = max(1, round(dim / DEPTH))
    depth = -(-dim // parts)
    return -(-dim // depth), depth


def bound(queries: Vectors, gallery: Vectors, dtype: torch.dtype = torch.float32) -> float:
    """Bound of the distance between a matrix product and the score, divided by the product of the two norms.

    It counts the roundings: in float32 (`product`) one per dimension of a part and one per part, in float64 one per
    dimension; two for the conversion of the values to the type; and the d of the score itself in float64. Underflow is
    bounded by `tiny`.

    Raises
    ------
    ValueError : too many dimensions for the bound to be useful.
    """
    if queries.dim * 2.0**-24 > 0.01:
        raise ValueError(f"{queries.name}: {queries.dim:,} dimensions are too many for products in float32")
    u, steps = (2.0**-24, sum(_parts(queries.dim))) if dtype == torch.float32 else (2.0**-53, queries.dim)
    return 1.02 * ((steps + 3) * u + (queries.dim + 3) * 2.0**-53)


def tiny(queries: Vectors, dtype: torch.dtype = torch.float32) -> float:
    """Bound of the error of a product that is due to underflow, whatever the norms."""
    return queries.dim * (2.0**-124 if dtype == torch.float32 else 2.0**-1000)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in float32, without TF32, bfloat16 or autocast, whatever the caller has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def pair(queries: Array | Vectors, gallery: Array | Vectors, *, cosine: bool = False) -> tuple[Vectors, Vectors]:
    """Queries and gallery as `Vectors`; the gallery is moved to the device of the queries.

    Raises
    ------
    ValueError : vectors that `Vectors` rejects, or different numbers of dimensions.
    """
    q = queries if isinstance(queries, Vectors) else Vectors(queries, "queries", cosine=cosine)
    g = gallery if isinstance(gallery, Vectors) else Vectors(gallery, "gallery", cosine=cosine)
    if q.dim != g.dim:
        raise ValueError(f"queries have {q.dim} dimensions, the gallery has {g.dim}")
    if q.device != g.device:
        g = Vectors(g.x.to(q.device), g.name, cosine=g.cosine)
    return q, g
