from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.abs_distiller import FEATURE_SETS, DistillInputs, Sizes
from espnet2_tfckd.distiller.i2srf_tfckd import I2SRFTFCKDDistiller
from tests.distiller.features import all_features, random_inputs, shapes
from tests.golden_data import golden_files, load_golden, numbered, relative_error
from tests.oracles.i2srf_tfckd import NaiveI2SRFTFCKD

STUDENT, TEACHER = shapes(channels=4, blocks=1), shapes(channels=6, blocks=2)
BATCH, FRAMES = 2, 5


def distiller(**options):
    torch.manual_seed(0)
    return I2SRFTFCKDDistiller(
        Sizes(STUDENT, TEACHER, FRAMES, BATCH),
        fusion_channels=options.pop("fusion_channels", 8),
        **options,
    )


@pytest.fixture
def student():
    return random_inputs(STUDENT, BATCH, FRAMES, seed=1)


@pytest.fixture
def teacher():
    return random_inputs(TEACHER, BATCH, FRAMES, seed=2)


@pytest.mark.parametrize("path", golden_files("inter_set*.npz"), ids=lambda p: p.stem)
class TestGoldenInterSet:
    """The whole inter-set path: representatives, loss, gradients of features and both fusions."""

    def test_representatives(self, path):
        arrays, product, student, teacher = golden_case(path)
        for side, features in (("student", student), ("teacher", teacher)):
            fusions = getattr(product, f"{side}_fusion")
            for name, layers in features.feature_sets.items():
                order = layers[::-1] if name == "decoder" else layers
                expected = arrays[f"{side}.{name}.fused"]
                assert relative_error(fusions[name](order), expected) < 1e-5

    def test_loss_and_gradients_of_the_features(self, path):
        arrays, product, student, teacher = golden_case(path)
        loss, _ = product(student, teacher)
        loss.backward()
        assert relative_error(loss, arrays["loss"]) < 1e-5
        for name, layers in student.feature_sets.items():
            for n, feature in enumerate(layers):
                assert relative_error(feature.grad, arrays[f"grad.student.{name}{n}"]) < 1e-4
        assert all(x.grad is None for x in all_features(teacher))

    @pytest.mark.parametrize("side", ["student", "teacher"])
    def test_gradients_of_the_fusion(self, path, side):
        arrays, product, student, teacher = golden_case(path)
        product(student, teacher)[0].backward()
        golden = {name: x for name, x in arrays.items() if name.startswith(f"grad.{side}.")}
        scale = max(x.abs().max() for name, x in golden.items() if ".step" in name)
        for name, parameter in product.named_parameters():
            if name.startswith(f"{side}_fusion."):
                expected = golden[f"grad.{golden_name(name, arrays)}"]
                error = (parameter.grad - expected.view_as(parameter)).abs().max()
                assert error < 1e-4 * scale, name


def golden_name(name, arrays):
    """The name that golden data give to a parameter of a fusion."""
    side, layer_set, *rest = name.replace("_fusion", "").split(".")
    if rest[0] == "steps":
        return ".".join([side, layer_set, f"step{rest[1]}", *rest[2:]])
    layers = numbered(arrays, f"{side}.{layer_set}")
    return ".".join([side, layer_set, f"step{len(layers) - 1}", *rest])


