"""The Skip-Thoughts encoder against its equations in float64, on files of the published names and layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossmodal.core.errors import UserError
from crossmodal.features.networks import skipthoughts

WORDS = ["<eos>", "UNK", "a", "dog", "runs", "café", "the"]
UNI, BI, WIDE = 6, 4, 5


def write(folder: Path, seed: int = 0) -> Path:
    """The five files, with small sizes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    (folder / "dictionary.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    for name in ("utable", "btable"):
        np.save(folder / f"{name}.npy", rng.normal(size=(len(WORDS), WIDE)).astype(np.float32))

    def gru(prefix: str, dim: int) -> dict[str, np.ndarray]:
        shapes = {"W": (WIDE, 2 * dim), "b": (2 * dim,), "U": (dim, 2 * dim)}
        shapes |= {"Wx": (WIDE, dim), "bx": (dim,), "Ux": (dim, dim)}
        return {f"{prefix}_{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    np.savez(folder / "uni_skip.npz", Wemb=np.zeros((2, WIDE)), **gru("encoder", UNI))
    np.savez(folder / "bi_skip.npz", **gru("encoder", BI), **gru("encoder_r", BI))
    return folder


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def state(arrays, prefix: str, vectors: np.ndarray) -> np.ndarray:
    """The last hidden state, by equations 1 to 4 of the paper, a word at a time."""
    w, wx, u, ux, b, bx = (arrays[f"{prefix}_{n}"].astype(np.float64) for n in ("W", "Wx", "U", "Ux", "b", "bx"))
    dim = len(ux)
    h = np.zeros(dim)
    for x in vectors.astype(np.float64):
        gates = sigmoid(x @ w + b + h @ u)
        reset, update = gates[:dim], gates[dim:]
        new = np.tanh(x @ wx + bx + reset * (h @ ux))
        h = update * h + (1 - update) * new
    return h


def by_hand(folder: Path, sentence: list[str]) -> np.ndarray:
    rows = [WORDS.index(word if word in WORDS else "UNK") for word in sentence]
    uni, bi = np.load(folder / "uni_skip.npz"), np.load(folder / "bi_skip.npz")
    utable, btable = (np.load(folder / f"{name}.npy")[rows] for name in ("utable", "btable"))
    one = state(uni, "encoder", utable)
    two = np.concatenate([state(bi, "encoder", btable), state(bi, "encoder_r", btable[::-1])])
    return np.concatenate([one / np.linalg.norm(one), two / np.linalg.norm(two)])


def test_equals_the_equations(tmp_path):
    folder = write(tmp_path / "skip")
    sentences = [["a", "dog", "runs"], ["café"], ["the", "zebra", "the", "dog", "runs", "a"], ["dog"]]
    encoder = skipthoughts.load(folder, [word for one in sentences for word in one])
    found = encoder(sentences).numpy()
    assert found.shape == (4, UNI + 2 * BI)
    np.testing.assert_allclose(found, [by_hand(folder, one) for one in sentences], atol=1e-6)
    assert "zebra" not in encoder.index
    assert len(encoder.uni_words.weight) == 7 - 1  # those asked for and UNK, not `<eos>`


def test_the_manifest_knows_the_files(tmp_path):
    one, two = (skipthoughts.describe(write(tmp_path / str(n), seed=n)) for n in (0, 1))
    assert one["vectors_sha256"] != two["vectors_sha256"]
    assert one["vectors"] == "0"


def test_a_seeded_encoder():
    one, two, three = (skipthoughts.seeded(["a", "dog"], 16, seed)([["a", "dog"], ["dog", "a"]]) for seed in (0, 0, 1))
    assert one.shape == (2, 16)
    assert np.array_equal(one, two)
    assert not np.allclose(one, three)
    assert not np.allclose(one[0], one[1])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("missing", r"lacks btable\.npy of Skip-Thoughts; put http.*NAME there"),
        ("short table", r"utable\.npy: has shape \(3, 5\) for 7 words"),
        ("cut", r"uni_skip\.npz: is truncated"),
        ("other names", r"bi_skip\.npz: lacks 'encoder_r_W'; it holds encoder_U, "),
        ("other sizes", r"uni_skip\.npz: encoder has .* values, expected"),
        ("no unknown word", r"dictionary\.txt: lacks the word 'UNK'"),
    ],
)
def test_bad_files(tmp_path, harm, told):
    folder = write(tmp_path / "skip")
    if harm == "missing":
        (folder / "btable.npy").unlink()
    elif harm == "short table":
        np.save(folder / "utable.npy", np.load(folder / "utable.npy")[:3])
    elif harm == "cut":
        (folder / "uni_skip.npz").write_bytes((folder / "uni_skip.npz").read_bytes()[:-100])
    elif harm == "other names":
        kept = {name: a for name, a in np.load(folder / "bi_skip.npz").items() if "_r_" not in name}
        np.savez(folder / "bi_skip.npz", **kept)
    elif harm == "other sizes":
        kept = dict(np.load(folder / "uni_skip.npz"))
        np.savez(
            folder / "uni_skip.npz",
            **{**kept, "encoder_W": kept["encoder_W"][:-1], "encoder_Wx": kept["encoder_Wx"][:-1]},
        )
    else:
        (folder / "dictionary.txt").write_text("\n".join("a" if word == "UNK" else word for word in WORDS))
    read = skipthoughts.describe if harm == "missing" else lambda folder: skipthoughts.load(folder, ["a"])
    with pytest.raises(UserError, match=told):
        read(folder)
