#!/usr/bin/env python3
"""Draw how the method works: local/draw_method.py [local/method.png]."""

from __future__ import annotations

import sys

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

SETS = {"encoder": (3, 3), "bottleneck": (4, 1), "decoder": (3, 3)}  # teacher, student layers
COLOURS = {"encoder": "#4c72b0", "bottleneck": "#dd8452", "decoder": "#55a868"}
TEACHER_Y, STUDENT_Y, MIDDLE = 3.9, 0.6, 2.45


def box(axis, x, y, width, height, text, colour, alpha=0.25, size=8):
    axis.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.06",
            facecolor=(colour, alpha), edgecolor=colour, linewidth=1.2,
        )
    )  # fmt: skip
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size)


def arrow(axis, start, end, colour="0.35", style="-|>", width=1.0, curve=0.0):
    axis.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle=style, mutation_scale=9, color=colour, linewidth=width,
            connectionstyle=f"arc3,rad={curve}",
        )
    )  # fmt: skip


def draw_set(axis, name, left, width):
    """One set: layers of teacher and student, calibrated loss between, fusion outside."""
    colour = COLOURS[name]
    rows = ((TEACHER_Y, SETS[name][0]), (STUDENT_Y, SETS[name][1]))
    centre = left + width / 2
    for y, layers in rows:
        step = width / layers
        for n in range(layers):
            box(axis, left + n * step + 0.04, y, step - 0.08, 0.6, str(n), colour)
    box(
        axis, left + 0.1, MIDDLE - 0.3, width - 0.2, 0.6,
        f"intra-set loss\n{name}", colour, alpha=0.08,
    )  # fmt: skip
    arrow(axis, (centre, TEACHER_Y - 0.04), (centre, MIDDLE + 0.34), colour, width=1.5)
    arrow(axis, (centre, STUDENT_Y + 0.64), (centre, MIDDLE - 0.34), colour, width=1.5)
    for y, above in ((TEACHER_Y, True), (STUDENT_Y, False)):
        top = y + 0.95 if above else y - 0.85
        box(axis, left + 0.25, top, width - 0.5, 0.45, "recursive fusion", colour, 0.12, size=7)
        begin, end = (y + 0.62, top - 0.03) if above else (y - 0.02, top + 0.48)
        arrow(axis, (centre, begin), (centre, end), colour)
    return centre


def main() -> None:
    output = sys.argv[1] if len(sys.argv) > 1 else "local/method.png"
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_xlim(-1.35, 11.6)
    axis.set_ylim(-1.15, 6.35)
    axis.axis("off")
    width, gap = 2.2, 0.45
    for n, name in enumerate(SETS):
        draw_set(axis, name, n * (width + gap), width)
    end = 3 * width + 2 * gap
    for y, who in ((TEACHER_Y, "teacher\n(frozen)"), (STUDENT_Y, "student\n(trained)")):
        axis.text(-0.75, y + 0.3, who, ha="center", va="center", fontsize=10, weight="bold")
        arrow(axis, (-0.3, y + 0.3), (-0.02, y + 0.3))
        for n in (1, 2):
            left = n * (width + gap)
            arrow(axis, (left - gap, y + 0.3), (left, y + 0.3))
        arrow(axis, (end, y + 0.3), (end + 0.5, y + 0.3))
        axis.text(end + 0.55, y + 0.3, "estimate", va="center", fontsize=9)
    inter = "#8172b3"
    box(
        axis,
        end + 1.0,
        MIDDLE - 0.45,
        1.9,
        0.9,
        "inter-set loss\nof the three\nrepresentatives",
        inter,
    )
    for y in (5.08, -0.03):  # the three representatives go together
        for n in (1, 2):
            left = n * (width + gap)
            arrow(axis, (left - gap - 0.23, y), (left + 0.23, y), inter, style="-", width=1.5)
    fused_x = 2 * (width + gap) + width - 0.25
    arrow(axis, (fused_x + 0.05, 5.08), (end + 2.4, MIDDLE + 0.5), inter, width=1.5, curve=-0.25)
    arrow(axis, (fused_x + 0.05, -0.03), (end + 2.4, MIDDLE - 0.5), inter, width=1.5, curve=0.25)
    axis.text(
        5.1, 5.9,
        "each loss: similarity of frames (time stream) and of utterances (frequency stream),\n"
        "weighted frame by frame by how much each teacher layer should teach each student layer",
        ha="center", va="center", fontsize=9, style="italic",
    )  # fmt: skip
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