def golden_case(path):
    """The distiller with the golden weights, and the features of student and teacher."""
    arrays = load_golden(path)
    sides = {
        side: {name: numbered(arrays, f"{side}.{name}") for name in FEATURE_SETS}
        for side in ("student", "teacher")
    }
    sizes = [
        {name: [(x.shape[1], x.shape[3]) for x in layers] for name, layers in sets.items()}
        for sets in sides.values()
    ]
    batch, _, frames, _ = arrays["student.encoder0"].shape
    width = arrays["student.encoder.step0.project.conv.weight"].shape[0]
    expansion = arrays["freq_query0.fc1.weight"].shape[0] // batch
    product = I2SRFTFCKDDistiller(
        Sizes(*sizes, frames, batch),
        intra_weight=0.0,
        fusion_channels=width,
        frequency_expansion=expansion,
    )
    state = {"updates": product.updates}
    for name, value in product.named_parameters():
        if name.startswith("calibrations.inter."):
            kind, stream, layer, *rest = name.split(".")[2:]
            stream = {"time": "time", "frequency": "freq"}[stream]
            golden = ".".join([f"{stream}_{kind}{layer}", *rest])
        else:
            golden = golden_name(name, arrays)
        state[name] = arrays[golden].view_as(value)
    product.load_state_dict(state, strict=True)
    student, teacher = (
        DistillInputs(sets, torch.zeros(1, 1, 1), torch.zeros(1, 1)) for sets in sides.values()
    )
    for feature in all_features(student) + all_features(teacher):
        feature.requires_grad_()
    return arrays, product, student, teacher


def test_loss_and_gradients_equal_the_literal_transcription(student, teacher):
    product = distiller()
    oracle = NaiveI2SRFTFCKD(STUDENT, TEACHER, FRAMES, BATCH, mid=8).weights_of(product)
    loss, _ = product(student, teacher)
    expected = oracle(student, teacher.detach())
    assert relative_error(loss, expected) < 1e-5
    own = torch.autograd.grad(loss, all_features(student))
    theirs = torch.autograd.grad(expected, all_features(student))
    for x, y in zip(own, theirs, strict=True):
        assert relative_error(x, y) < 1e-4


def test_gradients_reach_student_and_distiller_and_never_the_teacher(student, teacher):
    product = distiller()
    loss, _ = product(student, teacher)
    loss.backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in all_features(student))
    assert all(p.grad is not None for p in product.parameters())
    assert all(x.grad is None for x in all_features(teacher))


@pytest.mark.parametrize("matching", ["similarity", "regression"])
def test_the_teachers_fusion_learns_through_the_calibrations_keys_alone(matching, student, teacher):
    """With the keys' gradient cut off, nothing reaches it: it cannot move towards the student."""
    product = distiller(matching=matching)
    for calibration in product.calibrations.values():
        for keys in calibration.key.values():
            for key in keys:
                key.register_forward_hook(lambda module, inputs, output: output.detach())
    product(student, teacher)[0].backward()
    assert all(p.grad is None for p in product.teacher_fusion.parameters())
    assert all(p.grad is not None for p in product.student_fusion.parameters())


@pytest.mark.parametrize("weighting", ["uniform", "nearest"])
def test_without_learnt_weights_the_teachers_fusion_is_frozen(weighting, student, teacher):
    """A parameter that is to be trained but gets no gradient stops a training on several GPUs."""
    product = distiller(weighting=weighting)
    product(student, teacher)[0].backward()
    assert not any(p.requires_grad for p in product.teacher_fusion.parameters())
    assert all(p.grad is not None for p in product.parameters() if p.requires_grad)


def test_total_is_the_weighted_sum_of_the_logged_parts(student, teacher):
    loss, stats = distiller(intra_weight=3.0, inter_weight=0.5)(student, teacher)
    intra = sum(stats[f"kd_{name}"] for name in ("encoder", "bottleneck", "decoder"))
    torch.testing.assert_close(loss, 3 * intra + 0.5 * stats["kd_inter"])
    for name in ("encoder", "bottleneck", "decoder", "inter"):
        streams = stats[f"kd_{name}_time"] + stats[f"kd_{name}_frequency"]
        torch.testing.assert_close(stats[f"kd_{name}"], streams)


