"""Enhance a wav file with an exported model. Needs numpy, onnxruntime and soundfile, no torch.

python enhance.py noisy.wav enhanced.wav            # frame by frame where the model can
python enhance.py noisy.wav enhanced.wav --offline  # all frames at once
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile


def session_options():
    """One thread, and no time lost on numbers too small to hear."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


class FrameByFrame:
    """A streaming network, and all that it remembers of earlier frames, as meta.json describes it.

    Memory is bound to the network once, so that nothing is copied from frame to frame.
    """

    def __init__(self, session, model):
        self.session, self.model = session, model
        history, attention = model.get("history", []), model.get("attention", [])
        longest = max(
            (read["frames_ago"] for entry in history for read in entry["reads"]), default=1
        )
        self.period = 2 * longest  # frames until all is bound as before

        def zeros(shape, *copies):
            return np.zeros((*copies, *shape), np.float32)

        self.arrays = {x.name: zeros(x.shape) for x in session.get_inputs()}
        self.arrays |= {x.name: zeros(x.shape) for x in session.get_outputs()}
        # of states, two take turns as input and output; of features, those of the last frames
        self.states = {entry["name"]: zeros(entry["shape"], 2) for entry in model["states"]}
        self.features = {entry["name"]: zeros(entry["shape"], self.period) for entry in history}
        self.attention = [(entry["name"], entry["input"], entry["axis"]) for entry in attention]
        self.bindings = [self._bind(number) for number in range(self.period)]
        self.reset()

    def _bind(self, number):
        inputs = {x.name: self.arrays[x.name] for x in self.session.get_inputs()}
        outputs = {x.name: self.arrays[x.name] for x in self.session.get_outputs()}
        for name, pair in self.states.items():
            inputs[name], outputs[f"next_{name}"] = pair[number % 2], pair[1 - number % 2]
        for entry in self.model.get("history", []):
            frames = self.features[entry["name"]]
            outputs[entry["name"]] = frames[number]
            for read in entry["reads"]:  # the last channels, of some frames ago
                frame = frames[(number - read["frames_ago"]) % self.period]
                inputs[read["name"]] = frame[:, -read["shape"][1] :]
        binding = self.session.io_binding()
        for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding

    def reset(self):
        """Forget what was enhanced before."""
        for array in (*self.arrays.values(), *self.states.values(), *self.features.values()):
            array[:] = 0
        self.mask = self.arrays.get("attention_mask", np.zeros(0))
        self.mask[:] = -np.inf  # nothing is there yet that a frame could attend to
        self.count = 0

    def __call__(self, mixture):
        """Real and imaginary parts of a frame, (1, 2M, 1, F), to those of its estimate."""
        self.arrays["mixture"][:] = mixture
        if "inverse_count" in self.arrays:
            self.arrays["inverse_count"][:] = 1 / (self.count + 1)
        self.session.run_with_iobinding(self.bindings[self.count % self.period])
        for output, kept, axis in self.attention:  # in place of the oldest
            frames = np.moveaxis(self.arrays[kept], axis, 0)
            frames[self.count % len(frames)] = self.arrays[output].squeeze(axis)
            self.mask[..., self.count % len(frames)] = 0
        self.count += 1
        return self.arrays["estimate"]


class ExportedModel:
    """An exported network with its STFT; this file lies in the network's folder."""

    def __init__(self, folder, offline=False):
        self.meta = json.loads((Path(folder) / "meta.json").read_text(encoding="utf-8"))
        self.streaming = "streaming" in self.meta["models"] and not offline
        model = self.meta["models"]["streaming" if self.streaming else "offline"]
        session = onnxruntime.InferenceSession(str(Path(folder) / model["file"]), session_options())
        if self.streaming:
            self.network = FrameByFrame(session, model)
        else:
            self.network = lambda mixture: session.run(None, {"mixture": mixture})[0]
        size = self.meta["n_fft"]
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)

    def reset(self):
        """Forget what was enhanced before, because another recording begins."""
        if self.streaming:
            self.network.reset()

    def step(self, spectrum):
        """Enhance a complex spectrum (T, M, F) to (T, F); in streaming, T is 1."""
        parts = np.concatenate([spectrum.real, spectrum.imag], 1).transpose(1, 0, 2)
        estimate = self.network(parts[None].astype(np.float32))
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
    arguments = parser.parse_args()
    try:
        enhancer = ExportedModel(Path(__file__).parent, arguments.offline)
        enhance_file(enhancer, arguments.input, arguments.output)
    except Exception as error:  # onnxruntime's errors have no class of their own
        raise SystemExit(f"error: {arguments.input}: {error}") from None
