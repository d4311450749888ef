"""Paired comparisons over utterances and seeds: intervals, pairing, tables and plot."""

import math

import numpy as np
import pytest
from scipy import stats

from espnet2_tfckd.experiment.comparison import compare, comparisons, crossed_interval
from espnet2_tfckd.experiment.report import draw_differences, report_md


class TestCrossedInterval:
    def test_one_seed_is_students_interval_over_utterances(self):
        values = np.array([0.3, -0.1, 0.4, 0.2, 0.9])
        mean, half_width = crossed_interval(values[None])
        low, high = stats.ttest_1samp(values, 0).confidence_interval()
        assert mean == pytest.approx(values.mean())
        assert (mean - half_width, mean + half_width) == pytest.approx((low, high))

    def test_two_seeds_of_two_utterances_by_hand(self):
        # Means over seeds 2 and 4: variance 2, a = 2 / 2 = 1. Means over utterances 2.5 and 3.5:
        # variance 0.5, b = 0.5 / 2 = 0.25. df = 1.25² / (1² / 1 + 0.25² / 1) = 1.470588...
        mean, half_width = crossed_interval(np.array([[1.0, 4.0], [3.0, 4.0]]))
        assert mean == 3.0
        assert half_width == pytest.approx(stats.t.ppf(0.975, 1.5625 / 1.0625) * math.sqrt(1.25))

    def test_seeds_that_disagree_widen_the_interval_as_utterances_alone_do_not(self):
        utterances = np.linspace(-0.1, 0.1, 50)
        agreeing = crossed_interval(np.stack([utterances + 1] * 3))[1]
        disagreeing = crossed_interval(np.stack([utterances + shift for shift in (0, 1, 2)]))[1]
        # t(0.975, 2) / sqrt(3): the seeds are all that matters
        assert disagreeing == pytest.approx(4.303 / math.sqrt(3), rel=0.01)
        assert agreeing < 0.02

    @pytest.mark.parametrize(
        "num_seeds, of_seeds, low, high",
        [
            (3, 0.0, 0.94, 0.98),  # seeds do not matter
            (3, 0.2, 0.91, 0.95),  # seeds matter most: slightly short of what it says
            (5, 0.2, 0.92, 0.97),
            (2, 0.2, 0.83, 0.91),  # the limit that the docstring warns of
        ],
    )
    def test_it_covers_the_true_difference_as_often_as_documented(
        self, num_seeds, of_seeds, low, high
    ):
        rng = np.random.default_rng(0)
        hits = []
        for _ in range(1500):
            differences = 1 + rng.normal(0, of_seeds, (num_seeds, 1)) + rng.normal(0, 0.5, 240)
            differences += rng.normal(0, 0.3, (num_seeds, 240))
            mean, half_width = crossed_interval(differences)
            hits.append(abs(mean - 1) <= half_width)
        assert low <= np.mean(hits) <= high

    def test_equal_differences_have_an_interval_of_no_width(self):
        assert crossed_interval(np.full((2, 3), 0.5)) == (0.5, 0.0)

    def test_a_single_utterance_has_no_interval(self):
        assert crossed_interval(np.array([[1.0], [2.0]])) == (1.5, None)

    def test_nothing_to_compare_is_refused(self):
        with pytest.raises(ValueError, match="nothing to compare"):
            crossed_interval(np.empty((0, 4)))


class TestPairing:
    def test_seeds_that_both_have_and_utterances_that_all_scored(self):
        scores = {1: {"a": 2.0, "b": 5.0, "c": 1.0}, 2: {"a": 4.0, "b": 3.0, "c": None}, 3: {}}
        baseline = {1: {"a": 1.0, "b": 1.0, "c": 1.0}, 2: {"a": 1.0, "b": 2.0, "c": 1.0}}
        row = compare(scores, baseline)
        assert row["difference"] == pytest.approx((1 + 4 + 3 + 1) / 4)
        assert (row["num_seeds"], row["num_utterances"], row["num_left_out"]) == (2, 2, 1)
        assert row["ci_low"] < row["difference"] < row["ci_high"]

    @pytest.mark.parametrize("scores", [{}, {2: {"a": 1.0}}, {1: {"a": None}}, {1: {"b": 1.0}}])
    def test_without_anything_in_common_there_is_no_comparison(self, scores):
        assert compare(scores, {1: {"a": 1.0}}) is None

    def test_all_arms_are_compared_with_the_baseline_and_the_method_with_all_others(self):
        scores = {
            name: {1: {"u1": {"si_sdr": level}, "u2": {"si_sdr": level + 1}}}
            for name, level in (("none", 1.0), ("ours", 3.0), ("rival", 2.5))
        }
        rows = comparisons(scores, ["si_sdr", "pesq_wb"], "none", "ours")
        assert [(r["arm"], r["baseline"], r["metric"], r["difference"]) for r in rows] == [
            ("ours", "none", "si_sdr", 2.0),
            ("rival", "none", "si_sdr", 1.5),
            ("ours", "rival", "si_sdr", 0.5),
        ]


