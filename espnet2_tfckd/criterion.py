"""An enhancement loss on compressed spectra, beside those that ESPnet has."""

from __future__ import annotations

import torch
from espnet2.enh.loss.criterions.time_domain import TimeDomainLoss

FLOOR = 1e-6  # of the power of a bin, whose mean over a signal of level 1 is 1
SILENCE = 1e-3  # RMS below which a reference counts as silent, and is not raised further


class CompressedSpectrumLoss(TimeDomainLoss):
    r"""Distance of power-law compressed spectra, in magnitude alone and with the phase.

    .. math::

        (1 - w) \, \overline{(|S|^c - |\hat S|^c)^2}
        + w \, \overline{\bigl|\, |S|^c e^{j \angle S} - |\hat S|^c e^{j \angle \hat S} \bigr|^2}

    Both signals are first scaled by the level of the reference, so that loud and quiet recordings
    count alike. Compression lets quiet bins count, which a loss on waveforms hardly sees.

    Named ``compressed_spectrum`` in a YAML's ``criterions``.

    Args:
        n_fft: Length of the STFT's Hann window in samples.
        hop_length: Samples from one frame to the next.
        compression: Exponent c of the magnitudes, above 0 and at most 1.
        complex_weight: Weight w of the part with the phase, from 0 to 1.

    Raises:
        ValueError: If a value is outside its range.

    References:
        S. Braun and I. Tashev, "A consolidated view of loss functions for supervised deep
        learning-based speech enhancement", TSP 2021 (arXiv 2009.12286).
    """

    def __init__(
        self,
        n_fft: int = 512,
        hop_length: int = 256,
        compression: float = 0.3,
        complex_weight: float = 0.5,
        name: str = "compressed_spectrum",
        only_for_test: bool = False,
        is_noise_loss: bool = False,
        is_dereverb_loss: bool = False,
    ) -> None:
        super().__init__(name, only_for_test, is_noise_loss, is_dereverb_loss)
        if not 0 < compression <= 1:
            raise ValueError(f"compression must be above 0 and at most 1, not {compression}")
        if not 0 <= complex_weight <= 1:
            raise ValueError(f"complex_weight must be from 0 to 1, not {complex_weight}")
        if not 0 < hop_length <= n_fft:
            raise ValueError(f"hop_length must be from 1 to n_fft = {n_fft}, not {hop_length}")
        self.n_fft, self.hop_length = n_fft, hop_length
        self.compression, self.complex_weight = compression, complex_weight

    @torch.amp.autocast("cuda", enabled=False)
    def forward(self, ref: torch.Tensor, inf: torch.Tensor) -> torch.Tensor:
        """Loss of every utterance.

        Args:
            ref: Reference, (B, T).
            inf: Estimate, (B, T).

        Returns:
            (B,).
        """
        ref, inf = ref.float(), inf.float()
        level = ref.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SILENCE)
        target, target_magnitude = self._compressed(ref / level)
        estimate, magnitude = self._compressed(inf / level)
        of_magnitude = (magnitude - target_magnitude).square().mean(dim=(1, 2))
        of_spectrum = (estimate - target).square().sum(dim=3).mean(dim=(1, 2))
        return (1 - self.complex_weight) * of_magnitude + self.complex_weight * of_spectrum

    def _compressed(self, signal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compressed spectrum, (B, F, N, 2), and its magnitude, (B, F, N)."""
        window = torch.hann_window(self.n_fft, device=signal.device)
        window = window / window.square().sum().sqrt()
        spectrum = torch.view_as_real(
            torch.stft(signal, self.n_fft, self.hop_length, window=window, return_complex=True)
        )
        power = spectrum.square().sum(dim=3) + FLOOR
        spectrum = spectrum * power.pow((self.compression - 1) / 2).unsqueeze(3)
        return spectrum, power.pow(self.compression / 2)
