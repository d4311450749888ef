"""The simulated Ambisonics microphones that other tests record with."""

import numpy as np
import pytest

from tests.ambisonics import (
    RATE,
    coloured_noise,
    direction,
    room_responses,
    simulate_scene,
    syllables,
)

ROOT_HALF = 0.70710678
# azimuth, elevation -> gains of Y, Z, X by the definition of SN3D, that of W being 1
KNOWN = {
    (0, 0): (0, 0, 1),
    (90, 0): (1, 0, 0),
    (180, 0): (0, 0, -1),
    (0, 90): (0, 1, 0),
    (-45, 0): (-ROOT_HALF, 0, ROOT_HALF),
    (90, -30): (0.8660254, -0.5, 0),
}


@pytest.mark.parametrize("angles", KNOWN, ids=str)
def test_direct_sound_from_a_known_direction_has_the_gains_of_sn3d(angles):
    microphone = np.array([3.0, 3.0, 1.5])
    source = microphone + direction(*angles)
    [response] = room_responses([6, 6, 3], [source], microphone, 0.5, max_order=0)
    w = response[:, 0]
    gains = response.T @ w / (w @ w)
    np.testing.assert_allclose(gains, [1, *KNOWN[angles]], atol=1e-6)


def test_direct_sound_halves_with_twice_the_distance():
    microphone = np.array([3.0, 3.0, 1.5])
    sources = [microphone + [distance, 0, 0] for distance in (1, 2)]
    near, far = room_responses([6, 6, 3], sources, microphone, 0.5, max_order=0)
    energy = [(response[:, 0] ** 2).sum() for response in (near, far)]
    assert energy[0] / energy[1] == pytest.approx(4, rel=0.02)


def test_the_reference_is_the_direct_sound_of_the_talker_in_w():
    rng = np.random.default_rng(0)
    speech = syllables(rng, RATE)
    scene = simulate_scene(rng, speech, np.zeros(RATE), 0, max_order=0)
    np.testing.assert_allclose(scene.mixture[:, 0], scene.reference, atol=1e-9)


def test_signal_to_noise_ratio_is_that_asked_for():
    rng = np.random.default_rng(0)
    speech, noise = syllables(rng, RATE), coloured_noise(rng, RATE)
    scene = simulate_scene(rng, speech, noise, snr_db=5, max_order=0)
    rest = scene.mixture[:, 0] - scene.reference
    ratio = (scene.reference**2).sum() / (rest**2).sum()
    assert 10 * np.log10(ratio) == pytest.approx(5, abs=1e-6)
