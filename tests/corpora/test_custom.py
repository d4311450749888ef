"""Own data: pairs from folders or lists, speech and noise to mix, splits, files that are bad."""

import shutil

import numpy as np
import pytest
import soundfile

from espnet2_tfckd.corpora import custom, custom_mixing
from espnet2_tfckd.corpora.custom import OwnData, prepare_custom
from espnet2_tfckd.corpora.custom_mixing import early_part, mix_channels
from espnet2_tfckd.corpora.mixing import active_power, loop_excerpt
from espnet2_tfckd.corpora.pools import NoisePool
from espnet2_tfckd.corpora.preparation import SPLITS
from espnet2_tfckd.data.datadir import read_data_dir
from espnet2_tfckd.data.entries import read_entry
from tests.corpora.mini_packages import speech_like
from tests.corpora.test_mini import contents
from tests.data.encoded import REFUSED

RATE = 16000
SPEAKERS = ("ann", "bob", "cid", "dan")


def write(path, signal, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate)


@pytest.fixture
def pairs(tmp_path):
    """Two folders, with a sub-folder and two recordings a speaker, in two channels."""
    for number, speaker in enumerate(SPEAKERS):
        for take in range(2):
            clean = np.stack([speech_like(0.4, 10 * number + take)] * 2, 1)
            write(tmp_path / "clean" / speaker / f"take {take}.wav", clean)
            noisy = clean + 0.01 * speech_like(0.4, 99)[:, None]
            write(tmp_path / "noisy" / speaker / f"take {take}.flac", noisy)
    return {"mixture_dir": str(tmp_path / "noisy"), "reference_dir": str(tmp_path / "clean")}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Clean speech of four speakers, three noises and a two-channel room."""
    root = tmp_path_factory.mktemp("material")
    for number, speaker in enumerate(SPEAKERS):
        write(root / "speech" / speaker / "a.wav", speech_like(3.2, number, 48000), 48000)
        write(root / "speech" / speaker / "b.wav", speech_like(7.0, 10 + number))
    for number, noise in enumerate(("fan", "hum", "rain")):
        write(root / "noise" / f"{noise}.wav", speech_like(1.0, 20 + number))
    response = np.zeros((4000, 2))
    response[100, 0] = response[130, 1] = 1.0
    response[2000:, :] = 0.01 * np.random.default_rng(0).standard_normal((2000, 2))
    write(root / "rooms" / "hall.wav", response)
    return {"speech_dir": str(root / "speech"), "noise_dir": str(root / "noise")}


def prepared(data_dir, **options):
    prepare_custom(OwnData(**options), data_dir)
    return {name: read_data_dir(data_dir / name) for name in SPLITS}


class TestPairs:
    def test_folders_are_matched_by_path_and_divided_by_speaker(self, pairs, tmp_path):
        sets = prepared(tmp_path / "data", **pairs)
        speakers = [set(data.speaker.values()) for data in sets.values()]
        assert [len(s) for s in speakers] == [2, 1, 1]
        assert set.union(*speakers) == set(SPEAKERS)
        everything = {u: m for data in sets.values() for u, m in data.mixture.items()}
        assert everything["ann-take-1"] == str(tmp_path / "noisy" / "ann" / "take 1.flac")
        assert not (tmp_path / "data" / "bad_files.txt").exists()

    def test_several_channels_come_with_the_option_they_need(self, pairs, tmp_path, capsys):
        prepared(tmp_path / "data", **pairs)
        assert '--enh_args "--separator_conf microphones=2"' in capsys.readouterr().out

    def test_lists_are_read_relative_to_themselves(self, pairs, tmp_path):
        (tmp_path / "lists").mkdir()
        for kind, suffix in (("noisy", "flac"), ("clean", "wav")):
            for speaker in SPEAKERS:
                shutil.copy(
                    tmp_path / kind / speaker / f"take 0.{suffix}",
                    tmp_path / "lists" / f"{speaker}.{kind}.{suffix}",
                )
            lines = [f"{s}_0 .//{s}.{kind}.{suffix}\n" for s in SPEAKERS]
            (tmp_path / "lists" / f"{kind}.scp").write_text("".join(lines))
        lists = {f"{k}_scp": str(tmp_path / "lists" / f"{n}.scp")
                 for k, n in (("mixture", "noisy"), ("reference", "clean"))}  # fmt: skip
        sets = prepared(tmp_path / "data", **lists)
        [utterance] = sets["test"].mixture
        speaker = utterance.removesuffix("_0")
        expected = str(tmp_path / "lists" / f"{speaker}.clean.wav")
        assert sets["test"].reference[utterance] == expected
        assert sets["test"].speaker[utterance] == speaker

    def test_a_second_run_reads_nothing(self, pairs, tmp_path, monkeypatch):
        prepared(tmp_path / "data", **pairs)
        monkeypatch.setattr(custom, "usable_pairs", None)
        prepared(tmp_path / "data", **pairs)


class TestSplits:
    def test_lists_name_speakers_or_recordings(self, pairs, tmp_path):
        (tmp_path / "valid").write_text("ann/take 0.flac\nbob/take 1\n")
        (tmp_path / "test").write_text("cid\n\n")
        lists = {f"{name}_list": str(tmp_path / name) for name in ("valid", "test")}
        sets = prepared(tmp_path / "data", **pairs, **lists)
        assert list(sets["valid"].mixture) == ["ann-take-0", "bob-take-1"]
        assert list(sets["test"].mixture) == ["cid-take-0", "cid-take-1"]
        assert len(sets["train"]) == 4

    def test_a_pattern_says_who_speaks(self, pairs, tmp_path):
        sets = prepared(tmp_path / "data", **pairs, speaker_pattern=r"\w+/(take \d)", seed=3,
                        valid_list=self.list(tmp_path, "take-0"),
                        test_list=self.list(tmp_path, "ann/take 1"))  # fmt: skip
        assert set(sets["valid"].speaker.values()) == {"take-0"}
        assert list(sets["test"].mixture) == ["take-1-ann-take-1"]

    @staticmethod
    def list(folder, line):
        path = folder / f"list of {line.replace('/', ' ')}"
        path.write_text(line)
        return str(path)

    @pytest.mark.parametrize(
        "valid, test, message",
        [
            ("eve", None, "eve is neither a speaker nor a recording"),
            ("ann", "ann/take 0", "ann/take 0 is in both"),
            ("", None, "the list is empty"),
        ],
    )
    def test_wrong_lists_are_refused(self, pairs, tmp_path, valid, test, message):
        options = {"valid_list": self.list(tmp_path, valid)}
        if test:
            options["test_list"] = self.list(tmp_path, test)
        with pytest.raises(ValueError, match=message):
            prepared(tmp_path / "data", **pairs, **options)

    def test_too_few_speakers_are_an_error_with_the_remedy(self, pairs, tmp_path):
        with pytest.raises(ValueError, match="1 speakers .take. are too few.*--valid_list"):
            prepared(tmp_path / "data", **pairs, speaker_pattern=r".*/(take)")


class TestBadFiles:
    @pytest.fixture
    def spoilt(self, pairs, tmp_path):
        """One fault of each kind; what the list says of which file."""
        noisy, clean = tmp_path / "noisy", tmp_path / "clean"
        (clean / "ann" / "take 0.wav").unlink()
        write(noisy / "bob" / "take 0.flac", np.full((RATE, 2), 0.1))
        write(clean / "bob" / "take 1.wav", np.zeros((6400, 2)))
        (noisy / "cid" / "take 0.flac").write_bytes(b"no audio")
        write(noisy / "cid" / "take 1.flac", np.sign(speech_like(0.4, 0))[:, None] * [1, 0.1])
        write(noisy / "dan" / "take 1.flac", speech_like(0.4, 0))
        write(clean / "eve" / "x.wav", speech_like(0.4, 0))
        return pairs, {
            "noisy/ann/take 0.flac": "has no counterpart",
            "noisy/bob/take 0.flac": "has 16000 samples, its reference 6400",
            "clean/bob/take 1.wav": "is silent",
            "noisy/cid/take 0.flac": "is not readable audio",
            "noisy/cid/take 1.flac": "is clipped",
            "noisy/dan/take 1.flac": "has 1 channels, most have 2",
            "clean/eve/x.wav": "has no counterpart",
        }

    def test_all_are_listed_with_the_remedy(self, spoilt, tmp_path):
        pairs, expected = spoilt
        with pytest.raises(ValueError, match="bad_files.txt lists every .*--on_bad_file skip"):
            prepared(tmp_path / "data", **pairs)
        lines = (tmp_path / "data" / "bad_files.txt").read_text().splitlines()
        assert len(lines) == len(expected)
        for file, text in expected.items():
            assert any(f"{file}: {text}" in line for line in lines), (file, text, lines)

    def test_they_can_be_left_out_and_are_counted(self, spoilt, tmp_path, capsys):
        pairs, expected = spoilt
        for option, line in (("valid_list", "ann"), ("test_list", "dan")):
            (tmp_path / option).write_text(line)
            pairs[option] = str(tmp_path / option)
        write(tmp_path / "noisy" / "bob" / "take 0.flac", 0.1 * np.ones((6400, 2)))
        sets = prepared(tmp_path / "data", **pairs, on_bad_file="skip")
        assert [list(data.mixture) for data in sets.values()] == [
            ["bob-take-0"],
            ["ann-take-1"],
            ["dan-take-0"],
        ]
        assert f"{len(expected) - 1} problems are listed" in capsys.readouterr().out


class TestMixing:
    def test_sets_share_no_speaker_and_no_noise(self, material, tmp_path):
        sets = prepared(tmp_path, **material)
        for column in ("speaker", "noise"):
            found = [{row[column] for row in d.metadata.values()} for d in sets.values()]
            assert not found[0] & found[1] and not found[1] & found[2] and not found[0] & found[2]

    def test_the_snr_lies_in_the_range_and_is_recorded(self, material, tmp_path):
        data = prepared(tmp_path, **material, snr_range=(3.0, 4.0))["train"]
        for utterance, row in data.metadata.items():
            mixture, reference = (
                read_entry(t[utterance])[0][:, 0] for t in (data.mixture, data.reference)
            )
            noise = mixture.astype(float) - reference
            snr = 10 * np.log10(active_power(reference, RATE) / (noise**2).mean())
            assert 3.0 <= float(row["snr_db"]) <= 4.0
            assert snr == pytest.approx(float(row["snr_db"]), abs=0.05)

    def test_the_seed_decides_everything(self, material, tmp_path):
        for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
            prepared(tmp_path / folder, **material, seed=seed)
        a, b, c = (contents(tmp_path / folder / "audio") for folder in "abc")
        assert a == b and a != c

    def test_rooms_give_channels_and_the_reference_keeps_the_early_part(self, material, tmp_path):
        rooms = {"rir_dir": material["noise_dir"].replace("noise", "rooms")}
        data = prepared(tmp_path, **material, **rooms)["train"]
        utterance = next(iter(data.mixture))
        reference = read_entry(data.reference[utterance])[0]
        assert read_entry(data.mixture[utterance])[0].shape == reference.shape
        assert reference.shape[1] == 2
        # the direct sound alone: the second microphone hears the first's signal 30 samples later
        np.testing.assert_allclose(reference[30:, 1], reference[:-30, 0], atol=2 / 32768)

    def test_training_speech_may_be_mixed_at_each_visit(self, material, tmp_path):
        rooms = {"rir_dir": material["noise_dir"].replace("noise", "rooms")}
        options = {**material, **rooms, "mix_at_visit": True, "heldout_utts": 1}
        sets = prepared(tmp_path / "data", **options)
        assert sets["train"].mixture == sets["train"].reference
        assert all(material["speech_dir"] in path for path in sets["train"].mixture.values())
        assert len(sets["valid"]) == len(sets["test"]) == 1
        for kind, option in (("noise", "noise_dir"), ("rooms", "rir_dir")):
            recordings = read_data_dir(tmp_path / "data" / f"train_{kind}").mixture
            assert recordings and all(options[option] in path for path in recordings.values())
        assert {path.parts[-3] for path in (tmp_path / "data" / "audio").rglob("*.wav")} == {
            "valid",
            "test",
        }
        assert read_entry(next(iter(sets["valid"].mixture.values())))[0].shape[1] == 2
        prepared(tmp_path / "data", **material)
        assert not (tmp_path / "data" / "train_noise").exists()

    def test_material_that_is_bad_is_listed(self, material, tmp_path):
        own = {key: str(shutil.copytree(path, tmp_path / key)) for key, path in material.items()}
        write(tmp_path / "speech_dir" / "ann" / "low.wav", speech_like(1, 0, 8000), 8000)
        write(tmp_path / "noise_dir" / "click.wav", speech_like(0.1, 0))
        (tmp_path / "noise_dir" / "broken.wav").write_bytes(b"no audio")
        with pytest.raises(ValueError, match="3 problems found"):
            prepared(tmp_path / "data", **own)
        lines = (tmp_path / "data" / "bad_files.txt").read_text()
        for text in (
            "low.wav: has 8000 Hz",
            "click.wav: lasts less than 0.25",
            "broken.wav: is no",
        ):
            assert text in lines
        sets = prepared(tmp_path / "data", **own, on_bad_file="skip")
        assert all(len(data) for data in sets.values())

    def test_mixtures_of_an_interrupted_run_are_made_anew(self, material, tmp_path, monkeypatch):
        def killed(name, *arguments):
            if name == "valid":
                raise KeyboardInterrupt
            return mix_set(name, *arguments)

        mix_set = custom_mixing._mix_set
        monkeypatch.setattr(custom_mixing, "_mix_set", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(tmp_path / "a", **material)
        monkeypatch.setattr(custom_mixing, "_mix_set", mix_set)
        prepared(tmp_path / "a", **material)
        prepared(tmp_path / "b", **material)
        assert contents(tmp_path / "a" / "audio") == contents(tmp_path / "b" / "audio")


def test_channels_keep_their_proportions():
    speech = speech_like(1, 1)[:, None] * [1.0, 0.5]
    noise = speech_like(1, 2)[:, None] * [1.0, 2.0]
    mixture, reference = mix_channels(speech, 0.9 * speech, noise, 5.0, -30.0)
    np.testing.assert_allclose(reference[:, 1], 0.5 * reference[:, 0])
    rest = mixture - reference / 0.9
    np.testing.assert_allclose(rest[:, 1], 2 * rest[:, 0], atol=1e-12)
    snr = 10 * np.log10(active_power(reference[:, 0] / 0.9, RATE) / (rest[:, 0] ** 2).mean())
    assert snr == pytest.approx(5.0)


def test_the_early_part_ends_50_ms_after_the_peak():
    room = np.full((2000, 1), 0.1)
    room[300] = 1.0
    early = early_part(room)
    assert np.flatnonzero(early)[-1] == 300 + 800
    np.testing.assert_array_equal(early[:1101], room[:1101])


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "give either --mixture_dir and --reference_dir, or "),
        ({"mixture_dir": "a"}, "give either"),
        ({"mixture_dir": "a", "reference_dir": "b", "speech_dir": "c"}, "give either"),
        ({"mixture_dir": "a", "reference_dir": "b", "rir_dir": "c"}, "--rir_dir goes with"),
        ({"speech_dir": "a", "noise_dir": "b", "snr_range": (5, 0)}, "lowest, then the highest"),
        ({"mixture_dir": "a", "reference_dir": "b", "mix_at_visit": True}, "--mix_at_visit and"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        OwnData(**options)


def test_the_range_of_ratios_is_read_from_one_option(material, tmp_path):
    arguments = [f"--{key}={value}" for key, value in material.items()]
    custom.main([*arguments, "--data_dir", str(tmp_path), "--snr_range", "-2 -1"])
    rows = read_data_dir(tmp_path / "test").metadata.values()
    assert all(-2 <= float(row["snr_db"]) <= -1 for row in rows)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        prepared(tmp_path, mixture_dir=str(tmp_path / "nowhere"), reference_dir=str(tmp_path))


class TestOutputsAndInputs:
    """What would empty or overwrite a source is refused before anything is touched."""

    @pytest.fixture
    def corpus(self, material, tmp_path):
        return {
            key: str(shutil.copytree(path, tmp_path / key / "audio"))
            for key, path in material.items()
        }

    @pytest.mark.parametrize("place", ["speech_dir", "noise_dir", "speech_dir/audio", "."])
    def test_audio_is_never_written_over_the_sources(self, place, corpus, tmp_path):
        if place == ".":
            corpus["noise_dir"] = shutil.move(corpus["noise_dir"], tmp_path / "audio")
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="the output .*audio (is|lies in) the input"):
            prepared(tmp_path / place, **corpus)
        assert contents(tmp_path) == before

    def test_a_folder_of_others_is_not_emptied(self, corpus, tmp_path):
        write(tmp_path / "data" / "audio" / "mine.wav", speech_like(1, 0))
        with pytest.raises(ValueError, match="audio holds files that this command did not write"):
            prepared(tmp_path / "data", **corpus)
        assert (tmp_path / "data" / "audio" / "mine.wav").exists()

    def test_lists_are_not_overwritten_by_tables(self, pairs, tmp_path):
        (tmp_path / "data" / "train").mkdir(parents=True)
        for name, folder in (("wav.scp", "noisy"), ("spk1.scp", "clean")):
            lines = [
                f"{path.parent.name}-{number} {path}\n"
                for number, path in enumerate(sorted((tmp_path / folder).rglob("*.*")))
            ]
            (tmp_path / "data" / "train" / name).write_text("".join(lines))
        lists = [str(tmp_path / "data" / "train" / name) for name in ("wav.scp", "spk1.scp")]
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="wav.scp is the input"):
            prepared(tmp_path / "data", mixture_scp=lists[0], reference_scp=lists[1])
        assert contents(tmp_path) == before


class TestOddFiles:
    def test_hidden_and_odd_files_are_no_obstacle(self, pairs, tmp_path, capsys):
        for folder in ("noisy", "clean"):
            (tmp_path / folder / "ann" / "._take 0.wav").write_bytes(b"\0\5\x16\7")
            (tmp_path / folder / "ann" / ".take 0.1.partial.wav").write_bytes(b"RIFF")
        noise = speech_like(0.4, 98)[:, None] * [1, 1]
        for name in ("_x", "-", "__", "=y"):
            clean = speech_like(0.4, 70)[:, None] * [1, 1]
            write(tmp_path / "clean" / f"{name}.wav", clean)
            write(tmp_path / "noisy" / f"{name}.WAV", clean + 0.01 * noise)
        sets = prepared(tmp_path / "data", **pairs)
        ids = {utterance for data in sets.values() for utterance in data.mixture}
        assert ids >= {"_x", "-", "__", "=y"} and len(ids) == 12

    def test_a_name_without_a_speaker_is_listed_and_can_be_left_out(self, pairs, tmp_path, capsys):
        pattern = r"(ann|bob|cid)/"
        with pytest.raises(ValueError, match=r"dan/take 0.*has no speaker in its name"):
            prepared(tmp_path / "data", **pairs, speaker_pattern=pattern)
        sets = prepared(tmp_path / "data", **pairs, speaker_pattern=pattern, on_bad_file="skip")
        speakers = {name for data in sets.values() for name in data.speaker.values()}
        assert speakers == {"ann", "bob", "cid"}
        assert "2 problems are listed" in capsys.readouterr().out

    @pytest.mark.parametrize("pattern", ["(", "[a", "*", r"(?P<x"])
    def test_a_pattern_that_is_none_is_refused_with_its_place(self, pattern, pairs):
        with pytest.raises(ValueError, match="--speaker_pattern .* is not a regular expression"):
            OwnData(**pairs, speaker_pattern=pattern)

    def test_float_audio_beyond_full_scale_is_not_clipped(self, pairs, tmp_path):
        for folder, gain in (("noisy", 6.0), ("clean", 5.0)):
            path = next((tmp_path / folder / "ann").glob("take 0.*"))
            signal = soundfile.read(path)[0]
            path.unlink()
            loud = path.with_suffix(".wav")
            soundfile.write(loud, gain * signal / np.abs(signal).max(), RATE, "FLOAT")
        sets = prepared(tmp_path / "data", **pairs)
        assert sum(map(len, sets.values())) == 8

    def test_float_audio_that_is_cut_at_the_top_is_clipped(self, pairs, tmp_path):
        path = tmp_path / "clean" / "ann" / "take 0.wav"
        signal = soundfile.read(path)[0]
        soundfile.write(path, np.clip(100 * signal, -1.5, 1.5), RATE, "FLOAT")
        with pytest.raises(ValueError, match="is clipped"):
            prepared(tmp_path / "data", **pairs)

    def test_mixtures_that_are_their_references_are_refused_or_left_out(self, pairs, tmp_path):
        shutil.rmtree(tmp_path / "noisy" / "ann")
        shutil.copytree(tmp_path / "clean" / "ann", tmp_path / "noisy" / "ann")
        with pytest.raises(ValueError, match="2 problems.*\n.*is the same as its reference"):
            prepared(tmp_path / "data", **pairs)
        sets = prepared(tmp_path / "data", **pairs, on_bad_file="skip")
        assert sum(map(len, sets.values())) == 6

    def test_speakers_that_lists_put_into_two_sets_are_noted(self, pairs, tmp_path, capsys):
        (tmp_path / "valid").write_text("ann/take 0\n")
        (tmp_path / "test").write_text("ann/take 1\nbob/take 0\n")
        lists = {"valid_list": str(tmp_path / "valid"), "test_list": str(tmp_path / "test")}
        prepared(tmp_path / "data", **pairs, **lists)
        said = capsys.readouterr().out
        assert "note: train and test share 1 speakers: bob" in said
        assert (
            "note: valid and test share 1 speakers: ann" in said and "train and valid" not in said
        )

    @pytest.mark.parametrize("name", sorted(REFUSED))
    def test_broken_material_is_listed_by_name_or_left_out(self, name, material, tmp_path):
        own = {key: str(shutil.copytree(path, tmp_path / key)) for key, path in material.items()}
        REFUSED[name][0](tmp_path / "noise_dir" / name)
        with pytest.raises(ValueError, match="1 problem found") as error:
            prepared(tmp_path / "data", **own)
        assert f"noise_dir/{name}: " in str(error.value)
        assert len(str(error.value).splitlines()) == 2
        sets = prepared(tmp_path / "data", **own, on_bad_file="skip")
        assert all(len(data) for data in sets.values())


class TestSilentNoise:
    def test_noise_that_is_mostly_silent_gives_finite_mixtures_the_same_again(
        self, material, tmp_path
    ):
        noise = tmp_path / "noise"
        for number in range(3):
            signal = np.zeros(60 * RATE)
            signal[30 * RATE : 30 * RATE + 800] = speech_like(0.05, 30 + number)[:800]
            write(noise / f"rare{number}.wav", signal)
        own = {**material, "noise_dir": str(noise), "snr_range": (0.0, 0.0)}
        made = [prepared(tmp_path / folder, **own) for folder in ("one", "two")]
        for data in made[0].values():
            for utterance, entry in data.mixture.items():
                mixture = read_entry(entry)[0]
                added = mixture - read_entry(data.reference[utterance])[0]
                assert 1e-4 < np.abs(added).max() < 2 and np.abs(mixture).max() < 0.98
        first, second = (contents(tmp_path / folder / "audio") for folder in ("one", "two"))
        assert first == second

    def test_noise_without_any_sound_is_named(self):
        silent = {"hall/night": np.zeros(5 * RATE, np.float32)}
        pool = NoisePool({"recording": silent}, {"recording": 1.0})
        with pytest.raises(ValueError, match="the noise hall/night is silent over 2.00 s"):
            pool.draw(2 * RATE, np.random.default_rng(0))

    def test_draws_that_are_not_silent_are_those_of_before(self):
        """Only what was not a number before is drawn anew."""
        recording = speech_like(5.0, 3)
        pool = NoisePool({"recording": {"fan": recording}}, {"recording": 1.0})
        drawn, _, _ = pool.draw(RATE, np.random.default_rng(5))
        rng = np.random.default_rng(5)
        rng.choice(["recording"], p=[1.0])
        rng.choice(["fan"])
        excerpt = loop_excerpt(recording, RATE, RATE, rng)
        expected = excerpt / np.sqrt((excerpt.astype(np.float64) ** 2).mean())
        np.testing.assert_array_equal(drawn, expected)
