"""A GRU's and an LSTM's way through packed rows on a CPU, with their gradients.

torch's own, on a PackedSequence, cuts each place's part out of all positions, and the gradient of a cut is as large as
what it was cut from: backward costs positions times places. Here the gradients are written place by place into one
array, and the weights' are two products over all positions. (On a GPU cuDNN does the same, and is used.)

Positions stand place by place, longest row first; `sizes` are the rows at each place. The formulas are torch's.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class GRUStates(torch.autograd.Function):
    """h = n + z (h' - n), n = tanh(x_n + r (W_n h' + b_n)), r and z = sigmoid(x + W h' + b) of the state h' before."""

    @staticmethod
    def forward(ctx: Any, inputs_PG: Tensor, weight_GD: Tensor, bias_G: Tensor, sizes: list[int]) -> Tensor:
        """States [P, D] from the inputs' parts of the gates [P, 3 D]."""
        dim = weight_GD.shape[1]
        states, before = inputs_PG.new_empty(len(inputs_PG), dim), inputs_PG.new_zeros(len(inputs_PG), dim)
        open_gates = inputs_PG.clone()  # r, z and n
        recurrent_n = torch.empty_like(states)
        weight_DG = weight_GD.T.contiguous()
        for start, last, rows in _places(sizes):
            here = slice(start, start + rows)
            gates, state = open_gates[here], before[here]
            if start:
                state.copy_(states[last : last + rows])
            recurrent = torch.addmm(bias_G, state, weight_DG)
            recurrent_n[here] = recurrent[:, 2 * dim :]
            both = gates[:, : 2 * dim].add_(recurrent[:, : 2 * dim]).sigmoid_()
            new = gates[:, 2 * dim :].addcmul_(both[:, :dim], recurrent_n[here]).tanh_()
            torch.lerp(new, state, both[:, dim:], out=states[here])
        ctx.save_for_backward(weight_GD, before, open_gates, recurrent_n)
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_PD: Tensor) -> tuple[Tensor | None, ...]:
        """From the last place to the first."""
        weight_GD, before, open_gates, recurrent_n = ctx.saved_tensors
        dim = weight_GD.shape[1]
        reset, update, new = open_gates.split(dim, dim=1)
        # What each gate's gradient is multiplied with, for all positions at once.
        to_new = (1.0 - update) * (1.0 - new * new)
        to_update = (before - new) * update * (1.0 - update)
        to_reset = recurrent_n * reset * (1.0 - reset)
        grad_inputs, carried = torch.empty_like(open_gates), None
        grad_recurrent = torch.empty_like(open_gates)
        for start, _, rows in reversed(_places(ctx.sizes)):
            here = slice(start, start + rows)
            grad = grad_PD[here].clone()
            if carried is not None:
                grad[: len(carried)] += carried
            gates, recurrent = grad_inputs[here], grad_recurrent[here]
            torch.mul(grad, to_new[here], out=gates[:, 2 * dim :])
            torch.mul(grad, to_update[here], out=gates[:, dim : 2 * dim])
            torch.mul(gates[:, 2 * dim :], to_reset[here], out=gates[:, :dim])
            recurrent[:, : 2 * dim] = gates[:, : 2 * dim]
            torch.mul(gates[:, 2 * dim :], reset[here], out=recurrent[:, 2 * dim :])
            carried = torch.addmm(grad.mul_(update[here]), recurrent, weight_GD)
        return grad_inputs, grad_recurrent.T @ before, grad_recurrent.sum(dim=0), None


