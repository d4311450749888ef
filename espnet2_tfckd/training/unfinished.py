"""Checkpoints within an epoch: a training that is cut off loses minutes, not an epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed
from espnet2.train.reporter import SubReporter, to_reported_value

from espnet2_tfckd.cli import atomic_write

#: Batches between two points at which an epoch can be continued.
INTERVAL = 100


@dataclass
class UnfinishedEpoch:
    """The batches of an epoch, which are saved with everything that changes, every few minutes.

    Iterating yields the batches; those before the saved point are read, because later ones are cut
    from the same utterances, and left out. A continued epoch ends with the weights of an
    uninterrupted one: the random numbers are seeded anew at each point, whether or not it is
    saved. So no process needs the random state of the others, and the first can save alone.

    Args:
        batches: ESPnet's iterator.
        file: The checkpoint.
        holders: What has a ``state_dict()``, by name: network, optimizers and the like.
        reporter: ESPnet's, of this epoch.
        seed: Of this epoch and process.
        accum_grad: Batches of an update.
        minutes: Time between two checkpoints.
        resume: Whether to continue from the file.
        writes: Whether this is the process that saves.
    """

    batches: Iterable
    file: Path
    holders: dict[str, Any]
    reporter: SubReporter
    seed: int
    accum_grad: int
    minutes: float
    resume: bool
    writes: bool

    def __len__(self) -> int:
        """Number of batches.

        Raises:
            TypeError: If ESPnet's iterator does not know it, as that of chunks.
        """
        return len(self.batches)

    def __iter__(self) -> Iterator:
        start = self._restore() if self.resume else 0
        saved = time.monotonic()
        for done, batch in enumerate(self.batches):
            if done and done % INTERVAL == 0:
                entropy = np.random.SeedSequence([self.seed, done])
                set_all_random_seed(int(entropy.generate_state(1)[0]))
                is_due = time.monotonic() - saved >= 60 * self.minutes
                if self.writes and is_due and done > start and done % self.accum_grad == 0:
                    self._save(done)
                    saved = time.monotonic()
            if done >= start:
                yield batch

    def _save(self, done: int) -> None:
        values = {
            key: [(float(one.value), getattr(one, "weight", None)) for one in steps]
            for key, steps in self.reporter.stats.items()
        }
        states = {name: holder.state_dict() for name, holder in self.holders.items()}
        with atomic_write(self.file) as temporary:
            torch.save(
                {
                    "epoch": self.reporter.get_epoch(),
                    "done": done,
                    "states": states,
                    "values": values,
                    "total_count": self.reporter.total_count,
                },
                temporary,
            )
        logging.info(f"saved after {done} batches of epoch {self.reporter.get_epoch()}")

    def _restore(self) -> int:
        """Continue from the file; the number of batches before it."""
        try:
            saved = torch.load(self.file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return 0
        except Exception as error:  # torch raises many kinds of errors for a damaged file
            logging.warning(f"{self.file} is damaged, and left out: {error}")
            return 0
        if saved["epoch"] != self.reporter.get_epoch():
            return 0  # its epoch was finished afterwards
        for name, holder in self.holders.items():
            holder.load_state_dict(saved["states"][name])
        for key, steps in saved["values"].items():
            self.reporter.stats[key] = [to_reported_value(*step) for step in steps]
        self.reporter.count = saved["done"]
        self.reporter.total_count = saved["total_count"]
        logging.info(f"continued after {saved['done']} batches of epoch {saved['epoch']}")
        return saved["done"]
