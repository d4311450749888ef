from __future__ import annotations

import torch

from espnet2_tfckd.distiller.abs_distiller import DistillInputs, Sizes
from espnet2_tfckd.distiller.response import ResponseDistiller


def loss(student, teacher):
    def inputs(waveform):
        return DistillInputs({}, torch.zeros(1, 1, 1, dtype=torch.complex64), waveform)

    return ResponseDistiller(Sizes({}, {}, 1, 2))(inputs(student), inputs(teacher))[0]


TEACHER = torch.tensor([[3.0, 4.0], [0.0, 10.0]])


def test_value_is_the_noise_to_signal_ratio_over_the_floor():
    # energies: error 25 to signal 25, 0 dB; error 1 to signal 100, -20 dB; floor at -30 dB
    student = torch.tensor([[0.0, 0.0], [0.0, 9.0]])
    expected = (10 * torch.log10(torch.tensor([1001.0, 11.0]))).mean()
    torch.testing.assert_close(loss(student, TEACHER), expected)


def test_level_does_not_matter():
    student = torch.tensor([[1.0, 5.0], [2.0, 9.0]])
    quieter = loss(0.1 * student, 0.1 * TEACHER)
    torch.testing.assert_close(quieter, loss(student, TEACHER), rtol=1e-4, atol=0)


def test_a_perfect_student_has_no_loss_and_no_gradient():
    student = TEACHER.clone().requires_grad_()
    value = loss(student, TEACHER)
    value.backward()
    assert value == 0 and (student.grad == 0).all()
