"""The default sources of the mini corpus: a table each of packages, speakers and noises.

Speech is split by speaker and noise by original recording, so that validation and test are
unseen.
"""

from __future__ import annotations

from espnet2_tfckd.corpora.sources import Package, Recording, Sources, Speaker

PACKAGES = (
    Package("asterisk-core-sounds-en-g722", None, "CC-BY-SA-3.0", "recorded by Allison Smith"),
    Package("asterisk-core-sounds-en", None, "CC-BY-SA-3.0", "their transcripts"),
    Package("asterisk-core-sounds-fr-g722", None, "CC-BY-SA-3.0", "recorded by June Wallack"),
    Package("asterisk-core-sounds-it-g722", None, "CC-BY-3.0", "recorded by Carlo Flora"),
    Package("asterisk-core-sounds-ru-g722", None, "CC-BY-3.0", "provided by Maxim Topal"),
    Package("asterisk-moh-opsound-g722", None, "CC-BY-SA-3.0", "Macroform, M. Camp, Reno Project"),
    Package("fillets-ng-data-cs", None, "GPL-2", "Fish Fillets NG, Czech dialogue"),
    Package("fillets-ng-data-nl", None, "GPL-2", "Fish Fillets NG, Dutch dialogue"),
    Package("ktuberling-data", None, "GPL-2+", "KDE's Potato Guy"),
    Package(
        "minetest-data",
        None,
        "CC-BY-SA-3.0",
        "Minetest Game, authors in its copyright file",
        "luanti-game-minetest",
    ),
    Package("openttd-opensfx", None, "CC-BY-SA-3.0", "OpenSFX, authors named in its readme"),
    Package("bucklespring-data", None, "GPL-2+", "Bucklespring, Ico Doornekampt"),
    Package("ambience", "1.1.0", "not stated for the recordings", "Jansen Price's ambience player"),
    Package("onsen", "0.1.1", "not stated for the recordings", "Paulo Pacitti's onsen player"),
)

SPEAKERS = (
    Speaker("train", "cs_big", "fillets-ng-data-cs", "*/cs/*-v-*.ogg", 0.24),
    Speaker("train", "cs_small", "fillets-ng-data-cs", "*/cs/*-m-*.ogg", 0.17),
    Speaker("train", "fr_June", "asterisk-core-sounds-fr-g722", "*/fr_CA_f_June/*.g722", 0.16),
    Speaker("train", "nl_big", "fillets-ng-data-nl", "*/nl/*-v-*.ogg", 0.14),
    Speaker("train", "nl_small", "fillets-ng-data-nl", "*/nl/*-m-*.ogg", 0.08),
    Speaker("train", "nn_ktuberling", "ktuberling-data", "*/sounds/nn/*", 0.05),
    Speaker("train", "ru_Ivr", "asterisk-core-sounds-ru-g722", "*/ru_RU_f_IvrvoiceRU/*.g722", 0.16),
    Speaker("valid", "lt_ktuberling", "ktuberling-data", "*/sounds/lt/*", 0.5),
    Speaker("valid", "uk_ktuberling", "ktuberling-data", "*/sounds/uk/*", 0.5),
    Speaker("test", "en_Allison", "asterisk-core-sounds-en-g722", "*/en_US_f_Allison/*.g722", 0.5),
    Speaker("test", "it_Carlo", "asterisk-core-sounds-it-g722", "*/it_IT_m_Carlo/*.g722", 0.5),
)

