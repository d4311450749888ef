"""Stage 8: enhance a data set with a trained model and measure what the model costs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnet2_tfckd.cli import at_least_one, atomic_write, hertz, not_negative, run_command
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import file_of, read_entry
from espnet2_tfckd.data.freshness import (
    change,
    changed_files,
    made_of,
    named_files,
    read_record,
    write_record,
)
from espnet2_tfckd.data.locking import only_one
from espnet2_tfckd.data.paths import refuse_overlap
from espnet2_tfckd.deploy.streaming import separated
from espnet2_tfckd.models.configuration import CHECKPOINT, check_rate
from espnet2_tfckd.models.cost import PROFILE, is_measured, profile_made_of, write_profile
from espnet2_tfckd.models.inference import load_separate_speech, model_made_of
from espnet2_tfckd.models.parallel import list_devices, run_on_all
from espnet2_tfckd.scoring.parallel import MAX_NAMED

if TYPE_CHECKING:
    from espnet2.bin.enh_inference import SeparateSpeech

REVISION = 2  # raise it when the same model makes other audio of the same mixture


@dataclass(frozen=True)
class EnhancementTask:
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
        ref_channel: Reference channel of a multichannel model; its own by default.
    """

    exp_dir: str
    inference_model: str
    sample_rate: int
    ref_channel: int | None = None

    def made_of(self) -> dict:
        """What the enhanced audio is made of besides the mixtures."""
        model = model_made_of(self.exp_dir, self.inference_model)
        options = {"sample_rate": self.sample_rate, "ref_channel": self.ref_channel}
        return {**model, "options": options, "code": {"revision of the enhancement": REVISION}}


def enhance_utterance(
    separate_speech: SeparateSpeech, task: EnhancementTask, inference: Inference
) -> None:
    """Enhance one utterance; write it with the length of its mixture, without rescaling.

    Raises:
        FileNotFoundError: If the mixture is not there.
        ValueError: If the mixture cannot be used or the estimate cannot be written; the message
            names the utterance.
        RuntimeError: If the model fails on the mixture; the message names the utterance.
    """
    mixture, sample_rate = read_entry(task.mixture)
    if sample_rate != inference.sample_rate:
        raise ValueError(
            f"{task.utterance}: mixture at {sample_rate} Hz, not at {inference.sample_rate} Hz"
        )
    if len(mixture) == 0 or not np.all(np.isfinite(mixture)):
        raise ValueError(f"{task.utterance}: the mixture is empty or has NaN or infinite samples")
    try:
        estimate = separated(separate_speech, mixture, sample_rate)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise RuntimeError(
            f"{task.utterance}: the model fails on {mixture.shape[0]} samples in "
            f"{mixture.shape[1]} channels: {error}"
        ) from error
    if not np.all(np.isfinite(estimate)):
        raise ValueError(f"{task.utterance}: the estimate has NaN or infinite samples")
    # 16 bits would clip and round
    write_audio(task.output, estimate, sample_rate, "FLOAT", [file_of(task.mixture)])


def _discard_stale(output_dir: Path, outputs: dict[str, Path], parts: dict[str, dict]) -> None:
    """Remove outputs of other models or mixtures, so that all remaining ones are up to date.

    Args:
        output_dir: Where the records lie.
        outputs: Output file of each utterance.
        parts: What the outputs are made of: ``model`` and ``mixtures``, by the name of its record.

    Raises:
        ValueError: If the directory holds audio that this stage did not write.
    """
    records = {name: output_dir / f"made_of_{name}.json" for name in parts}
    before = {name: read_record(record) for name, record in records.items()}
    stale = {utterance for utterance, path in outputs.items() if path.exists()}
    if before["mixtures"] is None and stale:
        raise ValueError(
            f"{output_dir} holds audio that this stage did not write and would overwrite: move it, "
            "or give another --output_dir"
        )
    reason = change(before["model"], parts["model"])
    if not reason:
        changed = changed_files(before["mixtures"], parts["mixtures"])
        reason = f"{len(changed)} mixtures changed"
        stale &= {name.split()[0] for name in changed}
    if stale and before["model"]:
        print(f"{output_dir}: {len(stale)} utterances again, since {reason}")
    for utterance in stale:
        outputs[utterance].unlink()
    for name, record in records.items():
        write_record(record, parts[name])


