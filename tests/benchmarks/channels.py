"""What the spatial channels are worth: DPDCRN on W, Y, Z, X against the same on W alone.

Both are trained from the same seed on the same simulated rooms and scored on further rooms. The
talker stands in front (azimuth within 30 degrees), the noise anywhere else, with a spectrum like
that of the speech: what tells them apart beside their rhythm is where they come from.

Run it with ``python -m tests.benchmarks.channels``; a few minutes on one core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from espnet2.enh.decoder.stft_decoder import STFTDecoder
from espnet2.enh.encoder.stft_encoder import STFTEncoder
from tqdm import tqdm

from espnet2_tfckd.scoring.metrics import si_sdr
from espnet2_tfckd.separator.dpdcrn import DPDCRNSeparator
from tests.ambisonics import RATE, coloured_noise, simulate_scene, syllables

SECONDS = 1.5
SNR_RANGE = (-5.0, 5.0)
BATCH = 4
RATES = (3e-3, 3e-4)  # learning rates of the first and the last quarter of the training
FRONT, ELSEWHERE = (-30, 30), (60, 300)


def rooms(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixtures (count, T, 4) and references (count, T) of as many rooms."""
    pairs = []
    for number in tqdm(range(count), "simulating rooms"):
        rng = np.random.default_rng([seed, number])
        length = round(SECONDS * RATE)
        scene = simulate_scene(
            rng,
            syllables(rng, length),
            coloured_noise(rng, length),
            rng.uniform(*SNR_RANGE),
            talker_azimuths=FRONT,
            noise_azimuths=ELSEWHERE,
        )
        pairs.append((scene.mixture, scene.reference))
    mixtures, references = (np.stack(side).astype(np.float32) for side in zip(*pairs, strict=True))
    return torch.from_numpy(mixtures), torch.from_numpy(references)


class Enhancer(torch.nn.Module):
    """A tiny DPDCRN between ESPnet's Fourier transforms, (B, T) or (B, T, M) to (B, T)."""

    def __init__(self, microphones: int):
        super().__init__()
        self.encoder = STFTEncoder(n_fft=512, hop_length=256)
        self.separator = DPDCRNSeparator(
            257, channels=16, blocks=1, heads=1, microphones=microphones
        )
        self.decoder = STFTDecoder(n_fft=512, hop_length=256)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        lengths = torch.full((len(mixture),), mixture.shape[1])
        spectrum, frames = self.encoder(mixture, lengths)
        (estimate,), *_ = self.separator(spectrum, frames)
        return self.decoder(estimate, lengths)[0]


def train(
    model: Enhancer, mixtures: torch.Tensor, references: torch.Tensor, updates: int, seed: int
) -> None:
    """Minimise the negative signal-to-noise ratio in dB."""
    optimizer = torch.optim.Adam(model.parameters(), RATES[0])
    generator = torch.Generator().manual_seed(seed)
    for update in tqdm(range(updates), "training"):
        if update == updates * 3 // 4:
            optimizer.param_groups[0]["lr"] = RATES[1]
        chosen = torch.randint(len(mixtures), (BATCH,), generator=generator)
        reference = references[chosen]
        error = (reference - model(mixtures[chosen])).square().sum(1)
        loss = 10 * (error / reference.square().sum(1)).log10().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()


def si_sdrs(estimates: torch.Tensor, references: torch.Tensor) -> np.ndarray:
    """SI-SDR of each estimate in dB."""
    pairs = zip(references.double().numpy(), estimates.double().numpy(), strict=True)
    return np.array([si_sdr(reference, estimate, RATE) for reference, estimate in pairs])


def main() -> None:
    """Run the measurement from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train_rooms", type=int, default=160)
    parser.add_argument("--test_rooms", type=int, default=40)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    mixtures, references = rooms(options.train_rooms, 2 * options.seed)
    test_mixtures, test_references = rooms(options.test_rooms, 2 * options.seed + 1)
    scores = {"noisy W": si_sdrs(test_mixtures[..., 0], test_references)}
    for name, channels in (("DPDCRN on W", 0), ("DPDCRN on W, Y, Z, X", slice(None))):
        torch.manual_seed(options.seed)
        model = Enhancer(1 if channels == 0 else 4)
        train(model, mixtures[..., channels], references, options.updates, options.seed)
        with torch.no_grad():
            estimates = torch.cat([model.eval()(m[None]) for m in test_mixtures[..., channels]])
        scores[name] = si_sdrs(estimates, test_references)
    print(f"SI-SDR over {options.test_rooms} rooms, mean ± standard error:")
    for name, values in scores.items():
        print(f"{name:24}{values.mean():6.2f} ± {values.std() / len(values) ** 0.5:.2f} dB")
    print(f"{time.perf_counter() - start:.0f} s, seed {options.seed}")


if __name__ == "__main__":
    main()
