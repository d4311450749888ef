"""Model, task and trainer: a distillation with ESPnet's own machinery on a few seconds of audio."""

from __future__ import annotations

import shutil
from datetime import timedelta

import numpy as np
import pytest
import soundfile
import torch

from espnet2_tfckd.bin import enh_kd_train
from espnet2_tfckd.models.checkpoint import export_student, load_enhancement_model
from espnet2_tfckd.training.task import EnhancementTask, distiller_choices
from espnet2_tfckd.training.trainer import restore_checkpoint
from tests.training.distilling import (
    CHUNK,
    batch,
    build,
    configuration,
    kd_options,
    scheme_options,
    write_yaml,
)


def test_gradients_reach_student_and_distiller_and_never_the_teacher(tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files).train()
    loss, stats, _ = model(**batch())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert not model.teacher.training
    torch.testing.assert_close(stats["loss"], stats["enh_loss"] + stats["kd_loss"])


def test_each_loss_has_its_weight(tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files, distill_weight=0.25).train()
    _, stats, _ = model(**batch())
    torch.testing.assert_close(stats["loss"], stats["enh_loss"] + 0.25 * stats["kd_loss"])


def test_one_batch_in_several_may_be_distilled(tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files, distill_weight=0.5, distill_every=3).train()
    heard = []
    model.teacher.separator.register_forward_hook(lambda *_: heard.append(1))
    for number in range(7):
        loss, stats, _ = model(**batch())
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        assert ("kd_loss" in stats) == (number % 3 == 0)
        expected = stats["enh_loss"] + 3 * 0.5 * stats.get("kd_loss", 0)
        torch.testing.assert_close(stats["loss"], expected)
    assert len(heard) == 3 and model.distiller.updates == 7


def test_a_scheme_may_put_off_the_enhancement_loss(tmp_path, teacher_files):
    scheme = {"distiller": "two_step", "distiller_conf": {"first_updates": 1}}
    model = build(tmp_path / "kd", teacher_files, **scheme).train()
    _, first, _ = model(**batch())
    _, second, _ = model(**batch())
    torch.testing.assert_close(first["loss"], first["kd_loss"])
    torch.testing.assert_close(second["loss"], second["enh_loss"])


FOR_DEVICES = {
    "causal": True,
    "causal_norm": "batch",
    "strided_layers": 3,  # so that there are more layers than the teacher has, with fewer bins
    "attention_window": 0,
    "input_power": 0.3,
}


@pytest.mark.parametrize("student", [{}, FOR_DEVICES], ids=["published", "for devices"])
@pytest.mark.parametrize("scheme", sorted(distiller_choices.classes))
def test_a_silent_chunk_keeps_every_scheme_finite(scheme, student, tmp_path, teacher_files):
    sizes = {"channels": 8, "heads": 2, "blocks": 1, **student}
    changes = {"separator_conf": sizes, **scheme_options(scheme)}
    model = build(tmp_path / "kd", teacher_files, **changes).train()
    for silent in (["speech_ref1"], ["speech_mix"], ["speech_ref1", "speech_mix"]):
        signals = batch()
        for name in silent:
            signals[name][1] = 0
        model.zero_grad()
        loss, stats, _ = model(**signals)
        loss.backward()
        assert all(torch.isfinite(value).all() for value in (loss, *stats.values()))
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("scheme", ["response", "dfkd", "dispatch"])
def test_schemes_on_the_output_need_no_features_of_either_network(scheme, tmp_path, teacher_files):
    student = {"separator": "rnn", "separator_conf": {"num_spk": 1, "layer": 1, "unit": 8}}
    changes = {"distiller": scheme, "distiller_conf": {}, **student}
    model = build(tmp_path / "kd", teacher_files, **changes).train()
    loss, stats, _ = model(**batch())
    loss.backward()
    assert stats["kd_loss"] > 0
    assert all(p.grad is not None for p in model.separator.parameters())


def test_one_channel_of_a_reference_is_compared(tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files, distiller="dispatch", distiller_conf={}).train()
    signals = batch()
    expected, *_ = model(**signals)
    signals["speech_ref1"] = torch.stack([signals["speech_ref1"], torch.zeros(2, CHUNK)], -1)
    found, *_ = model(**signals)
    torch.testing.assert_close(found, expected)


