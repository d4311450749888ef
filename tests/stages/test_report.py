"""The listening report: its contents, in a browser too, and what it says of missing pieces."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from espnet2_tfckd.data.datadir import read_data_dir, write_data_dir
from espnet2_tfckd.scoring import report as pages
from espnet2_tfckd.scoring.results import update_results
from espnet2_tfckd.stages.report import report
from tests.browser import open_browser, wait_until
from tests.experiment.experiments import LINE

GAINS = {"teacher": (4, 3, 2, 1), "distilled": (1, -2, 3, 0)}  # SI-SDR of the four utterances
LOSSES = {"teacher": (-1.0, -2.5), "distilled": (-0.5, float("nan"))}


@pytest.fixture
def experiment(tmp_path, data_dir):
    """Results, journals, audio, logs and a heat map as stages 6 to 9 leave them."""
    data, exp, records = read_data_dir(data_dir), tmp_path / "exp", {}
    systems = {"noisy": data_dir / "wav.scp"}
    for name in ("noisy", *GAINS):
        gains = GAINS.get(name, (0, 0, 0, 0))
        records[name] = [
            {"id": utt, "source": {}, "scores": {"si_sdr": 5.0 + gain, "stoi": 0.5 - gain / 100}}
            | {"failed": {}, "made_of": {"files": {}}}
            for utt, gain in zip(data.mixture, gains, strict=True)
        ]
        folder = exp / (name if name == "noisy" else f"enh_{name}")
        (folder / "scoring_test").mkdir(parents=True)
        lines = "".join(json.dumps(record) + "\n" for record in records[name])
        (folder / "scoring_test" / "utterances.jsonl").write_text(lines)
        if name == "noisy":
            continue
        systems[name] = folder / "enhanced_test" / "spk1.scp"
        systems[name].parent.mkdir()
        scp = (f"{utt} {reference}\n" for utt, reference in data.reference.items())
        systems[name].write_text("".join(scp))
        log = [
            LINE.format(epoch=e, seconds=1, updates=e, loss=x)
            for e, x in enumerate(LOSSES[name], 1)
        ]
        (folder / "train.log").write_text("".join(log))
    for epoch in (2, 10):
        picture = exp / "enh_distilled/images/calibration_weights" / f"{epoch}ep.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (epoch, epoch)).save(picture)
    records["teacher"][3] |= {"failed": {"stoi": "too short"}}
    records["teacher"][3]["scores"] = {"si_sdr": 6.0, "stoi": None}
    update_results(data_dir, "test", systems, records, exp)
    return exp


@pytest.fixture
def write(experiment, data_dir):
    """Function that writes the report and returns its HTML."""

    def write(models=GAINS, **options):
        folders = {name: experiment / f"enh_{name}" for name in models}
        return report({"test": data_dir}, folders, experiment, **options).read_text()

    return write


def articles(html):
    """Ids of the utterances that can be heard, in their order."""
    return re.findall(r'<article id="heard-1-(.*?)"', html)


class TestContents:
    def test_the_table_is_that_of_the_results_with_notes(self, write):
        table = pages.results_table(
            [
                {"system": "a", "dataset": "test", "num_utterances": 2, "stoi": 0.5, "rtf": 0.1}
                | {"stoi_ci95": 0.25, "failed": {"stoi": ["u1"]}, "recogniser": None}
            ]
        )
        assert table["header"] == ["dataset", "system", "utterances", "STOI", "RTF"]
        assert [cell["text"] for cell in table["rows"][0]] == (
            ["test", "a", "2", "0.500 ± 0.250", "0.100"]
        )
        assert [cell["note"] for cell in table["rows"][0]] == [None, None, None, 1, None]
        html = write()
        assert "STOI of teacher on test leaves out 1 of 4 utterances" in html
        assert "<code>spk-utt3</code>" in html

    def test_the_last_system_s_gains_choose_what_is_heard(self, write):
        html = write()
        assert "Chosen by the gain of <strong>distilled</strong> over the mixture in SI-SDR" in html
        assert articles(html) == ["spk-utt2", "spk-utt0", "spk-utt1", "spk-utt3"]
        assert "gain +3.00 dB" in html and "gain -2.00 dB" in html
        assert html.count("<audio") == 4 * 4  # mixture, two systems, reference
        assert articles(write(["teacher"]))[0] == "spk-utt0"

    def test_curves_and_the_last_heat_map_are_there(self, write, experiment):
        html = write()
        assert '"losses": {"distilled": {"1": -0.5}, "teacher": {"1": -1.0, "2": -2.5}}' in html
        assert f"{experiment}/enh_distilled/images/calibration_weights/10ep.png" in html
        assert "2ep.png" not in html

    def test_nothing_points_out_of_the_file(self, write):
        links = re.findall(r'(?:src|href)="(.{0,5})', write())
        assert len(links) > 30
        assert all(link.startswith(("#", "data:")) for link in links)

    def test_names_are_no_markup(self, experiment, write):
        rows = json.loads((experiment / "results.json").read_text())
        rows[0]["dataset"] = "<b>&"
        (experiment / "results.json").write_text(json.dumps(rows))
        assert "&lt;b&gt;&amp;" in write()

    def test_again_it_is_the_same_file(self, write):
        assert write() == write()

    def test_one_channel_of_several_is_heard(self, write, data_dir, rewrite_audio):
        data = read_data_dir(data_dir)
        for entry in data.mixture.values():
            samples, _ = soundfile.read(entry)
            rewrite_audio(pages.Path(entry), np.stack([samples, samples], 1))
        assert "there is no channel 2" in write(ref_channel=2)
        assert "there is no channel" not in write(ref_channel=1)


class TestMissingPieces:
    def test_scores_without_si_sdr_choose_by_what_there_is(self, experiment, write):
        for journal in experiment.glob("*/scoring_test/utterances.jsonl"):
            journal.write_text(journal.read_text().replace('"si_sdr"', '"dnsmos_ovrl"'))
        html = write()
        assert "over the mixture in STOI" in html
        assert articles(html)[0] == "spk-utt1"  # STOI falls where SI-SDR rises

    def test_without_metadata_the_mixture_s_si_sdr_is_the_snr(self, write, data_dir):
        data = read_data_dir(data_dir)
        data.metadata = {}
        write_data_dir(data_dir, data)
        assert "gain over the mixture against the SI-SDR of the mixture (dB)" in write()

    def test_without_scores_by_utterance_there_is_neither_plot_nor_sound(self, experiment, write):
        (experiment / "noisy/scoring_test/utterances.jsonl").unlink()
        html = write()
        for sentence in (
            "There are no scores of noisy by utterance.",
            "There is no plot of gains",
            "No utterances are chosen: no metric has scored both the mixture and distilled.",
        ):
            assert sentence in html
        assert "<audio" not in html

    def test_a_system_without_audio_is_left_out(self, experiment, write):
        (experiment / "enh_teacher/enhanced_test/spk1.scp").unlink()
        html = write()
        assert "teacher cannot be heard: <code>" in html and "stage 8 makes it" in html
        assert html.count("<audio") == 3 * 4

    def test_models_trained_elsewhere_have_no_curves(self, experiment, write):
        (experiment / "enh_teacher/train.log").unlink()
        (experiment / "enh_distilled/train.log").write_text("just begun\n")
        html = write()
        assert "teacher has no curve: there is no <code>" in html
        assert "train.log</code> has no finite validation loss." in html
        assert 'class="curves"' not in html

    def test_no_calibration_no_heat_map(self, write):
        assert "no model here has <code>images/calibration_weights/</code>" in write(["teacher"])

    def test_too_much_audio_for_one_file_is_cut(self, write, monkeypatch):
        monkeypatch.setattr(pages, "MEDIA_CHARACTERS", 1)
        html = write()
        assert "Only 1 of 4 utterances are here, to keep this file small." in html
        assert articles(html) == ["spk-utt2"]


class TestCommandLine:
    def run(self, *arguments):
        command = [sys.executable, "-m", "espnet2_tfckd.stages.report", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    def test_it_says_where_the_report_is(self, experiment, data_dir):
        model = f"distilled={experiment / 'enh_distilled'}"
        done = self.run(f"--test_set=test={data_dir}", "--model", model, "--results", experiment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Report: {experiment / 'report.html'} (")

    def test_no_network_library_is_loaded(self):
        code = (
            "import sys; import espnet2_tfckd.stages.report;"
            "sys.exit(any(name in sys.modules for name in ('torch', 'espnet2.tasks')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_results_and_data_must_be_there(self, experiment, data_dir, tmp_path):
        options = ["--model=m=m", "--results", tmp_path / "nowhere"]
        done = self.run(f"--test_set=test={data_dir}", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert "nowhere has no results.json: run stage 9 first" in done.stderr
        done = self.run("--test_set=test=gone", "--model=m=m", "--results", experiment)
        assert done.returncode == 1 and "gone is not a data directory" in done.stderr
        assert not (experiment / "report.html").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--test_set=here", "--model=m=m"], "'here' is not name=path"),
            (["--test_set=a=b", "--model=m=m", "--model=m=n"], "have the same name"),
            (["--test_set=a=b"], "--model"),
        ],
    )
    def test_bad_arguments_have_status_2(self, arguments, message):
        done = self.run(*arguments)
        assert done.returncode == 2 and message in done.stderr


@pytest.fixture(scope="module")
def browser():
    with open_browser() as driver:
        yield driver


class TestInTheBrowser:
    @pytest.fixture
    def page(self, browser, write, experiment):
        write()
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(f"file://{experiment / 'report.html'}")
        wait_until(browser, "document.readyState === 'complete'")
        return browser

    def column(self, page, table, number):
        script = "return [...document.querySelector(arguments[0]).tBodies[0].rows]"
        return page.execute_script(f"{script}.map(r => r.cells[{number}].textContent)", table)

    def test_nothing_is_complained_of_and_nothing_else_is_loaded(self, page):
        assert page.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
        urls = {
            event["params"]["request"]["url"].partition(",")[0]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        kinds = {url.partition(":")[0] for url in urls}
        kinds -= {"chrome", "chrome-untrusted"}  # the browser's own pages
        assert kinds <= {"file", "data"} and sum(url.startswith("file") for url in urls) == 1

    def test_every_player_and_picture_loads(self, page):
        players = "[...document.querySelectorAll('audio')]"
        wait_until(page, f"{players}.every(a => a.readyState >= 1)")
        durations = page.execute_script(f"return {players}.map(a => a.duration)")
        assert len(durations) == 16 and all(0.5 <= seconds <= 0.8 for seconds in durations)
        assert page.execute_script(
            "return [...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)"
        )

    def test_one_player_stops_the_others(self, page):
        page.execute_script(
            "const [a, b] = document.querySelectorAll('audio'); a.loop = true;"
            "a.play().then(() => b.play())"
        )
        wait_until(page, "document.querySelectorAll('audio')[0].paused")

    def test_the_results_sort_both_ways(self, page):
        (button,) = [
            b for b in page.find_elements("css selector", "#results button") if b.text == "SI-SDR"
        ]
        column = page.execute_script("return arguments[0].parentElement.cellIndex", button)
        assert self.column(page, "#results", 1) == ["noisy", "teacher", "distilled"]
        for order, systems in (
            ("ascending", ["noisy", "distilled", "teacher"]),
            ("descending", ["teacher", "distilled", "noisy"]),
        ):
            button.click()
            assert self.column(page, "#results", 1) == systems
            heading = page.find_elements("css selector", "#results th")[column]
            assert heading.get_attribute("aria-sort") == order

    def test_a_metric_redraws_marks_and_table(self, page):
        marks = "document.querySelectorAll('.scatter .plot use')"
        before = page.execute_script(f"return [...{marks}].map(m => m.getAttribute('y'))")
        assert len(before) == 8
        assert self.column(page, ".scatter table", 3) == ["1.00", "-2.00", "3.00", "0.00"]
        page.execute_script(
            "const s = document.querySelector('select'); s.value = 0;"
            "s.dispatchEvent(new Event('change'))"
        )
        after = page.execute_script(f"return [...{marks}].map(m => m.getAttribute('y'))")
        assert len(after) == 8 and after != before
        assert self.column(page, ".scatter table", 3) == ["-0.010", "0.020", "-0.030", "0.000"]
        titles = page.execute_script(f"return [...{marks}].map(m => m.textContent)")
        assert "spk-utt1\ndistilled: 0.020 at 10 dB" in titles

    def test_curves_are_drawn(self, page):
        lines = page.find_elements("css selector", ".curves polyline")
        assert [len(line.get_attribute("points").split()) for line in lines] == [1, 2]

    def test_a_phone_need_not_scroll_sideways(self, page):
        size = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            assert page.execute_script("return document.documentElement.scrollWidth") <= 380
        finally:
            page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_every_control_has_a_name(self, page):
        assert page.execute_script(
            "return [...document.querySelectorAll('audio, select, button, svg[role]')].every(e =>"
            "e.ariaLabel || e.labels?.length || e.textContent.trim())"
        )
