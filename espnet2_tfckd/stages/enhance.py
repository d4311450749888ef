"""Stage 8: enhance a data set with a trained model and measure what the model costs."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnet2_tfckd.cli import atomic_write, run_command
from espnet2_tfckd.datadir import read_audio, read_data_dir
from espnet2_tfckd.inference import load_separate_speech, model_files
from espnet2_tfckd.models.configuration import check_rate
from espnet2_tfckd.scoring.parallel import MAX_NAMED
from espnet2_tfckd.stages.enhance_workers import list_devices, outcomes

if TYPE_CHECKING:
    from espnet2.bin.enh_inference import SeparateSpeech

SUBTYPES = {"wav": "FLOAT", "flac": "PCM_24"}  # no clipping; 16 bits would clip and round


@dataclass(frozen=True)
class Task:
    """One utterance: its id, the scp entry of its mixture, and the file to write."""

    utterance: str
    mixture: str
    output: Path


@dataclass(frozen=True)
class Inference:
    """Everything that the enhanced audio depends on besides the mixtures.

    Attributes:
        exp_dir: Experiment directory with ``config.yaml``.
        inference_model: Name of the checkpoint in it.
        sample_rate: Rate in Hz that the mixtures must have.
        audio_format: ``wav`` (32-bit float) or ``flac`` (24 bits).
        ref_channel: Reference channel of a multichannel model; its own by default.
    """

    exp_dir: str
    inference_model: str
    sample_rate: int = 16000
    audio_format: str = "wav"
    ref_channel: int | None = None

    def settings(self) -> dict:
        """The fields and the contents of the model's files, to tell whether results are current."""
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in model_files(self.exp_dir, self.inference_model)
        }
        return {**asdict(self), "sha256": digests}


def enhance_utterance(separate_speech: SeparateSpeech, task: Task, inference: Inference) -> None:
    """Enhance one utterance and write it with the length of its mixture and without rescaling.

    Raises:
        FileNotFoundError: The mixture is not there.
        ValueError: The mixture cannot be used or the estimate cannot be written; names the
            utterance.
        RuntimeError: The model breaks down on the mixture; names the utterance.
    """
    import soundfile

    mixture, sample_rate = read_audio(task.mixture)
    if sample_rate != inference.sample_rate:
        raise ValueError(
            f"{task.utterance}: mixture at {sample_rate} Hz, not at {inference.sample_rate} Hz"
        )
    if len(mixture) == 0 or not np.all(np.isfinite(mixture)):
        raise ValueError(f"{task.utterance}: the mixture is empty or has NaN or infinite samples")
    batch = mixture.T if mixture.shape[1] == 1 else mixture[None]
    try:
        estimate = separate_speech(batch, fs=sample_rate)[0][0]
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise RuntimeError(
            f"{task.utterance}: the model fails on {mixture.shape[0]} samples in "
            f"{mixture.shape[1]} channels: {error}"
        ) from error
    if not np.all(np.isfinite(estimate)):
        raise ValueError(f"{task.utterance}: the estimate has NaN or infinite samples")
    # convolutional decoders may end some samples early or late
    estimate = np.pad(estimate[: len(mixture)], (0, max(0, len(mixture) - len(estimate))))
    if inference.audio_format == "flac" and np.abs(estimate).max() > 1:
        raise ValueError(f"{task.utterance}: the estimate would clip in flac: use wav")
    with atomic_write(task.output) as temporary:
        soundfile.write(temporary, estimate, sample_rate, SUBTYPES[inference.audio_format])


def _is_current(output: Path, since_ns: int, mixture: str) -> bool:
    """Whether an output was made with the present settings and from the present mixture."""
    try:
        made = output.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    mixture_file = Path(mixture)  # an archive's entries are as old as the data directory
    changed = mixture_file.stat().st_mtime_ns if mixture_file.exists() else 0
    return made >= max(since_ns, changed)


def _remember_settings(path: Path, settings: dict) -> int:
    """Write the settings unless they are there already; return when they were first used."""
    try:
        unchanged = json.loads(path.read_text(encoding="utf-8")) == settings
    except (FileNotFoundError, ValueError):
        unchanged = False
    if not unchanged:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return path.stat().st_mtime_ns


