"""ESPnet's own separators in their causal form: DCCRN, SkiM and BSRNN, from ESPnet's classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch

from espnet2_tfckd.deploy.enhancer import CHECKPOINT
from espnet2_tfckd.models.cost import count_macs
from tests.benchmarks.measuring import untrained
from tests.benchmarks.peers.model import MACS_SECONDS, Model, check_causal

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of ESPnet's modules about themselves
    import espnet2_tfckd.training.task  # noqa: F401 - now, so that its memory is not counted as a model's
    from espnet2_tfckd.models.configuration import model_rate
    from espnet2_tfckd.models.inference import load_separate_speech

SAMPLE_RATE = 16000
SEPARATORS = ("dccrn", "skim", "bsrnn")  # each has a configuration in the mini recipe


class ESPnetModel(Model):
    """A causal model of ESPnet on one thread of PyTorch.

    Args:
        separator: One of ``SEPARATORS`` for an untrained model.
        exp_dir: Experiment of a trained one instead.
        frame_by_frame: Run ESPnet's ``forward_streaming``, which of the three only SkiM has.

    Raises:
        ValueError: The separator is unknown, or the model looks ahead further than it says.
    """

    delay = 0  # the estimate is that of ESPnet, which is aligned with the mixture

    def __init__(
        self, separator: str = "", exp_dir: str | None = None, frame_by_frame: bool = False
    ):
        torch.set_num_threads(1)
        self.sample_rate, self.streams = SAMPLE_RATE, frame_by_frame
        if exp_dir is None:
            if separator not in SEPARATORS:
                raise ValueError(f"{separator} is not among {', '.join(SEPARATORS)}")
            self.model = untrained(f"causal_{separator}").eval()
        else:
            loaded = load_separate_speech(exp_dir, CHECKPOINT)
            self.model = loaded.enh_model.eval()
            self.sample_rate = model_rate(vars(loaded.enh_train_args)).hz
        latency = self._latency()
        self.latency_ms = 1000 * latency / self.sample_rate
        check_causal(self._whole, latency, 4 * latency + self.sample_rate)

    def _latency(self) -> int:
        """Samples: the window, and what DCCRN's decoder layers look ahead, one frame each."""
        encoder = self.model.encoder
        if hasattr(encoder, "kernel_size"):
            return encoder.kernel_size
        ahead = len(getattr(self.model.separator, "decoder", ()))
        samples = encoder.win_length + ahead * encoder.hop_length
        return samples * self.sample_rate // encoder.default_fs

    def stream(self, mixture: np.ndarray) -> Iterator[np.ndarray]:
        if self.streams:
            yield from self._frames(mixture)
        else:
            yield self._whole(mixture)

    @torch.no_grad()
    def _whole(self, mixture: np.ndarray) -> np.ndarray:
        signal, length = torch.from_numpy(mixture)[None], torch.tensor([len(mixture)])
        rate = self.sample_rate
        feature, lengths = self.model.encoder(signal, length, fs=rate)
        estimates, _, _ = self.model.separator(feature, lengths, {"fs": rate})
        return self.model.decoder(estimates[0], length, fs=rate)[0][0].numpy()

    @torch.no_grad()
    def _frames(self, mixture: np.ndarray) -> Iterator[np.ndarray]:
        encoder, decoder = self.model.encoder, self.model.decoder
        size, hop = encoder.kernel_size, encoder.stride
        signal = torch.from_numpy(np.pad(mixture, (0, size)))[None]
        states, overlap = None, torch.zeros(size)
        for frame in encoder.streaming_frame(signal):
            feature = encoder.forward_streaming(frame)
            (estimate,), states, _ = self.model.separator.forward_streaming(feature, states)
            overlap = overlap + decoder.forward_streaming(estimate)[0]
            yield overlap[:hop].numpy()
            overlap = torch.nn.functional.pad(overlap[hop:], (0, hop))

    def costs(self) -> dict[str, int]:
        noise = np.random.default_rng(0).standard_normal(MACS_SECONDS * self.sample_rate)
        macs = count_macs(lambda: self._whole(noise.astype(np.float32)))
        return {
            "num_params": sum(p.numel() for p in self.model.parameters()),
            "macs_per_second": macs // MACS_SECONDS,
        }