def last_gru_states(
    gates_TG: Tensor, token_P: Tensor, starts_B: Tensor, lengths_B: Tensor, weight_GD: Tensor, bias_G: Tensor
) -> Tensor:
    """States [B, D] of a GRU after the last position of rows, longest first, which stand at `starts` in `token_P`.

    `gates_TG` [T, 3 D] are the inputs' parts of the gates, `token_P` [P] says which one stands at each position.
    """
    dim = weight_GD.shape[1]
    states_BD, weight_DG = gates_TG.new_zeros(lengths_B.numel(), dim), weight_GD.T.contiguous()
    reading = (lengths_B.numel() - torch.bincount(lengths_B).cumsum(0))[:-1].tolist()  # rows longer than each place
    for place, rows in enumerate(reading):
        state = states_BD[:rows]
        gates = gates_TG.index_select(0, token_P[starts_B[:rows] + place])
        recurrent = torch.addmm(bias_G, state, weight_DG)
        both = gates[:, : 2 * dim].add_(recurrent[:, : 2 * dim]).sigmoid_()
        new = gates[:, 2 * dim :].addcmul_(both[:, :dim], recurrent[:, 2 * dim :]).tanh_()
        torch.lerp(new, state, both[:, dim:], out=state)
    return states_BD


class LSTMStates(torch.autograd.Function):
    """c = f c' + i g, h = o tanh(c); i, f and o = sigmoid, g = tanh of x + W h' + b."""

    @staticmethod
    def forward(ctx: Any, inputs_PG: Tensor, weight_GD: Tensor, bias_G: Tensor, sizes: list[int]) -> Tensor:
        """States [P, D] from the inputs' parts of the gates [P, 4 D]."""
        dim = weight_GD.shape[1]
        states, before = inputs_PG.new_empty(len(inputs_PG), dim), inputs_PG.new_zeros(len(inputs_PG), dim)
        cells, cells_before = torch.empty_like(states), torch.zeros_like(states)
        open_gates = inputs_PG + bias_G
        weight_DG = weight_GD.T.contiguous()
        for start, last, rows in _places(sizes):
            here = slice(start, start + rows)
            gates = open_gates[here]
            if start:
                before[here] = states[last : last + rows]
                cells_before[here] = cells[last : last + rows]
                gates.addmm_(before[here], weight_DG)
            gates[:, : 2 * dim].sigmoid_()
            gates[:, 2 * dim : 3 * dim].tanh_()
            gates[:, 3 * dim :].sigmoid_()
            enter, forget, new, leave = gates.split(dim, dim=1)
            torch.mul(forget, cells_before[here], out=cells[here]).addcmul_(enter, new)
            torch.mul(leave, cells[here].tanh(), out=states[here])
        ctx.save_for_backward(weight_GD, before, open_gates, cells, cells_before)
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_PD: Tensor) -> tuple[Tensor | None, ...]:
        """From the last place to the first."""
        weight_GD, before, open_gates, cells, cells_before = ctx.saved_tensors
        dim = weight_GD.shape[1]
        enter, forget, new, leave = open_gates.split(dim, dim=1)
        shown = cells.tanh()
        to_cell, to_leave = leave * (1.0 - shown * shown), shown * leave * (1.0 - leave)
        to_enter, to_forget = new * enter * (1.0 - enter), cells_before * forget * (1.0 - forget)
        to_new = enter * (1.0 - new * new)
        grad_gates = torch.empty_like(open_gates)
        carried: tuple[Tensor, Tensor] | None = None
        for start, _, rows in reversed(_places(ctx.sizes)):
            here = slice(start, start + rows)
            grad = grad_PD[here].clone()
            if carried is not None:
                grad[: len(carried[0])] += carried[0]
            grad_cell = grad * to_cell[here]
            if carried is not None:
                grad_cell[: len(carried[1])] += carried[1]
            gates = grad_gates[here]
            for part, factor in enumerate((to_enter, to_forget, to_new)):
                torch.mul(grad_cell, factor[here], out=gates[:, part * dim : (part + 1) * dim])
            torch.mul(grad, to_leave[here], out=gates[:, 3 * dim :])
            carried = (gates @ weight_GD, grad_cell.mul_(forget[here]))
        return grad_gates, grad_gates.T @ before, grad_gates.sum(dim=0), None


def _places(sizes: list[int]) -> list[tuple[int, int, int]]:
    """Start of each place, start of the one before it, and its rows."""
    starts = [0, *accumulate(sizes)]
    return [(start, starts[max(place - 1, 0)], sizes[place]) for place, start in enumerate(starts[:-1])]
