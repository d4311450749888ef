"""The composite measures of Hu & Loizou and the frame-wise distances they are built from.

Frames are 30 ms long, overlap by 75 % and are Hann-weighted, as in the implementation that the
authors published with their book; published CSIG, CBAK and COVL follow it.

References:
    Y. Hu, P. C. Loizou, "Evaluation of objective quality measures for speech enhancement",
    IEEE Trans. Audio, Speech, and Language Processing 16(1), 2008.
    P. C. Loizou, "Speech Enhancement: Theory and Practice", 2nd edition, CRC Press, 2013.
"""

from __future__ import annotations

import numpy as np

FRAME_SECONDS = 0.030
KEPT_SHARE = 0.95  # the worst 5 % of the frames are left out of LLR and WSS
SEG_SNR_RANGE = (-10.0, 35.0)

# Critical bands of Klatt's weighted spectral slope: centre and bandwidth in Hz.
BAND_CENTRES = np.array(
    [50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128]
    + [1020.38, 1148.30, 1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97]
    + [2978.04, 3276.17, 3597.63]
)
BAND_WIDTHS = np.array(
    [70.0] * 7
    + [77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154]
    + [183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136]
)


def frames(signal: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut a signal into Hann-weighted frames of 30 ms every 7.5 ms.

    Args:
        signal: Samples.
        sample_rate: In Hz.

    Shape:
        signal (N,) -> (frames, 0.03 * sample_rate)

    Raises:
        ValueError: If the signal is shorter than two frames.
    """
    length = round(FRAME_SECONDS * sample_rate)
    hop = length // 4
    # The published implementation leaves the last whole frame out.
    count = int(len(signal) / hop - length / hop)
    if count < 1:
        raise ValueError(f"{len(signal)} samples are too few for frames of {length} samples")
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, length + 1) / (length + 1)))
    return np.lib.stride_tricks.sliding_window_view(signal, length)[::hop][:count] * window


def seg_snr_frames(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> np.ndarray:
    """Signal-to-noise ratio of each frame in dB, limited to [-10, 35] dB.

    Shape:
        reference (N,), estimate (N,) -> (frames,)
    """
    signal = np.sum(frames(reference, sample_rate) ** 2, axis=1)
    noise = np.sum(frames(reference - estimate, sample_rate) ** 2, axis=1)
    tiny = np.finfo(np.float64).eps
    return np.clip(10 * np.log10(signal / (noise + tiny) + tiny), *SEG_SNR_RANGE)


def autocorrelation(framed: np.ndarray, order: int) -> np.ndarray:
    """Autocorrelation at lags 0 to ``order``: (frames, length) to (frames, order + 1)."""
    length = framed.shape[1]
    return np.stack(
        [
            np.einsum("fn,fn->f", framed[:, : length - lag], framed[:, lag:])
            for lag in range(order + 1)
        ],
        axis=1,
    )


def linear_prediction(correlation: np.ndarray) -> np.ndarray:
    """Prediction-error filters of all frames by the Levinson-Durbin recursion.

    A silent frame gets the filter 1, 0, 0, ...

    Shape:
        correlation (frames, order + 1) -> (frames, order + 1), first column 1
    """
    num_frames, num_lags = correlation.shape
    filters = np.zeros((num_frames, num_lags))
    filters[:, 0] = 1
    error = correlation[:, 0].copy()
    for order in range(1, num_lags):
        # sum over j of a_j r_(order-j), the part of lag `order` that is not predicted yet
        residual = np.sum(filters[:, :order] * correlation[:, order:0:-1], axis=1)
        reflection = np.where(error > 0, -residual / np.where(error > 0, error, 1), 0)
        filters[:, 1 : order + 1] += reflection[:, None] * filters[:, order - 1 :: -1][:, :order]
        error = error * (1 - reflection**2)
    return filters


def log_likelihood_ratio(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Log-likelihood ratio of each frame, 0 for equal spectral envelopes, not limited.

    Prediction order 16 (10 below 10 kHz). Frames in which the reference is digital silence have no
    spectral envelope and are left out.

    Shape:
        reference (N,), estimate (N,) -> (at most frames,)

    Raises:
        ValueError: If the reference is silent in every frame.
    """
    order = 10 if sample_rate < 10000 else 16
    of_reference = autocorrelation(frames(reference, sample_rate), order)
    of_estimate = autocorrelation(frames(estimate, sample_rate), order)
    lags = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))

    def error_power(filters: np.ndarray) -> np.ndarray:
        return np.einsum("fi,fij,fj->f", filters, of_reference[:, lags], filters)

    numerator = error_power(linear_prediction(of_estimate))
    denominator = error_power(linear_prediction(of_reference))
    valid = (numerator > 0) & (denominator > 0)
    if not valid.any():
        raise ValueError("the reference is silent")
    return np.log(numerator[valid] / denominator[valid])


