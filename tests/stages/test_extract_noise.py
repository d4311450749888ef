"""The noises of a training set: what ESPnet makes of them, and what is refused."""

import numpy as np
import pytest

from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.stages import extract_noise as noise_stage
from espnet2_tfckd.stages.extract_noise import extract_noise
from tests.stages.pairs import BAD_AUDIO, IDS, RATE, make_data_dir, overwrite, signals


def test_noise_is_the_mixture_without_the_reference_at_full_scale(pairs_dir):
    assert extract_noise(pairs_dir, nj=2) == (3, 0)
    lines = (pairs_dir / "noise.scp").read_text().splitlines()
    assert [line.split()[0] for line in lines] == list(IDS)
    noise, rate = read_entry(lines[2].split()[1])
    mixture, reference = signals("bob-1")
    expected = (mixture - reference) / np.abs(mixture - reference).max()
    assert rate == RATE
    np.testing.assert_allclose(noise, 0.999 * expected, atol=1e-3)  # 16 bits at a tenth


def test_espnet_mixes_any_of_them_anew_with_the_reference(pairs_dir):
    from espnet2.train.preprocessor import EnhPreprocessor

    extract_noise(pairs_dir)
    remix = EnhPreprocessor(
        True, noise_scp=str(pairs_dir / "noise.scp"), noise_db_range="5_5", sample_rate=RATE
    )
    mixture, reference = (signal[:, 0].astype(np.float32) for signal in signals("bob-1"))
    np.random.seed(0)  # ESPnet draws noises and their starts from NumPy's global generator
    data = [remix("bob-1", {"speech_mix": mixture, "speech_ref1": reference}) for _ in range(6)]
    noises = [visit["speech_mix"] - visit["speech_ref1"] for visit in data]
    for noise in noises:
        snr = 10 * np.log10(np.square(reference).mean() / np.square(noise).mean())
        assert snr == pytest.approx(5, abs=0.1)
    assert len({noise.tobytes() for noise in noises}) > 2


def test_a_mixture_without_noise_gives_none(pairs_dir, capsys):
    overwrite(pairs_dir / "bob-1_m.wav", signals("bob-1")[1])
    overwrite(pairs_dir / "bob-1_r.wav", signals("bob-1")[1])
    noise_stage.main([str(pairs_dir)])
    assert "2 noises, 1 mixtures without any" in capsys.readouterr().out
    assert "bob-1" not in (pairs_dir / "noise.scp").read_text()


def test_no_noise_at_all_is_an_error(pairs_dir):
    for utterance in IDS:
        overwrite(pairs_dir / f"{utterance}_m.wav", signals(utterance)[1])
        overwrite(pairs_dir / f"{utterance}_r.wav", signals(utterance)[1])
    with pytest.raises(ValueError, match="every mixture equals its reference"):
        extract_noise(pairs_dir)
    assert not (pairs_dir / "noise.scp").exists()


def test_several_channels_are_refused(tmp_path):
    make_data_dir(tmp_path / "in", channels=2)
    with pytest.raises(ValueError, match="bob-1: the mixture has 2 channels"):
        extract_noise(tmp_path / "in")


@pytest.mark.parametrize("kind", BAD_AUDIO)
def test_bad_audio_is_named(pairs_dir, kind):
    spoil, complaint = BAD_AUDIO[kind]
    spoil(pairs_dir / "bob-1_m.wav")
    with pytest.raises(ValueError, match=complaint):
        extract_noise(pairs_dir)
