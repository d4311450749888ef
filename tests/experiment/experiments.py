"""A small experiment, and what stands in for the stages, for the tests of the runner."""

from pathlib import Path

import yaml

LINE = (
    "{epoch}epoch results: [train] loss=1.0, train_time={seconds}, total_count={updates}, "
    "[valid] snr_loss=9, loss={loss}, time=1 second, total_count=3\n"
)
# Stands in for the stages: leaves what they leave. The validation loss is lowest at weight 3; a
# student's SI-SDR is its seed, plus 0.5 with distillation, plus the utterance's number.
STAGE = r"""
import json, pathlib, re, sys
stage, *arguments = sys.argv[1:]
text = " ".join(arguments)
def option(name):
    found = re.search(rf"--{name}[ =](\S+)", text)
    return found and found[1]
with open("commands.txt", "a") as file:
    file.write(f"{stage} {option('exp_dir') or option('results')} {text}\n")
weight = float(option("distill_weight") or 0)
if stage == "train":
    exp_dir = pathlib.Path(option("exp_dir"))
    if pathlib.Path("fail").exists() and "rival" in str(exp_dir):
        sys.exit("error: no luck")
    (exp_dir / "distillation").mkdir(parents=True, exist_ok=True)
    with open(exp_dir / "train.log", "a") as log:
        log.write(LINE.format(epoch=1, seconds=0.5, updates=10, loss=abs(weight - 3)))
    for name in ("valid.loss.best.pth", "checkpoint.pth", "distillation/1epoch.pth"):
        (exp_dir / name).write_text(text)
    (exp_dir / "config.yaml").write_text("separator: x\n")
elif stage == "enhance":
    audio = pathlib.Path(option("output_dir"))
    audio.mkdir(parents=True)
    (audio / "spk1.scp").write_text("")
else:
    system, estimates = option("system").split("=")
    folder = pathlib.Path(option("results"))
    folder = folder / system if system == "noisy" else folder
    seed = int((re.search(r"seed(\d+)", estimates) or [0, 0])[1])
    level = seed + 0.5 * (system not in ("noisy", "teacher", "none"))
    keys = [name.lower() for name in text.partition("--scoring_protocol ")[2].split()]
    (folder / "scoring_test").mkdir(parents=True, exist_ok=True)
    with open(folder / "scoring_test" / "utterances.jsonl", "w") as journal:
        for number in range(3):
            scores = {key: level + number for key in keys}
            journal.write(json.dumps({"id": f"s-u{number}", "scores": scores}) + "\n")
"""
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
        Path(f"conf/{name}.yaml").write_text("distiller: at\ndistill_weight: 1.0\n")
    Path("conf/experiment.yaml").write_text(yaml.safe_dump(contents, sort_keys=False))
