"""Train an enhancement model: ESPnet's ``enh_train`` with our separators registered."""

from __future__ import annotations

from espnet2_tfckd.cli import run_command


def main(cmd: list[str] | None = None) -> None:
    """Run ESPnet's training; options as of ``espnet2.bin.enh_train``."""
    from espnet2_tfckd.training.task import EnhancementTask

    EnhancementTask.main(cmd=cmd)


if __name__ == "__main__":
    run_command(main)
