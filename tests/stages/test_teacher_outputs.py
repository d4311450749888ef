"""A teacher's estimates of the training mixtures: written once, aligned, and trained on."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet2_tfckd.data.datadir import read_data_dir, read_scp
from espnet2_tfckd.data.entries import read_entry
from espnet2_tfckd.stages import teacher_outputs as stage
from espnet2_tfckd.stages.format import format_data_dir
from espnet2_tfckd.stages.teacher_outputs import teacher_outputs
from espnet2_tfckd.training.task import EnhancementKDTask
from tests.recipes import TINY

RATE = 16000
# half the level, 640 samples later, at 48 kHz, as an enhancer of another kind may give it
DELAYED = """
import sys, numpy, soundfile, soxr
samples, rate = soundfile.read(sys.argv[1], always_2d=True)
late = numpy.pad(0.5 * samples[:, 0], (640, 300))[: len(samples) + 300]
soundfile.write(sys.argv[2], soxr.resample(late, rate, 48000), 48000, "FLOAT")
"""


@pytest.fixture
def command(tmp_path):
    """Function that writes a script and returns the command that runs it."""

    def write(source):
        (tmp_path / "my enhancer.py").write_text(source)
        return f"'{sys.executable}' '{tmp_path}/my enhancer.py' {{input}} {{output}}"

    return write


def estimates(scp):
    return {utterance: read_entry(entry) for utterance, entry in read_scp(scp).items()}


def test_a_commands_delay_and_rate_are_taken_out(data_dir, command, tmp_path, capsys):
    scp = teacher_outputs(data_dir, tmp_path / "out", command=command(DELAYED), nj=2)
    assert "delay: 640 samples (40.0 ms), removed; its level to the mixture's: -6." in (
        capsys.readouterr().out
    )
    data = read_data_dir(data_dir)
    for utterance, (estimate, rate) in estimates(scp).items():
        mixture, _ = read_entry(data.mixture[utterance])
        assert rate == RATE and estimate.shape == mixture.shape
        middle = slice(1000, len(mixture) - 1000)  # what comes late is lost at the end
        error = estimate[middle] - 0.5 * mixture[middle]
        # noise up to the band edge, which resampling weakens; one sample late, it would be 0.5
        assert np.square(error).mean() < 0.03 * np.square(mixture).mean()


def test_the_delay_is_measured_once_at_each_rate(data_dir, command, tmp_path, capsys):
    said = []
    for fs in (RATE, RATE, RATE // 2):
        format_data_dir(data_dir, tmp_path / f"at {fs}", fs=fs)
        teacher_outputs(tmp_path / f"at {fs}", tmp_path / "out", command=command(DELAYED))
        said.append(capsys.readouterr().out)
    assert "delay: 640 samples (40.0 ms)" in said[0] and "delay: " not in said[1]
    assert "delay: 640 samples (80.0 ms)" in said[2]


def test_it_resumes_and_notices_another_teacher(data_dir, command, tmp_path, capsys, rewrite_audio):
    scp = teacher_outputs(data_dir, tmp_path / "out", command=command(DELAYED))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "wavs").glob("*.wav")}
    teacher_outputs(data_dir, tmp_path / "out", command=command(DELAYED))
    assert files == {path: path.stat().st_mtime_ns for path in files} and len(files) == 4
    assert "up to date" in capsys.readouterr().out
    utterance, entry = next(iter(read_data_dir(data_dir).mixture.items()))
    rewrite_audio(Path(entry), 0.1 * np.random.default_rng(1).standard_normal(8000))
    before = estimates(scp)
    teacher_outputs(data_dir, tmp_path / "out", command=command(DELAYED))
    assert not np.array_equal(estimates(scp)[utterance][0], before[utterance][0])


def test_a_model_may_be_an_experiment(data_dir, tiny_model, tmp_path):
    scp = teacher_outputs(data_dir, tmp_path / "out", model=str(tiny_model))
    assert list(estimates(scp)) == list(read_data_dir(data_dir).mixture)
    assert all(np.square(samples).mean() > 1e-8 for samples, _ in estimates(scp).values())


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("1 / 0", RuntimeError, "spk-utt0: the teacher's command failed .status 1.: ZeroDivision"),
        ("pass", RuntimeError, "spk-utt0: the teacher's command wrote no output: it says nothing"),
        (
            DELAYED.replace("300", "9000"),
            ValueError,
            "spk-utt0: the teacher's estimate has .* its mixture",
        ),
        (DELAYED.replace("640", "len(samples) % 3000"), ValueError, "delay differs between"),
        (DELAYED.replace("0.5 *", "numpy.nan *"), ValueError, "NaN or infinite"),
        ("import os; os.write(2, b'\\xff'); exit(3)", RuntimeError, "spk-utt0: .*status 3"),
    ],
)
def test_what_a_command_gets_wrong_is_named(source, error, words, data_dir, command, tmp_path):
    with pytest.raises(error, match=words):
        teacher_outputs(data_dir, tmp_path / "out", command=command(source))
    assert not (tmp_path / "out" / stage.SCP).exists()


FOLDERS = (
    """
import pathlib, sys
print(len(list(pathlib.Path(sys.argv[1]).iterdir())), file=open(sys.argv[0] + ".calls", "a"))
file = """
    + repr(DELAYED)
    + """
for path in pathlib.Path(sys.argv[1]).iterdir():
    sys.argv[1:] = [path, pathlib.Path(sys.argv[2]) / path.name]
    exec(file)
    sys.argv[2] = sys.argv[2].parent
