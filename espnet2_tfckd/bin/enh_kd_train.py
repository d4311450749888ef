"""Distil a student: ESPnet's ``enh_train`` with a teacher and a distillation loss."""

from __future__ import annotations

from espnet2_tfckd.cli import run_command


def main(cmd: list[str] | None = None) -> None:
    """Run a distillation; options as of ``espnet2.bin.enh_train``, and those of the distillation.

    See :meth:`espnet2_tfckd.training.task.EnhancementKDTask.add_task_arguments`.
    """
    from espnet2_tfckd.training.task import EnhancementKDTask

    EnhancementKDTask.main(cmd=cmd)


if __name__ == "__main__":
    run_command(main)
