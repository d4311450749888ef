"""The YAML of an experiment: what is refused, the order of runs, and the search for a weight."""

from pathlib import Path

import pytest
import yaml

from espnet2_tfckd.experiment.plan import ordered_runs, weights_to_try
from espnet2_tfckd.experiment.settings import Arm, read_experiment
from tests.experiment.experiments import CONTENTS, write_configs

MINI = Path(__file__).parents[2] / "egs2" / "mini" / "enh1"


class TestSettings:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"colour": 1}, "colour is unknown"),
            ({"tuning": {**CONTENTS["tuning"], "mots": 5}}, "tuning: mots is unknown"),
            ({"tuning": {"factor": 3, "most": 5}}, "tuning: enh_args is missing"),
            ({"tuning": {**CONTENTS["tuning"], "factor": 1}}, "factor must be above 1"),
            ({"metrics": ["SI_SDR", "MOS"]}, "'MOS'.* is not among PESQ"),
            ({"baseline": "nothing"}, "arms: nothing is missing"),
            ({"baseline": ["none"]}, "baseline must be text, not .'none'."),
            ({"method": 3}, "method must be text, not 3"),
            ({"teacher_args": None}, "teacher_args must be text, not None"),
            ({"enh_args": 8}, "enh_args must be text, not 8"),
            ({"metrics": "SI_SDR"}, "metrics must be a list, not 'SI_SDR'"),
            ({"metrics": [{"SI_SDR": 1}]}, "is not among PESQ"),
            ({"tuning": 3}, "tuning must be 'key: value' lines, not 3"),
            ({"tuning": {**CONTENTS["tuning"], "factor": "3"}}, "factor must be a number, not '3'"),
            ({"tuning": {**CONTENTS["tuning"], "most": 5.5}}, "most must be a whole number"),
            ({"tuning": {**CONTENTS["tuning"], "most": True}}, "most must be a whole number"),
            ({"arms": ["none", "ours"]}, "arms must be 'key: value' lines"),
            ({"arms": {**CONTENTS["arms"], "odd": 3}}, "arm odd: there must be 'key: value'"),
            ({"arms": {**CONTENTS["arms"], 5: {"seeds": [1]}}}, "arm 5: a name has letters"),
        ],
    )
    def test_a_wrong_key_or_value_is_named(self, change, message):
        write_configs({**CONTENTS, **change})
        with pytest.raises(ValueError, match=f"experiment.yaml: .*{message}"):
            read_experiment("conf/experiment.yaml")

    @pytest.mark.parametrize(
        "name, change, message",
        [
            ("ours", {"seed": [1]}, "arm ours: seed is unknown"),
            ("ours", {"seeds": [1, 1]}, "arm ours: seeds must be different whole numbers"),
            ("ours", {"seeds": 1}, "arm ours: seeds must be"),
            ("ours", {"seeds": [[1], [2]]}, "arm ours: seeds must be different whole numbers"),
            ("ours", {"tune": "yes"}, "arm ours: tune must be true or false, not 'yes'"),
            ("ours", {"enh_args": ["--max_epoch", 3]}, "arm ours: enh_args must be text"),
            ("ours", {"distill_config": 3}, "arm ours: distill_config must be text, not 3"),
            ("part", {"weight_of": ["ours"]}, "arm part: weight_of must be text"),
            ("none", {"tune": True}, "arm none: there is no weight"),
            ("none", {"teacher_command": "a"}, "arm none: a teacher is of use only with"),
            (
                "ours",
                {"distill_config": None, "tune": False},
                "arm ours: there is no distill",
            ),
            ("ours", {"distill_config": ""}, "must be the name of a file, not ''"),
            ("none", {"distill_config": "conf/ours.yaml"}, "arm none: the baseline has no distill"),
            ("part", {"weight_of": "rival"}, "arm part: weight_of must name an arm with tune"),
            ("part", {"tune": True}, "arm part: tune and weight_of exclude each other"),
            ("part", {"weight": 2}, "arm part: weight_of and weight exclude each other"),
            ("rival", {"weight": 0}, "arm rival: weight must be above 0"),
            ("rival", {"weight": "2"}, "arm rival: weight must be a number"),
            ("none", {"weight": 2}, "arm none: there is no weight"),
            ("rival", {"enh_args": "--distill_weight 2"}, "would not set the weight of the loss"),
            ("part", {"teacher_command": "a"}, "arm part: weight_of is for arms with the exper"),
            ("ours", {"teacher_command": "a"}, "arm part: weight_of is for arms with the exper"),
            ("teacher", {"distill_config": "conf/ours.yaml", "seeds": [1]}, "arm teacher: a name"),
        ],
    )
    def test_a_wrong_arm_is_named(self, name, change, message):
        arms = CONTENTS["arms"]
        write_configs({**CONTENTS, "arms": {**arms, name: {**arms.get(name, {}), **change}}})
        with pytest.raises(ValueError, match=message):
            read_experiment("conf/experiment.yaml")

    def test_one_that_extends_another_takes_over_what_it_does_not_set(self):
        write_configs(CONTENTS)
        own = {
            "extends": "experiment.yaml",
            "enh_args": "--separator_conf channels=32",
            "tuning": {"most": 4, "enh_args": "--seed 2"},
            "arms": {name: CONTENTS["arms"][name] for name in ("none", "ours")},
        }
        Path("conf/wide.yaml").write_text(yaml.safe_dump(own))
        base, wide = (read_experiment(f"conf/{name}.yaml") for name in ("experiment", "wide"))
        assert wide.enh_args == f"{base.enh_args} --separator_conf channels=32"
        assert wide.tuning.enh_args == f"{base.tuning.enh_args} --seed 2"
        assert (wide.tuning.most, wide.tuning.factor) == (4, base.tuning.factor)
        assert list(wide.arms) == ["none", "ours"] and wide.metrics == base.metrics
        Path("conf/wider.yaml").write_text("extends: wide.yaml\nenh_args: --seed 3\n")
        assert read_experiment("conf/wider.yaml").enh_args == f"{wide.enh_args} --seed 3"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("extends: own.yaml", "it extends itself"),
            ("extends: [a]", "extends must be the name of a file beside it, not ..a"),
            ("extends: experiment.yaml\ncolour: red", "colour is unknown"),
            ("extends: experiment.yaml\nenh_args: 3", "enh_args must be text, not 3"),
            ("extends: experiment.yaml\ntuning: 3", "tuning must be 'key: value' lines"),
        ],
    )
    def test_one_that_extends_another_wrongly_is_refused(self, text, message):
        write_configs(CONTENTS)
        Path("conf/own.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"conf/own.yaml: .*{message}"):
            read_experiment("conf/own.yaml")

    def test_a_missing_one_is_named(self):
        Path("conf").mkdir()
        Path("conf/own.yaml").write_text("extends: none.yaml")
        with pytest.raises(FileNotFoundError, match="conf/none.yaml is not there"):
            read_experiment("conf/own.yaml")

    def test_an_arm_that_is_there_twice_is_refused(self):
        write_configs(CONTENTS)
        with open("conf/experiment.yaml", "a") as file:
            file.write("  ours: {seeds: [1]}\n")
        with pytest.raises(ValueError, match="'ours' is given twice"):
            read_experiment("conf/experiment.yaml")

    def test_a_missing_file_is_named(self):
        write_configs(CONTENTS)
        Path("conf/part.yaml").unlink()
        with pytest.raises(FileNotFoundError, match="conf/part.yaml is not there"):
            read_experiment("conf/experiment.yaml")

    @pytest.mark.parametrize(
        "config", sorted(MINI.glob("conf/experiment*.yaml")), ids=lambda p: p.stem
    )
    def test_the_experiments_of_the_mini_recipe_are_valid(self, config, monkeypatch):
        monkeypatch.chdir(MINI)
        shipped = read_experiment(config)
        seeds = [len(shipped.arms[arm].seeds) for arm in (shipped.method, shipped.baseline)]
        assert seeds[0] == seeds[1] >= 2
        for arm in shipped.arms.values():
            assert not arm.distill_config or "distiller" in yaml.safe_load(
                arm.distill_config.read_text()
            )


class TestPlan:
    def test_one_seed_of_the_arms_with_most_seeds_then_of_the_rest_then_further_seeds(self):
        arms = [Arm("a", (1,)), Arm("b", (1, 2, 3)), Arm("c", (5, 6, 7)), Arm("d", (1, 2))]
        order = [f"{arm.name}{seed}" for arm, seed in ordered_runs(arms)]
        assert order == "b1 c5 a1 d1 b2 c6 d2 b3 c7".split()

    @pytest.mark.parametrize(
        "losses, expected",
        [
            ({}, [1.0, 2.0, 4.0]),
            ({2.0: -1.0}, [1.0, 4.0]),
            ({1.0: -1.0, 2.0: -2.0, 4.0: -1.0}, []),
            ({1.0: -2.0, 2.0: -1.0, 4.0: -1.0}, [0.5]),
            ({1.0: -1.0, 2.0: -2.0, 4.0: -3.0}, [8.0]),
            ({0.5: -3.0, 1.0: -2.0, 2.0: -1.0, 4.0: -1.0}, []),  # as many as are allowed
            ({1.0: None, 2.0: -2.0, 4.0: None}, []),
        ],
    )
    def test_the_grid_is_extended_while_the_best_weight_is_at_its_end(self, losses, expected):
        assert weights_to_try(2.0, 2, 4, losses) == expected
