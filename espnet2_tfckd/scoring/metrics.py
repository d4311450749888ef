"""One function per metric, each on one pair of reference and estimate.

All take the reference first, as one-dimensional float arrays of equal length, and raise
``ValueError`` when the pair cannot be scored. Metrics that are defined at 16 kHz resample other
rates with soxr; the others work at the rate of the signals. Heavy libraries are imported by the
metric that needs them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from espnet2_tfckd.scoring import composite as hu_loizou

MODEL_RATE = 16000


def at_16_khz(signal: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample to 16 kHz (soxr, high quality); a signal at 16 kHz is returned unchanged."""
    if sample_rate == MODEL_RATE:
        return signal
    import soxr

    return soxr.resample(signal, sample_rate, MODEL_RATE)


def pesq_wb(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Wideband PESQ, a mean opinion score (MOS-LQO) from 1.04 to 4.64, higher is better.

    Defined at 16 kHz: other rates are resampled.

    Raises:
        ValueError: If PESQ finds no utterance in the signals, or they are shorter than 0.25 s.

    References:
        ITU-T P.862.2 (2007), by the package ``pesq``.
    """
    from pesq import PesqError, pesq

    if not (np.any(reference) and np.any(estimate)):
        raise ValueError("PESQ: a signal is silent")
    try:
        pair = (at_16_khz(signal, sample_rate) for signal in (reference, estimate))
        return float(pesq(MODEL_RATE, *pair, "wb"))
    except PesqError as error:
        raise ValueError(f"PESQ: {type(error).__name__}") from error


def _stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int, extended: bool) -> float:
    from pystoi import stoi as pystoi

    if not np.any(reference):
        raise ValueError("STOI: the reference is silent")
    with warnings.catch_warnings():
        # pystoi warns and returns 1e-5 when less than 0.4 s of speech is left
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi(reference, estimate, sample_rate, extended=extended))
        except (RuntimeWarning, np.exceptions.AxisError):  # the latter below a single frame
            raise ValueError("STOI: less than 0.4 s of speech without the silent frames") from None


def stoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility, about 0 to 1, higher is better.

    Any rate: the measure itself works at 10 kHz.

    Raises:
        ValueError: If less than 0.4 s of speech is left without the silent frames.

    References:
        C. H. Taal et al., IEEE Trans. Audio, Speech, and Language Processing 19(7), 2011,
        by the package ``pystoi``.
    """
    return _stoi(reference, estimate, sample_rate, extended=False)


def estoi(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Extended STOI, about 0 to 1, higher is better; otherwise as :func:`stoi`.

    References:
        J. Jensen, C. H. Taal, IEEE/ACM Trans. Audio, Speech, and Language Processing 24(11), 2016.
    """
    return _stoi(reference, estimate, sample_rate, extended=True)


def _need_sound(reference: np.ndarray, estimate: np.ndarray, name: str) -> None:
    for role, signal in (("reference", reference), ("estimate", estimate)):
        if np.ptp(signal) == 0:
            raise ValueError(f"{name}: the {role} is silent")


def si_sdr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, unbounded, higher is better.

    The means of both signals are removed first, as Le Roux et al. define it (and as in SI-SNR). So
    a constant offset, which is inaudible, does not count. The value does not depend on the rate.

    Raises:
        ValueError: If a signal is constant.

    References:
        J. Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019,
        by the package ``fast_bss_eval``.
    """
    import fast_bss_eval

    _need_sound(reference, estimate, "SI-SDR")
    with np.errstate(divide="ignore"):  # equal signals have an infinite ratio
        return -float(fast_bss_eval.si_sdr_loss(estimate[None], reference[None], zero_mean=True)[0])


def sdr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Signal-to-distortion ratio of BSS Eval in dB, unbounded, higher is better.

    A filter of 512 taps is allowed between reference and estimate, at the rate of the signals:
    32 ms at 16 kHz, 10.7 ms at 48 kHz.

    Raises:
        ValueError: If a signal is constant, or the filter cannot be solved for.

    References:
        E. Vincent, R. Gribonval, C. Fevotte, IEEE Trans. Audio, Speech, and Language Processing
        14(4), 2006, by the package ``fast_bss_eval`` (R. Scheibler, ICASSP 2022).
    """
    import fast_bss_eval

    _need_sound(reference, estimate, "SDR")
    try:
        with np.errstate(divide="ignore"):
            # without `pairwise` the package fails on NumPy 2
            loss = fast_bss_eval.sdr_loss(estimate[None], reference[None], pairwise=True)
        return -float(loss[0, 0])
    except np.linalg.LinAlgError as error:
        raise ValueError(f"SDR: {error}") from error


def ci_sdr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Convolutive-transfer-function-invariant SDR in dB, unbounded, higher is better.

    The SDR of BSS Eval in the form that is used as a training loss; 512 taps at the rate of the
    signals.

    Raises:
        ValueError: If a signal is constant, or the filter cannot be solved for.

    References:
        C. Boeddeker et al., "Convolutive transfer function invariant SDR training criteria for
        multi-channel reverberant speech separation", ICASSP 2021, by the package ``ci_sdr``.
    """
    import torch
    from ci_sdr.pt import ci_sdr as of_batch

    _need_sound(reference, estimate, "CI-SDR")
    pair = (torch.as_tensor(signal[None]) for signal in (reference, estimate))
    try:
        return float(of_batch(*pair, compute_permutation=False)[0])
    except torch.linalg.LinAlgError as error:
        raise ValueError(f"CI-SDR: {error}") from error


def seg_snr(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Segmental signal-to-noise ratio in dB, -10 to 35, higher is better.

    Mean over frames of 30 ms, each limited to [-10, 35] dB; at the rate of the signals.

    Raises:
        ValueError: If the signals are shorter than two frames.

    References:
        Hu & Loizou 2008, see :mod:`espnet2_tfckd.scoring.composite`.
    """
    return float(np.mean(hu_loizou.seg_snr_frames(reference, estimate, sample_rate)))


def composite(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> dict[str, float]:
    """CSIG, CBAK and COVL, mean opinion scores from 1 to 5, higher is better.

    Computed at 16 kHz (other rates are resampled) with wideband PESQ.

    Raises:
        ValueError: As :func:`pesq_wb`, or if the reference is silent.

    References:
        Hu & Loizou 2008, see :mod:`espnet2_tfckd.scoring.composite`.
    """
    pair = [at_16_khz(signal, sample_rate) for signal in (reference, estimate)]
    return hu_loizou.composite(*pair, MODEL_RATE, pesq_wb(*pair, MODEL_RATE))


@cache
def _dnsmos_model():
    """DNSMOS with the models inside the wheel of ``speechmos``, on one thread."""
    import onnxruntime
    import speechmos
    from speechmos.dnsmos import DNSMOS

    folder = f"{speechmos.__path__[0]}/dnsmos_models"
    paths = f"{folder}/sig_bak_ovr.onnx", f"{folder}/model_v8.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = DNSMOS(*paths)
    # speechmos opens its sessions with one thread per core and takes no options
    model.onnx_sess, model.p808_onnx_sess = (
        onnxruntime.InferenceSession(path, options) for path in paths
    )
    return model


def dnsmos(reference: np.ndarray | None, estimate: np.ndarray, sample_rate: int) -> dict:
    """DNSMOS, mean opinion scores from 1 to 5 that a network predicts; higher is better.

    It needs no reference (the argument is there for the common signature). It is defined at 16 kHz:
    other rates are resampled. A signal that exceeds full scale is scaled to a peak of 1, because
    the model is defined only up to there. Signals shorter than 9.01 s are repeated, as in the
    original.

    Returns:
        ``dnsmos_ovrl``, ``dnsmos_sig``, ``dnsmos_bak`` (P.835) and ``dnsmos_p808``.

    Raises:
        ValueError: If the estimate is silent.

    References:
        C. K. A. Reddy, V. Gopal, R. Cutler, ICASSP 2021 (P.808) and ICASSP 2022 (P.835),
        by the package ``speechmos``.
    """
    if not np.any(estimate):
        raise ValueError("DNSMOS: the estimate is silent")
    signal = at_16_khz(estimate, sample_rate)
    scores = _dnsmos_model()(signal / max(1.0, np.abs(signal).max()), MODEL_RATE, False)
    return {
        f"dnsmos_{name}": float(scores[f"{name}_mos"]) for name in ("ovrl", "sig", "bak", "p808")
    }


@dataclass(frozen=True)
class Protocol:
    """What one word of ``--scoring_protocol`` computes.

    Attributes:
        compute: The metric's function; returns a number or a dictionary over ``columns``.
        columns: Its keys in ``results.json``, each with a column of
            :data:`espnet2_tfckd.scoring.columns.SCORES`.
        package: The package that computes it; None if our own code does.
        revision: Revision of our code; raise it when the code gives other values.
    """

    compute: Callable[..., float | dict[str, float]]
    columns: Sequence[str]
    package: str | None = None
    revision: int = 1

    @property
    def code(self) -> str:
        """The part of the code that the values depend on."""
        package = f" {self.package} {version(self.package)}" if self.package else ""
        return f"revision {self.revision}{package}"

    @property
    def is_installed(self) -> bool:
        """Whether the package that computes the values is installed."""
        try:
            return self.package is None or bool(version(self.package))
        except PackageNotFoundError:
            return False

    def __call__(
        self, reference: np.ndarray, estimate: np.ndarray, sample_rate: int
    ) -> dict[str, float]:
        values = self.compute(reference, estimate, sample_rate)
        return values if isinstance(values, dict) else dict.fromkeys(self.columns, values)


PROTOCOLS = {
    "PESQ": Protocol(pesq_wb, ("pesq_wb",), "pesq"),
    "STOI": Protocol(stoi, ("stoi",), "pystoi"),
    "ESTOI": Protocol(estoi, ("estoi",), "pystoi"),
    "SI_SDR": Protocol(si_sdr, ("si_sdr",), "fast_bss_eval"),
    "SDR": Protocol(sdr, ("sdr",), "fast_bss_eval"),
    "CI_SDR": Protocol(ci_sdr, ("ci_sdr",), "ci_sdr"),
    "COMPOSITE": Protocol(composite, ("csig", "cbak", "covl"), "pesq"),
    "SEG_SNR": Protocol(seg_snr, ("seg_snr",)),
    "DNSMOS": Protocol(
        dnsmos, ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"), "speechmos"
    ),
}
