from __future__ import annotations

import pytest
import torch
from torch_complex import ComplexTensor

from espnet2_tfckd.distiller.spectra import comparable_spectra


def test_complex_tensors_of_either_make_are_compared():
    native = torch.randn(2, 3, 4, dtype=torch.complex64)
    other = ComplexTensor(native.real, native.imag)
    for spectrum in comparable_spectra(native, other):
        assert torch.equal(spectrum, native)


def test_gradient_passes_through():
    native = torch.randn(2, 3, 4, dtype=torch.complex64, requires_grad=True)
    (spectrum,) = comparable_spectra(ComplexTensor(native.real, native.imag))
    spectrum.abs().sum().backward()
    assert (native.grad != 0).all()


def test_unequal_spectra_are_refused_with_the_option_that_makes_them_equal():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), \(2, 3, 5\).*encoder_conf"):
        comparable_spectra(
            torch.zeros(2, 3, 4, dtype=torch.complex64), torch.zeros(2, 3, 5, dtype=torch.complex64)
        )


def test_learnt_representations_are_refused():
    with pytest.raises(ValueError, match="complex spectra.*encoder: stft"):
        comparable_spectra(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
