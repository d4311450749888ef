"""The states that a causal network keeps from one chunk of a signal to the next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


class Stream:
    """States of a network's layers, given to the layers and taken back in their order.

    Args:
        states: The value of :attr:`states` after the previous chunk; None at the start of a signal.

    Attributes:
        states: The states after this chunk, in the same order; their sizes never change.
    """

    def __init__(self, states: Sequence[torch.Tensor] | None = None):
        self.at_start = states is None
        self._before = iter(states or ())
        self.states: list[torch.Tensor] = []

    def take(self) -> torch.Tensor | None:
        """The state that the calling layer stored; None at the start."""
        return None if self.at_start else next(self._before)

    def put(self, state: torch.Tensor) -> None:
        """Store a state for the next chunk. Every layer calls take once, then put once."""
        self.states.append(state)

    def with_past(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """Prepend earlier frames to these; at the start, they are zeros.

        Shape:
            (..., T, F) to (..., frames + T, F).
        """
        before = self.take()
        if before is None:
            padded = F.pad(x, (0, 0, frames, 0))
        else:
            padded = torch.cat([before, x], -2)
        self.put(padded[..., padded.shape[-2] - frames :, :])
        return padded
