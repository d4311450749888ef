"""DFKD: compare the shape of spectra below a dynamic frequency, and shape and level above it."""

from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import AbsDistiller, DistillInputs, Sizes
from espnet2_tfckd.distiller.registry import register_distiller
from espnet2_tfckd.distiller.spectra import comparable_spectra

_EPS = 1e-8


@register_distiller("dfkd")
class DFKDDistiller(AbsDistiller):
    """Distance of output spectra, which a frequency divides into two bands in every frame.

    The split lies where the running maximum of the teacher's magnitude, from low to high
    frequencies, rises by the greatest factor. Below it, the loss is 1 - cosine of the complex
    spectra. Above it, the loss is a weighted sum of that and the squared error of magnitudes. All
    frames count equally.

    Args:
        sizes: Sizes of the features and of a training batch.
        high_cosine_weight: Weight, in [0, 1], of the cosine loss above the split; the squared error
            has the rest.

    Raises:
        ValueError: If the weight is not in [0, 1].

    References:
        arXiv 2502.04711. Its code is not published, so details follow the implementation published
        with arXiv 2509.15922, which builds on it. There the bin of the split belongs to both bands,
        here only to the lower one. As there, the squared error depends on the level of the
        recording.
    """

    uses_features = False

    def __init__(
        self,
        sizes: Sizes,
        high_cosine_weight: float = 0.5,
    ):
        super().__init__(sizes)
        if not 0 <= high_cosine_weight <= 1:
            raise ValueError(
                f"high_cosine_weight must be between 0 and 1, but is {high_cosine_weight}"
            )
        self.high_cosine_weight = high_cosine_weight

    def forward(
        self, student: DistillInputs, teacher: DistillInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See :meth:`AbsDistiller.forward`; logs both bands' losses and the mean split in bins."""
        own, target = comparable_spectra(student.spectrum, teacher.detach().spectrum)
        split = split_bin(target.abs())
        high = torch.arange(target.shape[-1], device=target.device) > split.unsqueeze(-1)
        low_loss = cosine_distance(own, target, ~high).mean()
        high_loss = (
            self.high_cosine_weight * cosine_distance(own, target, high)
            + (1 - self.high_cosine_weight) * squared_error(own.abs(), target.abs(), high)
        ).mean()
        loss = low_loss + high_loss
        stats = {"kd_low": low_loss, "kd_high": high_loss, "kd_split": split.float().mean()}
        return loss, {name: value.detach() for name, value in stats.items()}


def split_bin(magnitude: torch.Tensor) -> torch.Tensor:
    """Last bin of the lower band, (B, T, F) to (B, T).

    Examples:
        >>> split_bin(torch.tensor([[[1.0, 1.5, 1.0, 6.0, 9.0]]]))
        tensor([[2]])
    """
    envelope = magnitude.cummax(-1).values
    rise = envelope.diff(dim=-1) / (envelope[..., :-1] + _EPS)
    return rise.argmax(-1)


def cosine_distance(x: torch.Tensor, y: torch.Tensor, band: torch.Tensor) -> torch.Tensor:
    """1 - cosine of complex spectra as real vectors over a band's bins, (B, T, F) to (B, T)."""
    x, y = (torch.view_as_real(z * band).flatten(-2) for z in (x, y))
    power = (x.square().sum(-1) + _EPS) * (y.square().sum(-1) + _EPS)
    return 1 - (x * y).sum(-1) * power.rsqrt()


def squared_error(x: torch.Tensor, y: torch.Tensor, band: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the bins of a band, (B, T, F) to (B, T)."""
    return ((x - y).square() * band).sum(-1) / band.sum(-1)
