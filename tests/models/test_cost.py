"""Costs of a model: multiply-accumulates by hand, and the fields of profile.json."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from espnet2_tfckd.models import cost
from espnet2_tfckd.models.inference import load_separate_speech

B, T, D, H = 3, 11, 8, 7
GRU, LSTM = 3, 4  # gates
SEQUENCE = torch.zeros(B, T, D)


def recurrent(gates, inputs=D):
    return B * T * gates * (inputs * H + H * H)


def attention(frames):
    return 4 * B * frames * D * D + 2 * B * frames * frames * D


LAYERS = {
    "linear": (nn.Linear(D, 5), (SEQUENCE,), B * T * D * 5),
    "conv2d": (nn.Conv2d(4, 6, (2, 3)), (torch.zeros(2, 4, 9, 10),), 2 * 6 * 4 * 6 * 8 * 8),
    "grouped": (nn.Conv2d(4, 6, (2, 3), groups=2), (torch.zeros(2, 4, 9, 10),), 2 * 6 * 2 * 6 * 64),
    "strided": (
        nn.Conv2d(4, 6, (1, 3), (1, 2)),
        (torch.zeros(2, 4, 9, 11),),
        2 * 6 * 4 * 3 * 9 * 5,
    ),
    "transposed": (
        nn.ConvTranspose2d(4, 6, (1, 3), (1, 2)),
        (torch.zeros(2, 4, 9, 10),),
        2 * 4 * 6 * 3 * 9 * 10,
    ),
    "gru": (nn.GRU(D, H, batch_first=True), (SEQUENCE,), recurrent(GRU)),
    "bidirectional gru of 2 layers": (
        nn.GRU(D, H, 2, bidirectional=True, batch_first=True),
        (SEQUENCE,),
        2 * recurrent(GRU) + 2 * recurrent(GRU, 2 * H),
    ),
    "lstm": (nn.LSTM(D, H, batch_first=True), (SEQUENCE,), recurrent(LSTM)),
    "bidirectional lstm": (
        nn.LSTM(D, H, bidirectional=True, batch_first=True),
        (SEQUENCE,),
        2 * recurrent(LSTM),
    ),
    "multi-head attention": (
        nn.MultiheadAttention(D, 2, batch_first=True).eval(),
        (SEQUENCE, SEQUENCE, SEQUENCE),
        attention(T),
    ),
    "transformer layer": (
        nn.TransformerEncoderLayer(D, 2, 16, batch_first=True).eval(),
        (SEQUENCE,),
        attention(T) + B * T * 2 * D * 16,
    ),
    "scaled dot product": (
        F.scaled_dot_product_attention,
        (torch.zeros(B, 2, T, 4),) * 3,
        2 * B * 2 * T * T * 4,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_macs_are_those_counted_by_hand(name):
    layer, inputs, expected = LAYERS[name]
    assert cost.count_macs(lambda: layer(*inputs)) == expected


def test_counting_leaves_the_settings_of_torch_alone():
    before = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()
    cost.count_macs(lambda: nn.Linear(2, 2)(torch.zeros(1, 2)))
    assert (torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()) == before


def test_profile_of_a_model(tiny_model):
    threads = torch.get_num_threads()
    separate_speech = load_separate_speech(tiny_model, "valid.loss.best.pth")
    cost.write_profile(tiny_model / "profile.json", {}, separate_speech, 16000)
    measured = json.loads((tiny_model / "profile.json").read_text())
    parameters = separate_speech.enh_model.parameters()
    assert measured["num_params"] == sum(p.numel() for p in parameters)
    # GRU 257 -> 8, its projection 8 -> 8, mask 8 -> 257; 4 s are 251 frames
    per_frame = 3 * (257 * 8 + 8 * 8) + 8 * 8 + 8 * 257
    assert measured["macs_per_second"] == 251 * per_frame / 4
    assert 0 < measured["rtf"] < 1
    assert measured["threads"] == 1
    assert measured["device"].startswith("cpu")
    assert torch.get_num_threads() == threads
