from __future__ import annotations

import torch

from espnet2_tfckd.distiller.clskd import frame_similarity_distance


def test_value_compares_the_utterances_at_each_frame():
    own = torch.tensor([[1.0, 2.0], [1.0, 0.0]]).view(2, 1, 2, 1)  # utterances over frames
    target = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).view(2, 1, 2, 1)
    # first frame: [[1, 1], [1, 1]] and [[1, 0], [0, 0]]; second: [[4, 0], [0, 0]] and 9 / 4 of it
    row = 0.5**0.5
    expected = torch.tensor(((1 - row) ** 2 + 3 * row**2) / 4 / 2)
    torch.testing.assert_close(frame_similarity_distance(own, target), expected)


def test_an_exchange_of_utterances_in_one_frame_is_noticed():
    own = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    changed = own.clone()
    changed[:2, :, 1] = own[[1, 0], :, 1]
    assert frame_similarity_distance(own, own) < 1e-12
    assert frame_similarity_distance(changed, own) > 1e-4
