"""A process that holds one model and measures it when told to.

It is given the model's class on the command line, then reads requests from standard input, a JSON
object a line, and answers each by one. Whatever else is printed goes to standard error.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import soundfile

from tests.benchmarks.measuring import memory
from tests.benchmarks.peers.model import Model, enhance, lag, resampled, timed

WARM_UP_SECONDS = 0.5
LONGEST_LAG_SECONDS = 0.1
LAG_TOLERANCE_SECONDS = 1 / 16000


@functools.cache
def _mixture(path: str, rate: int) -> np.ndarray:
    signal, at = soundfile.read(path, dtype="float32")
    return resampled(signal, at, rate)


def warm_up(model: Model, audio: str) -> dict:
    """Run what is only slow the first time."""
    timed(model, _mixture(audio, model.sample_rate)[: int(WARM_UP_SECONDS * model.sample_rate)])
    return {}


def time(model: Model, audio: str) -> dict:
    """See :func:`tests.benchmarks.peers.model.timed`."""
    return timed(model, _mixture(audio, model.sample_rate))


def find_lag(model: Model, audio: str) -> dict:
    """The lag between mixture and estimate in ms, by cross-correlation.

    Raises:
        RuntimeError: It is another than the model's class declares.
    """
    mixture, rate = _mixture(audio, model.sample_rate), model.sample_rate
    model.reset()
    estimate = np.concatenate(list(model.stream(mixture)))
    found = lag(mixture, estimate, int(LONGEST_LAG_SECONDS * rate))
    if abs(found - model.delay) > LAG_TOLERANCE_SECONDS * rate:
        raise RuntimeError(
            f"the estimate lags behind by {found} samples, {model.delay} are compensated"
        )
    return {"lag_ms": 1000 * found / rate}


def enhance_files(model: Model, mixtures: dict[str, str], folder: str) -> dict:
    """Write the estimates of utterances, given by their ids and files."""
    for utterance, entry in mixtures.items():
        signal, rate = soundfile.read(entry, dtype="float32")
        estimate = enhance(model, signal, rate)
        soundfile.write(Path(folder) / f"{utterance}.wav", estimate, rate, "FLOAT")
    return {}


def costs(model: Model) -> dict:
    """Parameters and multiply-accumulates."""
    return model.costs()


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(answer: dict) -> None:
        print(json.dumps(answer), file=replies, flush=True)

    module, _, name = sys.argv[1].partition(":")
    try:
        model_class = getattr(importlib.import_module(module), name)
        imported = memory("VmRSS")
        began = perf_counter()
        model = model_class(**json.loads(sys.argv[2]))
        load_ms = 1000 * (perf_counter() - began)
    except Exception as error:  # a model that fails must not end the benchmark
        reply({"error": f"{type(error).__name__}: {error}"})
        raise

    def describe(_) -> dict:
        """What does not need measuring, and the memory so far."""
        peak = memory("VmHWM")
        return {
            "sample_rate": model.sample_rate,
            "latency_ms": model.latency_ms,
            "delay_ms": 1000 * model.delay / model.sample_rate,
            "streams": model.streams,
            "load_ms": load_ms,
            "peak_mb": peak // 1024,
            "added_mb": (peak - imported) // 1024,
        }

    commands = {f.__name__: f for f in (warm_up, time, find_lag, enhance_files, costs, describe)}
    reply({})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply(commands[request.pop("command")](model, **request))
        except Exception as error:  # as above
            reply({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