def enhance(
    inference: Inference,
    data_dir: str | Path,
    output_dir: str | Path,
    num_jobs: int,
    num_gpus: int = 0,
) -> Path:
    """Enhance a data set; utterances that are enhanced already are passed over.

    Args:
        inference: Model and settings. When they change, everything is enhanced again.
        data_dir: Data directory.
        output_dir: Directory of ``wavs/<utterance>.wav`` and, once all are there, ``spk1.scp``.
        num_jobs: Number of processes on the CPU; never more than cores.
        num_gpus: Number of GPUs, with a process each; 0 for the CPU.

    Returns:
        Path of ``spk1.scp``. ``profile.json`` is written to the experiment directory.

    Raises:
        FileNotFoundError: A file that is needed is not there.
        ValueError: The checkpoint does not fit, or utterances cannot be enhanced; names them.
            The others are enhanced and kept first.
    """
    output_dir, exp_dir = Path(output_dir), Path(inference.exp_dir)
    mixtures = read_data_dir(data_dir).mixture
    since_ns = _remember_settings(output_dir / "inference.json", inference.settings())
    outputs = {utt: output_dir / "wavs" / f"{utt}.{inference.audio_format}" for utt in mixtures}
    tasks = [
        Task(utt, mixture, outputs[utt])
        for utt, mixture in mixtures.items()
        if not _is_current(outputs[utt], since_ns, mixture)
    ]
    config_ns = (exp_dir / "config.yaml").stat().st_mtime_ns
    measured = _is_current(exp_dir / "profile.json", config_ns, "")
    scp = output_dir / "spk1.scp"
    if tasks:
        scp.unlink(missing_ok=True)
    if tasks or not measured:
        example = None if measured else next(iter(mixtures.values()))
        _load_and_run(inference, tasks, num_jobs, num_gpus, example)
    with atomic_write(scp) as temporary:
        lines = (f"{utt} {output}\n" for utt, output in outputs.items())
        temporary.write_text("".join(lines), encoding="utf-8")
    return scp


def _load_and_run(
    inference: Inference, tasks: list[Task], num_jobs: int, num_gpus: int, example: str | None
) -> None:
    """Enhance, after measuring the model if there is an example of a mixture to do it with."""
    import torch
    from tqdm import tqdm

    from espnet2_tfckd.stages.profile import write_profile

    torch.set_num_threads(1)  # until the workers are forked
    separate_speech = load_separate_speech(
        inference.exp_dir, inference.inference_model, ref_channel=inference.ref_channel
    )
    if not separate_speech.sfi_processing:  # networks for any rate take the data's
        options = vars(separate_speech.enh_train_args)
        check_rate(options, inference.sample_rate, inference.exp_dir)
    if example:
        channels = read_audio(example)[0].shape[1]
        profile_json = Path(inference.exp_dir) / "profile.json"
        write_profile(profile_json, separate_speech, inference.sample_rate, channels)
    if not tasks:
        return
    problems = []
    devices = list_devices(num_jobs, num_gpus, len(tasks))
    enhance_one = partial(enhance_utterance, inference=inference)
    errors = outcomes(separate_speech, enhance_one, tasks, devices)
    for error in tqdm(errors, "enhancing", len(tasks), unit="utt"):
        if error:
            problems.append(str(error))
        if len(problems) == MAX_NAMED:
            break
    if problems:
        raise ValueError(
            "some mixtures cannot be enhanced (finished ones are kept):\n  " + "\n  ".join(problems)
        )


def get_parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet2_tfckd.stages.enhance", description=__doc__
    )
    parser.add_argument("--exp_dir", required=True, help="experiment directory with config.yaml")
    parser.add_argument("--inference_model", default="valid.loss.best.pth", help="checkpoint in it")
    parser.add_argument("--data_dir", required=True, help="data directory to enhance")
    parser.add_argument("--output_dir", required=True, help="directory of the enhanced audio")
    parser.add_argument("--nj", type=int, default=1, help="processes when on the CPU")
    parser.add_argument("--ngpu", type=int, default=0, help="GPUs, a process each; 0: CPU")
    parser.add_argument("--fs", type=int, default=16000, help="sample rate of the data in Hz")
    parser.add_argument("--audio_format", choices=SUBTYPES, default="wav")
    parser.add_argument("--ref_channel", type=int, help="reference channel of a multichannel model")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    parser = get_parser()
    args = parser.parse_args()
    if args.nj < 1 or args.ngpu < 0:
        parser.error("--nj must be at least 1 and --ngpu at least 0")
    inference = Inference(
        args.exp_dir, args.inference_model, args.fs, args.audio_format, args.ref_channel
    )
    scp = enhance(inference, args.data_dir, args.output_dir, args.nj, args.ngpu)
    print(f"Enhanced audio: {scp}")


if __name__ == "__main__":
    run_command(main)
