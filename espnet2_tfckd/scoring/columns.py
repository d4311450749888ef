"""The columns of the tables: one for each score of an estimate and each cost of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of the tables.

    Attributes:
        key: Name of the value in ``results.json``.
        name: Name in tables.
        unit: ``dB``, or nothing.
        decimals: Number of decimals shown.
        is_gain: Whether a larger value is better.
        by_group: Whether it is in the table of improvements by SNR and noise.
        divisor: The value is shown as a multiple of this.
    """

    key: str
    name: str
    unit: str = ""
    decimals: int = 3
    is_gain: bool = True
    by_group: bool = False
    divisor: float = 1

    @property
    def title(self) -> str:
        """Name and unit.

        Examples:
            >>> SCORES["si_sdr"].title, SCORES["stoi"].title
            ('SI-SDR (dB)', 'STOI')
        """
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(self, value: float | None, signed: bool = False, with_unit: bool = False) -> str:
        """A value as the tables show it, or ``-`` without a value.

        Examples:
            >>> SCORES["si_sdr"].text(7.125, signed=True, with_unit=True)
            '+7.12 dB'
        """
        if value is None:
            return "-"
        number = f"{value / self.divisor:{'+' if signed else ''}.{self.decimals}f}"
        return f"{number} {self.unit}" if with_unit and self.unit else number

    def text_of(self, row: Mapping[str, float | None], signed: bool = False) -> str:
        """Mean and half-width of the 95 % interval from a row of ``results.json``."""
        half_width = row.get(f"{self.key}_ci95")
        text = self.text(row.get(self.key), signed)
        return text if half_width is None else f"{text} ± {self.text(half_width)}"


def _by_key(*columns: Column) -> dict[str, Column]:
    return {column.key: column for column in columns}


#: Scores of an estimate, by key, in the order of the tables.
SCORES = _by_key(
    Column("pesq_wb", "PESQ-WB", by_group=True),
    Column("stoi", "STOI", by_group=True),
    Column("estoi", "ESTOI", by_group=True),
    Column("si_sdr", "SI-SDR", unit="dB", decimals=2, by_group=True),
    Column("sdr", "SDR", unit="dB", decimals=2, by_group=True),
    Column("ci_sdr", "CI-SDR", unit="dB", decimals=2),
    Column("csig", "CSIG"),
    Column("cbak", "CBAK"),
    Column("covl", "COVL", by_group=True),
    Column("seg_snr", "SegSNR", unit="dB", decimals=2),
    Column("dnsmos_ovrl", "DNSMOS-OVRL", by_group=True),
    Column("dnsmos_sig", "DNSMOS-SIG"),
    Column("dnsmos_bak", "DNSMOS-BAK"),
    Column("dnsmos_p808", "DNSMOS-P808"),
    Column("wer", "WER", is_gain=False),
    Column("task1_metric", "Task 1 metric"),
)
#: What a model costs.
COSTS = _by_key(
    Column("num_params", "params (M)", decimals=2, is_gain=False, divisor=1e6),
    Column("macs_per_second", "GMAC/s", decimals=2, is_gain=False, divisor=1e9),
    Column("rtf", "RTF", is_gain=False),
)
COLUMNS = SCORES | COSTS
#: The scores that are shown where there is no room for all of them.
HEADLINES = ("si_sdr", "pesq_wb", "stoi", "dnsmos_ovrl")
