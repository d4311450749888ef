#!/usr/bin/env python
"""Writes the six pairs of recordings that the package brings along, from the mini corpus' test set.

Run by ../train_default_model.sh. All of speech and noise is under CC BY or CC BY-SA; CREDITS.md
beside the recordings names their authors.
"""

import argparse
import gzip
import re
from pathlib import Path

from espnet2_tfckd.cli import atomic_write, run_command
from espnet2_tfckd.data.audio import write_audio
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry

#: Utterances of the test set with 240 mixtures, and what the samples are called.
NAMES = {
    "en_Allison-test0014": "chainsaw",
    "en_Allison-test0018": "jackhammer",
    "en_Allison-test0048": "bus",
    "en_Allison-test0070": "helicopter",
    "it_Carlo-test0021": "music",
    "it_Carlo-test0058": "smithy",
}
CREDITS = """# Where the samples come from

Six utterances of the mini corpus' test set, at 16 kHz: `noisy` holds the mixtures, `reference` the
speech in them. Speech and noises are unchanged except for their level.

| sample | speech | noise | SNR (dB) |
| --- | --- | --- | --- |
{rows}
| package | licence | credit |
| --- | --- | --- |
{packages}
The authors of the sounds of openttd-opensfx are named in `openttd-opensfx-readme.txt`.
"""


def write_samples(data_dir: Path, credits: Path, folder: Path) -> None:
    """Write ``noisy`` and ``reference`` as flac files, and ``CREDITS.md``.

    Args:
        data_dir: The formatted test set.
        credits: CREDITS.md of the mini corpus, beside its folder ``licences``.
        folder: Where to write.
    """
    data = read_data_dir(data_dir)
    packages = {
        cells[0]: cells for cells in _tables(credits.read_text(encoding="utf-8"), columns=5)
    }
    package_of = {
        cells[1].split()[-1]: cells[2]
        for cells in _tables(credits.read_text(encoding="utf-8"), columns=4)
        if cells[0] == "test"
    }
    rows, used = "", set()
    for utterance, name in NAMES.items():
        for side, table in (("noisy", data.mixture), ("reference", data.reference)):
            samples, rate = read_entry(table[utterance])
            write_audio(folder / side / f"{name}.flac", samples, rate)
        row = data.metadata[utterance]
        speech, noise = package_of[row["speaker"]], package_of[row["noise"]]
        used |= {speech, noise}
        rows += f"| {name} | {speech} | {noise}, {row['noise']} | {float(row['snr_db']):g} |\n"
    lines = [f"| {name} | {packages[name][2]} | {packages[name][3]} |\n" for name in sorted(used)]
    readme = credits.parent / "licences" / "openttd-opensfx-readme.txt.gz"
    with atomic_write(folder / "openttd-opensfx-readme.txt") as file:
        file.write_bytes(gzip.decompress(readme.read_bytes()))
    with atomic_write(folder / "CREDITS.md") as file:
        file.write_text(CREDITS.format(rows=rows, packages="".join(lines)), encoding="utf-8")


def _tables(text: str, columns: int) -> list[list[str]]:
    """Rows of Markdown tables with so many columns."""
    rows = (re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if "|" in line)
    return [row for row in rows if len(row) == columns]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="formatted test set of 240 mixtures")
    parser.add_argument("credits", type=Path, help="CREDITS.md of the mini corpus")
    parser.add_argument("folder", type=Path, help="where to write")
    write_samples(**vars(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
