from __future__ import annotations

import re

import pytest
import torch

from espnet2_tfckd.distiller.calibration import LayerRegression, TFCalibration
from espnet2_tfckd.distiller.similarity import layer_similarities
from tests.golden_data import golden_files, load_golden, numbered, relative_error

GOLDEN = [pytest.param(path, id=path.stem) for path in golden_files("tf_calibration_*.npz")]


def golden_case(path):
    """The calibration with the golden weights, and its inputs."""
    arrays = load_golden(path)
    student = [x.requires_grad_() for x in numbered(arrays, "student")]
    teacher = numbered(arrays, "teacher")
    batch, _, frames, _ = student[0].shape
    expansion = arrays["freq_query0.fc1.weight"].shape[0] // batch
    calibration = TFCalibration(
        len(student), len(teacher), frames, batch, frequency_expansion=expansion
    )
    weights = {}
    for name, value in arrays.items():
        if match := re.fullmatch(r"(time|freq)_(query|key)(\d+)\.(fc\d\.\w+)", name):
            stream = {"time": "time", "freq": "frequency"}[match[1]]
            weights[f"{match[2]}.{stream}.{match[3]}.{match[4]}"] = value
    calibration.load_state_dict(weights, strict=True)
    return arrays, calibration, student, teacher


@pytest.mark.parametrize("path", GOLDEN)
def test_loss_weights_and_gradients_reproduce_the_golden_data(path):
    arrays, calibration, student, teacher = golden_case(path)
    loss, parts, weights = calibration(student, teacher)
    loss.backward()
    assert relative_error(loss, arrays["loss"]) < 1e-5
    assert relative_error(sum(parts.values()), arrays["loss"]) < 1e-5
    assert relative_error(weights["time"], arrays["alpha_time"]) < 1e-5
    assert relative_error(weights["frequency"], arrays["alpha_freq"]) < 1e-5
    for n, feature in enumerate(student):
        assert relative_error(feature.grad, arrays[f"grad_student{n}"]) < 1e-4


@pytest.mark.parametrize("path", GOLDEN)
def test_probabilities_reproduce_the_golden_data(path):
    arrays = load_golden(path)
    similarities = layer_similarities(arrays["student0"])
    assert relative_error(similarities["time"].probability, arrays["p_time_student0"]) < 1e-5
    assert relative_error(similarities["frequency"].probability, arrays["p_freq_student0"]) < 1e-5


@pytest.mark.parametrize("batch", [1, 2])
def test_a_smaller_batch_counts_absent_utterances_as_zero(batch):
    torch.manual_seed(0)
    calibration = TFCalibration(1, 2, frames=6, batch_size=4)
    student = [torch.randn(batch, 3, 6, 5)]
    teacher = [torch.randn(batch, 4, 6, 5) for _ in range(2)]
    _, _, weights = calibration(student, teacher)
    silent = torch.zeros(4 - batch, 3, 6, 5)
    padded = [torch.cat([x, silent[:, :1].expand(-1, x.shape[1], -1, -1)]) for x in student]
    padded_teacher = [torch.cat([x, silent[:, :1].expand(-1, x.shape[1], -1, -1)]) for x in teacher]
    _, _, expected = calibration(padded, padded_teacher)
    for stream in ("time", "frequency"):
        torch.testing.assert_close(weights[stream], expected[stream][:batch])


def frames_of(kind: str) -> torch.Tensor:
    feature = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    if kind == "silent":
        feature[:, :, 2:4] = 0
    elif kind == "all silent":
        feature.zero_()
    elif kind == "identical":
        feature[:] = feature[:1, :, :1]
    elif kind == "opposite":
        feature[1] = -feature[0]
        feature[:, :, 1::2] = -feature[:, :, ::2]
    elif kind == "huge":
        feature *= 1e8
    return feature.requires_grad_()


@pytest.mark.parametrize("kind", ["silent", "all silent", "identical", "opposite", "huge"])
def test_degenerate_frames_give_finite_loss_and_gradient(kind):
    torch.manual_seed(0)
    calibration = TFCalibration(1, 1, frames=6, batch_size=2)
    student = frames_of(kind)
    loss, _, _ = calibration([student], [torch.randn(2, 4, 6, 5)])
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in calibration.parameters())


def test_equal_features_have_no_divergence():
    feature = torch.randn(2, 3, 6, 5)
    loss, _, _ = TFCalibration(1, 1, 6, 2)([feature], [2 * feature])  # scale does not matter
    assert loss.abs() < 1e-9


