"""Theano's `fill_diagonal`, which returns a copy."""

import numpy as np


def fill_diagonal(x, value):
    x = x.copy()
    np.fill_diagonal(x, value)
    return x
