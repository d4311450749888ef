from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from espnet2_tfckd.distiller.fusion import CascadeFusion, RecursiveFusion
from tests.golden_data import golden_files, load_golden, numbered, relative_error
from tests.oracles.i2srf_tfckd import NaiveFusion


@pytest.mark.parametrize("path", golden_files("recursive_fusion*.npz"), ids=lambda p: p.stem)
def test_reproduces_the_golden_data(path):
    arrays = load_golden(path)
    layers = numbered(arrays, "layer")
    mid_channels = arrays["step0.project.conv.weight"].shape[0]
    fusion = RecursiveFusion([x.shape[1] for x in layers], mid_channels)
    last = f"step{len(layers) - 1}.output."
    weights = {}
    for name, value in arrays.items():
        if name.startswith(last):
            weights["output." + name.removeprefix(last)] = value
        elif name.startswith("step") and ".output." not in name:
            weights["steps." + name.removeprefix("step")] = value
    fusion.load_state_dict(weights, strict=True)
    assert relative_error(fusion(layers), arrays["fused"]) < 1e-5


@pytest.mark.parametrize(
    "sizes",
    [
        [(3, 5)],
        [(4, 9), (3, 5)],
        [(2, 17), (8, 9), (8, 5)],
        [(8, 4), (8, 9), (2, 17)],  # up instead of down
        [(4, 6), (4, 11), (4, 6)],  # there and back
        [(4, 7)] * 4,
    ],
)
def test_values_and_gradients_equal_the_literal_transcription(sizes):
    torch.manual_seed(0)
    fusion = RecursiveFusion([channels for channels, _ in sizes], mid_channels=6)
    oracle = NaiveFusion([channels for channels, _ in sizes], mid=6)
    copy_weights(fusion, oracle)
    layers = [torch.randn(2, c, 5, f).add(1).requires_grad_() for c, f in sizes]
    probe = torch.randn(2, sizes[-1][0], 5, sizes[-1][1])

    representative = fusion(layers)
    expected = oracle(layers)
    assert relative_error(representative, expected) < 1e-5
    own = torch.autograd.grad((representative * probe).sum(), [*layers, *fusion.parameters()])
    theirs = torch.autograd.grad((expected * probe).sum(), [*layers, *matching(fusion, oracle)])
    scale = max(x.abs().max() for x in theirs)
    for x, y in zip(own, theirs, strict=True):
        assert (x - y.view_as(x)).abs().max() < 1e-4 * scale


def matching(fusion, oracle):
    """The oracle's parameters in the order of the product's."""
    order = []
    for j, step in enumerate(fusion.steps):
        order += [*oracle.project[j].parameters()]
        if hasattr(step, "gate"):
            order += [*oracle.gate[j - 1].parameters()]
    return [*order, *oracle.outputs[-1].parameters()]


def copy_weights(fusion, oracle):
    with torch.no_grad():
        for own, theirs in zip(fusion.parameters(), matching(fusion, oracle), strict=True):
            own.copy_(torch.randn_like(own) * 0.5)
            theirs.copy_(own)


@pytest.mark.parametrize("bins", [(5, 5), (5, 9, 17), (17, 9, 9), (9, 5, 9)])
def test_cascade_equals_its_literal_transcription_at_every_layer(bins):
    torch.manual_seed(0)
    sizes = {f"layer{n}": ((n + 2, width), (7 - n, 4)) for n, width in enumerate(bins)}
    cascade = CascadeFusion(sizes, mid_channels=6)
    for parameter in cascade.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    pairs = {
        name: (torch.randn(2, own, 5, width, requires_grad=True), torch.randn(2, target, 5, 4))
        for name, ((own, width), (target, _)) in sizes.items()
    }
    outcome = cascade(pairs)
    assert list(outcome) == list(pairs)
    expected = literal_cascade(cascade, [own for own, _ in pairs.values()])
    for (name, (fused, target)), value in zip(outcome.items(), expected, strict=True):
        assert target is pairs[name][1]
        assert fused.shape == (2, target.shape[1], 5, pairs[name][0].shape[3])
        assert relative_error(fused, value) < 1e-5


def literal_cascade(cascade, layers):
    """Whole maps, resized with ``interpolate`` and merged after concatenation."""
    results, fused = [], None
    for step, output, x in zip(cascade.steps, cascade.outputs, layers, strict=True):
        project = step.project
        x = project.prelu(project.norm(project.conv(x)))
        if fused is not None:
            fused = functional.interpolate(fused, x.shape[2:], mode="nearest")
            gates = torch.sigmoid(step.gate.conv(torch.cat([x, fused], 1)))
            x = gates[:, :1] * x + gates[:, 1:] * fused
        fused = x
        results.append(output.prelu(output.norm(output.conv(fused))))
    return results
