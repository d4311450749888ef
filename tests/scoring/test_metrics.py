"""Metrics against closed forms and independent implementations."""

import numpy as np
import pytest
import soxr
from scipy.linalg import solve_toeplitz
from scipy.signal import butter, lfilter, sosfilt

from espnet2_tfckd.scoring import composite, metrics

RATE = 16000


def modulated(rng, seconds):
    """Noise with the spectrum and the syllable rate of speech, roughly; silent at times."""
    noise = lfilter([1], [1, -1.2, 0.6], rng.standard_normal(int(seconds * RATE)))
    return noise * np.repeat(rng.random(int(seconds * 10)) ** 2, RATE // 10) * 0.05


def noise_at(reference, snr_db, rng):
    """Noise orthogonal to the reference, both of zero mean, at an exact ratio."""
    noise = rng.standard_normal(len(reference))
    noise -= noise.mean()
    centred = reference - reference.mean()
    noise -= centred * (noise @ centred) / (centred @ centred)
    return noise * np.linalg.norm(centred) / np.linalg.norm(noise) * 10 ** (-snr_db / 20)


@pytest.fixture(scope="module")
def reference():
    return modulated(np.random.default_rng(0), 3)


@pytest.fixture(scope="module")
def estimate(reference):
    return reference + noise_at(reference, 10, np.random.default_rng(1))


@pytest.mark.parametrize("snr_db", [-5, 0, 20])
def test_si_sdr_is_the_ratio_to_orthogonal_noise_whatever_the_gain_and_offset(reference, snr_db):
    estimate = reference + noise_at(reference, snr_db, np.random.default_rng(2))
    assert metrics.si_sdr(reference, estimate, RATE) == pytest.approx(snr_db, abs=1e-6)
    assert metrics.si_sdr(reference, 3 * estimate + 0.2, RATE) == pytest.approx(snr_db, abs=1e-6)


def test_sdr_forgives_a_filter_and_si_sdr_does_not(reference):
    echo = lfilter([1, *[0] * 80, 0.8], [1], reference)
    assert metrics.si_sdr(reference, echo, RATE) < 5
    assert metrics.sdr(reference, echo, RATE) > 25


@pytest.mark.filterwarnings("ignore:mir_eval", "ignore:distutils Version")
def test_sdr_is_not_below_si_sdr_and_agrees_with_mir_eval_and_ci_sdr(reference, estimate):
    from mir_eval.separation import bss_eval_sources

    expected = bss_eval_sources(reference[None], estimate[None], False)[0][0]
    value = metrics.sdr(reference, estimate, RATE)
    assert value == pytest.approx(expected, abs=1e-3)
    assert metrics.ci_sdr(reference, estimate, RATE) == pytest.approx(expected, abs=1e-3)
    assert value >= metrics.si_sdr(reference, estimate, RATE)


@pytest.mark.filterwarnings("ignore:distutils Version")
def test_identical_signals_have_a_huge_or_infinite_ratio(reference):
    for metric in (metrics.si_sdr, metrics.sdr, metrics.ci_sdr):
        assert metric(reference, reference, RATE) > 100


def test_pesq_is_largest_for_identical_signals_and_falls_with_noise(reference, estimate):
    assert metrics.pesq_wb(reference, reference, RATE) == pytest.approx(4.644, abs=1e-3)
    worse = reference + noise_at(reference, 0, np.random.default_rng(1))
    scores = [metrics.pesq_wb(reference, signal, RATE) for signal in (worse, estimate)]
    assert 1.0 < scores[0] < scores[1] < 4.644


@pytest.mark.parametrize("metric", [metrics.stoi, metrics.estoi])
def test_stoi_is_1_for_identical_signals_and_falls_with_noise(metric, reference, estimate):
    worse = reference + noise_at(reference, 0, np.random.default_rng(1))
    scores = [metric(reference, signal, RATE) for signal in (worse, estimate, reference)]
    assert scores == sorted(scores)
    assert scores[-1] == pytest.approx(1, abs=1e-6)


def test_seg_snr_is_exact_for_a_gain_error_and_limited_at_both_ends():
    reference = np.random.default_rng(0).standard_normal(RATE)
    for gain, expected in ((1.1, 20), (1 + 1e-4, 35), (1, 35), (11, -10)):
        value = metrics.seg_snr(reference, gain * reference, RATE)
        assert value == pytest.approx(expected, abs=1e-6)


def test_dnsmos_is_that_of_the_package_on_any_number_of_threads(estimate):
    from speechmos import dnsmos

    expected = dnsmos.run(estimate, sr=RATE)
    scores = metrics.dnsmos(None, estimate, RATE)
    assert scores.keys() == {"dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"}
    for key, score in scores.items():
        assert score == pytest.approx(expected[key.removeprefix("dnsmos_") + "_mos"], abs=1e-4)


def test_dnsmos_takes_signals_beyond_full_scale(estimate):
    full_scale = estimate / np.abs(estimate).max()
    assert metrics.dnsmos(None, 7 * full_scale, RATE) == pytest.approx(
        metrics.dnsmos(None, full_scale, RATE), abs=1e-3
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("PESQ", 0.03), ("STOI", 0.01), ("ESTOI", 0.02), ("SI_SDR", 0.1), ("SDR", 0.3)]
    + [("CI_SDR", 0.3), ("COMPOSITE", 0.1), ("SEG_SNR", 0.3), ("DNSMOS", 0.05)],
)
def test_scores_at_48_khz_are_those_at_16_khz(name, tolerance, reference, estimate):
    low_pass = butter(10, 6500, fs=RATE, output="sos")  # so that resampling loses nothing
    signals = [sosfilt(low_pass, signal) for signal in (reference, estimate)]
    upsampled = [soxr.resample(signal, RATE, 48000) for signal in signals]
    expected = metrics.PROTOCOLS[name](*signals, RATE)
    assert metrics.PROTOCOLS[name](*upsampled, 48000) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", metrics.PROTOCOLS)
