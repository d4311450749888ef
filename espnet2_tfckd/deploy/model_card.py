"""The model card of a published student."""

from __future__ import annotations

from collections.abc import Sequence

from espnet2_tfckd.scoring.columns import SCORES, Column

SHOWN = [SCORES[key] for key in ("pesq_wb", "stoi", "estoi", "si_sdr", "dnsmos_ovrl")]


def model_card(
    repo_id: str,
    system: str,
    rows: Sequence[dict],
    license: str,
    corpus: str,
    corpus_license: str,
    teacher: str | None,
    config: str,
    samples: Sequence[str],
    has_onnx: bool,
) -> str:
    """Write the card of a model: YAML for the hub, then text.

    Args:
        repo_id: ``<user>/<model>``.
        system: The model's name in the results.
        rows: Objects of ``results.json``, of all systems.
        license: Identifier of the model's licence.
        corpus: Name of the training corpus.
        corpus_license: Its licence, in words.
        teacher: Name of the teacher in the results, if there was one.
        config: Training configuration, YAML.
        samples: Audio files in the repository to listen to.
        has_onnx: Whether there is a folder ``onnx``.

    Returns:
        Contents of ``README.md``.
    """
    from huggingface_hub import EvalResult, ModelCardData

    own = [row for row in rows if row["system"] == system]
    data = ModelCardData(
        license=license,
        library_name="espnet",
        pipeline_tag="audio-to-audio",
        tags=["espnet", "audio", "audio-to-audio", "speech-enhancement"],
        model_name=repo_id.partition("/")[2],
        eval_results=[
            EvalResult(
                task_type="audio-to-audio",
                task_name="Speech enhancement",
                dataset_type=corpus,
                dataset_name=f"{corpus}, {row['dataset']}",
                metric_type=column.key,
                metric_name=column.title,
                metric_value=round(row[column.key], 4),
            )
            for row in own
            for column in SHOWN
            if row.get(column.key) is not None
        ],
    )
    (first, *_) = own
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {repo_id}",
        "A speech-enhancement model for [ESPnet](https://github.com/espnet/espnet), trained with "
        "the plugin espnet2-tfckd"
        + (f" and distilled from the larger model `{teacher}`." if teacher else "."),
        _table(rows, system, teacher),
        "Means over the utterances of the test set, ± 95 % confidence intervals. "
        + _cost_sentence(first),
        "## Use it",
        "```python\n"
        "import espnet2_tfckd  # makes the separator known to ESPnet\n"
        "import soundfile\n"
        "from espnet2.bin.enh_inference import SeparateSpeech\n\n"
        f'enhance = SeparateSpeech.from_pretrained("{repo_id}")\n'
        'mixture, rate = soundfile.read("noisy.wav", dtype="float32")\n'
        'soundfile.write("enhanced.wav", enhance(mixture[None], fs=rate)[0][0], rate)\n'
        "```",
        f"or `espnet2-tfckd enhance noisy.wav --model {repo_id} -o enhanced.wav`, for any rate and "
        "length."
        + (
            " The folder `onnx` holds the model for onnxruntime, with an example."
            if has_onnx
            else ""
        ),
    ]
    if samples:
        links = "\n".join(f"- [{name}]({name})" for name in samples)
        parts += ["## Listen", links]
    parts += [
        "## Training",
        f"Corpus: {corpus} ({corpus_license}).",
        f"<details><summary>configuration</summary>\n\n```yaml\n{config.strip()}\n```\n\n</details>",
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[dict], system: str, teacher: str | None) -> str:
    columns = [c for c in SHOWN if any(row.get(c.key) is not None for row in rows)]
    lines = [
        "| system | data set | " + " | ".join(column.title for column in columns) + " |",
        "| --- | --- |" + " --- |" * len(columns),
    ]
    names = {system: "**this model**", teacher: f"{teacher} (teacher)"}
    for row in rows:
        if row["system"] in ("noisy", system, teacher):
            cells = [_score(row, column) for column in columns]
            name = names.get(row["system"], row["system"])
            lines.append(f"| {name} | {row['dataset']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _score(row: dict, column: Column) -> str:
    return "" if row.get(column.key) is None else column.text_of(row)


def _cost_sentence(row: dict) -> str:
    parts = []
    if row.get("num_params"):
        parts.append(f"{row['num_params']:,} parameters")
    if row.get("macs_per_second"):
        parts.append(f"{row['macs_per_second'] / 1e6:.0f} MMAC per second of audio")
    if row.get("rtf"):
        parts.append(f"real-time factor {row['rtf']:.3f} on one CPU thread")
    return ", ".join(parts) + "." if parts else ""
