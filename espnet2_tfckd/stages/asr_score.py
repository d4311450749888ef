"""Stage 10: score enhanced speech by the words that a speech recogniser hears in it."""

from __future__ import annotations

from pathlib import Path

from espnet2_tfckd.cli import parse_systems, run_command, systems_parser
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_channel
from espnet2_tfckd.scoring.asr import KEYS, score_transcripts
from espnet2_tfckd.scoring.journal import append_to_journal
from espnet2_tfckd.scoring.metrics import at_16_khz
from espnet2_tfckd.scoring.parallel import score_systems
from espnet2_tfckd.scoring.recogniser import DEFAULT, OFFLINE, Recogniser, load_recogniser
from espnet2_tfckd.scoring.results import (
    journalled,
    print_results,
    read_results,
    update_results,
)


def asr_score(
    data_dir: str | Path,
    dataset: str,
    systems: dict[str, Path],
    results_dir: str | Path,
    asr_model: str,
    num_jobs: int,
    ref_channel: int = 0,
    device: str = "cpu",
) -> list[dict]:
    """Add STOI, WER and the L3DAS challenge's metric to ``RESULTS.md`` and ``results.json``.

    As in the challenge, the words of an estimate are compared with those that the same recogniser
    hears in the reference, and both STOI and WER are limited to 0 to 1 before they are averaged.
    Utterances without words in the reference have neither WER nor metric and are listed in
    ``failed``. Transcripts and scores go into the journals of stage 9. So neither stage disturbs
    the other's results, and nothing is recognised twice.

    Args:
        data_dir: Data directory with the references in ``spk1.scp``.
        dataset: Name of the data set in the tables.
        systems: Estimates (scp) by the name of their system.
        results_dir: Directory of ``RESULTS.md`` and ``results.json``.
        asr_model: See :func:`espnet2_tfckd.scoring.recogniser.load_recogniser`.
        num_jobs: Number of processes for STOI; the recogniser runs in this one.
        ref_channel: Channel to score of files with several.
        device: Device of the recogniser.

    Returns:
        The objects of ``results.json``.

    Raises:
        FileNotFoundError: If a file that is needed is not there.
        RuntimeError: If the recogniser cannot be loaded.
        ValueError: If estimates or tables do not fit the data set; the message names them.
    """
    data = read_data_dir(data_dir)
    read_results(results_dir)  # refuse unreadable results before anything is recognised
    of_systems = journalled(systems, dataset, results_dir)
    records = score_systems(of_systems, data.reference, ["STOI"], num_jobs, ref_channel)
    clean = _known_transcripts(records, asr_model)
    to_do = [
        (system, record)
        for records_of_utterance in zip(*records.values(), strict=True)
        for system, record in zip(of_systems, records_of_utterance, strict=True)
        if record.get("asr", {}).get("recogniser") != asr_model
    ]
    if to_do:
        recognise = load_recogniser(asr_model, device)
        _recognise_all(to_do, clean, recognise, asr_model)
    return update_results(data_dir, dataset, systems, records, results_dir)


def _known_transcripts(records: dict[str, list[dict]], asr_model: str) -> dict[str, str]:
    """Transcripts of references that an earlier run has left in some system's record."""
    return {
        record["id"]: record["asr"]["reference"]
        for of_system in records.values()
        for record in of_system
        if record.get("asr", {}).get("recogniser") == asr_model
    }


def _recognise_all(
    to_do: list[tuple], clean: dict[str, str], recognise: Recogniser, asr_model: str
) -> None:
    """Complete the records, utterance by utterance, and write each to the journal."""
    from tqdm import tqdm

    def transcript(source: dict, side: str) -> str:
        signal, rate = read_channel(source[side], source["ref_channel"])
        return recognise(at_16_khz(signal, rate))

    for system, record in tqdm(to_do, "recognising", unit="utt"):
        if record["id"] not in clean:
            clean[record["id"]] = transcript(record["source"], "reference")
        heard = {"recogniser": asr_model, "reference": clean[record["id"]]}
        record["asr"] = {**heard, "estimate": transcript(record["source"], "estimate")}
        scores, failed = score_transcripts(
            heard["reference"], record["asr"]["estimate"], record["scores"]["stoi"]
        )
        earlier = {key: text for key, text in record["failed"].items() if key not in KEYS}
        record["scores"] |= scores
        record["failed"] = earlier | failed
        append_to_journal(system.journal, record)


def main() -> None:
    """Run the stage from the command line."""
    parser = systems_parser("asr_score", __doc__)
    parser.add_argument(
        "--asr_model",
        default=DEFAULT,
        help=f"model on the hub or its folder, or {OFFLINE} to try things out (%(default)s)",
    )
    parser.add_argument("--ngpu", type=int, default=0, help="1: recognise on a GPU")
    args = parse_systems(parser)
    rows = asr_score(
        args.data_dir,
        args.dataset,
        args.system,
        args.results,
        args.asr_model,
        args.nj,
        args.ref_channel,
        "cuda" if args.ngpu else "cpu",
    )
    print_results(rows, args.dataset, args.results)


if __name__ == "__main__":
    run_command(main)