RECORDINGS = (
    Recording("train", "ambient", "rainforest", "ambience", "*/amazon-rainforest.ogg"),
    Recording("train", "ambient", "rain_on_water", "onsen", "*/water.wav"),
    Recording("train", "ambient", "wind", "openttd-opensfx", "opensfx.cat:Heavy wind"),
    Recording("train", "ambient", "fire_large", "minetest-data", "*/fire_large.ogg"),
    Recording("train", "ambient", "fire_small", "minetest-data", "*/fire_small.ogg"),
    Recording("train", "ambient", "fire_1", "minetest-data", "*/fire_fire.1.ogg"),
    Recording("train", "ambient", "fire_2", "minetest-data", "*/fire_fire.2.ogg"),
    Recording("train", "ambient", "fire_3", "minetest-data", "*/fire_fire.3.ogg"),
    Recording("train", "ambient", "applause", "openttd-opensfx", "opensfx.cat:Applause"),
    Recording("train", "machine", "furnace", "minetest-data", "*/default_furnace_active.ogg"),
    Recording("train", "machine", "propeller", "openttd-opensfx", "opensfx.cat:Propeller plane"),
    Recording("train", "machine", "early_jet", "openttd-opensfx", "opensfx.cat:Early jet"),
    Recording("train", "machine", "modern_jet", "openttd-opensfx", "opensfx.cat:Modern jet"),
    Recording("train", "machine", "fast_jet", "openttd-opensfx", "opensfx.cat:Mach 1+ Jet"),
    Recording("train", "machine", "elevator", "openttd-opensfx", "opensfx.cat:Mining machinery"),
    Recording("train", "machine", "sparking", "openttd-opensfx", "opensfx.cat:Electric sparking"),
    Recording("train", "machine", "truck", "openttd-opensfx", "opensfx.cat:Truck/old bus start"),
    Recording("train", "machine", "circular_saw", "openttd-opensfx", "opensfx.cat:Sawmill"),
    Recording("train", "machine", "bubbles", "openttd-opensfx", "opensfx.cat:Toyland: Plastic"),
    Recording("train", "machine", "metro", "openttd-opensfx", "opensfx.cat:Maglev train"),
    Recording("train", "music", "cold_day", "asterisk-moh-opsound-g722", "*-cold_day.g722"),
    Recording("train", "music", "robot_dity", "asterisk-moh-opsound-g722", "*-robot_dity.g722"),
    Recording("train", "music", "simplicity", "asterisk-moh-opsound-g722", "*-the_simplicity.g722"),
    Recording("train", "babble", "cs_others", "fillets-ng-data-cs", "*/cs/*-[!mv]-*.ogg"),
    Recording("train", "babble", "nl_others", "fillets-ng-data-nl", "*/nl/*-[!mv]-*.ogg"),
    Recording("train", "babble", "fr_ktuberling", "ktuberling-data", "*/sounds/fr/*"),
    Recording("valid", "ambient", "lava_1", "minetest-data", "*/env_sounds_lava.1.ogg"),
    Recording("valid", "ambient", "lava_2", "minetest-data", "*/env_sounds_lava.2.ogg"),
    Recording("valid", "ambient", "bird", "openttd-opensfx", "opensfx.cat:Tropical: Bird (2)"),
    Recording("valid", "machine", "old_bus", "openttd-opensfx", "opensfx.cat:Old bus start"),
    Recording("valid", "machine", "crossing", "openttd-opensfx", "opensfx.cat:Level crossing"),
    Recording("valid", "machine", "passing_train", "openttd-opensfx", "opensfx.cat:Monorail train"),
    Recording("valid", "music", "coffee", "asterisk-moh-opsound-g722", "*-morning_coffee.g722"),
    Recording("valid", "babble", "ru_ktuberling", "ktuberling-data", "*/sounds/ru/*"),
    Recording("valid", "babble", "ca_ktuberling", "ktuberling-data", "*/sounds/ca/*"),
    Recording("valid", "babble", "da_ktuberling", "ktuberling-data", "*/sounds/da/*"),
    Recording("test", "ambient", "train_ride", "ambience", "*/town/train.ogg"),
    Recording("test", "ambient", "brook_1", "minetest-data", "*/env_sounds_water.1.ogg"),
    Recording("test", "ambient", "brook_3", "minetest-data", "*/env_sounds_water.3.ogg"),
    Recording("test", "machine", "helicopter", "openttd-opensfx", "opensfx.cat:Helicopter"),
    Recording("test", "machine", "london_bus", "openttd-opensfx", "opensfx.cat:Modern bus start"),
    Recording("test", "machine", "jackhammer", "openttd-opensfx", "opensfx.cat:Jackhammer"),
    Recording("test", "machine", "smithy", "openttd-opensfx", "opensfx.cat:Building bridge"),
    Recording("test", "machine", "chainsaw", "openttd-opensfx", "opensfx.cat:Lumber mill: Chain"),
    Recording("test", "music", "reno_project", "asterisk-moh-opsound-g722", "*-system.g722"),
    Recording("test", "typing", "buckling_spring", "bucklespring-data", "*.wav"),
    Recording("test", "babble", "el_ktuberling", "ktuberling-data", "*/sounds/el/*"),
    Recording("test", "babble", "de_ktuberling", "ktuberling-data", "*/sounds/de/*"),
    Recording("test", "babble", "sl_ktuberling", "ktuberling-data", "*/sounds/sl/*"),
    Recording("test", "babble", "en_ktuberling", "ktuberling-data", "*/sounds/en/*"),
)

#: How often each kind of noise is drawn; ``speech_shaped`` is noise with the babble's spectrum.
KIND_SHARES = {
    "train": {
        "ambient": 0.33,
        "machine": 0.27,
        "babble": 0.22,
        "music": 0.10,
        "speech_shaped": 0.08,
    },
    "valid": {"ambient": 0.30, "machine": 0.30, "babble": 0.25, "music": 0.15},
    "test": {"ambient": 0.30, "machine": 0.25, "babble": 0.20, "music": 0.10, "typing": 0.15},
}

#: The one speaker with transcripts, and the file that holds them.
TRANSCRIBED_SPEAKER = "en_Allison"
TRANSCRIPTS = ("asterisk-core-sounds-en", "*core-sounds-en.txt.gz")

#: Prompts that are not running speech (tones, digits, letters, jokes) or that hold other voices.
NOT_SPEECH = (
    r"/(silence|digits|letters|phonetic)/|/(beep\w*|(a|de)scending-2tone|confbridge-(join|leave)"
    r"|tt-\w+|screen-callee-options|conf-hasjoin|is|demo-\w+|queue-\w+ring\w*)\.g722$"
)

DEFAULT = Sources(
    folder="mini",
    packages=PACKAGES,
    speakers=SPEAKERS,
    recordings=RECORDINGS,
    kind_shares=KIND_SHARES,
    utterances={"train": 1100, "valid": 70, "test": 60},
    not_speech=NOT_SPEECH,
    transcribed=TRANSCRIBED_SPEAKER,
    transcripts=TRANSCRIPTS,
)
