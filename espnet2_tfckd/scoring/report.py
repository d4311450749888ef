"""The listening report: one HTML page that needs no other file and no network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet2_tfckd.data.datadir import DataDir, read_scp
from espnet2_tfckd.scoring.columns import COLUMNS, HEADLINES, SCORES
from espnet2_tfckd.scoring.differences import comparison_sentences
from espnet2_tfckd.scoring.gains import Gains, Scores, gains_over, input_snrs, scatter_plot
from espnet2_tfckd.scoring.journal import read_journal
from espnet2_tfckd.scoring.listening import Listening, data_uri, extremes, listen_in_turn
from espnet2_tfckd.scoring.parallel import System
from espnet2_tfckd.scoring.spectrogram import RANGE_DB, colour_scale
from espnet2_tfckd.scoring.tables import GROUPS, explanations, left_out, score_header

NUM_EXTREMES = 10
MEDIA_CHARACTERS = 16_000_000  # of sounds and pictures, all test sets together
CHOSEN_BY = ("si_sdr", *SCORES)  # the first of these that was scored picks the extremes


@dataclass(frozen=True)
class ScoredSet:
    """A test set and the systems that were scored on it.

    Attributes:
        name: Its name in the tables.
        data: Its data directory.
        mixture: The unprocessed mixture, as a system.
        systems: The models; the gain of the last one decides which utterances can be heard.
    """

    name: str
    data: DataDir
    mixture: System
    systems: Sequence[System]


@dataclass(frozen=True)
class Trainings:
    """Curves and pictures of the trainings.

    Attributes:
        models: Names of the systems.
        losses: Validation loss by epoch, of each model that has a log.
        remarks: A sentence for each model that has none.
        heat_maps: ``system``, ``epoch`` and ``path`` of each last picture of calibration weights.
    """

    models: Sequence[str]
    losses: Mapping[str, Mapping[int, float]]
    remarks: Sequence[str]
    heat_maps: Sequence[Mapping]


def render_report(
    rows: Sequence[dict],
    scored_sets: Sequence[ScoredSet],
    trainings: Trainings,
    ref_channel: int = 0,
) -> str:
    """The whole ``report.html``; a sentence takes the place of anything that is missing.

    Args:
        rows: The objects of ``results.json``.
        scored_sets: The test sets.
        trainings: Curves and pictures of the models' trainings.
        ref_channel: Channel of files with several.

    Returns:
        HTML; equal files give equal HTML.

    Raises:
        ValueError: If an SNR is not a number, or a list of estimates is malformed.
    """
    budget = MEDIA_CHARACTERS // max(1, len(scored_sets))
    losses = trainings.losses
    return (
        _environment()
        .get_template("report.html")
        .render(
            table=results_table(rows),
            scored_sets=[scored_set_section(one, ref_channel, budget) for one in scored_sets],
            losses=losses,
            epochs=sorted({epoch for by_epoch in losses.values() for epoch in by_epoch}),
            curve_remarks=trainings.remarks,
            heat_maps=[
                {**found, "image": data_uri("image/png", found["path"].read_bytes())}
                for found in trainings.heat_maps
            ],
            models=trainings.models,
            colours=colour_scale(),
            range_db=RANGE_DB,
        )
    )


def _environment():
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "report_template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = lambda text: Markup(
        re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    )
    return environment


def results_table(rows: Sequence[dict]) -> dict:
    """The table of scores with the columns of ``RESULTS.md``.

    Args:
        rows: The objects of ``results.json``.

    Returns:
        ``header``; ``rows`` of cells with ``text``, ``value`` (to sort by) and ``note`` (number of
        a note, or None); ``notes``, in Markdown; ``help``, in Markdown; ``comparisons``, from
        :func:`espnet2_tfckd.scoring.differences.comparison_sentences`.
    """
    header, columns = score_header(rows)
    notes, body = [], []
    for row in rows:
        cells = [
            {"text": str(row[key]), "value": row[key], "note": None}
            for key in ("dataset", "system", "num_utterances")
        ]
        for key in columns:
            note = left_out(row, key)
            notes += [note] if note else []
            text = COLUMNS[key].text_of(row)
            cells.append(
                {"text": text, "value": row.get(key), "note": len(notes) if note else None}
            )
        body.append(cells)
    return {
        "header": header,
        "rows": body,
        "notes": notes,
        "help": explanations(rows),
        "comparisons": comparison_sentences(rows),
    }


def scored_set_section(scored_set: ScoredSet, ref_channel: int, budget: int) -> dict:
    """The contents of the page for a test set.

    Args:
        scored_set: The test set.
        ref_channel: Channel of files with several.
        budget: Characters that sounds and pictures may take.

    Returns:
        ``name``; ``mixture`` and ``systems``, their names; ``scatter`` from
        :func:`espnet2_tfckd.scoring.gains.scatter_plot`; ``best`` and ``worst``, the utterances to
        listen to; ``chosen_by``, heading of the metric by whose gain ``chosen_system`` picks them
        (None without scores); ``remarks`` and ``audio_remarks``, sentences on what is missing.
    """
    mixture, *systems = scores = _read_scores(scored_set)
    gains = {name: gains_over(scores[mixture], scores[name]) for name in systems}
    scatter = scatter_plot(gains, *input_snrs(scored_set.data.metadata, scores[mixture]))
    remarks = [
        f"There are no scores of {name} by utterance." for name in scores if not scores[name]
    ]
    by = next((key for key in CHOSEN_BY if gains[systems[-1]].get(key)), None)
    section = {
        "name": scored_set.name,
        "mixture": mixture,
        "systems": systems,
        "scatter": scatter,
        "remarks": remarks,
        "chosen_by": by and SCORES[by].name,
        "chosen_system": systems[-1],
    }
    if by is None:
        return section | {"best": [], "worst": [], "audio_remarks": []}
    best, worst = extremes(gains[systems[-1]][by], NUM_EXTREMES)
    entries, missing = _entries(scored_set)
    heard, cut = listen_in_turn(best, worst, entries, ref_channel, budget)
    for key, chosen in (("best", best), ("worst", worst)):
        section[key] = [
            _described(heard[utterance], scored_set.data, scores, gains[systems[-1]], by)
            for utterance in chosen
            if utterance in heard
        ]
    return section | {"audio_remarks": missing + cut}


def _read_scores(scored_set: ScoredSet) -> dict[str, Scores]:
    """Scores of each utterance by system, the mixture first."""
    return {
        system.name: {
            utterance: record["scores"]
            for utterance, record in read_journal(system.journal).items()
            if utterance in scored_set.data.mixture
        }
        for system in (scored_set.mixture, *scored_set.systems)
    }


def _entries(scored_set: ScoredSet) -> tuple[dict[str, Mapping[str, str]], list[str]]:
    """scp entries by signal, in the order of listening, and sentences about missing lists."""
    entries, remarks = {scored_set.mixture.name: scored_set.data.mixture}, []
    for system in scored_set.systems:
        if system.estimate_scp.is_file():
            entries[system.name] = read_scp(system.estimate_scp)
        else:
            remarks.append(
                f"{system.name} cannot be heard: `{system.estimate_scp}` is not there; stage 8 "
                "makes it."
            )
    return {**entries, "reference": scored_set.data.reference}, remarks


def _described(
    listening: Listening, data: DataDir, scores: Mapping[str, Scores], gains: Gains, by: str
) -> dict:
    """An utterance with its gain, its metadata, and the scores of each signal."""
    utterance = listening.utterance
    row = data.metadata.get(utterance, {})
    return {
        "listening": listening,
        "gain": SCORES[by].text(gains[by][utterance], signed=True, with_unit=True),
        "facts": [f"{GROUPS[column]}: {row[column]}" for column in GROUPS if row.get(column)],
        "scores": {
            name: [
                f"{SCORES[key].name} {SCORES[key].text(of_system[utterance][key], with_unit=True)}"
                for key in HEADLINES
                if of_system.get(utterance, {}).get(key) is not None
            ]
            for name, of_system in scores.items()
        },
    }
