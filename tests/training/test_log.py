"""What is shown of ESPnet's training log."""

from espnet2_tfckd.training.log import Progress, epoch_summary


def test_one_line_for_each_epoch_and_each_checkpoint_within_one(capsys):
    progress = Progress("enh_student")
    for line in (
        "[host] 2026-01-01 (trainer:1) INFO: 2/3epoch started",
        "[host] 2026-01-01 (unfinished:1) INFO: continued after 10 batches of epoch 2",
        "[host] 2026-01-01 (trainer:1) INFO: 2epoch:train:1-20batch: loss=-1.5",
        "[host] INFO: 2epoch results: [train] kd_loss=9.0, loss=-1.234, time=3 seconds, "
        "total_count=7, [valid] loss=-2.000e-03, [att_plot] time=0",
        "[host] 2026-01-01 (trainer:1) INFO: 3/3epoch started. Estimated time to finish: 1 s",
    ):
        progress.read(line)
    begin, within, epoch = capsys.readouterr().out.splitlines()
    assert begin == "enh_student: training from epoch 2"
    assert within == "enh_student: continued after 10 batches of epoch 2"
    assert epoch.startswith("enh_student: epoch 2/3, train loss -1.234, valid loss -2.000e-03,")
    assert epoch.endswith("left")


def test_other_lines_are_no_summaries():
    assert epoch_summary("INFO: 3epoch:train:1-20batch: loss=1") is None
