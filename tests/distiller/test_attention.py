from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.attention import LayerAttention


def layers(*channels, batch=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, c, 4, 5, generator=generator) for c in channels]


def test_weights_are_shares_of_the_teacher_layers_for_each_utterance():
    torch.manual_seed(0)
    weights = LayerAttention(2, 4, 3)(layers(2, 3), layers(4, 4, 2, 6))
    assert weights.shape == (3, 2, 4)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 2))
    assert weights.std(0).min() > 0 and weights.std(2).min() > 0


def test_a_layer_attends_to_the_one_that_finds_the_same_utterances_alike():
    torch.manual_seed(0)
    attention = LayerAttention(1, 3, 3)
    for embedding in (*attention.query, *attention.key):
        embedding.load_state_dict(attention.query[0].state_dict())
    own, *others = layers(4, 4, 4)
    weights = attention([own], [others[0], 5 * own, others[1]])
    assert (weights.argmax(2) == 1).all()


@pytest.mark.parametrize("batch", [1, 2])
def test_absent_utterances_of_a_smaller_batch_count_as_silent(batch):
    torch.manual_seed(0)
    attention = LayerAttention(1, 2, 3)
    student, teacher = layers(2, batch=batch), layers(4, 3, batch=batch)
    padded = [
        [torch.cat([x, torch.zeros(3 - batch, *x.shape[1:])]) for x in stack]
        for stack in (student, teacher)
    ]
    torch.testing.assert_close(attention(student, teacher), attention(*padded)[:batch])