def _band_energies(framed: np.ndarray, sample_rate: int) -> np.ndarray:
    """Energies in dB of the 25 critical bands: (frames, length) -> (frames, 25)."""
    num_bins = 2 ** int(np.ceil(np.log2(2 * framed.shape[1]))) // 2
    spectrum = np.abs(np.fft.rfft(framed, 2 * num_bins)[:, :num_bins]) ** 2
    centre = np.floor(BAND_CENTRES / (sample_rate / 2) * num_bins)[:, None]
    width = (BAND_WIDTHS / (sample_rate / 2) * num_bins)[:, None]
    gain = np.log(BAND_WIDTHS[0] / BAND_WIDTHS)[:, None]
    filters = np.exp(-11 * ((np.arange(num_bins) - centre) / width) ** 2 + gain)
    filters[filters <= np.exp(-30 / (2 * 2.303))] = 0
    return 10 * np.log10(np.maximum(spectrum @ filters.T, 1e-10))


def _nearest_peaks(energy: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Energy of the spectral peak that each band's slope leads to: (frames, 25) -> (frames, 24).

    On a rising slope the published implementation takes the band just below the peak, not the
    peak; that is kept, so that values can be compared with published ones.
    """
    num_slopes = slope.shape[1]
    rising, falling = energy[:, :-1].copy(), energy[:, :-1].copy()
    for band in range(num_slopes - 2, -1, -1):
        goes_on = slope[:, band + 1] > 0
        rising[goes_on, band] = rising[goes_on, band + 1]
    for band in range(1, num_slopes):
        goes_on = slope[:, band - 1] <= 0
        falling[goes_on, band] = falling[goes_on, band - 1]
    return np.where(slope > 0, rising, falling)


def weighted_spectral_slope(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Weighted spectral slope distance of each frame, 0 for equal spectra.

    Shape:
        reference (N,), estimate (N,) -> (frames,)

    References:
        D. H. Klatt, "Prediction of perceived phonetic distance from critical-band spectra",
        ICASSP 1982.
    """
    slopes, weights = [], []
    for signal in (reference, estimate):
        energy = _band_energies(frames(signal, sample_rate), sample_rate)
        slope = np.diff(energy, axis=1)
        below_maximum = energy.max(axis=1, keepdims=True) - energy[:, :-1]
        below_peak = _nearest_peaks(energy, slope) - energy[:, :-1]
        slopes.append(slope)
        weights.append(20 / (20 + below_maximum) / (1 + below_peak))
    weight = (weights[0] + weights[1]) / 2
    return np.sum(weight * (slopes[0] - slopes[1]) ** 2, axis=1) / np.sum(weight, axis=1)


def trimmed_mean(distances: np.ndarray) -> float:
    """Mean over the best 95 % of the frames."""
    return float(np.mean(np.sort(distances)[: round(len(distances) * KEPT_SHARE)]))


def composite(
    reference: np.ndarray, estimate: np.ndarray, sample_rate: int, pesq: float
) -> dict[str, float]:
    """CSIG, CBAK and COVL: ratings of signal distortion, background noise and overall quality.

    Args:
        reference, estimate: Samples at 8 or 16 kHz.
        sample_rate: In Hz.
        pesq: PESQ of the pair; papers at 16 kHz put wideband PESQ here.

    Shape:
        reference (N,), estimate (N,)

    Returns:
        ``csig``, ``cbak`` and ``covl``, each a mean opinion score in [1, 5], higher is better.

    Raises:
        ValueError: If the signals are too short or the reference is silent.
    """
    llr = trimmed_mean(log_likelihood_ratio(reference, estimate, sample_rate))
    wss = trimmed_mean(weighted_spectral_slope(reference, estimate, sample_rate))
    seg_snr = float(np.mean(seg_snr_frames(reference, estimate, sample_rate)))
    ratings = {
        "csig": 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
        "cbak": 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * seg_snr,
        "covl": 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
    }
    return {name: float(np.clip(rating, 1, 5)) for name, rating in ratings.items()}
