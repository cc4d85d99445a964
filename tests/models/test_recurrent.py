"""Recurrent networks against PyTorch's own, in float64: outputs, last states and all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.models.parts import recurrent

KINDS = {"gru": (recurrent.GRU, nn.GRU), "lstm": (recurrent.LSTM, nn.LSTM)}
LENGTHS = torch.tensor([3, 1, 6, 6, 2])


def inputs(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(count)]


def networks(kind: str, layers: int = 1, **options):
    """Ours and PyTorch's, with the same weights."""
    ours, theirs = (made(4, 3, layers, batch_first=True, **options).double() for made in KINDS[kind])
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def outcomes(network, words, start=(), **packing):
    """Outputs, last states, and gradients of a loss that weights each of them differently."""
    sequences = pack_padded_sequence(words, batch_first=True, **packing) if packing else words
    hidden = (start[0] if isinstance(network, nn.GRU) else tuple(start)) if start else None
    out, last = network(sequences, hidden)
    out = out if isinstance(out, torch.Tensor) else out.data
    last = last if isinstance(last, tuple) else (last,)
    weighted = [(n + 2) * kind.sin().sum() for n, kind in enumerate(last)]
    loss = (out.flatten() * torch.linspace(-1, 1, out.numel(), dtype=out.dtype)).square().sum() + sum(weighted)
    return [out, *last, *torch.autograd.grad(loss, [words, *start, *network.parameters()])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_results_and_gradients_are_those_of_pytorch(kind, both, layers, packs, begun):
    (words,) = inputs(1, 5, 6, 4)
    start = inputs(1 if kind == "gru" else 2, layers * (1 + both), 5, 3) if begun else []
    packing = {"lengths": LENGTHS, "enforce_sorted": False} if packs else {}
    ours, theirs = (outcomes(n, words, start, **packing) for n in networks(kind, layers, bidirectional=both))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_that_are_sorted_already(kind):
    (words,) = inputs(1, 5, 6, 4)
    lengths = LENGTHS.sort(descending=True).values
    ours, theirs = (outcomes(n, words, lengths=lengths) for n in networks(kind))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_does_not_know_is_left_to_pytorch(kind, monkeypatch):
    (words,) = inputs(1, 5, 6, 4)
    ours, _ = networks(kind)
    taken = []
    monkeypatch.setattr(KINDS[kind][0], "steps", type("Steps", (), {"apply": lambda *_: taken.append(1)}))
    with torch.no_grad():
        ours(words)
    for options in ({"bias": False}, {"layers": 2, "dropout": 0.5}):
        networks(kind, **options)[0](words)
    ours(words[0])  # a single sequence
    assert not taken
    with pytest.raises(TypeError):
        ours(words)  # this one it does
    assert taken