def test_validation_loss_is_the_enhancement_loss_alone(tmp_path, teacher_files):
    model = build(tmp_path / "kd", teacher_files).eval()
    calls = []
    model.teacher.separator.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        loss, stats, _ = model(**batch())
    assert not calls and "kd_loss" not in stats
    torch.testing.assert_close(loss.view(-1), stats["snr_loss"].view(-1))


def test_student_starts_as_it_would_without_a_teacher(tmp_path, teacher_files):
    distilled = build(tmp_path / "kd", teacher_files)
    torch.manual_seed(0)
    path = write_yaml(tmp_path / "plain.yaml", configuration())
    parser = EnhancementTask.get_parser()
    plain = EnhancementTask.build_model(
        parser.parse_args(["--config", path, "--output_dir", str(tmp_path)])
    )
    for name, value in plain.state_dict().items():
        assert torch.equal(value, distilled.state_dict()[name]), name


def test_the_teacher_follows_to_another_device_or_type_but_stays_out_of_checkpoints(
    tmp_path, teacher_files
):
    model = build(tmp_path / "kd", teacher_files)
    parts = {name.split(".")[0] for name in model.state_dict()}
    assert parts == {"separator", "distiller"}  # the STFT has no weights
    model.to(torch.float64)
    assert all(p.dtype == torch.float64 for p in model.teacher.parameters())


@pytest.fixture(scope="session")
def trained(tmp_path_factory, teacher_files, lasting_data):
    """A distillation of two epochs, run by the command line."""
    folder = tmp_path_factory.mktemp("trained") / "kd"
    enh_kd_train.main(kd_options(folder, teacher_files, max_epoch=2) + lasting_data)
    return folder


def test_training_logs_every_part_of_the_loss(trained):
    reporter = torch.load(trained / "checkpoint.pth", weights_only=False)["reporter"]
    logged = set(reporter["stats"][2]["train"])
    sets = ("encoder", "bottleneck", "decoder", "inter")
    expected = {"loss", "enh_loss", "kd_loss"} | {f"kd_{name}" for name in sets}
    expected |= {f"kd_{name}_{stream}" for name in sets for stream in ("time", "frequency")}
    assert expected <= logged
    assert list((trained / "tensorboard" / "train").iterdir())


def test_pauses_rule_the_validation_loss_of_chunks_but_not_of_whole_utterances(
    data, teacher_files, tmp_path
):
    for path in tmp_path.glob("speech_ref1*.wav"):
        signal, rate = soundfile.read(path)
        signal[CHUNK:] = 0
        soundfile.write(path, signal, rate)
    losses = {}
    for kind in ("chunk", "sequence"):
        changes = {"valid_iterator_type": kind, "valid_batch_type": "sorted"}
        changes |= {"valid_batch_size": 1, "chunk_shift_ratio": 1.0}
        folder = tmp_path / kind
        enh_kd_train.main(kd_options(folder, teacher_files, **changes) + data)
        reporter = torch.load(folder / "checkpoint.pth", weights_only=False)["reporter"]
        losses[kind] = reporter["stats"][1]["valid"]["loss"]
    # of two chunks an utterance one is silent, which costs about 150 dB
    assert losses["chunk"] > 60
    assert abs(losses["sequence"]) < 15


def test_calibration_weights_are_drawn_each_epoch(trained):
    images = trained / "images" / "calibration_weights"
    for epoch in (1, 2):
        assert (images / f"{epoch}ep.png").stat().st_size > 10_000


def test_exported_student_is_a_plain_espnet_model(trained, tmp_path):
    from espnet2.bin.enh_inference import SeparateSpeech

    checkpoint = export_student(trained, tmp_path / "student", "valid.loss.best.pth")
    config = tmp_path / "student" / "config.yaml"
    model = load_enhancement_model(config, checkpoint)
    assert type(model).__name__ == "ESPnetEnhancementModel"
    assert not any("distiller" in line or "teacher" in line for line in config.open())
    separate_speech = SeparateSpeech(config, checkpoint)
    (estimate,) = separate_speech(np.zeros((1, 5000), np.float32) + 0.01, fs=16000)
    assert estimate.shape == (1, 5000)


