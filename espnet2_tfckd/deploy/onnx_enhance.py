"""Enhance a wav file with an exported model. Needs numpy, onnxruntime and soundfile, no torch.

python enhance.py noisy.wav enhanced.wav            # frame by frame where the model can
python enhance.py noisy.wav enhanced.wav --offline  # all frames at once
python enhance.py noisy.wav enhanced.wav --int8     # weights of 8 bits, if they were exported
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile


class ExportedModel:
    """An exported network with its STFT; this file lies in the network's folder."""

    def __init__(self, folder, offline=False, int8=False):
        self.meta = json.loads((Path(folder) / "meta.json").read_text(encoding="utf-8"))
        self.streaming = "streaming" in self.meta["models"] and not offline
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = self.meta["models"]["streaming" if self.streaming else "offline"]
        if int8 and "int8" not in model:
            raise ValueError(f"{folder} holds no int8 networks: export with --quantise")
        file = model["int8"]["file"] if int8 else model["file"]
        self.session = onnxruntime.InferenceSession(str(Path(folder) / file), options)
        self.state_names = [state["name"] for state in model.get("states", [])]
        self.state_shapes = [state["shape"] for state in model.get("states", [])]
        self.reset()
        size = self.meta["n_fft"]
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)

    def reset(self):
        """Forget what was enhanced before, because another recording begins."""
        self.states = [np.zeros(shape, np.float32) for shape in self.state_shapes]

    def step(self, spectrum):
        """Enhance a complex spectrum (T, M, F) to (T, F); in streaming, T is 1."""
        parts = np.concatenate([spectrum.real, spectrum.imag], 1).transpose(1, 0, 2)
        feed = dict(zip(self.state_names, self.states, strict=True))
        feed["mixture"] = parts[None].astype(np.float32)
        estimate, *self.states = self.session.run(None, feed)
        return estimate[0, 0] + 1j * estimate[0, 1]

    def enhance(self, signal):
        """Enhance a recording (samples, M) to (samples,)."""
        size, hop = self.meta["n_fft"], self.meta["hop_length"]
        self.reset()
        # Whole hops: after any other length, only the edge of one window would cover the end.
        hops = max(-(-len(signal) // hop), size // 2 // hop + 1)
        padded = np.pad(signal, ((0, hops * hop - len(signal)), (0, 0)), mode="reflect")
        padded = np.pad(padded, ((size // 2, size // 2), (0, 0)), mode="reflect")
        starts = range(0, len(padded) - size + 1, hop)
        frames = np.stack([padded[s : s + size] for s in starts]) * self.window[:, None]
        spectrum = np.fft.rfft(frames, axis=1).transpose(0, 2, 1)
        if self.streaming:  # a frame can be enhanced as soon as its last sample has arrived
            estimate = np.concatenate([self.step(frame[None]) for frame in spectrum])
        else:
            estimate = self.step(spectrum)
        output, weight = np.zeros(len(padded)), np.zeros(len(padded))
        for start, frame in zip(starts, np.fft.irfft(estimate, size, axis=1), strict=True):
            output[start : start + size] += frame * self.window
            weight[start : start + size] += self.window**2
        output = output / np.maximum(weight, 1e-11)
        return output[size // 2 : size // 2 + len(signal)].astype(np.float32)


def enhance_file(enhancer, source, target):
    """Enhance a file to a wav file of 32-bit floats, which gets its name once it is complete."""
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError("would be overwritten: name another output")
    if not target.lower().endswith(".wav"):
        raise ValueError(f"is written as wav only, not as {target}")
    audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
    expected = (enhancer.meta["sample_rate"], enhancer.meta["microphones"])
    if (rate, audio.shape[1]) != expected:
        raise ValueError(f"the model takes {expected[0]} Hz and {expected[1]} channel(s)")
    if not len(audio) or not np.isfinite(audio).all():
        raise ValueError("is empty, or holds samples that are not numbers")
    estimate = enhancer.enhance(audio)
    if not np.isfinite(estimate).all():
        raise ValueError("the model's output is not finite")
    partial = f"{target}.partial"
    try:
        soundfile.write(partial, estimate, rate, "FLOAT", format="WAV")
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input"), parser.add_argument("output")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--int8", action="store_true")
    arguments = parser.parse_args()
    try:
        enhancer = ExportedModel(Path(__file__).parent, arguments.offline, arguments.int8)
        enhance_file(enhancer, arguments.input, arguments.output)
    except Exception as error:  # onnxruntime's errors have no class of their own
        raise SystemExit(f"error: {arguments.input}: {error}") from None
