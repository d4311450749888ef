"""The shell scripts where Linux' tools and a recent bash are missing, as on macOS."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet2_tfckd.models.configuration import CHECKPOINT
from tests.recipes import ROOT, copy_repository, write_recordings

SCRIPTS = [
    ROOT / "run.sh",
    *sorted(ROOT.glob("local/*.sh")),
    *sorted(ROOT.glob("egs2/*/enh1/*.sh")),
    *sorted(ROOT.glob("egs2/*/enh1/local/*.sh")),
]
# What bash 3.2 does not know, and what the tools of macOS lack or take otherwise.
ELSEWHERE = [
    r"\bwait -n\b",
    r"\b(mapfile|readarray|coproc)\b",
    r"\b(declare|local|typeset) -[a-zA-Z]*[Anglu]",
    r"\$\{\w+(\[[^]]*\])?(,,?|\^\^?|@\w)\}",  # change of case and the like
    r"\$\{\w+: -\d+",
    r"\[\[? -v ",
    r"\|&|&>>",
    r"printf .*%\(",
    r"=~ (?!\$)\S+ (?!\]\]|&&|\|\|)",  # a blank within a regular expression
    r"\b(realpath|timeout|setsid|taskset|flock|tac|shuf|numfmt)\b",
    r"\breadlink -f\b|\bsed -i\b|\bgrep -[a-zA-Z]*P|\bsort -V\b|\bdate -d\b|\bstat -c\b",
    r"\b(cp|mv) -[a-zA-Z]*t|\bhead -c -|\bdf -[a-zA-Z]*B|\bdu -[a-zA-Z]*b|\bxargs -d",
    r"/proc/",
]
# tools of POSIX and bash, which every system has
TOOLS = (
    "awk basename bash cat chmod cksum cp cut date df dirname env expr getconf grep head kill ln "
    "ls mkdir mv printf rm rmdir sed sh sleep sort tail tee test touch tr uname wc xargs"
).split()


def code_lines(script):
    lines = script.read_text().splitlines()
    return [(number, line) for number, line in enumerate(lines, 1) if not re.match(r" *#", line)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_scripts_keep_to_what_macos_has(script):
    found = [
        f"{script}:{number}: {line.strip()} ({pattern})"
        for number, line in code_lines(script)
        for pattern in ELSEWHERE
        if re.search(pattern, line)
    ]
    assert not found
    assert [line for _, line in code_lines(script) if "nproc" in line] == (
        ["count_cores() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN; }"]
        if script.name == "parse_options.sh"
        else []
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_arrays_that_may_be_empty_are_expanded_with_care(script):
    """Before bash 4.4, ``set -u`` ends a script at "${array[@]}" of an empty array."""
    text = "\n".join(line for _, line in code_lines(script))
    empty = set(re.findall(r"\b(\w+)=\(\)", text)) | set(re.findall(r'"(\w+)=\(\$', text))
    for name in empty:
        bare = text.replace(f'${{{name}[@]+"${{{name}[@]}}"}}', "")
        assert f"${{{name}[@]}}" not in bare, f"{script}: {name}"


@pytest.fixture
def tools(tmp_path):
    """A folder of tools that macOS has too, and of this Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


def split_words(text):
    """What the scripts make of a string of options: its words, and what became of the shell."""
    script = """. local/parse_options.sh
split_words opts "$1"
for word in ${words[@]+"${words[@]}"}; do printf '%s\\0' "$word"; done"""
    call = ["bash", "-euc", script, "bash", text]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1], done


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t", []),
        ("--speech_dir 'a b' --noise_dir c", ["--speech_dir", "a b", "--noise_dir", "c"]),
        ("--a \"it's\" --b x\\ y\n--c ''", ["--a", "it's", "--b", "x y", "--c", ""]),
        ("--a $(touch ran) `touch ran`", ["--a", "$(touch", "ran)", "`touch", "ran`"]),
        ("--a '$HOME'; touch ran) * \"$(touch ran)\"",
         ["--a", "$HOME;", "touch", "ran)", "*", "$(touch ran)"]),
        ("--help -n %s", ["--help", "-n", "%s"]),
    ],
)  # fmt: skip
def test_a_string_of_options_is_split_and_nothing_of_it_is_run(text, words):
    found, done = split_words(text)
    assert found == words and not done.stderr
    assert not (ROOT / "ran").exists()


@pytest.mark.parametrize("text", ["--a 'b c", '--a "b'])
def test_a_string_of_options_with_an_open_quotation_is_refused(text):
    found, done = split_words(text)
    assert (found, done.returncode) == ([], 2)
    assert f"--opts has a quotation mark without its partner: {text}" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_no_script_evaluates_text(script):
    assert not [line for _, line in code_lines(script) if re.search(r"\beval\b", line)]


def test_the_checkpoint_of_the_recipes_is_that_of_the_package():
    assert f"\ninference_model={CHECKPOINT} " in (ROOT / "local/options.sh").read_text()


def test_help_counts_cores_without_nproc(tools, tmp_path):
    copy_repository(tmp_path / "clone", "custom", "mini")
    environment = {"PATH": str(tools)}
    for script in ("run.sh", "egs2/mini/enh1/run_experiment.sh"):
        done = subprocess.run(
            [tmp_path / "clone" / script, "--help"],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0 and not done.stderr
        cores = re.search(r"--nj (\S*) ", done.stdout)[1]
        assert int(cores) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_own_data_are_prepared_without_tools_of_linux(tools, tmp_path):
    root = tmp_path / "clone"
    copy_repository(root, "custom")
    write_recordings(tmp_path)
    (tmp_path / "noise").rename(tmp_path / "own noise")
    environment = {**os.environ, "PATH": f"{tools}:{Path(sys.executable).parent}"}

    def run(noise_dir):
        call = ["./run.sh", "--corpus", "custom", "--stop_stage", "4"]
        call += ["--speech_dir", str(tmp_path / "speech")]
        call += ["--local_data_opts", f"--noise_dir '{noise_dir}' --seed 2"]
        return subprocess.run(call, cwd=root, capture_output=True, text=True, env=environment)

    done = run(tmp_path / "own noise")
    assert done.returncode == 0, done.stderr
    assert (root / "egs2/custom/enh1/dump/raw/train/wav.scp").read_text().count("\n") > 1
    done = run(tmp_path / "no such folder")
    log = Path(re.search(r"its log: (.*)", done.stderr)[1])
    assert done.returncode == 1 and log.is_absolute() and "error: " in log.read_text()