def test_a_teacher_checkpoint_with_other_keys_is_refused_by_name(tmp_path, teacher_files):
    wrong = shutil.copytree(teacher_files, tmp_path / "teacher")
    weights = torch.load(wrong / "teacher.pth")
    weights["separator.other.weight"] = weights.pop("separator.dual_path.time_scale")
    torch.save(weights, wrong / "teacher.pth")
    with pytest.raises(ValueError, match=r"teacher\.pth does not fit.*dual_path\.time_scale"):
        build(tmp_path / "kd", wrong)


def test_a_damaged_teacher_checkpoint_is_refused_by_name(tmp_path, teacher_files):
    damaged = shutil.copytree(teacher_files, tmp_path / "teacher")
    (damaged / "teacher.pth").write_bytes((damaged / "teacher.pth").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"teacher\.pth cannot be read as a checkpoint"):
        build(tmp_path / "kd", damaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_length": "4096-8192"}, "chunk_length to one number"),
        ({"iterator_type": "sequence"}, "iterator_type to chunk"),
        ({"encoder_conf": {"n_fft": 64, "hop_length": 16}}, "same encoder_conf.hop_length"),
        ({"separator": "rnn", "separator_conf": {"num_spk": 1}}, "RNNSeparator offers no feature"),
        ({"distill_weight": -1.0}, "distill_weight must not be negative"),
        ({"distill_every": 0}, "distill_every must be at least 1"),
        ({"model_conf": {"normalize_variance": True}}, "normalize_variance differs"),
        (
            {"distiller": "dispatch", "distiller_conf": {}}
            | {"model_conf": {"normalize_variance": True}},
            "normalize_variance scales mixtures, but not the references",
        ),
        ({"ngpu": 2}, "--ngpu 2 in one process .* --multiprocessing_distributed true"),
    ],
)
def test_settings_that_cannot_be_distilled_are_refused(changes, message, tmp_path, teacher_files):
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "kd", teacher_files, **changes)


def test_without_a_teacher_the_command_says_what_it_needs(tmp_path):
    path = write_yaml(tmp_path / "kd.yaml", configuration())
    with pytest.raises(ValueError, match="needs --teacher_config and --teacher_model_file"):
        enh_kd_train.main(["--config", path, "--output_dir", str(tmp_path), "--dry_run", "true"])


def test_training_goes_on_from_the_copy_when_the_checkpoint_is_damaged(
    trained, data, teacher_files, tmp_path
):
    folder = shutil.copytree(trained, tmp_path / "kd", symlinks=True)
    damaged = folder / "checkpoint.pth"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    options = kd_options(folder, teacher_files, max_epoch=2)
    enh_kd_train.main([*options, *data, "--resume", "true"])
    # the copy is epoch 1's: epoch 2 was trained again
    assert torch.load(damaged, weights_only=False)["reporter"]["epoch"] == 2


def test_a_checkpoint_of_an_earlier_espnet_is_resumed(trained, data, teacher_files, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "kd", symlinks=True)
    states = torch.load(folder / "checkpoint.pth", weights_only=False)
    epoch = states["reporter"]["epoch"]
    # the reporter of ESPnet 202511 keeps times as such, and losses as numbers of numpy
    for kind in states["reporter"]["stats"][epoch].values():
        kind["time"] = timedelta(seconds=2)
        kind |= {key: np.float64(value) for key, value in kind.items() if type(value) is float}
    torch.save(states, folder / "checkpoint.pth")
    options = kd_options(folder, teacher_files, max_epoch=epoch + 1)
    enh_kd_train.main([*options, *data, "--resume", "true"])
    states = torch.load(folder / "checkpoint.pth", weights_only=False)
    assert states["reporter"]["epoch"] == epoch + 1


def test_damage_without_a_copy_names_the_file_and_the_remedy(tmp_path):
    (tmp_path / "checkpoint.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint\.pth is damaged.*delete"):
        restore_checkpoint(tmp_path / "checkpoint.pth")
