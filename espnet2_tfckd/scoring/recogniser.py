"""Speech recognisers, by the names that ``--asr_model`` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from espnet2_tfckd.scoring.metrics import MODEL_RATE

DEFAULT = "facebook/wav2vec2-base-960h"  # the L3DAS challenges'
OFFLINE = "pocketsphinx"

#: From a signal (T,) at 16 kHz to its transcript.
Recogniser = Callable[[np.ndarray], str]


def load_recogniser(name: str, device: str = "cpu") -> Recogniser:
    """Load a speech recogniser.

    Args:
        name: Name of a CTC model on the Hugging Face hub, or the path of its folder. Or
            ``pocketsphinx``, whose English model comes with its package and is good enough for
            trials only.
        device: As for torch.

    Raises:
        RuntimeError: If a package is missing or the model cannot be loaded; the message says what
            to do.
    """
    try:
        return _pocketsphinx() if name == OFFLINE else _ctc_model(name, device)
    except ImportError as error:
        raise RuntimeError(
            f"--asr_model {name} needs the package {error.name}: pip install {error.name}, or "
            'score without a recogniser: --asr_model ""'
        ) from error


def _ctc_model(name: str, device: str) -> Recogniser:
    import torch
    import transformers
    from huggingface_hub import snapshot_download

    transformers.logging.set_verbosity_error()
    try:
        # without a network this fails at once, while from_pretrained tries for minutes
        unused = ["*.h5", "*.msgpack"]
        folder = name if Path(name).is_dir() else snapshot_download(name, ignore_patterns=unused)
        processor = transformers.AutoProcessor.from_pretrained(folder)
        model = transformers.AutoModelForCTC.from_pretrained(folder).eval().to(device)
    except Exception as error:  # offline, the hub's clients raise many kinds of errors
        reason = str(error).strip().partition("\n")[0]
        raise RuntimeError(
            f"the recogniser {name} cannot be loaded ({reason}). Without a network, fetch it "
            f"elsewhere (hf download {name} --local-dir FOLDER) and give the folder: --asr_model "
            'FOLDER; or score without a recogniser: --asr_model ""'
        ) from error

    @torch.no_grad()
    def recognise(signal: np.ndarray) -> str:
        inputs = processor(signal, sampling_rate=MODEL_RATE, return_tensors="pt").to(device)
        best = model(**inputs).logits.argmax(dim=-1)  # (1, frames)
        return processor.batch_decode(best)[0]

    return recognise


def _pocketsphinx() -> Recogniser:
    import pocketsphinx

    def recognise(signal: np.ndarray) -> str:
        # a new one each time, since it adapts to the utterances before
        decoder = pocketsphinx.Decoder(loglevel="FATAL")
        samples = np.round(np.clip(signal, -1, 1) * 32767).astype(np.int16)
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        best = decoder.hyp()
        return best.hypstr if best else ""

    return recognise
