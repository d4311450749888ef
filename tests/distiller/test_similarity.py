from __future__ import annotations

import pytest
import torch

from espnet2_tfckd.distiller.similarity import (
    STREAMS,
    batch_gram,
    gram_distance,
    grams,
    layer_similarities,
)


def feature():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 4, 5, generator=generator, requires_grad=True)


EXPRESSIONS = {"time": "bctf,bcsf->bts", "frequency": "actf,bctf->tab"}


@pytest.mark.parametrize("streams", [("time",), ("frequency",), STREAMS])
def test_inner_products_and_gradients_equal_einsum(streams):
    x, y = feature(), feature()
    own = grams(x, streams)
    expected = {stream: torch.einsum(EXPRESSIONS[stream], y, y) for stream in streams}
    assert list(own) == list(streams)
    for results, leaf in ((own, x), (expected, y)):
        sum(value.sin().sum() for value in results.values()).backward()
        assert leaf.grad.abs().sum() > 0
    for stream in streams:
        torch.testing.assert_close(own[stream], expected[stream])
    torch.testing.assert_close(x.grad, y.grad)


def test_a_stream_alone_is_the_same_as_among_both():
    both = layer_similarities(feature())
    for stream in STREAMS:
        (alone,) = layer_similarities(feature(), [stream]).values()
        for x, y in zip(alone, both[stream], strict=True):
            torch.testing.assert_close(x, y)


def test_batch_gram_compares_whole_utterances():
    x = feature()
    torch.testing.assert_close(batch_gram(x), torch.einsum("actf,bctf->ab", x, x))


def test_distance_of_grams_forgets_the_length_of_rows():
    gram = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    other = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    # rows (0.6, 0.8) to (1, 0), and equal ones
    torch.testing.assert_close(gram_distance(gram, other), torch.tensor((0.16 + 0.64) / 4))
    assert gram_distance(gram, 7 * gram) < 1e-12
