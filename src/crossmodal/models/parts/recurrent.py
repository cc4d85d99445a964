"""Recurrent networks that are trained in less time on a CPU, with the parameters and the results of PyTorch's.

PyTorch's own are differentiated operation by operation: each step adds a gradient of the size of all weights. Here one
product over all steps makes it, once the steps are done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence


class _Trained:
    """Mixed into a recurrent network of PyTorch: sequences that are learned from on a CPU go through `steps`.

    Those are packed, or the rows of a tensor (`batch_first`).
    """

    steps: ClassVar[type[torch.autograd.Function]]
    states: ClassVar[int]  # vectors that a sequence carries from step to step

    def forward(self, sequences: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """As PyTorch's network does."""
        learned = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        plain = self.bias and not self.dropout and not self.proj_size
        data = sequences.data
        single = isinstance(sequences, Tensor) and sequences.ndim < 3
        if single or not (learned and plain and self.batch_first and data.device.type == "cpu"):
            return super().forward(sequences, hx)
        if isinstance(sequences, Tensor):
            count, length, _ = sequences.shape
            equal = PackedSequence(sequences.transpose(0, 1).flatten(0, 1), torch.full((length,), count))
            states, last = self(equal, hx)
            return states.data.unflatten(0, (length, count)).transpose(0, 1), last
        sizes = sequences.batch_sizes.tolist()
        ways = 1 + self.bidirectional
        if hx is None:
            begun = data.new_zeros(self.states, self.num_layers * ways, sizes[0], self.hidden_size)
        else:
            begun = [_in_order(kind, sequences.sorted_indices) for kind in (hx if isinstance(hx, tuple) else (hx,))]
        lasts = []
        for layer in range(self.num_layers):
            outputs = []
            for way, suffix in zip(range(ways), ("", "_reverse"), strict=False):
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weights = (getattr(self, f"{name}_l{layer}{suffix}") for name in names)
                start = (kind[layer * ways + way] for kind in begun)
                states = self.steps.apply(data, sizes, bool(way), *weights, *start)
                ends = slice(sizes[0]) if way else _ends(sequences.batch_sizes)
                outputs.append(states[0])
                lasts.append([kind[ends] for kind in states])
            data = torch.cat(outputs, 1) if self.bidirectional else outputs[0]
        last = [_in_order(torch.stack(kind), sequences.unsorted_indices) for kind in zip(*lasts, strict=True)]
        return sequences._replace(data=data), (last[0] if self.states == 1 else tuple(last))


def _in_order(states: Tensor, order: Tensor | None) -> Tensor:
    """(S, B, H) states, with the sequences in another order."""
    return states if order is None else states[:, order]


def _ends(sizes: Tensor) -> Tensor:
    """The places in packed data of the last items of all sequences, the longest first."""
    starts = sizes.cumsum(0) - sizes
    rows = torch.arange(int(sizes[0]))
    lengths = (sizes[:, None] > rows).sum(0)
    return starts[lengths - 1] + rows


class _Step(NamedTuple):
    """The items of a step in packed data, and those of the step before which their sequences come from."""

    items: slice
    count: int
    before: slice
    known: int  # sequences that have a step before; the others begin


def _steps(sizes: list[int], *, backwards: bool) -> list[_Step]:
    starts = [0]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    order = list(zip(starts, sizes, strict=True))
    steps, (before, known) = [], (0, 0)
    for start, size in reversed(order) if backwards else order:
        known = min(known, size)
        steps.append(_Step(slice(start, start + size), size, slice(before, before + known), known))
        before, known = start, size
    return steps


def _walked(steps: list[_Step], start: Tensor, states: Tensor) -> Iterator[tuple[_Step, Tensor]]:
    """Each step with the (b, H) states that its sequences have before it: the last one's, or (B, H) `start`."""
    for step in steps:
        known = states[step.before]
        yield step, known if step.known == step.count else torch.cat([known, start[step.known : step.count]])


def _before(steps: list[_Step], start: Tensor, states: Tensor, *, backwards: bool) -> Tensor:
    """(W, H) states before all items."""
    parts = [before for _, before in _walked(steps, start, states)]
    return torch.cat(parts[::-1] if backwards else parts)


