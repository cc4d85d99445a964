"""Bootstrap intervals and permutation tests of a table: 20 rows x 5,000 queries, 3 seeds, 6 columns."""

from __future__ import annotations

import numpy as np
from common import alternate, save

from crossmodal.evaluation.statistics import clustered, holm, permutation_p_values, resampled_means


def main() -> None:
    rng = np.random.default_rng(0)
    columns = []
    for _ in range(6):
        skill = rng.uniform(0.3, 0.6, (20, 1, 1))
        columns.append(list(100.0 * (rng.random((20, 3, 5000)) < skill)))

    def column(values: list[np.ndarray]) -> np.ndarray:
        data = clustered(values)
        resampled_means(data, 1000)
        best = int(np.argmax(data.means))
        return permutation_p_values(data, [(row, best) for row in range(20) if row != best])

    def one() -> None:
        holm(column(columns[0]))

    def table() -> None:
        holm(np.concatenate([column(values) for values in columns]))

    seconds = alternate({"one column": one, "six columns": table}, 3)
    print(
        f"1,000 resamples and 9,999 permutations, 20 rows x 3 seeds x 5,000 queries: "
        f"{seconds['one column']:.2f} s a column, {seconds['six columns']:.2f} s for six"
    )
    save("significance", {"seconds": seconds})


if __name__ == "__main__":
    main()
