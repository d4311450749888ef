"""Draws local/spectrograms.png: a sample before and after the model that the package brings along.

Run it with ``python local/draw_spectrograms.py [SAMPLE]``.
"""

import argparse
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from espnet2_tfckd.data.audio import read_audio
from espnet2_tfckd.deploy.enhancer import load_enhancer
from espnet2_tfckd.deploy.files import enhance_file
from espnet2_tfckd.deploy.pretrained import DEFAULT_MODEL, SAMPLES
from espnet2_tfckd.scoring.metrics import si_sdr

FRAME, HOP = 512, 128
RANGE_DB = 70


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", nargs="?", default="jackhammer", help="name of a sample")
    name = parser.parse_args().sample
    noisy, clean = (SAMPLES / side / f"{name}.flac" for side in ("noisy", "reference"))
    with tempfile.TemporaryDirectory() as folder:
        enhanced = Path(folder) / f"{name}.wav"
        outcome = enhance_file(load_enhancer(str(DEFAULT_MODEL)), str(noisy), str(enhanced))
        if outcome.error:
            raise SystemExit(outcome.error)
        signals = {
            title: read_audio(path)[0][:, 0].astype(float)
            for title, path in (("noisy", noisy), ("enhanced", enhanced), ("reference", clean))
        }
    _, rate = read_audio(clean)
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    for axis, (title, signal) in zip(
        figure.subplots(1, 3, sharey=True), signals.items(), strict=True
    ):
        *_, image = axis.specgram(signal + 1e-7, FRAME, rate, noverlap=FRAME - HOP, cmap="magma")
        peak = image.get_array().max()
        image.set_clim(peak - RANGE_DB, peak)
        score = f", SI-SDR {si_sdr(signals['reference'], signal, rate):.1f} dB"
        axis.set_title(title + (score if title != "reference" else ""), fontsize=10)
        axis.set_xlabel("time (s)")
    figure.axes[0].set_yticks(range(0, rate // 2 + 1, 2000), range(0, rate // 2000 + 1, 2))
    figure.axes[0].set_ylabel("frequency (kHz)")
    figure.savefig(Path(__file__).parent / "spectrograms.png", dpi=80)


if __name__ == "__main__":
    main()