class _GRUSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, data: Tensor, sizes: list[int], backwards: bool, *weights: Tensor) -> tuple[Tensor]:
        of_inputs, of_states, input_bias, state_bias, start = weights
        size = of_states.shape[1]
        steps = _steps(sizes, backwards=backwards)
        gates = torch.addmm(input_bias, data, of_inputs.T)  # (W, 3·H): reset, update, new
        states, candidates = gates.new_empty(len(data), size), gates.new_empty(len(data), size)
        for step, before in _walked(steps, start, states):
            own = gates[step.items]
            of_before = torch.addmm(state_bias, before, of_states.T)
            reset, update = own[:, : 2 * size].add_(of_before[:, : 2 * size]).sigmoid_().chunk(2, 1)
            candidates[step.items] = of_before[:, 2 * size :]
            new = own[:, 2 * size :].addcmul_(reset, of_before[:, 2 * size :]).tanh_()
            torch.lerp(new, before, update, out=states[step.items])
        ctx.steps, ctx.backwards = steps, backwards
        ctx.save_for_backward(data, gates, states, candidates, of_inputs, of_states, start)
        return (states,)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        data, gates, states, candidates, of_inputs, of_states, start = ctx.saved_tensors
        reset, update, new = gates.chunk(3, 1)
        before = _before(ctx.steps, start, states, backwards=ctx.backwards)
        # What the gradient of each state is multiplied by on its way to the gates.
        to_new = (1 - update) * (1 - new.square())
        to_update = (before - new) * update * (1 - update)
        to_reset = candidates * reset * (1 - reset)
        of_gates = torch.empty_like(gates)  # as they reach the recurrent weights
        of_new = torch.empty_like(states)
        carried = torch.zeros_like(start)
        for step in reversed(ctx.steps):
            items = step.items
            total = gradient[items] + carried[: step.count]
            own = of_gates[items]
            r, z, n = own.chunk(3, 1)
            torch.mul(total, to_update[items], out=z)
            torch.mul(total, to_new[items], out=of_new[items])
            torch.mul(of_new[items], to_reset[items], out=r)
            torch.mul(of_new[items], reset[items], out=n)
            torch.addmm(total.mul_(update[items]), own, of_states, out=carried[: step.count])
        to_states, state_bias = of_gates.T @ before, of_gates.sum(0)
        of_gates[:, 2 * states.shape[1] :] = of_new  # as they reach the inputs
        to_data = of_gates @ of_inputs if ctx.needs_input_grad[0] else None
        return to_data, None, None, of_gates.T @ data, to_states, of_gates.sum(0), state_bias, carried


class _LSTMSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, data: Tensor, sizes: list[int], backwards: bool, *weights: Tensor) -> tuple[Tensor, Tensor]:
        of_inputs, of_states, input_bias, state_bias, start, start_cell = weights
        size = of_states.shape[1]
        steps = _steps(sizes, backwards=backwards)
        gates = torch.addmm(input_bias + state_bias, data, of_inputs.T)  # (W, 4·H): input, forget, new, output
        states, cells = gates.new_empty(len(data), size), gates.new_empty(len(data), size)
        walked = zip(_walked(steps, start, states), _walked(steps, start_cell, cells), strict=True)
        for (step, before), (_, cell) in walked:
            own = gates[step.items].addmm_(before, of_states.T)
            own[:, : 2 * size].sigmoid_()
            own[:, 2 * size : 3 * size].tanh_()
            own[:, 3 * size :].sigmoid_()
            enter, forget, new, leave = own.chunk(4, 1)
            torch.addcmul(forget * cell, enter, new, out=cells[step.items])
            torch.mul(leave, cells[step.items].tanh(), out=states[step.items])
        ctx.steps, ctx.backwards = steps, backwards
        ctx.save_for_backward(data, gates, states, cells, of_inputs, of_states, start, start_cell)
        return states, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, of_cells: Tensor) -> tuple[Tensor | None, ...]:
        data, gates, states, cells, of_inputs, of_states, start, start_cell = ctx.saved_tensors
        enter, forget, new, leave = gates.chunk(4, 1)
        pairs = ((start, states), (start_cell, cells))
        before, cell = (_before(ctx.steps, *pair, backwards=ctx.backwards) for pair in pairs)
        bent = cells.tanh()
        # What the gradients of each cell and state are multiplied by on their way to cell and gates.
        to_cell = leave * (1 - bent.square())
        to_leave = bent * leave * (1 - leave)
        to_gates = torch.cat([new * enter * (1 - enter), cell * forget * (1 - forget), enter * (1 - new.square())], 1)
        of_gates = torch.empty_like(gates)
        size = states.shape[1]
        carried, carried_cell = torch.zeros_like(start), torch.zeros_like(start)
        for step in reversed(ctx.steps):
            items, rows = step.items, slice(step.count)
            total = gradient[items] + carried[rows]
            own = of_gates[items]
            at_cell = torch.addcmul(of_cells[items] + carried_cell[rows], total, to_cell[items])
            torch.mul(total, to_leave[items], out=own[:, 3 * size :])
            inner = own[:, : 3 * size].unflatten(1, (3, size))
            torch.mul(at_cell[:, None], to_gates[items].unflatten(1, (3, size)), out=inner)
            torch.mul(at_cell, forget[items], out=carried_cell[rows])
            torch.mm(own, of_states, out=carried[rows])
        bias = of_gates.sum(0)
        to_data = of_gates @ of_inputs if ctx.needs_input_grad[0] else None
        return to_data, None, None, of_gates.T @ data, of_gates.T @ before, bias, bias, carried, carried_cell


class GRU(_Trained, nn.GRU):
    """`torch.nn.GRU` (Cho et al., 2014)."""

    steps, states = _GRUSteps, 1


class LSTM(_Trained, nn.LSTM):
    """`torch.nn.LSTM` (Hochreiter and Schmidhuber, 1997)."""

    steps, states = _LSTMSteps, 2
