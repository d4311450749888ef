"""Made-up packages that hold recordings for every row of the mini corpus' tables."""

import gzip
import io
import struct
import subprocess
import zipfile
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import soundfile

from espnet2_tfckd.corpora.mini_sources import DEFAULT
from espnet2_tfckd.corpora.sources import Package, Sources, Speaker

RATE = 16000
TAKES = (3.2, 4.0, 9.0, 1.7)  # seconds of the recordings of each speaker
NOISE = 3.0  # seconds of every other recording


def speech_like(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """Noise that swells and fades like syllables, four a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * rng.standard_normal(len(time)) * np.sin(2 * np.pi * 2 * time) ** 2 * 0.5


def room_response() -> np.ndarray:
    """Direct sound after 10 ms, then a decaying tail."""
    time = np.arange(RATE) / RATE
    tail = 0.1 * np.random.default_rng(0).standard_normal(RATE) * np.exp(-8 * time)
    return np.concatenate([np.zeros(RATE // 100), [0.9], tail])


def write_packages(folder: Path, tables: Sources = DEFAULT, takes=TAKES) -> Path:
    """A folder for --source_dir with all packages; returns it."""
    packages: dict[str, dict[str, bytes]] = defaultdict(dict)
    titles: dict[str, bytes] = {}
    for seed, row in enumerate((*tables.speakers, *tables.recordings)):
        pattern, _, title = row.pattern.partition(":")
        if title:
            titles[title] = _encoded(speech_like(NOISE, seed), ".wav")
            continue
        for take, seconds in enumerate(takes if isinstance(row, Speaker) else (NOISE,)):
            path = f"take{take}".join(pattern.replace("[!mv]", "o").rsplit("*", 1))
            path = path.replace("*", "x") + ("" if "." in path else ".ogg")
            sound = _encoded(speech_like(seconds, 1000 * seed + take), Path(path).suffix)
            packages[row.package][path] = sound
    for row in tables.rooms:
        packages[row.package][row.pattern.replace("*", "x")] = _encoded(room_response(), ".wav")
    packages["openttd-opensfx"]["x/opensfx.cat"] = opensfx(titles)
    lines = "".join(f"take{take}: words of take\n" for take in range(len(TAKES)))
    packages[tables.transcripts[0]]["x/core-sounds-en.txt.gz"] = gzip.compress(lines.encode())
    folder.mkdir(parents=True)
    for package in tables.packages:
        _write_package(folder, package, packages[package.name])
    return folder


def opensfx(sounds: dict[str, bytes]) -> bytes:
    """OpenTTD's archive: a table of offsets and lengths, then titles with their RIFF files."""
    table, entries = b"", b""
    for title, sound in sounds.items():
        name = f'"{title}". By nobody\0'.encode()
        table += struct.pack("<II", 8 * len(sounds) + len(entries), len(sound))
        entries += bytes([len(name)]) + name + sound
    return table + entries


def _encoded(signal: np.ndarray, suffix: str) -> bytes:
    output = io.BytesIO()
    if suffix != ".g722":
        soundfile.write(output, signal, RATE, format=suffix[1:])
        return output.getvalue()
    with av.open(output, "w", format="g722") as file:
        stream = file.add_stream("g722", rate=RATE, layout="mono")
        samples = (signal[None] * 2**15).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return output.getvalue()


def _write_package(folder: Path, package: Package, files: dict[str, bytes]) -> None:
    if package.version:
        name = package.name.replace("-", "_")
        wheel = folder / f"{name}-{package.version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        return
    tree = folder / f".{package.name}"
    control = f"Package: {package.name}\nVersion: 1\nArchitecture: all\nMaintainer: n <n@n>\n"
    control += "Description: made up\n"
    for path, content in {"DEBIAN/control": control.encode(), **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build"]
    subprocess.run([*build, tree, folder / f"{package.name}_1_all.deb"], check=True)
