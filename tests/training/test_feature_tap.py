"""Features are read from any network by the paths of its modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_complex import ComplexTensor

from espnet2_tfckd.training.feature_tap import FeatureTap

BATCH, FRAMES, BINS = 2, 6, 5


class RecurrentNetwork(nn.Module):
    """Layers whose outputs have other axes than (B, C, T, F), as ESPnet's separators have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)
        self.rnn = nn.GRU(3, 4, batch_first=True)  # over time, every bin a sequence
        self.blocks = nn.ModuleList([nn.Linear(4, 2)])

    def forward(self, x):
        encoded = self.conv(x)  # (B, 3, T, F)
        rows = encoded.permute(0, 3, 2, 1).reshape(-1, FRAMES, 3)
        return self.blocks[0](self.rnn(rows)[0])  # (B * F, T, 2)


class ComplexNetwork(nn.Module):
    def __init__(self, kind=torch.complex):
        super().__init__()
        self.kind, self.complex = kind, nn.Identity()

    def forward(self, x):
        return self.complex(self.kind(x, 2 * x))


LAYERS = {
    "encoder": ["conv"],
    "bottleneck": [{"path": "rnn", "rearrange": "(b f) t c -> b c t f"}],
    "decoder": [{"path": "blocks.0", "rearrange": "(b f) t c -> b c t f", "skip_frames": 1}],
}


def record(network, layers):
    x = torch.randn(BATCH, 1, FRAMES, BINS, generator=torch.Generator().manual_seed(0))
    with FeatureTap(layers, network, "teacher_features").record(network, BATCH) as features:
        output = network(x)
    return x, output, features


def test_features_are_the_modules_outputs_with_their_axes_in_order():
    network = RecurrentNetwork()
    x, output, features = record(network, LAYERS)
    torch.testing.assert_close(features["encoder"][0], network.conv(x))
    assert features["bottleneck"][0].shape == (BATCH, 4, FRAMES, BINS)
    expected = output.view(BATCH, BINS, FRAMES, 2).permute(0, 3, 2, 1)
    torch.testing.assert_close(features["decoder"][0], expected[:, :, 1:])


def test_gradients_flow_from_a_feature_to_the_network():
    network = RecurrentNetwork()
    record(network, LAYERS)[2]["bottleneck"][0].sum().backward()
    assert network.conv.weight.grad.abs().sum() > 0


def test_real_and_imaginary_parts_become_channels():
    layers = dict.fromkeys(LAYERS, ["complex"])
    x, _, features = record(ComplexNetwork(), layers)
    torch.testing.assert_close(features["encoder"][0], torch.cat([x, 2 * x], 1))


def test_espnets_own_complex_tensors_are_read_too():
    layers = dict.fromkeys(LAYERS, ["complex"])
    x, _, features = record(ComplexNetwork(ComplexTensor), layers)
    torch.testing.assert_close(features["encoder"][0], torch.cat([x, 2 * x], 1))


def test_an_axis_that_a_layer_lacks_is_one():
    network = nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 3, 1))
    layers = dict.fromkeys(LAYERS, [{"path": "1", "rearrange": "b c t -> b c t 1"}])
    _, _, features = record(network, layers)
    assert features["decoder"][0].shape == (BATCH, 3, FRAMES * BINS, 1)


def test_the_network_is_left_as_it_was():
    network = RecurrentNetwork()
    record(network, LAYERS)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": ["convs"]}, r"no module 'convs' \(did you mean conv\?\)[^$]*blocks.0"),
        ({"encoder": []}, "must name layers for each of encoder, bottleneck, decoder"),
        ({"middle": ["conv"]}, "must name layers for each of encoder, bottleneck, decoder"),
        ({"encoder": [{"module": "conv"}]}, "has the fields path, rearrange and skip_frames"),
        ({"encoder": [{"path": "conv", "rearrange": "b c t f -> b t c f"}]}, "must end in"),
        ({"encoder": [{"path": "conv", "rearrange": "b c t -> b c t 1"}]}, r"shape \(2, 3, 6, 5\)"),
        ({"encoder": ["blocks"]}, "did not call its module blocks as a whole"),
    ],
)
def test_what_does_not_fit_the_network_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        record(RecurrentNetwork(), LAYERS | changes)
