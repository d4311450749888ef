"""ESPnet's own separators in their causal form: DCCRN, SkiM and BSRNN, from ESPnet's classes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml

from espnet2_tfckd.deploy.enhancer import CHECKPOINT
from espnet2_tfckd.stages.profile import count_macs
from tests.peers.model import MACS_SECONDS, Model, check_causal

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of ESPnet's modules about themselves
    from espnet2_tfckd.inference import load_separate_speech
    from espnet2_tfckd.task import EnhancementTask

SAMPLE_RATE = 16000
_LOSS = {"name": "snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1.0}}


def _codec(kind: str, **conf: int) -> dict:
    return {"encoder": kind, "encoder_conf": conf, "decoder": kind, "decoder_conf": conf}


CONFIGURATIONS = {
    # ESPnet's recipe for the DNS challenge, dns_ins20: its class's defaults
    "dccrn": {**_codec("stft", n_fft=512, win_length=400, hop_length=100), "separator": "dccrn"},
    # wsj0_2mix's train_enh_skim_causal_small.yaml, with one speaker and the encoder's kernel and
    # stride doubled, since that recipe is at 8 kHz
    "skim": {
        **_codec("conv", channel=128, kernel_size=16, stride=8),
        "separator": "skim",
        "separator_conf": {
            "causal": True,
            "num_spk": 1,
            "layer": 3,
            "unit": 384,
            "segment_size": 50,
        },
    },
    # the class's default size, which takes any rate up to 48 kHz and here works on 16 kHz
    "bsrnn": {
        **_codec("stft", n_fft=960, hop_length=480, default_fs=48000),
        "separator": "bsrnn",
        "separator_conf": {"causal": True, "norm_type": "cfLN"},
    },
}


def build(separator: str):
    """An untrained model of ``CONFIGURATIONS``.

    Raises:
        ValueError: There is no such configuration.
    """
    if separator not in CONFIGURATIONS:
        raise ValueError(f"no causal {separator} is known, only {', '.join(CONFIGURATIONS)}")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "train.yaml"
        config.write_text(yaml.safe_dump({**CONFIGURATIONS[separator], "criterions": [_LOSS]}))
        parser = EnhancementTask.get_parser()
        args = parser.parse_args(["--config", str(config), "--output_dir", folder])
        torch.manual_seed(0)
        return EnhancementTask.build_model(args)


class ESPnetModel(Model):
    """A causal model of ESPnet on one thread of PyTorch.

    Args:
        separator: Key of ``CONFIGURATIONS`` for an untrained model.
        exp_dir: Experiment of a trained one instead.
        frame_by_frame: Run ESPnet's ``forward_streaming``, which of the three only SkiM has.

    Raises:
        ValueError: There is no such configuration, or the model looks ahead further than it says.
    """

    delay = 0  # the estimate is that of ESPnet, which is aligned with the mixture

    def __init__(
        self, separator: str = "", exp_dir: str | None = None, frame_by_frame: bool = False
    ):
        torch.set_num_threads(1)
        self.sample_rate, self.streams = SAMPLE_RATE, frame_by_frame
        if exp_dir is None:
            self.model = build(separator).eval()
        else:
            loaded = load_separate_speech(exp_dir, CHECKPOINT)
            self.model = loaded.enh_model.eval()
            self.sample_rate = int(loaded.enh_train_args.sample_rate or SAMPLE_RATE)
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