def run(arm, seed, weight, si_sdr, seconds):
    """A row of kind run, with 1000 MiB for every second."""
    peak = None if seconds is None else 1000 * seconds
    costs = {"cpu_seconds_per_update": seconds, "peak_mb": peak}
    scores = {"si_sdr": si_sdr, "num_utterances": 2, "num_updates": 9, "valid_loss": -1.0}
    return {"kind": "run", "arm": arm, "seed": seed, "distill_weight": weight} | scores | costs


def comparison(arm, baseline, difference, num_seeds):
    """A row of kind comparison with an interval of ± 0.1."""
    names = {"kind": "comparison", "arm": arm, "baseline": baseline, "metric": "si_sdr"}
    interval = {"ci_low": difference - 0.1, "ci_high": difference + 0.1}
    counts = {"num_seeds": num_seeds, "num_utterances": 2, "num_left_out": 0}
    return names | {"difference": difference} | interval | counts


@pytest.fixture
def rows():
    """Two seeds without distillation and with the method, one seed of a rival."""
    return [
        {"kind": "reference", "arm": "noisy", "num_utterances": 2, "si_sdr": 4.0},
        run("none", 1, None, 6.0, 0.4),
        run("none", 2, None, 7.0, 0.6),
        run("ours", 1, 3.0, 7.0, 0.75),
        run("ours", 2, 3.0, 7.5, 0.75),
        run("rival", 1, 0.5, 6.25, None),
        {"kind": "tuning", "arm": "ours", "distill_weight": 1.0, "valid_loss": -5, "chosen": False},
        {"kind": "tuning", "arm": "ours", "distill_weight": 3.0, "valid_loss": -6, "chosen": True},
        {"kind": "tuning", "arm": "ours", "distill_weight": 9, "valid_loss": None, "chosen": False},
        comparison("ours", "none", 0.75, 2),
        comparison("rival", "none", 0.25, 1),
        comparison("ours", "rival", 0.75, 1),
    ]


class TestReport:
    @pytest.fixture
    def lines(self, rows):
        return report_md(rows, ["si_sdr"], "none", "ours", {"command": "`x`"}).splitlines()

    def test_arms_with_spread_difference_and_cost_relative_to_the_baseline(self, lines):
        assert "|noisy|||4.00||||" in lines
        assert "|none|2||6.50 ± 0.71||0.500|500|" in lines
        assert (
            "|ours|2|3|7.25 ± 0.35|+0.75 [+0.65, +0.85]|0.750 (+0.250, ×1.50)|750 (+250, ×1.50)|"
        ) in lines

    def test_a_single_seed_is_said_to_be_one_and_unknown_costs_are_left_open(self, lines):
        assert "|rival|1|0.5|6.25|+0.25 [+0.15, +0.35], 1 seed|-|-|" in lines

    def test_the_method_is_compared_with_its_rivals(self, lines):
        start = lines.index("## Differences of ours to the other arms")
        assert "|rival|1|+0.75 [+0.65, +0.85], 1 seed|" in lines[start:]

    def test_the_search_for_the_weight_and_the_command_are_shown(self, lines):
        assert "|ours|1: -5.000; **3: -6.000**; 9: not finite|" in lines
        assert "- command: `x`" in lines

    def test_a_search_that_ended_at_an_end_of_the_grid_is_named(self, rows):
        text = report_md(rows, ["si_sdr"], "none", "ours", {})
        assert "may lie beyond" not in text
        rows = [row for row in rows if row.get("distill_weight") != 9]
        text = report_md(rows, ["si_sdr"], "none", "ours", {})
        assert "a better one may lie beyond: ours." in text

    def test_utterances_left_out_are_counted(self, rows):
        rows[-3]["num_left_out"] = 4
        text = report_md(rows, ["si_sdr"], "none", "ours", {})
        assert "+0.75 [+0.65, +0.85], 4 utterances left out" in text


class TestPlot:
    def test_it_is_drawn_with_the_arms_sorted(self, rows, tmp_path, monkeypatch):
        from matplotlib.axes import Axes

        labels = []
        monkeypatch.setattr(Axes, "set_yticks", lambda self, at, names: labels.append(names))
        draw_differences(rows, ["si_sdr"], "none", tmp_path / "plot.png")
        assert labels == [["rival", "ours"]]
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")

    def test_without_comparisons_nothing_is_drawn(self, tmp_path):
        draw_differences([], ["si_sdr"], "none", tmp_path / "plot.png")
        assert not (tmp_path / "plot.png").exists()
