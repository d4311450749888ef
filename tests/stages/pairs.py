"""A data directory of three pairs of a tone and that tone in noise, and ways to spoil it."""

import numpy as np
import soundfile

from espnet2_tfckd.data.datadir import DataDir, write_data_dir

RATE = 16000
IDS = ("ann-1", "ann-2", "bob-1")
DURATIONS = dict(zip(IDS, (0.2, 0.5, 1.0), strict=True))


def signals(utterance: str, channels: int = 1, rate: int = RATE):
    """A tone as reference and the tone in noise as mixture, (T, channels) each."""
    rng = np.random.default_rng(len(utterance) + IDS.index(utterance))
    time = np.arange(round(DURATIONS[utterance] * rate)) / rate
    reference = np.repeat(0.3 * np.sin(2 * np.pi * 440 * time)[:, None], channels, axis=1)
    reference = reference * np.arange(1, channels + 1) / channels
    return reference + 0.1 * rng.uniform(-1, 1, reference.shape), reference


def make_data_dir(path, channels=1, rate=RATE, suffix="wav"):
    data = DataDir({}, {}, {})
    for utterance in IDS:
        pair = signals(utterance, channels, rate)
        for kind, table, signal in zip("mr", (data.mixture, data.reference), pair, strict=True):
            file = path / f"{utterance}_{kind}.{suffix}"
            file.parent.mkdir(exist_ok=True)
            soundfile.write(file, signal, rate)
            table[utterance] = str(file)
        data.speaker[utterance] = utterance[:3]
        data.metadata[utterance] = {"speaker": utterance[:3], "seconds": str(DURATIONS[utterance])}
    data.text["ann-1"] = "hello there"
    write_data_dir(path, data)
    return data


def overwrite(path, signal, rate=RATE):
    soundfile.write(path, signal, rate, "FLOAT")


BAD_AUDIO = {
    "missing": (lambda p: p.unlink(), "bob-1 mixture: .* does not exist"),
    "unreadable": (lambda p: p.write_bytes(b"RIFF no"), "bob-1: .*not readable audio"),
    "empty": (lambda p: overwrite(p, np.zeros(0)), "bob-1: the mixture is empty"),
    "silent": (lambda p: overwrite(p, np.zeros(RATE)), "bob-1: the mixture is silent"),
    "not a number": (lambda p: overwrite(p, np.full(RATE, np.nan)), "bob-1: .* not numbers"),
    "other length": (lambda p: overwrite(p, np.ones(99)), "99 samples, the reference 16000"),
    "other rate": (lambda p: overwrite(p, np.ones(RATE), 8000), "8000 Hz, the reference 16000 Hz"),
}
