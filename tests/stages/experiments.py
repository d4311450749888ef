"""A small experiment, and a line of ESPnet's log, for the tests of the runner."""

from pathlib import Path

import yaml

LINE = (
    "{epoch}epoch results: [train] loss=1.0, train_time={seconds}, total_count={updates}, "
    "[valid] snr_loss=9, loss={loss}, time=1 second, total_count=3\n"
)
CONTENTS = {
    "student_config": "conf/student.yaml",
    "teacher_config": "conf/teacher.yaml",
    "teacher_args": "--max_epoch 3",
    "enh_args": "--max_epoch 2",
    "metrics": ["SI_SDR"],
    "baseline": "none",
    "method": "ours",
    "tuning": {"factor": 3, "most": 5, "enh_args": "--max_epoch 1"},
    "arms": {
        "none": {"seeds": [1, 2]},
        "ours": {"distill_config": "conf/ours.yaml", "tune": True, "seeds": [1, 2]},
        "part": {"distill_config": "conf/part.yaml", "weight_of": "ours", "seeds": [1]},
        "rival": {"distill_config": "conf/rival.yaml", "enh_args": "--x y", "seeds": [1]},
    },
}


def write_configs(contents):
    """The YAMLs of an experiment; every file that it names is there."""
    Path("conf").mkdir(exist_ok=True)
    for name in ("student", "teacher"):
        Path(f"conf/{name}.yaml").write_text("max_epoch: 5\n")
    for name in ("ours", "part", "rival"):
        Path(f"conf/{name}.yaml").write_text("distiller: x\ndistill_weight: 1.0\n")
    Path("conf/experiment.yaml").write_text(yaml.safe_dump(contents, sort_keys=False))