def test_silence_is_refused_rather_than_scored(name, reference):
    silent = np.zeros_like(reference)
    if name not in ("DNSMOS", "SEG_SNR"):
        with pytest.raises(ValueError, match="silent"):
            metrics.PROTOCOLS[name](silent, reference, RATE)
    if name in ("STOI", "ESTOI", "SEG_SNR"):  # an estimate may well be silent: it is just bad
        assert all(np.isfinite(list(metrics.PROTOCOLS[name](reference, silent, RATE).values())))
    else:
        with pytest.raises(ValueError, match="silent"):
            metrics.PROTOCOLS[name](reference, silent, RATE)


@pytest.mark.parametrize("name", ["PESQ", "STOI", "ESTOI", "COMPOSITE", "SEG_SNR"])
def test_very_short_signals_are_refused(name, reference):
    short = reference[:300]
    with pytest.raises(ValueError, match=r"BufferTooShort|less than 0\.4 s|too few"):
        metrics.PROTOCOLS[name](short, short * 0.9, RATE)


def test_composite_of_identical_signals_is_5(reference):
    scores = metrics.composite(reference, reference, RATE)
    assert scores == {"csig": 5, "cbak": 5, "covl": 5}


def test_frame_distances_are_those_of_an_independent_implementation():
    """Values by pysepm-evo 0.1.1 for this signal, trimmed to the best 95 % (LLR and WSS)."""
    rng = np.random.default_rng(0)
    reference = lfilter([1], [1, -1.2, 0.6], rng.standard_normal(3 * RATE))
    reference *= np.repeat(rng.random(30), 1600) * 0.05
    estimate = reference + lfilter([1], [1, -0.9], 0.01 * rng.standard_normal(3 * RATE))
    signals = reference, estimate, RATE
    assert metrics.seg_snr(*signals) == pytest.approx(1.9575530666, abs=1e-9)
    llr = composite.trimmed_mean(composite.log_likelihood_ratio(*signals))
    assert llr == pytest.approx(0.1468257574, abs=1e-9)
    wss = composite.trimmed_mean(composite.weighted_spectral_slope(*signals))
    assert wss == pytest.approx(18.259222052, abs=1e-8)


def test_composite_is_the_published_regression():
    rng = np.random.default_rng(3)
    reference = modulated(rng, 2)
    signals = reference, reference + 0.02 * rng.standard_normal(len(reference)), RATE
    llr = composite.trimmed_mean(composite.log_likelihood_ratio(*signals))
    wss = composite.trimmed_mean(composite.weighted_spectral_slope(*signals))
    pesq, seg_snr = metrics.pesq_wb(*signals), metrics.seg_snr(*signals)
    expected = {
        "csig": 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
        "cbak": 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * seg_snr,
        "covl": 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
    }
    assert all(1 < rating < 5 for rating in expected.values())
    assert metrics.composite(*signals) == pytest.approx(expected)


def test_linear_prediction_solves_the_normal_equations():
    framed = np.random.default_rng(0).standard_normal((5, 200))
    correlation = composite.autocorrelation(framed, 16)
    for filters, r in zip(composite.linear_prediction(correlation), correlation, strict=True):
        np.testing.assert_allclose(filters[1:], -solve_toeplitz(r[:-1], r[1:]), rtol=1e-8)
        assert filters[0] == 1


def test_llr_of_two_autoregressive_processes_is_the_closed_form():
    noise = np.random.default_rng(0).standard_normal((2, 20 * RATE))
    of_reference, of_estimate = 0.9, 0.5
    reference, estimate = (
        lfilter([1], [1, -pole], excitation)
        for pole, excitation in zip((of_reference, of_estimate), noise, strict=True)
    )
    expected = np.log((1 - 2 * of_reference * of_estimate + of_estimate**2) / (1 - of_reference**2))
    value = np.median(composite.log_likelihood_ratio(reference, estimate, RATE))
    assert value == pytest.approx(expected, rel=0.15)  # order 16 fits the frames' noise as well


def test_llr_and_wss_do_not_depend_on_gain(reference, estimate):
    for distance in (composite.log_likelihood_ratio, composite.weighted_spectral_slope):
        np.testing.assert_allclose(
            distance(reference, 4 * estimate, RATE), distance(reference, estimate, RATE), atol=1e-6
        )
        assert distance(reference, 4 * reference, RATE) == pytest.approx(0, abs=1e-6)


def test_frames_of_digital_silence_do_not_spoil_llr_and_wss(reference, estimate):
    silence = np.zeros(RATE)
    longer = [np.concatenate([signal, silence]) for signal in (reference, estimate)]
    for distance in (composite.log_likelihood_ratio, composite.weighted_spectral_slope):
        assert np.all(np.isfinite(distance(*longer, RATE)))
