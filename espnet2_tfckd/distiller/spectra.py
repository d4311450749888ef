"""Spectra of estimates and reference, made comparable for schemes on the output."""

from __future__ import annotations

import torch


def comparable_spectra(*spectra: torch.Tensor) -> list[torch.Tensor]:
    """Turn the spectra of different networks into complex tensors of one shape.

    Args:
        spectra: (B, T, F), complex tensors or ``torch_complex.ComplexTensor``, which some of
            ESPnet's separators give.

    Returns:
        The same as complex tensors, in single precision at least.

    Raises:
        ValueError: If a spectrum is not complex, or the spectra differ in shape.
    """
    # A ComplexTensor is not a tensor but has a real and an imaginary part
    tensors = [x if torch.is_tensor(x) else torch.complex(x.real, x.imag) for x in spectra]
    if not all(x.is_complex() for x in tensors):
        raise ValueError(
            "this distiller compares complex spectra, and a network works on another "
            "representation: use encoder: stft in teacher and student"
        )
    shapes = [tuple(x.shape) for x in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"spectra (B, T, F) of student, teacher and reference differ in shape: {shapes}; use "
            "the same encoder_conf (n_fft, hop_length) in teacher and student"
        )
    return [x if x.dtype == torch.complex128 else x.to(torch.complex64) for x in tensors]
