"""Single channels of the audio that scp entries point to."""

from __future__ import annotations

import numpy as np

from espnet2_tfckd.data.datadir import read_audio


def read_channel(entry: str, ref_channel: int) -> tuple[np.ndarray, int]:
    """Read one channel of finite audio; a file with a single channel has only that to offer.

    Args:
        entry: As for :func:`espnet2_tfckd.data.datadir.read_audio`.
        ref_channel: Channel to take of a file with several, from 0.

    Shape:
        samples (N,)

    Returns:
        Samples in double precision and the sample rate in Hz.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file cannot be read as audio, holds no samples or samples that are not
            finite, or the channel does not exist.
    """
    samples, sample_rate = read_audio(entry)
    channels = samples.shape[1]
    if len(samples) == 0:
        raise ValueError(f"{entry} holds no samples")
    if not 0 <= ref_channel < channels and channels > 1:
        raise ValueError(f"{entry} has {channels} channels, there is no channel {ref_channel}")
    channel = samples[:, ref_channel if channels > 1 else 0].astype(np.float64)
    if not np.all(np.isfinite(channel)):
        raise ValueError(f"{entry} has NaN or infinite samples")
    return channel, sample_rate
