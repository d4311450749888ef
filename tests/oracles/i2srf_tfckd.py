"""I2SRF-TFCKD written out literally: the oracle and the speed baseline.

Similarities are computed anew for calibration and for every pair of layers, whole maps are
projected, resized with ``interpolate`` and merged after concatenation, and every step of the
recursion owns the output convolution that the published description gives it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

RECURSION = {"encoder": 1, "bottleneck": 1, "decoder": -1}


class Perceptron(nn.Module):
    def __init__(self, size, hidden, output):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, hidden), nn.Linear(hidden, output)

    def forward(self, x):
        return F.normalize(self.fc2(torch.relu(self.fc1(x))), dim=1)


def frames_as_vectors(x):
    return x.permute(0, 2, 1, 3).flatten(2)


def grams(x):
    x = frames_as_vectors(x)
    frequency = torch.stack([x[:, t] @ x[:, t].t() for t in range(x.shape[1])], 1)
    return {"time": x @ x.transpose(1, 2), "frequency": frequency}


def probability(x, stream):
    x = frames_as_vectors(x)
    x = x / (x.norm(dim=-1, keepdim=True) + 1e-6)
    if stream == "time":
        cosine = x @ x.transpose(1, 2)
    else:
        cosine = torch.stack([x[:, t] @ x[:, t].t() for t in range(x.shape[1])], 1)
    similarity = (cosine + 1) / 2
    return similarity / similarity.sum(-1, keepdim=True)


class NaiveCalibration(nn.Module):
    def __init__(self, student_layers, teacher_layers, frames, batch_size, k=4):
        super().__init__()
        sizes = {
            "time": (frames, 2 * frames, frames),
            "frequency": (batch_size, k * batch_size, k * batch_size),
        }
        self.query, self.key = (
            nn.ModuleDict(
                {
                    stream: nn.ModuleList(Perceptron(*size) for _ in range(layers))
                    for stream, size in sizes.items()
                }
            )
            for layers in (student_layers, teacher_layers)
        )

    def forward(self, student, teacher):
        loss = 0.0
        for stream in ("time", "frequency"):
            queries = [
                query(grams(x)[stream])
                for query, x in zip(self.query[stream], student, strict=True)
            ]
            keys = [key(grams(x)[stream]) for key, x in zip(self.key[stream], teacher, strict=True)]
            energy = torch.stack(
                [torch.stack([(q * k).sum(-1) for k in keys], -1) for q in queries], 2
            )
            alpha = energy.softmax(-1)
            for i, x in enumerate(student):
                p = probability(x, stream)
                for j, y in enumerate(teacher):
                    q = probability(y, stream).detach()
                    divergence = (q - p) * (q.log() - p.log())
                    weighted = alpha[:, :, i, j].unsqueeze(-1) * divergence
                    loss = loss + weighted.sum(1).mean()
        return loss / len(student)


class Project(nn.Module):
    def __init__(self, in_channels, channels, kernel):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.prelu = nn.PReLU()

    def forward(self, x):
        return self.prelu(self.norm(self.conv(x)))


class NaiveFusion(nn.Module):
    def __init__(self, channels, mid=128):
        super().__init__()
        self.project = nn.ModuleList(Project(c, mid, 1) for c in channels)
        self.gate = nn.ModuleList(nn.Conv2d(2 * mid, 2, 1) for _ in channels[1:])
        self.outputs = nn.ModuleList(Project(mid, c, 3) for c in channels)

    def forward(self, layers):
        fused = self.project[0](layers[0])
        representative = self.outputs[0](fused)
        for project, gate, output, x in zip(
            self.project[1:], self.gate, self.outputs[1:], layers[1:], strict=True
        ):
            x = project(x)
            y = F.interpolate(fused, x.shape[2:], mode="nearest")
            gates = torch.sigmoid(gate(torch.cat([x, y], 1)))
            fused = gates[:, :1] * x + gates[:, 1:] * y
            representative = output(fused)
        return representative


class NaiveI2SRFTFCKD(nn.Module):
    """Takes the arguments of the product's distiller; weights 1 and 1."""

    def __init__(self, student_shapes, teacher_shapes, frames, batch_size, mid=128):
        super().__init__()
        self.calibrations = nn.ModuleDict(
            {
                name: NaiveCalibration(
                    len(student_shapes[name]), len(teacher_shapes[name]), frames, batch_size
                )
                for name in RECURSION
            }
        )
        self.calibrations["inter"] = NaiveCalibration(3, 3, frames, batch_size)
        self.student_fusion, self.teacher_fusion = (
            nn.ModuleDict(
                {
                    name: NaiveFusion([c for c, _ in shapes[name][::step]], mid)
                    for name, step in RECURSION.items()
                }
            )
            for shapes in (student_shapes, teacher_shapes)
        )

    def forward(self, student, teacher):
        loss = sum(
            self.calibrations[name](student.feature_sets[name], teacher.feature_sets[name])
            for name in RECURSION
        )
        representatives = [
            [fusion[name](inputs.feature_sets[name][::step]) for name, step in RECURSION.items()]
            for fusion, inputs in (
                (self.student_fusion, student),
                (self.teacher_fusion, teacher),
            )
        ]
        return loss + self.calibrations["inter"](*representatives)

    def weights_of(self, distiller):
        """Take over the weights of the product's distiller; unused output convolutions stay."""
        own = self.state_dict()
        for name, value in distiller.named_parameters():
            parts = name.split(".")
            if parts[0] == "calibrations":
                own[name].copy_(value)
                continue
            side, layer_set, rest = parts[0], parts[1], parts[2:]
            if rest[0] == "output":
                last = len(getattr(self, side)[layer_set].outputs) - 1
                rest = ["outputs", str(last), *rest[1:]]
            elif rest[2] == "gate":
                rest = ["gate", str(int(rest[1]) - 1), *rest[4:]]
            else:
                rest = ["project", rest[1], *rest[3:]]
            own[".".join([side, layer_set, *rest])].copy_(value)
        return self