def test_each_stream_alone_is_its_part_of_both():
    torch.manual_seed(0)
    both = TFCalibration(2, 3, 6, 2)
    student = [torch.randn(2, 3, 6, 5) for _ in range(2)]
    teacher = [torch.randn(2, 4, 6, 7) for _ in range(3)]
    _, parts, _ = both(student, teacher)
    for stream in ("time", "frequency"):
        alone = TFCalibration(2, 3, 6, 2, streams=(stream,))
        own = {k: v for k, v in both.state_dict().items() if f".{stream}." in k}
        alone.load_state_dict(own, strict=True)
        loss, _, _ = alone(student, teacher)
        torch.testing.assert_close(loss, parts[stream])


def test_exchanged_weighting_multiplies_with_the_other_streams_weights():
    torch.manual_seed(0)
    student, teacher = [torch.randn(2, 3, 6, 5)], [torch.randn(2, 4, 6, 7) for _ in range(2)]
    exchanged = TFCalibration(1, 2, 6, 2, weighting="exchanged")
    _, parts, weights = exchanged(student, teacher)
    for stream, other in (("time", "frequency"), ("frequency", "time")):
        divergence = torch.stack(
            [
                jeffreys(
                    layer_similarities(student[0])[stream].probability,
                    layer_similarities(x)[stream].probability,
                )
                for x in teacher
            ],
            -1,
        )  # (B, T, Nt)
        expected = (weights[other][:, :, 0] * divergence).sum((1, 2)).mean()
        torch.testing.assert_close(parts[stream], expected)


def jeffreys(p, q):
    return (p * (p / q).log() + q * (q / p).log()).mean(-1)


def test_uniform_weighting_has_nothing_to_learn_and_averages_the_teacher_layers():
    calibration = TFCalibration(1, 4, 6, 2, weighting="uniform")
    _, _, weights = calibration(
        [torch.randn(2, 3, 6, 5)], [torch.randn(2, 4, 6, 7) for _ in range(4)]
    )
    assert not list(calibration.parameters())
    assert all((x == 0.25).all() for x in weights.values())


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (3, 3, 6, 5)])
def test_batches_it_was_not_built_for_are_refused(shape):
    calibration = TFCalibration(1, 1, frames=6, batch_size=2)
    with pytest.raises(ValueError, match="built for up to 2 of exactly 6.*chunk_length"):
        calibration([torch.randn(shape)], [torch.randn(shape)])


def test_unequal_frame_rates_are_refused():
    with pytest.raises(ValueError, match="frame rate.*STFT hop"):
        TFCalibration(1, 1, 6, 2)([torch.randn(2, 3, 6, 5)], [torch.randn(2, 3, 12, 5)])


def test_nearest_weights_are_the_softmax_of_the_distance_below_the_mean():
    torch.manual_seed(0)
    calibration = TFCalibration(1, 2, frames=6, batch_size=4, weighting="nearest")
    student = [torch.randn(4, 3, 6, 5)]
    teacher = [student[0].clone(), torch.randn(4, 3, 6, 5)]
    _, _, weights = calibration(student, teacher)
    # the first teacher layer equals the student's: its divergence is 0, the other's twice the mean
    expected = torch.tensor([0.0, -2.0]).softmax(0)
    for stream in ("time", "frequency"):
        torch.testing.assert_close(weights[stream], expected.expand(4, 6, 1, 2))


def test_without_embeddings_any_batch_and_any_number_of_frames_will_do():
    calibration = TFCalibration(1, 1, frames=6, batch_size=4, weighting="nearest")
    loss, _, _ = calibration([torch.randn(5, 3, 9, 5)], [torch.randn(5, 4, 9, 5)])
    assert torch.isfinite(loss)


class TestRegression:
    @pytest.fixture(autouse=True)
    def seed(self):
        torch.manual_seed(0)

    def test_what_is_predicted_exactly_costs_nothing_and_what_is_not_its_power(self):
        regression = LayerRegression([2], [2, 3])
        exact, silent = regression.regressors[0]
        torch.nn.init.dirac_(exact.weight)
        for constant in (exact.bias, silent.weight, silent.bias):
            torch.nn.init.zeros_(constant)
        x, y = torch.randn(2, 2, 4, 5), torch.randn(1, 3, 1, 1).expand(2, 3, 4, 5)
        errors = regression([x], [x, y])
        assert errors.shape == (2, 4, 1, 2)
        torch.testing.assert_close(errors[..., 0], torch.zeros(2, 4, 1))
        torch.testing.assert_close(errors[..., 1], torch.ones(2, 4, 1))

    def test_the_wider_map_is_averaged_down(self):
        regression = LayerRegression([1], [1])
        x, narrow = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 2)
        pooled = x.unflatten(3, (2, 2)).mean(4)
        torch.testing.assert_close(regression([x], [narrow]), regression([pooled], [narrow]))

    def test_a_silent_teacher_gives_a_finite_error(self):
        errors = LayerRegression([1], [1])([torch.randn(1, 1, 3, 4)], [torch.zeros(1, 1, 3, 4)])
        assert errors.isfinite().all()
