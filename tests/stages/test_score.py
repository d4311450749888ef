"""Stage 9 from the command line: RESULTS.md, results.json, accumulation and errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.stages.score import score

KEYS = ["system", "dataset", "num_utterances", "pesq_wb", "stoi", "estoi", "si_sdr", "sdr"]
KEYS += ["ci_sdr", "csig", "cbak", "covl", "seg_snr", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak"]
KEYS += ["dnsmos_p808", "num_params", "macs_per_second", "rtf"]


@pytest.fixture
def exp_dir(tmp_path):
    return tmp_path / "exp"


@pytest.fixture
def systems(data_dir, exp_dir):
    """The mixture, and a model that halves the noise and has a profile."""
    data = read_data_dir(data_dir)
    enhanced = exp_dir / "enh_student" / "enhanced_test"
    enhanced.mkdir(parents=True)
    lines = []
    for utt, mixture in data.mixture.items():
        (noisy, rate), (clean, _) = soundfile.read(mixture), soundfile.read(data.reference[utt])
        soundfile.write(enhanced / f"{utt}.wav", (noisy + clean) / 2, rate, "FLOAT")
        lines.append(f"{utt} {enhanced / utt}.wav\n")
    (enhanced / "spk1.scp").write_text("".join(lines))
    costs = {"num_params": 595494, "macs_per_second": 2.42e9, "rtf": 0.05, "threads": 1}
    (exp_dir / "enh_student" / "profile.json").write_text(json.dumps(costs))
    return {"noisy": data_dir / "wav.scp", "student": enhanced / "spk1.scp"}


def run(*arguments):
    command = [sys.executable, "-m", "espnet2_tfckd.stages.score", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systems_scored_against_other_references_are_left_out(data_dir, exp_dir, systems, capsys):
    def names(dataset):
        rows = json.loads((exp_dir / "results.json").read_text())
        return [row["system"] for row in rows if row["dataset"] == dataset]

    for dataset in ("test", "other"):
        score(data_dir, dataset, systems, exp_dir, ["SEG_SNR"], num_jobs=1)
    noisy = {"noisy": systems["noisy"]}
    score(data_dir, "test", noisy, exp_dir, ["SEG_SNR"], num_jobs=1)
    assert names("test") == ["noisy", "student"]  # against the same references
    reference = Path(next(iter(read_data_dir(data_dir).reference.values())))
    samples, rate = soundfile.read(reference)
    soundfile.write(reference, samples[::-1], rate, "FLOAT")
    score(data_dir, "test", noisy, exp_dir, ["SEG_SNR"], num_jobs=1)
    assert names("test") == ["noisy"] and names("other") == ["noisy", "student"]
    assert "references of test have changed: student" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"system": "noisy"}]', "", "[{"])
def test_damaged_results_are_named_and_kept(data_dir, exp_dir, systems, text):
    (exp_dir / "results.json").write_text(text)
    with pytest.raises(ValueError, match="results.json .*delete it and run again"):
        score(data_dir, "test", systems, exp_dir, ["SEG_SNR"], num_jobs=1)
    assert (exp_dir / "results.json").read_text() == text


def test_command_writes_both_tables_with_all_keys(data_dir, exp_dir, systems):
    options = [f"--system={name}={scp}" for name, scp in systems.items()]
    options += ["--scoring_protocol", "STOI SEG_SNR", "--nj", 2]
    done = run("--data_dir", data_dir, "--dataset", "test", "--results", exp_dir, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Results: {exp_dir / 'RESULTS.md'}"
    assert "SegSNR" in done.stdout
    noisy, student = rows = json.loads((exp_dir / "results.json").read_text())
    assert [row["system"] for row in rows] == ["noisy", "student"]
    assert all(key in row for row in rows for key in KEYS)
    assert student["seg_snr"] > noisy["seg_snr"]
    assert (noisy["rtf"], noisy["num_params"]) == (None, None)
    assert (student["rtf"], student["num_params"], student["pesq_wb"]) == (0.05, 595494, None)
    assert (exp_dir / "noisy" / "scoring_test" / "utterances.jsonl").exists()
    assert (exp_dir / "enh_student" / "scoring_test" / "utterances.jsonl").exists()
    text = (exp_dir / "RESULTS.md").read_text()
    for expected in (
        "# RESULTS\n## Environments\n- date: `",
        "- espnet version: `espnet ",
        "## config\n- student: `",
        "|dataset|system|utterances|STOI|SegSNR|params (M)|GMAC/s|RTF|\n|---|",
        "|0.60|2.42|0.050|\n",
        "## Improvement over noisy\n|dataset|system|by|group|utterances|STOI|\n",
        "|test|student|SNR (dB)|10|2|+",
        "|test|student|noise|wind|2|+",
    ):
        assert expected in text


def test_halved_noise_improves_segmental_snr_by_6_db(data_dir, exp_dir, systems):
    _, student = score(data_dir, "test", systems, exp_dir, ["SEG_SNR"], 1)
    by_snr = [group for group in student["improvement"] if group["by"] == "snr_db"]
    assert [(group["group"], group["num_utterances"]) for group in by_snr] == [("0", 2), ("10", 2)]
    # 6 dB where neither side meets the limits of -10 and 35 dB
    assert by_snr[1]["seg_snr"] == pytest.approx(6.02, abs=1.5)


def test_test_sets_and_later_systems_accumulate(data_dir, exp_dir, systems):
    noisy, student = ({name: scp} for name, scp in systems.items())
    score(data_dir, "one", noisy, exp_dir, ["SEG_SNR"], 1)
    score(data_dir, "two", noisy, exp_dir, ["SEG_SNR"], 1)
    rows = score(data_dir, "one", student, exp_dir, ["SEG_SNR"], 1)
    expected = [("one", "noisy"), ("one", "student"), ("two", "noisy")]
    assert [(row["dataset"], row["system"]) for row in rows] == expected
    assert rows == json.loads((exp_dir / "results.json").read_text())
    text = (exp_dir / "RESULTS.md").read_text()
    assert all(f"|{dataset}|{system}|" in text for dataset, system in expected)


def test_missing_estimate_is_one_line_on_stderr_and_status_1(data_dir, exp_dir, systems):
    lines = systems["student"].read_text().splitlines()
    systems["student"].write_text("\n".join(lines[:-1]) + "\n")
    system = f"student={systems['student']}"
    options = ["--results", exp_dir, "--system", system]
    done = run("--data_dir", data_dir, "--dataset", "test", *options)
    assert done.returncode == 1
    assert done.stderr.startswith("error: student: ")
    assert "has no estimate of spk-utt3; enhance the data set again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (exp_dir / "results.json").exists()


def test_broken_earlier_results_are_refused_before_scoring(data_dir, exp_dir, systems):
    (exp_dir / "results.json").write_text("[{")
    with pytest.raises(ValueError, match=r"results\.json is not valid JSON"):
        score(data_dir, "test", systems, exp_dir, ["SEG_SNR"], 1)
    assert not Path(exp_dir / "noisy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scoring_protocol", "PESQ NOISE"], "NOISE is not among PESQ STOI"),
        (["--scoring_protocol", " "], "must name a metric that can be computed"),
        (["--system", "no_equals_sign"], "'no_equals_sign' is not name=path"),
        (["--system", "a=other.scp"], "two systems have the same name"),
        (["--nj", "0"], "--nj"),
    ],
)
def test_bad_arguments_have_status_2(arguments, message):
    done = run("--data_dir", "d", "--dataset", "test", "--system", "a=a.scp", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_help_loads_no_heavy_library():
    code = (
        "import sys; sys.argv = ['score', '--help']; import espnet2_tfckd.stages.score as score\n"
        "try: score.main()\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'espnet2.tasks', 'onnxruntime')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--scoring_protocol" in done.stdout


@pytest.fixture
def experiment(tmp_path):
    """Results of an experiment, as `run_experiment.sh` writes them."""
    compared = {"kind": "comparison", "num_seeds": 3, "ci_low": 0.26, "ci_high": 0.51}
    rows = [
        {"kind": "run", "arm": "ours", "seed": 1},
        {**compared, "arm": "ours", "baseline": "none", "metric": "si_sdr", "difference": 0.38},
        {**compared, "arm": "ours", "baseline": "rival", "metric": "si_sdr", "difference": 9.0},
    ]
    (tmp_path / "results").mkdir()
    (tmp_path / "results/experiment.json").write_text(json.dumps(rows))
    return tmp_path / "results"


def test_two_systems_are_compared_utterance_by_utterance(data_dir, exp_dir, systems, experiment):
    options = ["--data_dir", data_dir, "--dataset", "test", "--results", exp_dir, "--nj", 1]
    options += [f"--system={name}={scp}" for name, scp in systems.items()]
    options += ["--scoring_protocol", "STOI SI_SDR", "--compare", "student", "noisy"]
    done = run(*options, "--over_seeds", f"ours={experiment}")
    assert done.returncode == 0, done.stderr
    noisy, student = json.loads((exp_dir / "results.json").read_text())
    assert "comparison" not in noisy
    compared = student["comparison"]
    assert compared["with"] == "noisy"
    assert compared["si_sdr"] == pytest.approx(student["si_sdr"] - noisy["si_sdr"])
    assert 0 < compared["si_sdr_ci95"] < student["si_sdr_ci95"]  # half the noise: 6 dB everywhere
    text = " ".join(done.stdout.split())
    assert f"student minus noisy, paired by utterance: SI-SDR {compared['si_sdr']:+.2f} ± " in text
    assert f"Over 3 seeds, the experiment in {experiment} found for ours minus none: " in text
    assert "SI-SDR +0.38 dB [+0.26, +0.51]." in text and "+9.0" not in text
    table = (exp_dir / "RESULTS.md").read_text()
    assert "## Differences" in table and "|test|student minus noisy|+" in table

    done = run(*options, "--over_seeds", f"other={experiment}")  # another scheme
    assert done.returncode == 0 and "Over 3 seeds" not in done.stdout


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--compare", "student", "other"], "--compare: other is not given as --system"),
        (["--over_seeds", "ours=results"], "--over_seeds goes with --compare"),
        (["--compare", "student", "noisy", "--over_seeds", "ours=nowhere"], "nowhere"),
        ("--compare student noisy --over_seeds ours=damaged".split(), "damaged/experiment.json"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused_at_once(
    data_dir, exp_dir, systems, options, problem, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("damaged").mkdir()
    Path("damaged/experiment.json").write_text('[{"arm": "ours"}]')
    options = [*options, *(f"--system={name}={scp}" for name, scp in systems.items())]
    done = run("--data_dir", data_dir, "--dataset", "test", "--results", exp_dir, *options)
    assert done.returncode != 0 and problem in done.stderr and "Traceback" not in done.stderr
    assert not (exp_dir / "results.json").exists()