class TestRegression:
    options = dict(matching="regression", teacher_fusion="last")

    def test_gradients_reach_student_and_distiller(self, student, teacher):
        product = distiller(**self.options)
        loss, stats = product(student, teacher)
        loss.backward()
        assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in all_features(student))
        assert all(p.grad is not None for p in product.parameters())
        assert stats.keys() >= {"kd_encoder_time", "kd_inter_frequency"}

    def test_without_calibration_it_is_the_mean_relative_error_of_all_pairs(self, student, teacher):
        product = distiller(**self.options, weighting="uniform", inter_weight=0.0)
        _, stats = product(student, teacher)
        errors = []
        layers, targets = (x.feature_sets["bottleneck"] for x in (student, teacher))
        (row,) = product.calibrations["bottleneck"].regression.regressors
        for regress, target in zip(row, targets, strict=True):
            error = (regress(layers[0]) - target).square().mean()
            errors.append(error / target.square().mean())
        torch.testing.assert_close(stats["kd_bottleneck"], torch.stack(errors).mean())


def test_a_weight_of_zero_leaves_its_part_out(student, teacher):
    without_inter = distiller(inter_weight=0.0)
    _, stats = without_inter(student, teacher)
    assert "kd_inter" not in stats
    assert not list(without_inter.student_fusion.parameters())
    _, stats = distiller(intra_weight=0.0)(student, teacher)
    assert "kd_encoder" not in stats and "kd_inter" in stats


def test_sets_that_are_not_named_are_left_out(student, teacher):
    product = distiller(sets=["bottleneck", "encoder"])
    loss, stats = product(student, teacher)
    assert list(product.student_fusion) == ["encoder", "bottleneck"]
    assert "kd_decoder" not in stats and stats["kd_inter"] > 0
    loss.backward()
    assert all(x.grad is None for x in student.feature_sets["decoder"])
    assert all(x.grad.abs().sum() > 0 for x in student.feature_sets["encoder"])


@pytest.mark.parametrize("streams", ["time", "frequency", "both"])
@pytest.mark.parametrize("weighting", ["own", "exchanged", "uniform", "nearest"])
@pytest.mark.parametrize("fusion", ["recursive", "last"])
def test_every_combination_of_options_trains_a_student(
    streams, weighting, fusion, student, teacher
):
    loss, _ = distiller(streams=streams, weighting=weighting, fusion=fusion)(student, teacher)
    loss.backward()
    assert loss > 0
    # with the last layer as representative, the others still learn within their set
    assert all(x.grad.abs().sum() > 0 for x in all_features(student))


def test_last_layer_fusion_represents_a_set_by_the_layer_the_recursion_ends_with(student, teacher):
    product = distiller(intra_weight=0.0, fusion="last")
    loss, _ = product(student, teacher)
    loss.backward()
    for name, layers in student.feature_sets.items():
        end = 0 if name == "decoder" else len(layers) - 1
        for n, feature in enumerate(layers):
            assert (feature.grad is not None) == (n == end), (name, n)


def test_fusion_is_as_wide_as_the_teachers_widest_layer_unless_told_otherwise():
    assert distiller(fusion_channels=None).student_fusion["encoder"].output.conv.in_channels == 6
    assert distiller(fusion_channels=8).student_fusion["encoder"].output.conv.in_channels == 8


def test_the_teachers_sets_may_go_unfused(student, teacher):
    product = distiller(teacher_fusion="last")
    assert list(product.student_fusion.parameters()) and not list(product.teacher_fusion)
    product(student, teacher)[0].backward()
    assert all(x.grad.abs().sum() > 0 for x in all_features(student))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(sets=["decoder", "mask"]), "sets must be one of encoder, bottleneck, decoder"),
        (dict(sets=[]), "each set once, and one at least"),
        (dict(sets=["decoder", "decoder"]), "each set once"),
        (dict(streams="space"), "streams must be one of both, time, frequency"),
        (dict(weighting="random"), "weighting must be one of own, exchanged, uniform, nearest"),
        (dict(fusion="first"), "fusion must be one of recursive, last"),
        (dict(teacher_fusion="first"), "teacher_fusion must be one of recursive, last"),
        (dict(intra_weight=-1.0), "must not be negative"),
        (dict(intra_weight=0.0, inter_weight=0.0), "nor both 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distiller(**options)
