"""Comparing all utterances of a batch that is spread over the processes of one training."""

from __future__ import annotations

import torch
from torch import distributed


def ranks() -> int:
    """Number of processes (ranks) that train together; 1 without torch.distributed."""
    is_spread = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_spread else 1


def own_utterances(batch: int) -> slice:
    """Where this process's utterances lie in :func:`gathered`, given how many it has."""
    start = distributed.get_rank() * batch if ranks() > 1 else 0
    return slice(start, start + batch)


class _Gather(torch.autograd.Function):
    """The backward pass adds up what all processes' losses ask of this process's utterances."""

    @staticmethod
    def forward(ctx, x):
        ctx.own = own_utterances(len(x))
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(ranks())]
        distributed.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        distributed.all_reduce(grad)
        return grad[ctx.own]


def gathered(x: torch.Tensor) -> torch.Tensor:
    """The utterances of all processes, (b, ...) of each to (B, ...), with gradients to all.

    A loss that is a mean over its own utterances, each compared with all of them, has the gradients
    of one process with the whole batch, once they are averaged over the processes, as
    DistributedDataParallel does. Every process must hold as many utterances, and must call this in
    the same order.
    """
    return x if ranks() == 1 else _Gather.apply(x)


def mean_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Mean of a tensor over the processes, without gradients."""
    x = x.detach()
    if ranks() > 1:
        x = x.clone()
        distributed.all_reduce(x)
        x /= ranks()
    return x
