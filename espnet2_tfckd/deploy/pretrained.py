"""What the package brings along: a causal student, and recordings to try it on.

The student is trained, exported and put here by ``egs2/mini/enh1/train_default_model.sh``.
"""

from __future__ import annotations

import io
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "pretrained"
#: The model that is used where none is named: the folder of an ONNX export.
DEFAULT_MODEL = FOLDER / "causal_16k"
#: The same as a packed ESPnet model, to be distilled from or trained further.
DEFAULT_PACK = FOLDER / "causal_16k.zip"
SAMPLES = FOLDER / "samples"


def write_samples(folder: str | Path) -> list[Path]:
    """Write six noisy recordings and their references as wav files, with their credits.

    Args:
        folder: Where to write: ``noisy/<name>.wav``, ``reference/<name>.wav`` and ``CREDITS.md``.

    Returns:
        The noisy files.

    Raises:
        ValueError: If a file of that name holds something else; nothing is written then.
        OSError: If the folder cannot be written.
    """
    from espnet2_tfckd.cli import atomic_write
    from espnet2_tfckd.data.audio import audio_writer, read_audio

    folder = Path(folder)
    contents: dict[Path, bytes] = {}
    for source in sorted(SAMPLES.rglob("*")):
        if source.suffix == ".flac":
            samples, rate = read_audio(source)
            buffer = io.BytesIO()
            with audio_writer(buffer, rate) as writer:
                writer.write(samples)
            target = folder / source.relative_to(SAMPLES).with_suffix(".wav")
            contents[target] = buffer.getvalue()
        elif source.is_file():
            contents[folder / source.name] = source.read_bytes()
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise ValueError(f"{path} exists and is not a sample: name another folder")
    for path, content in contents.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return [path for path in contents if path.parent.name == "noisy"]
