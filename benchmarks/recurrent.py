"""Forward and backward pass of recurrent networks over packed captions, ours and PyTorch's, against their products.

The floor is the matrix products of all steps, and of their gradients, as if no step waited for another. `--small` takes
fewer dimensions, to see that it runs.
"""

from __future__ import annotations

import sys

import torch
from common import alternate, save
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from crossmodal.models.parts import recurrent

ROUNDS, CAPTIONS = 7, 128
KINDS = {"gru": (recurrent.GRU, nn.GRU), "lstm": (recurrent.LSTM, nn.LSTM)}


def captions(width: int) -> PackedSequence:
    """Of 6 to 20 words, but for three of 28 to 35, as batches of Flickr30K have them."""
    torch.manual_seed(0)
    lengths = torch.randint(6, 21, (CAPTIONS,))
    lengths[:3] = torch.tensor([28, 32, 35])
    words = torch.randn(CAPTIONS, 35, width)
    return pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)


def trained(network: nn.Module, sequences: PackedSequence) -> None:
    data = sequences.data.detach().requires_grad_()
    network(sequences._replace(data=data))[0].data.sum().backward()


def products(network: nn.Module, sequences: PackedSequence, states: torch.Tensor) -> None:
    """Those of the inputs and of the states, forwards and to both factors backwards, one direction after the other."""
    for _ in range(1 + network.bidirectional):
        for factor, weight in ((sequences.data, network.weight_ih_l0), (states, network.weight_hh_l0)):
            gates = factor @ weight.T
            gates @ weight
            gates.T @ factor


def main() -> None:
    torch.set_num_threads(1)
    word_dim, dim = (30, 32) if "--small" in sys.argv else (300, 1024)
    found: dict = {"captions": CAPTIONS, "word_dim": word_dim, "dim": dim, "torch": torch.__version__}
    sequences = captions(word_dim)
    states = torch.randn(len(sequences.data), dim)
    for kind, made in KINDS.items():
        for both in (False, True):
            ours, theirs = (one(word_dim, dim, batch_first=True, bidirectional=both) for one in made)
            cases = {
                "products": lambda n=ours: products(n, sequences, states),
                "ours": lambda n=ours: trained(n, sequences),
                "pytorch": lambda n=theirs: trained(n, sequences),
            }
            with torch.no_grad():
                cases["products"]()  # the first products of a process take longer
            seconds = alternate({n: torch.no_grad()(c) if n == "products" else c for n, c in cases.items()}, ROUNDS)
            name = f"{kind}, {'both directions' if both else 'one direction'}"
            over, ratio = seconds["ours"] / seconds["products"], seconds["pytorch"] / seconds["ours"]
            found[name] = {"seconds": seconds, "over_products": over, "pytorch_over_ours": ratio}
            print(f"{name}: {over:.2f} x its products; PyTorch takes {ratio:.2f} times as long")
    if "--small" not in sys.argv:
        save("recurrent", found)


if __name__ == "__main__":
    main()