"""
)


def test_a_command_for_folders_runs_once_for_many(data_dir, command, tmp_path):
    files = teacher_outputs(data_dir, tmp_path / "files", command=command(DELAYED))
    of_folders = command(FOLDERS).replace("put}", "puts}")
    folders = teacher_outputs(data_dir, tmp_path / "folders", command=of_folders)
    expected = estimates(files)
    for utterance, (estimate, _) in estimates(folders).items():
        np.testing.assert_array_equal(estimate, expected[utterance][0])
    calls = (tmp_path / "my enhancer.py.calls").read_text().split()
    assert calls == [str(len(expected))] * 2  # the delay, then all in one shard
    of_folders = command("1 / 0").replace("put}", "puts}")
    with pytest.raises(RuntimeError, match="spk-utt0: the teacher's command failed .status 1."):
        teacher_outputs(data_dir, tmp_path / "failing", command=of_folders)


def test_commands_that_cannot_be_run(data_dir, tmp_path):
    with pytest.raises(ValueError, match="has no .output., as in 'enhance .input. .output.'"):
        teacher_outputs(data_dir, tmp_path / "out", command="cp {input}")
    with pytest.raises(ValueError, match="has no .outputs., as in 'enhance .inputs. .outputs.'"):
        teacher_outputs(data_dir, tmp_path / "out", command="cp {inputs} {output}")
    with pytest.raises(RuntimeError, match="cannot be run: .*no_such_enhancer"):
        teacher_outputs(data_dir, tmp_path / "out", command="no_such_enhancer {input} {output}")


def task_arguments(folder, config, *options):
    (folder / "kd.yaml").write_text(yaml.safe_dump({**TINY, **config}))
    arguments = ["--config", str(folder / "kd.yaml"), "--output_dir", str(folder / "exp")]
    estimate = str(folder / "teacher.scp") + ",teacher_estimate,sound"
    arguments += ["--train_data_path_and_name_and_type", estimate, *options]
    return EnhancementKDTask.get_parser().parse_args(arguments)


@pytest.mark.parametrize("scheme", ["response", "dfkd", "dispatch"])
def test_schemes_on_outputs_train_without_a_teacher(scheme, tmp_path):
    model = EnhancementKDTask.build_model(task_arguments(tmp_path, {"distiller": scheme}))
    generator = torch.Generator().manual_seed(0)
    mixture, reference, estimate = torch.randn(3, 2, 8000, generator=generator)
    batch = {"speech_mix": mixture, "speech_ref1": reference}
    loss, stats, _ = model.train()(**batch, teacher_estimate=estimate)
    loss.backward()
    assert stats["kd_loss"] > 0 and all(
        parameter.grad is not None for parameter in model.separator.parameters()
    )
    again = model(**batch, teacher_estimate=reference)[1]["kd_loss"]
    assert again != stats["kd_loss"]  # it is this teacher that the student is compared with
    with pytest.raises(ValueError, match="the data hold no teacher_estimate"):
        model(**batch)
    loss, stats, _ = model.eval()(**batch)
    assert "kd_loss" not in stats


def test_a_teachers_estimates_teach_what_the_teacher_does(tmp_path):
    """The loss is that of the teacher at work, since response KD compares waveforms."""
    torch.manual_seed(0)
    teacher = {key: value for key, value in TINY.items()}
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    args = EnhancementKDTask.get_parser().parse_args(
        ["--config", str(tmp_path / "teacher.yaml"), "--output_dir", str(tmp_path / "exp")]
    )
    network = super(EnhancementKDTask, EnhancementKDTask).build_model(args).eval()
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    mixture, reference = torch.randn(2, 2, 8000)
    losses = []
    for with_teacher in (True, False):
        arguments = task_arguments(tmp_path, {"distiller": "response"})
        if with_teacher:
            arguments.train_data_path_and_name_and_type = []
            arguments.teacher_config = str(tmp_path / "config.yaml")
            arguments.teacher_model_file = str(tmp_path / "teacher.pth")
        torch.manual_seed(1)
        model = EnhancementKDTask.build_model(arguments).train()
        batch = {"speech_mix": mixture, "speech_ref1": reference}
        if not with_teacher:
            with torch.no_grad():
                lengths = torch.full((2,), 8000)
                (batch["teacher_estimate"],), *_ = network.forward_enhance(mixture, lengths, {})
        losses.append(float(model(**batch)[1]["kd_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"distiller": "fitnets"}, "the scheme fitnets compares features, which a teacher's est"),
        ({"distiller": "response", "preprocessor": "enh"}, "the preprocessor makes other mixtures"),
        (
            {"distiller": "response", "teacher_config": "a", "teacher_model_file": "b"},
            "there is a teacher, and its estimates are in the data",
        ),
        (
            {"distiller": "response", "model_conf": {"normalize_variance": True}},
            "normalize_variance scales mixtures, but not the teacher's estimates",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(config, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        EnhancementKDTask.build_model(task_arguments(tmp_path, config))


def test_the_estimates_of_one_channel_are_read_from_recordings_of_several(tmp_path, command):
    from espnet2_tfckd.data.datadir import DataDir, write_data_dir

    rng = np.random.default_rng(0)
    data = DataDir({}, {}, {})
    for name in ("ann-1", "ann-2"):
        for side in ("mixture", "reference"):
            path = tmp_path / f"{name}_{side}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal((9000, 4)), RATE, "FLOAT")
            getattr(data, side)[name] = str(path)
        data.speaker[name] = "ann"
    write_data_dir(tmp_path / "data", data)
    scp = teacher_outputs(tmp_path / "data", tmp_path / "out", command=command(DELAYED))
    assert {samples.shape for samples, _ in estimates(scp).values()} == {(9000, 1)}
