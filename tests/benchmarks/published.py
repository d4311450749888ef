"""The loss as the method's authors published it, from their own file, which is not part of this.

``I2S_TFCKD_demo.py`` is in their repository, JMCheng-SEU/I2RF-TFCKD-SE on GitHub. It has the parts
of the loss. Its main program, which joins them, is for fixed sizes; this module takes its place.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

from tests.oracles.i2srf_tfckd import RECURSION


class PublishedLoss(nn.Module):
    """Takes the arguments of the product's distiller, and the authors' file.

    Frames, batch size and widths are as the product has them: embeddings of 4 B in the frequency
    stream (2 B in the file's main program) and fusion in 128 channels.
    """

    def __init__(self, path, student_shapes, teacher_shapes, frames, batch_size, mid=128):
        super().__init__()
        demo = _module(path)
        self.criterion = demo.TF_SemCosineLoss()

        def calibration(student_layers, teacher_layers, is_detached):
            block = demo.TF_calibration_block(
                student_layers, teacher_layers, frames, 4, is_detached
            )
            assert block.bsz == batch_size, "the file is for batches of 8"
            return block

        self.calibrations = nn.ModuleDict(
            {
                name: calibration(len(student_shapes[name]), len(teacher_shapes[name]), True)
                for name in RECURSION
            }
        )
        self.calibrations["inter"] = calibration(3, 3, False)

        def fusion(layers, is_detached):
            channels, bins = zip(*layers, strict=True)
            reverse = list(channels[::-1])  # the file's order ends with the layer fused first
            return demo.intra_fusion(reverse, reverse, mid, list(bins), is_detached)

        self.student_fusion, self.teacher_fusion = (
            nn.ModuleDict(
                {name: fusion(shapes[name][::step], side) for name, step in RECURSION.items()}
            )
            for shapes, side in ((student_shapes, False), (teacher_shapes, True))
        )

    def forward(self, student, teacher):
        sides = ((self.student_fusion, student), (self.teacher_fusion, teacher))
        pairs = {
            name: (list(student.feature_sets[name]), list(teacher.feature_sets[name]))
            for name in RECURSION
        }
        pairs["inter"] = tuple(
            [
                fusion[name](inputs.feature_sets[name][::step][::-1])
                for name, step in RECURSION.items()
            ]
            for fusion, inputs in sides
        )
        return sum(
            self.criterion(*calibration(*pairs[name]))
            for name, calibration in self.calibrations.items()
        )

    def weights_of(self, distiller):
        """Take over the weights of the product's distiller; unused output convolutions stay."""
        with torch.no_grad():
            for name, calibration in self.calibrations.items():
                own = distiller.calibrations[name]
                for kind, embeddings in (("query", own.query), ("key", own.key)):
                    for stream, short in (("time", "time"), ("frequency", "freq")):
                        for n, embedding in enumerate(embeddings[stream]):
                            target = getattr(calibration, f"{short}_{kind}_weight{n}")
                            _copy(target.linear1, embedding.fc1)
                            _copy(target.linear2, embedding.fc2)
            for side in ("student_fusion", "teacher_fusion"):
                for name, fusion in getattr(self, side).items():
                    own = getattr(distiller, side)[name]
                    for target, step in zip(fusion.abfs, own.steps, strict=True):
                        _copy_layer(target.conv1, step.project)
                        if target.att_conv is not None:
                            _copy(target.att_conv[0], step.gate.conv)
                    _copy_layer(fusion.abfs[-1].conv2, own.output)
        return self


def _module(path):
    spec = importlib.util.spec_from_file_location("published_loss", Path(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not torch.cuda.is_available():  # the file asks for a GPU by name
        torch.Tensor.cuda = lambda tensor, *arguments, **options: tensor
    return module


def _copy(target, source):
    target.load_state_dict(source.state_dict())


def _copy_layer(target, source):
    for layer, own in zip(target, (source.conv, source.norm, source.prelu), strict=True):
        _copy(layer, own)
