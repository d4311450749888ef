from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from espnet2_tfckd.functional import prelu


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 7)])
@pytest.mark.parametrize("slopes", [[0.25, -0.5, 1.5], [0.25]])
def test_prelu_has_the_values_and_gradients_of_pytorchs(shape, slopes):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    slope = torch.tensor(slopes, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(shape, dtype=torch.float64)
    for own, theirs in zip(
        torch.autograd.grad((prelu(x, slope) * probe).sum(), [x, slope]),
        torch.autograd.grad((F.prelu(x, slope) * probe).sum(), [x, slope]),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs)
