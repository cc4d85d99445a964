"""Tensors that know `dimshuffle`, and functions of them."""

import numpy as np

maximum, dot = np.maximum, np.dot


class Tensor(np.ndarray):
    def dimshuffle(self, pattern):
        axes = self.transpose([place for place in pattern if place != "x"])
        return axes[tuple(None if place == "x" else slice(None) for place in pattern)]


def pow(x, exponent):
    return x**exponent


def tensor(values):
    return np.asarray(values).view(Tensor)
