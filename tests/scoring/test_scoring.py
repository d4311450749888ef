"""Scoring a data set in parallel, resuming, failures, and the tables made of it."""

import json
import os
import subprocess
import sys
from signal import SIGINT

import numpy as np
import pytest
import soundfile
from scipy import stats

from espnet2_tfckd.scoring import tables
from espnet2_tfckd.scoring.journal import read_journal
from espnet2_tfckd.scoring.metrics import PROTOCOLS, Protocol
from espnet2_tfckd.scoring.parallel import System, score_systems
from espnet2_tfckd.scoring.workers import score_utterance

RATE = 16000
PROTOCOL = ["PESQ", "SEG_SNR"]  # the two that import no heavy library


@pytest.fixture
def references(tmp_path):
    """scp entries of three references, and estimates with noise beside them."""
    rng = np.random.default_rng(0)
    lines, entries = [], {}
    for number in range(3):
        reference = rng.standard_normal(12000) * np.repeat(rng.random(30), 400) * 0.1
        estimate = reference + 0.01 * rng.standard_normal(12000)
        for name, signal in (("reference", reference), ("estimate", estimate)):
            soundfile.write(tmp_path / f"{name}{number}.wav", signal, RATE, "FLOAT")
        entries[f"utt{number}"] = str(tmp_path / f"reference{number}.wav")
        lines.append(f"utt{number} {tmp_path / f'estimate{number}.wav'}\n")
    (tmp_path / "spk1.scp").write_text("".join(lines))
    return entries


@pytest.fixture
def system(tmp_path, references):
    return System("student", tmp_path / "spk1.scp", tmp_path / "scoring_test")


def test_parallel_scores_are_those_of_the_metrics(system, references, tmp_path):
    records = score_systems([system], references, PROTOCOL, num_jobs=2)["student"]
    assert [record["id"] for record in records] == list(references)
    for number, record in enumerate(records):
        pair = [
            soundfile.read(tmp_path / f"{name}{number}.wav")[0]
            for name in ("reference", "estimate")
        ]
        expected = {}
        for name in PROTOCOL:
            expected |= PROTOCOLS[name](*pair, RATE)
        assert record["scores"] == pytest.approx(expected)
        assert record["failed"] == {}
    assert list(read_journal(system.journal).values()) == records


def test_rerun_keeps_finished_utterances_and_completes_the_rest(system, references):
    score_systems([system], references, ["SEG_SNR"], num_jobs=1)
    journal = system.journal
    lines = journal.read_text().splitlines()
    kept = json.loads(lines[0])
    kept["scores"]["seg_snr"] = 99.0  # to see that it is not computed again
    journal.write_text(json.dumps(kept) + "\n" + lines[1][:40])  # as left by a kill
    records = score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"]
    assert records[0]["scores"]["seg_snr"] == 99.0
    assert [json.loads(line) for line in lines[1:]] == records[1:]


def test_new_estimate_is_scored_again_and_new_metrics_are_added(system, references, tmp_path):
    before = score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"]
    soundfile.write(tmp_path / "estimate1.wav", np.full(12000, 0.1), RATE)
    after = score_systems([system], references, PROTOCOL, num_jobs=1)["student"]
    old, new = ([record["scores"]["seg_snr"] for record in records] for records in (before, after))
    assert [a == b for a, b in zip(old, new, strict=True)] == [True, False, True]
    assert all("pesq_wb" in record["scores"] for record in after)


def test_a_reference_replaced_by_another_of_the_same_size_and_date_is_scored_again(
    system, references, tmp_path
):
    before = score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"]
    path = tmp_path / "reference1.wav"
    times = path.stat()
    soundfile.write(path, soundfile.read(path)[0][::-1], RATE, "FLOAT")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"]
    old, new = ([record["scores"]["seg_snr"] for record in records] for records in (before, after))
    assert [a == b for a, b in zip(old, new, strict=True)] == [True, False, True]


def test_another_revision_of_a_metric_is_computed_again_and_others_are_not(
    system, references, monkeypatch
):
    score_systems([system], references, ["SEG_SNR", "SI_SDR"], num_jobs=1)
    text = system.journal.read_text()
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        record["scores"] = {"seg_snr": 99.0, "si_sdr": 99.0}
        record["code"]["SEG_SNR"] = "revision 0"
        record["failed"] = {"seg_snr": "it could not then", "wer": "another stage's"}
    system.journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    after = score_systems([system], references, ["SEG_SNR", "SI_SDR"], num_jobs=1)["student"]
    assert all(record["scores"]["si_sdr"] == 99.0 for record in after)
    assert all(record["scores"]["seg_snr"] < 99.0 for record in after)
    assert all([*record["failed"]] == ["wer"] for record in after)


@pytest.mark.parametrize("line", ["", "nonsense", "[]", "3", '{"id": "utt0"}', '{"id": '])
def test_a_damaged_line_of_a_journal_is_scored_again(system, references, line):
    expected = score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"]
    lines = system.journal.read_text().splitlines()
    system.journal.write_text("\n".join([line, *lines[1:]]) + "\n")
    assert score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"] == expected