def enhance(
    inference: Inference,
    data_dir: str | Path,
    output_dir: str | Path,
    num_jobs: int,
    num_gpus: int = 0,
) -> Path:
    """Enhance a data set; utterances that are already enhanced are skipped.

    Args:
        inference: Model and settings. When they change, everything is enhanced again.
        data_dir: Data directory.
        output_dir: Directory of ``wavs/<utterance>.wav`` and, once all are there, ``spk1.scp``.
        num_jobs: Number of processes on the CPU; at most one for each core.
        num_gpus: Number of GPUs, with one process each; 0 for the CPU.

    Returns:
        Path of ``spk1.scp``. ``profile.json`` is written to the experiment directory.

    Raises:
        FileNotFoundError: If a file that is needed is not there.
        ValueError: If the checkpoint does not fit, or utterances cannot be enhanced; the message
            names them. The others are enhanced and kept first.
    """
    output_dir = Path(output_dir)
    mixtures = read_data_dir(data_dir).mixture
    model = inference.made_of()
    outputs = {utt: output_dir / "wavs" / f"{utt}.wav" for utt in mixtures}
    refuse_overlap(outputs.values(), map(file_of, mixtures.values()))
    before = read_record(output_dir / "made_of_mixtures.json")
    of_mixtures = made_of(named_files(mixtures, "mixture"), before=before)
    with only_one(output_dir):
        _discard_stale(output_dir, outputs, {"model": model, "mixtures": of_mixtures})
        _enhance_missing(inference, mixtures, outputs, output_dir / "spk1.scp", num_jobs, num_gpus)
    return output_dir / "spk1.scp"


def _enhance_missing(
    inference: Inference,
    mixtures: dict[str, str],
    outputs: dict[str, Path],
    scp: Path,
    num_jobs: int,
    num_gpus: int,
) -> None:
    tasks = [
        EnhancementTask(utt, mixture, outputs[utt])
        for utt, mixture in mixtures.items()
        if not outputs[utt].exists()
    ]
    if tasks:
        scp.unlink(missing_ok=True)
    else:
        print(f"{scp.parent}: up to date")
    made = profile_made_of(model_made_of(inference.exp_dir, inference.inference_model))
    measured = is_measured(Path(inference.exp_dir) / PROFILE, made)
    if tasks or not measured:
        example = None if measured else next(iter(mixtures.values()))
        _load_and_run(inference, tasks, num_jobs, num_gpus, made, example)
    with atomic_write(scp) as temporary:
        lines = (f"{utt} {output}\n" for utt, output in outputs.items())
        temporary.write_text("".join(lines), encoding="utf-8")


def _load_and_run(
    inference: Inference,
    tasks: list[EnhancementTask],
    num_jobs: int,
    num_gpus: int,
    made: dict,
    example: str | None,
) -> None:
    """Enhance; first measure the model if there is an example of a mixture."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)  # until the workers are started
    separate_speech = load_separate_speech(
        inference.exp_dir, inference.inference_model, ref_channel=inference.ref_channel
    )
    if not separate_speech.sfi_processing:  # networks for any rate take the data's
        options = vars(separate_speech.enh_train_args)
        check_rate(options, inference.sample_rate, inference.exp_dir)
    if example:
        channels = read_entry(example)[0].shape[1]
        profile_json = Path(inference.exp_dir) / PROFILE
        write_profile(profile_json, made, separate_speech, inference.sample_rate, channels)
    if not tasks:
        return
    problems = []
    devices = list_devices(num_jobs, num_gpus, len(tasks))
    enhance_one = partial(enhance_utterance, inference=inference)
    errors = run_on_all(separate_speech, enhance_one, tasks, devices)
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
    parser.add_argument("--inference_model", default=CHECKPOINT, help="checkpoint in it")
    parser.add_argument("--data_dir", required=True, help="data directory to enhance")
    parser.add_argument("--output_dir", required=True, help="directory of the enhanced audio")
    parser.add_argument("--nj", type=at_least_one, default=1, help="processes when on the CPU")
    parser.add_argument("--ngpu", type=not_negative, default=0, help="GPUs, a process each; 0: CPU")
    parser.add_argument("--fs", type=hertz, default=16000, help="sampling rate of the data, as 16k")
    parser.add_argument("--ref_channel", type=int, help="reference channel of a multichannel model")
    return parser


def main() -> None:
    """Run the stage from the command line."""
    args = get_parser().parse_args()
    inference = Inference(args.exp_dir, args.inference_model, args.fs, args.ref_channel)
    scp = enhance(inference, args.data_dir, args.output_dir, args.nj, args.ngpu)
    print(f"Enhanced audio: {scp}")


if __name__ == "__main__":
    run_command(main)
