"""DPDCRN: dual-path dilated convolutional recurrent network, teacher and student backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from espnet2.enh.layers.complex_utils import is_complex, new_complex_like
from espnet2.enh.separator.abs_separator import AbsSeparator
from torch import nn

from espnet2_tfckd.functional import widened
from espnet2_tfckd.separator.convolution import ConvLayer, DenseBlock
from espnet2_tfckd.separator.dual_path import DualPath
from espnet2_tfckd.separator.normalization import SCOPES
from espnet2_tfckd.separator.stream import Stream


class DPDCRNSeparator(AbsSeparator):
    """Dual-path dilated convolutional recurrent network with a complex ratio mask.

    Strided convolutions and a dilated dense block encode the spectrum, dual-path blocks
    (self-attention and GRU along frequency and along time) transform it, a mirrored decoder yields
    a polar mask, bounded by tanh in magnitude. There are no skip connections. As published,
    attention over time and the norms see the whole utterance; with ``causal`` nothing looks ahead,
    and :meth:`forward_streaming` enhances frame by frame what :meth:`forward` does at once.

    Args:
        input_dim: Frequency bins F of the spectrum; odd, as a one-sided spectrum has.
        num_spk: Number of outputs; enhancement has one.
        channels: Width C of encoder and decoder, a multiple of ``2 * heads``.
        blocks: Dual-path blocks in the bottleneck.
        strided_layers: Convolutions of stride 2 along frequency before the dense block, and as many
            transposed ones after the decoder's, at least 2. Of 257 bins, the blocks between them
            see 64, as published, or 32 with 3 layers, 16 with 4.
        dense_depth: Layers of each dense block; the last has dilation ``2 ** (dense_depth - 1)``.
        heads: Attention heads.
        microphones: Channels M of the mixture.
        ref_channel: The channel that is masked and that the loss compares with.
        causal: Whether no frame depends on later ones.
        attention_window: For a causal network, the number of frames that attention over time sees:
            a frame itself and those before it; 0 for no attention over time.
        causal_norm: For a causal network, the frames whose statistics norms use: ``cumulative`` for
            all so far, ``frame`` for the frame alone, ``batch`` for those of training batches,
            which cost nothing in an exported network.
        input_power: Power to which the network sees magnitudes. Below 1, it sees quiet sounds
            better, and levels differ less, which ``causal_norm: batch`` does not even out.

    Raises:
        ValueError: If a size does not fit the others.

    Examples:
        >>> separator = DPDCRNSeparator(257, channels=16, blocks=1)
        >>> mixture = torch.randn(2, 10, 257, dtype=torch.complex64)
        >>> (estimate,), _, others = separator(mixture, torch.tensor([10, 10]))
        >>> estimate.shape
        torch.Size([2, 10, 257])

    References:
        The backbone of I2SRF-TFCKD, arXiv 2506.13127; its teacher has 128 channels and 4 blocks,
        its student 64 and 1.
    """

    def __init__(
        self,
        input_dim: int,
        num_spk: int = 1,
        channels: int = 64,
        blocks: int = 1,
        strided_layers: int = 2,
        dense_depth: int = 4,
        heads: int = 4,
        microphones: int = 1,
        ref_channel: int = 0,
        causal: bool = False,
        attention_window: int = 32,
        causal_norm: str = "cumulative",
        input_power: float = 1.0,
    ):
        super().__init__()
        if attention_window < 0:
            raise ValueError(f"attention_window must not be negative, but is {attention_window}")
        if causal_norm not in SCOPES[1:]:
            raise ValueError(f"causal_norm must be one of {SCOPES[1:]}, not {causal_norm!r}")
        if strided_layers < 2:
            raise ValueError(f"strided_layers must be at least 2, but is {strided_layers}")
        if not 0 < input_power <= 1:
            raise ValueError(f"input_power must be above 0 and at most 1, but is {input_power}")
        self.causal = causal
        scope, window = (causal_norm, attention_window) if causal else ("utterance", None)
        _check_sizes(input_dim, num_spk, channels, heads, microphones, ref_channel)
        self._num_spk = num_spk
        self.microphones = microphones
        self.ref_channel = ref_channel
        self.input_power = input_power
        kernel, stride = (1, 3), (1, 2)
        self.encoder = nn.ModuleList(
            [
                *(
                    ConvLayer(
                        channels,
                        scope,
                        conv=nn.Conv2d(
                            2 * microphones if number == 0 else channels,
                            channels,
                            kernel,
                            stride,
                            padding=(0, int(number != 1)),  # the second has none, as published
                        ),
                    )
                    for number in range(strided_layers)
                ),
                DenseBlock(channels, dense_depth, scope),
            ]
        )
        self.dual_path = DualPath(channels, blocks, heads, window, scope)
        output = nn.Module()
        output.deconv = nn.ConvTranspose2d(channels, 2, kernel, stride)
        self.decoder = nn.ModuleList(
            [
                DenseBlock(channels, dense_depth, scope),
                *(
                    ConvLayer(
                        channels,
                        scope,
                        deconv=nn.ConvTranspose2d(channels, channels, kernel, stride),
                    )
                    for _ in range(strided_layers - 1)
                ),
                output,
            ]
        )

    @property
    def num_spk(self) -> int:
        return self._num_spk

    def forward(
        self,
        input: torch.Tensor,
        ilens: torch.Tensor,
        additional: dict | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor, dict]:
        """Enhance a batch of spectra.

        Args:
            input: Complex spectrum of the mixture, (B, T, F) or (B, T, M, F).
            ilens: Frames of each utterance, (B,).
            additional: ``{"feature_sets": True}`` asks for the features of every layer.

        Returns:
            ``[estimate]`` with the complex estimate (B, T, F), ``ilens``, and a dictionary with the
            complex mask ``mask_spk1`` (B, T, F) and, if asked for, ``feature_sets``:
            ``{"encoder": [...], "bottleneck": [...], "decoder": [...]}``, each (B, C, T, F').

        Raises:
            ValueError: If the mixture is not complex, or has another number of channels than
                ``microphones``.
        """
        want_features = bool(additional and additional.get("feature_sets"))
        estimate, others = self._enhance(input, Stream(), want_features)
        return [estimate], ilens, others

    def forward_streaming(
        self, input_frame: torch.Tensor, states: Sequence[torch.Tensor] | None = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], dict]:
        """Enhance the next frames of a signal, in chunks of any size, as ``forward`` does at once.

        Args:
            input_frame: Complex spectrum of the mixture, (B, T, F) or (B, T, M, F); T is 1 in
                ESPnet's ``SeparateSpeechStreaming``.
            states: The states that the previous call returned; None at the start of a signal.

        Returns:
            ``[estimate]`` with the complex estimate (B, T, F), the states, a list of tensors whose
            sizes do not change, and a dictionary with the mask.

        Raises:
            ValueError: If the network is not causal.
        """
        if not self.causal:
            raise ValueError(
                "this DPDCRN looks ahead and cannot be run frame by frame: train one with "
                "separator_conf.causal: true"
            )
        stream = Stream(states)
        estimate, others = self._enhance(input_frame, stream, want_features=False)
        return [estimate], stream.states, others

    def _enhance(
        self, input: torch.Tensor, stream: Stream, want_features: bool
    ) -> tuple[torch.Tensor, dict]:
        if not is_complex(input):
            raise ValueError(
                f"DPDCRN takes complex spectra, not {input.dtype}: set encoder: stft, decoder: stft"
            )
        mixture = torch.complex(input.real, input.imag)  # ESPnet may hand over a ComplexTensor
        if mixture.dim() == 3:
            mixture = mixture.unsqueeze(2)
        if mixture.shape[2] != self.microphones:
            raise ValueError(
                f"the mixture has {mixture.shape[2]} channel(s) but the network was built for "
                f"{self.microphones}: set separator_conf.microphones to match the data"
            )
        mixture = mixture.transpose(1, 2)  # (B, M, T, F)
        encoder, bottleneck, decoder = self.layers(
            torch.cat([mixture.real, mixture.imag], dim=1), stream, want_features
        )
        mask = torch.complex(*widened(decoder[-1]).unbind(1))
        mask = torch.polar(torch.tanh(mask.abs()), mask.angle())
        estimate = mask * _floored(mixture[:, self.ref_channel])
        others = {"mask_spk1": new_complex_like(input, (mask.real, mask.imag))}
        if want_features:
            others["feature_sets"] = {
                "encoder": encoder,
                "bottleneck": bottleneck,
                "decoder": decoder,
            }
        return new_complex_like(input, (estimate.real, estimate.imag)), others

    def layers(
        self, x: torch.Tensor, stream: Stream, all_blocks: bool
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Outputs of all layers of encoder, bottleneck and decoder.

        Args:
            x: Real and imaginary parts of the mixture, (B, 2M, T, F).
            stream: States before these frames; takes the states after them.
            all_blocks: Whether the bottleneck's output is wanted after every block.

        Returns:
            Three lists of (B, C, T, F'); the decoder's last is the unbounded mask, (B, 2, T, F).
        """
        bins = self.bins_of(x.shape[-1])
        x = self.compressed(x)
        encoder = []
        for layer in self.encoder:
            x = layer(x, stream)
            encoder.append(x)
        bottleneck = self.dual_path(x, stream, all_blocks)
        decoder = [self.decoder[0](bottleneck[-1], stream)]
        for layer, size in zip(self.decoder[1:-1], bins[-2:0:-1], strict=True):
            decoder.append(layer(decoder[-1], stream, size))
        decoder.append(self.decoder[-1].deconv(decoder[-1])[..., : bins[0]])
        return encoder, bottleneck, decoder

    def bins_of(self, bins: int) -> list[int]:
        """Bins of the spectrum and after each strided layer.

        Examples:
            >>> DPDCRNSeparator(257, channels=16, strided_layers=4).bins_of(257)
            [257, 129, 64, 32, 16]
        """
        sizes = [bins]
        for layer in self.encoder[:-1]:
            sizes.append((sizes[-1] + 2 * layer.conv.padding[1] - 3) // 2 + 1)
        return sizes

    def compressed(self, x: torch.Tensor) -> torch.Tensor:
        """The spectrum with its magnitudes raised to ``input_power``, (B, 2M, T, F) to the same."""
        if self.input_power == 1:
            return x
        real, imaginary = x.chunk(2, 1)
        power = real.square() + imaginary.square() + 1e-8
        return x * power.pow((self.input_power - 1) / 2).repeat(1, 2, 1, 1)


def _floored(spectrum: torch.Tensor) -> torch.Tensor:
    """The spectrum with magnitude sqrt(|X|^2 + 1e-8), so that silent bins have a phase too."""
    magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-8)
    return torch.polar(magnitude, spectrum.angle())


def _check_sizes(input_dim, num_spk, channels, heads, microphones, ref_channel) -> None:
    if num_spk != 1:
        raise ValueError(f"DPDCRN enhances one speaker, num_spk must be 1, not {num_spk}")
    if input_dim % 2 == 0 or input_dim < 7:
        raise ValueError(f"input_dim must be odd (n_fft / 2 + 1) and at least 7, not {input_dim}")
    if channels % (2 * heads):
        raise ValueError(f"channels ({channels}) must be a multiple of 2 * heads ({2 * heads})")
    if not 0 <= ref_channel < microphones:
        raise ValueError(
            f"ref_channel {ref_channel} is not among the {microphones} microphone channel(s)"
        )