@pytest.fixture
def crashing(system, references, tmp_path):
    """PESQ ends its process by a segmentation fault on the second of the utterances."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal(140 * RATE) * 0.1
    for second in range(0, 140, 2):  # more pauses than PESQ has room for
        reference[second * RATE : round((second + 1.3) * RATE)] = 0
    for name, signal in (("reference", reference), ("estimate", 0.9 * reference)):
        soundfile.write(tmp_path / f"{name}1.wav", signal, RATE)
    return references


def test_a_metric_that_crashes_loses_its_own_score_alone(system, crashing):
    protocols = ["SEG_SNR", "PESQ", "SI_SDR"]
    records = score_systems([system], crashing, protocols, 2)["student"]
    assert [record["scores"]["pesq_wb"] is None for record in records] == [False, True, False]
    assert records[1]["failed"] == {"pesq_wb": "PESQ crashed on it, or ran out of memory"}
    assert all(record["scores"]["si_sdr"] is not None for record in records)
    again = score_systems([system], crashing, protocols, 2)["student"]
    assert [record["scores"] for record in again] == [record["scores"] for record in records]


def test_an_interrupt_ends_scoring_at_once(system, references, tmp_path):
    """Workers are ended, though one is busy with what would take it an hour."""
    script = tmp_path / "script.py"
    script.write_text(SLOW_SCORING.format(system=system, references=references))
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"  # by the metric, in a worker
    process.send_signal(SIGINT)
    process.wait(60)
    assert process.stdout.read() == "interrupted\n"  # to its end: no worker holds it open


SLOW_SCORING = """
import signal, sys, time
from pathlib import PosixPath
from espnet2_tfckd.scoring import metrics
from espnet2_tfckd.scoring.parallel import System, score_systems

def slow(reference, estimate, rate):
    print("started", flush=True)
    time.sleep(3600)

metrics.PROTOCOLS["SEG_SNR"] = metrics.Protocol(slow, ["seg_snr"])
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs of a shell ignore it
    try:
        score_systems([{system!r}], {references!r}, ["SEG_SNR"], num_jobs=1)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_utterance_without_a_score_is_kept_with_the_reason(system, references, tmp_path):
    soundfile.write(tmp_path / "estimate1.wav", np.zeros(12000), RATE)
    records = score_systems([system], references, PROTOCOL, num_jobs=1)["student"]
    assert records[1]["scores"]["pesq_wb"] is None
    assert records[1]["scores"]["seg_snr"] is not None
    assert "silent" in records[1]["failed"]["pesq_wb"]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_value_that_is_not_finite_counts_as_no_score(references, monkeypatch, value):
    protocol = Protocol(lambda *_: value, ["si_sdr"])
    monkeypatch.setitem(PROTOCOLS, "SI_SDR", protocol)
    path = references["utt0"]
    source = {"reference": path, "estimate": path, "ref_channel": 0}
    record = score_utterance("utt0", source, ["SI_SDR"])
    assert record["scores"] == {"si_sdr": None}
    assert record["failed"] == {"si_sdr": f"the value is {value}"}


@pytest.mark.parametrize(
    ("signal", "rate", "message"),
    [
        (np.ones(11999), RATE, "utt1: estimate of 11999 samples, reference 12000"),
        (np.full(12000, np.nan), RATE, "estimate1.wav has NaN"),
        (np.ones(12000), 8000, "utt1: estimate at 8000 Hz, reference 16000 Hz"),
        (np.zeros(0), RATE, "estimate1.wav holds no samples"),
    ],
    ids=["length", "NaN", "rate", "empty"],
)
def test_bad_estimate_is_named_and_the_others_are_kept(
    system, references, tmp_path, signal, rate, message
):
    soundfile.write(tmp_path / "estimate1.wav", signal, rate, "FLOAT")
    with pytest.raises(ValueError, match=f"student: .*{message}"):
        score_systems([system], references, ["SEG_SNR"], num_jobs=1)
    assert list(read_journal(system.journal)) == ["utt0", "utt2"]


def test_missing_and_unknown_estimates_are_named(system, references, tmp_path):
    entries = system.estimate_scp.read_text()
    system.estimate_scp.write_text(entries.replace("utt2", "utt9"))
    with pytest.raises(ValueError, match="has no estimate of utt2;"):
        score_systems([system], references, PROTOCOL, num_jobs=1)
    system.estimate_scp.write_text(entries + f"utt9 {tmp_path / 'estimate2.wav'}\n")
    with pytest.raises(ValueError, match="the data set does not know: utt9;"):
        score_systems([system], references, PROTOCOL, num_jobs=1)
    system.estimate_scp.write_text(entries)
    (tmp_path / "estimate0.wav").unlink()
    with pytest.raises(ValueError, match="files that are not there, for utt0;"):
        score_systems([system], references, PROTOCOL, num_jobs=1)


