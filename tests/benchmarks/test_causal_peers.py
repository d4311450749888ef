"""The benchmark of peers: what is compared is causal, aligned and complete."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import soundfile
import yaml

from tests.benchmarks import causal_peers as bench_peers
from tests.benchmarks.peers import cases, worker
from tests.benchmarks.peers.model import Model, check_causal, enhance, lag, timed
from tests.benchmarks.peers.student import ExportedStudent

RATE = 16000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)


class Delay(Model):
    """Passes the signal on, some samples later, in frames of 10 ms; remembers like a network."""

    streams, latency_ms = True, 10.0

    def __init__(self, sample_rate: int = 48000, delay: int = 300, declared: int | None = None):
        self.sample_rate, self._true_delay = sample_rate, delay
        self.delay = delay if declared is None else declared
        self.reset()

    def reset(self):
        self._line = np.zeros(self._true_delay, np.float32)

    def stream(self, mixture):
        frame = self.sample_rate // 100
        padded = np.pad(mixture, (0, -len(mixture) % frame))
        for start in range(0, len(padded), frame):
            self._line = np.concatenate([self._line, padded[start : start + frame]])
            yield self._line[:frame]
            self._line = self._line[frame:]

    def costs(self):
        return {"num_params": 0, "macs_per_second": 0}


class Broken(Delay):
    """A model that cannot be loaded."""

    def __init__(self):
        raise ValueError("the weights are torn")


@pytest.fixture
def audio(tmp_path):
    soundfile.write(tmp_path / "timed.wav", NOISE, RATE, "FLOAT")
    return str(tmp_path / "timed.wav")


class TestAlignment:
    def test_a_known_delay_is_found(self):
        delayed = np.concatenate([np.zeros(123, np.float32), NOISE[:-123]])
        assert lag(NOISE, delayed + 0.05 * NOISE[::-1], 500) == 123

    @pytest.mark.parametrize("rate", [16000, 48000])
    def test_the_delay_is_compensated_at_any_rate(self, rate):
        low = np.sin(np.arange(RATE) * 0.2).astype(np.float32) * np.hanning(RATE)
        estimate = enhance(Delay(rate, 300), low.astype(np.float32), RATE)
        assert len(estimate) == len(low)
        np.testing.assert_allclose(estimate, low, atol=1e-3)

    def test_signals_do_not_leak_into_each_other(self):
        model = Delay(RATE, 300)
        enhance(model, NOISE, RATE)
        assert not enhance(model, np.zeros(1000, np.float32), RATE).any()

    def test_a_wrong_declaration_is_refused(self, audio):
        assert worker.find_lag(Delay(delay=960), audio)["lag_ms"] == 20
        with pytest.raises(RuntimeError, match="by 960 samples, 480 are compensated"):
            worker.find_lag(Delay(delay=960, declared=480), audio)

    def test_what_has_no_lag_is_refused(self):
        with pytest.raises(ValueError, match="silent"):
            lag(NOISE, np.zeros_like(NOISE), 100)
        with pytest.raises(ValueError, match="more than 20000 samples"):
            lag(NOISE, NOISE, 20000)


class TestCausality:
    @pytest.mark.parametrize("separator", ["dccrn", "skim", "bsrnn"])
    def test_espnets_models_are_causal_and_as_long_as_they_say(self, separator):
        from tests.benchmarks.peers.espnet import ESPnetModel

        model = ESPnetModel(separator)  # checks itself
        assert model.latency_ms == {"dccrn": 62.5, "skim": 1.0, "bsrnn": 20.0}[separator]
        estimate = np.concatenate(list(model.stream(NOISE)))
        assert len(estimate) == len(NOISE) and estimate.any()

    def test_skim_gives_frame_by_frame_what_it_gives_at_once(self):
        from tests.benchmarks.peers.espnet import ESPnetModel

        signal = NOISE[:2000]
        whole, frames = (
            np.concatenate(list(ESPnetModel("skim", frame_by_frame=by_frame).stream(signal)))
            for by_frame in (False, True)
        )
        np.testing.assert_allclose(frames[: len(signal) - 16], whole[:-16], atol=1e-6)

    def test_the_exported_student_is_causal(self, tmp_path):
        from tests.benchmarks.peers.student import export

        export(tmp_path, channels=16, heads=1, exp_dir=None)
        student = ExportedStudent(str(tmp_path))
        latency = int(student.latency_ms * RATE / 1000)
        check_causal(lambda signal: enhance(student, signal, RATE), latency, 8000)
        assert student.costs()["macs_per_second"] > 0 < student.costs()["num_params"]

    def test_looking_ahead_is_found_out(self):
        with pytest.raises(ValueError, match="looks 100 samples ahead"):
            check_causal(lambda signal: np.roll(signal, -100), 99, 4000)
        check_causal(lambda signal: np.roll(signal, -100), 100, 4000)

    def test_an_unknown_separator_is_refused(self):
        from tests.benchmarks.peers.espnet import ESPnetModel

        with pytest.raises(ValueError, match="tfgridnet is not among dccrn"):
            ESPnetModel("tfgridnet")


@pytest.mark.filterwarnings("ignore")  # of the tracer
def test_macs_and_parameters_of_an_onnx_network_are_those_counted_by_hand(tmp_path):
    import torch
    from torch import nn

    from tests.benchmarks.peers.onnx_costs import onnx_costs

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, (1, 3), groups=2)
            self.up = nn.ConvTranspose2d(4, 1, (1, 3))
            self.gru = nn.GRU(9, 5)
            self.linear = nn.Linear(5, 6)

        def forward(self, mixture):  # (1, 2, T, 9)
            features = self.up(self.conv(mixture))[0, 0]
            return self.linear(self.gru(features[:, None])[0])

    network = Network()
    torch.onnx.export(
        network,
        (torch.zeros(1, 2, 7, 9),),
        str(tmp_path / "network.onnx"),
        input_names=["mixture"],
        dynamic_axes={"mixture": {2: "frames"}},
        dynamo=False,
    )
    num_params, macs = onnx_costs((tmp_path / "network.onnx").read_bytes(), 10)
    assert num_params == sum(p.numel() for p in network.parameters())
    assert macs == 10 * (4 * 7 * 3 + 4 * 7 * 3 + 3 * 5 * (9 + 5) + 5 * 6)


@pytest.fixture
def data_dir(tmp_path):
    """Data directory in a recipe, with paths relative to the recipe."""
    folder = tmp_path / "recipe" / "dump" / "test"
    (folder / "audio").mkdir(parents=True)
    for table in ("wav.scp", "spk1.scp", "utt2spk", "spk2utt"):
        (folder / table).write_text("")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(2):
        name = f"ann-{number}"
        speech = 0.1 * rng.standard_normal(RATE) * np.repeat(np.tile([1.0, 0.05], 10), RATE // 20)
        for kind, signal in (("ref", speech), ("mix", speech + 0.02 * rng.standard_normal(RATE))):
            low = np.convolve(signal, np.hanning(9), "same")  # what resampling leaves as it is
            soundfile.write(folder / "audio" / f"{name}_{kind}.wav", low, RATE, "FLOAT")
        lines.append(name)
    for table, kind in (("wav.scp", "mix"), ("spk1.scp", "ref")):
        entries = [f"{name} dump/test/audio/{name}_{kind}.wav\n" for name in lines]
        (folder / table).write_text("".join(entries))
    (folder / "utt2spk").write_text("".join(f"{name} ann\n" for name in lines))
    (folder / "spk2utt").write_text(f"ann {' '.join(lines)}\n")
    return folder


def run(monkeypatch, tmp_path, data_dir, models):
    """Run the benchmark over made-up models and return its exit status and results."""
    monkeypatch.setattr(bench_peers, "all_cases", lambda *_: models)
    files = ["--folder", str(tmp_path / "work"), "--output", str(tmp_path / "results.json")]
    arguments = ["--data_dir", str(data_dir), "--seconds", "0.5", "--rounds", "2", *files]
    monkeypatch.setattr(sys, "argv", ["bench_peers", *arguments])
    status = None
    try:
        bench_peers.main()
    except RuntimeError as error:
        status = str(error)
    return status, json.loads((tmp_path / "results.json").read_text())


def fake(name, model="Delay", trained_on="noise", **arguments):
    return cases.Case(
        name, f"tests.benchmarks.test_causal_peers:{model}", arguments, trained_on=trained_on
    )


class TestBenchmark:
    def test_every_row_has_all_keys_and_one_failure_does_not_spoil_the_others(
        self, monkeypatch, tmp_path, data_dir, capsys
    ):
        models = [
            fake("DeepFilterNet3"),
            fake("torn", "Broken"),
            fake("late", declared=0),
            fake("untrained", trained_on=None, sample_rate=RATE),
        ]
        status, results = run(monkeypatch, tmp_path, data_dir, models)
        assert status == "2 of 4 models failed: torn, late"
        rows = {row["model"]: row for row in results["models"]}
        keys = {"model", "rtf", "rtf_ratio", "latency_ms", "frame_ms", "peak_mb", "added_mb"}
        keys |= {"num_params", "macs_per_second", "si_sdr", "pesq_wb", "trained_on", "sample_rate"}
        assert all(keys <= row.keys() for row in rows.values())
        good = rows["DeepFilterNet3"]
        assert good["error"] is None and good["rtf_ratio"] == 1 and good["rtf"] > 0
        for key in ("frame_ms", "busy_frame_ms"):
            assert good[key]["p99"] >= good[key]["median"] > 0
        assert good["load_ms"] >= 0
        assert good["peak_mb"] >= good["added_mb"] >= 0
        # what passes the mixture on scores as the mixture, but for the resampling
        assert good["si_sdr"] == pytest.approx(results["noisy"]["si_sdr"], abs=0.1)
        assert "the weights are torn" in rows["torn"]["error"]
        assert "lags behind by 300 samples, 0 are compensated" in rows["late"]["error"]
        untrained = rows["untrained"]
        assert untrained["rtf"] > 0 and untrained["si_sdr"] is None is untrained["pesq_wb"]
        table = capsys.readouterr().out.partition("| model")[2]
        assert table.count("untrained") == 3 and "failed (loading: ValueError" in table

    def test_a_slow_way_to_run_a_model_takes_the_scores_of_the_fast_one(
        self, monkeypatch, tmp_path, data_dir
    ):
        fast = [fake("DeepFilterNet3"), fake("torn", "Broken")]
        slow = [
            dataclasses.replace(fake(case.name), runs_as="slowly", scores_of=str(case))
            for case in fast
        ]
        status, results = run(monkeypatch, tmp_path, data_dir, [*slow, *fast])
        taken, without, scored, _ = results["models"]
        assert taken["si_sdr"] == scored["si_sdr"] is not None and taken["lag_ms"] is None
        assert (
            without["error"] == "taking over scores: torn (C library, frame by frame) has no scores"
        )
        assert status == "2 of 4 models failed: torn, torn"

    def test_time_is_that_of_the_frames(self):
        measured = timed(Delay(RATE), NOISE)
        assert len(measured["frame_ms"]) == 100
        assert measured["seconds"] == pytest.approx(sum(measured["frame_ms"]) / 1000)

    def test_missing_audio_is_named(self, data_dir):
        (data_dir / "audio" / "ann-0_mix.wav").unlink()
        with pytest.raises(FileNotFoundError, match="ann-0_mix.wav of .*wav.scp is not there"):
            bench_peers.read_data(data_dir, None)


class TestExperiments:
    def experiment(self, folder, separator, **conf):
        folder.mkdir()
        options = {"separator": separator, "separator_conf": conf}
        options["train_data_path_and_name_and_type"] = [
            ["dump/train/wav.scp", "speech_mix", "kind"]
        ]
        (folder / "config.yaml").write_text(yaml.safe_dump(options))
        return str(folder)

    def test_a_trained_model_takes_the_place_of_the_untrained_one(self, tmp_path):
        student = self.experiment(tmp_path / "small", "dpdcrn", channels=16)
        dccrn = self.experiment(tmp_path / "dccrn", "dccrn")
        models = {str(case): case for case in cases.all_cases([student], [dccrn], tmp_path)}
        assert (
            models["causal student small, 16 channels (ONNX, frame by frame)"].export[-1] == student
        )
        assert models["ESPnet's DCCRN (torch, whole signal)"].arguments == {"exp_dir": dccrn}
        assert models["ESPnet's SkiM (torch, frame by frame)"].scores_of in models
        trained = {name: case.trained_on for name, case in models.items() if not case.from_wheel}
        assert sorted(filter(None, trained.values())) == ["dump/train", "dump/train"]

    def test_other_experiments_are_refused(self, tmp_path):
        rnn = self.experiment(tmp_path / "rnn", "rnn")
        with pytest.raises(ValueError, match="holds the separator rnn, wanted: dpdcrn"):
            cases.all_cases([rnn], [], tmp_path)
        with pytest.raises(ValueError, match="wanted: dccrn, skim, bsrnn"):
            cases.all_cases([], [rnn], tmp_path)
        with pytest.raises(FileNotFoundError, match="config.yaml is not there"):
            cases.all_cases([str(tmp_path / "none")], [], tmp_path)