def test_reference_channel_is_chosen_and_must_exist(system, references, tmp_path):
    for number, path in enumerate(references.values()):
        reference = soundfile.read(path)[0]
        estimate = soundfile.read(tmp_path / f"estimate{number}.wav")[0]
        soundfile.write(path, np.stack([reference, estimate], 1), RATE, "FLOAT")
    records = score_systems([system], references, ["SEG_SNR"], 1, ref_channel=1)["student"]
    assert [record["scores"]["seg_snr"] for record in records] == [35.0] * 3
    with pytest.raises(ValueError, match="has 2 channels, there is no channel 2"):
        score_systems([system], references, ["SEG_SNR"], 1, ref_channel=2)


def test_archive_entries_are_scored_like_files(system, references, tmp_path):
    import kaldiio

    expected = score_systems([system], references, ["SEG_SNR"], num_jobs=1)["student"]
    ark, scp = tmp_path / "estimates.ark", tmp_path / "ark.scp"
    with kaldiio.WriteHelper(f"ark,scp:{ark},{scp}", write_function="soundfile") as writer:
        for number in range(3):
            samples = soundfile.read(tmp_path / f"estimate{number}.wav")[0]
            writer(f"utt{number}", (RATE, samples))
    of_archive = System("archive", scp, tmp_path / "scoring_ark")
    records = score_systems([of_archive], references, ["SEG_SNR"], num_jobs=1)["archive"]
    for record, other in zip(records, expected, strict=True):
        assert record["scores"]["seg_snr"] == pytest.approx(other["scores"]["seg_snr"], abs=0.05)


def record(utt, failed=(), **scores):
    scores |= dict.fromkeys(failed)
    return {"id": utt, "scores": scores, "failed": dict.fromkeys(failed, "NoUtterancesError")}


def test_confidence_interval_is_student_s():
    values = [1.2, 3.4, 2.2, 5.0]
    mean, half_width = tables.mean_and_ci95(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high))
    assert tables.mean_and_ci95([2.0]) == (2.0, None)
    assert tables.mean_and_ci95([]) == (None, None)


def test_failed_utterances_are_counted_named_and_left_out_of_the_mean():
    records = [record("a", stoi=0.5, pesq_wb=2.0), record("b", ["pesq_wb"], stoi=0.7)]
    row = tables.summarise("student", "test", records, {"num_params": 1_500_000})
    assert (row["pesq_wb"], row["pesq_wb_ci95"]) == (2.0, None)
    assert row["stoi"] == pytest.approx(0.6)
    assert row["si_sdr"] is None
    assert (row["num_utterances"], row["num_failed"]) == (2, 1)
    text = tables.results_md([row], {}, {})
    assert "|test|student|2|2.000 [^1]|0.600 ± 1.271|1.50|" in text
    assert "[^1]: PESQ-WB of student on test leaves out 1 of 2 utterances" in text
    assert text.rstrip().endswith("`b`")


def test_improvement_is_the_mean_difference_in_each_group():
    metadata = {
        "a": {"snr_db": "12.50", "noise_kind": "wind"},
        "b": {"snr_db": "-2.50", "noise_kind": "wind"},
        "c": {"snr_db": "12.50", "noise_kind": "music"},
    }
    noisy = [record(utt, si_sdr=float(metadata[utt]["snr_db"])) for utt in metadata]
    student = [record("a", si_sdr=13.5), record("b", si_sdr=1.5), record("c", ["si_sdr"])]
    rows = tables.improvements(student, noisy, tables.group_utterances(metadata))
    assert [(row["by"], row["group"], row["num_utterances"], row["si_sdr"]) for row in rows] == [
        ("snr_db", "-2.5", 1, 4.0),
        ("snr_db", "12.5", 2, 1.0),
        ("noise_kind", "music", 1, None),
        ("noise_kind", "wind", 2, 2.5),
    ]


def test_continuous_snrs_fall_into_bins_of_5_db():
    metadata = {f"utt{i}": {"snr_db": str(snr)} for i, snr in enumerate(np.arange(-5, 15, 0.5))}
    groups = tables.group_utterances(metadata)["snr_db"]
    assert set(groups.values()) == {"-5 to 0", "0 to 5", "5 to 10", "10 to 15"}
    assert groups["utt10"] == "0 to 5"  # 0 dB


def test_snr_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"metadata\.csv, column snr_db: .*loud"):
        tables.group_utterances({"a": {"snr_db": "loud"}})


def test_new_rows_replace_old_ones_and_data_sets_accumulate():
    def rows(dataset, *systems, value=0):
        return [{"system": name, "dataset": dataset, "stoi": value} for name in systems]

    earlier = rows("test", "noisy", "teacher", "student") + rows("other", "noisy")
    merged = tables.merge(earlier, rows("test", "teacher", "student", value=1))
    assert [(row["dataset"], row["system"], row["stoi"]) for row in merged] == [
        ("test", "noisy", 0),
        ("test", "teacher", 1),
        ("test", "student", 1),
        ("other", "noisy", 0),
    ]
