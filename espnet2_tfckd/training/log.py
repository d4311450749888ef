"""Reading the log of ESPnet's trainer, and showing its progress."""

from __future__ import annotations

import math
import re
import time

#: ESPnet's words when it ends a training because no update could be made.
ALL_INVALID = "The gradients at all steps are invalid in this epoch"


def logged_epochs(log: str) -> dict[int, dict]:
    """Results of each epoch in ESPnet's log: updates so far, seconds an update, mean losses.

    Examples:
        >>> line = "2epoch results: [train] loss=1, train_time=0.5, total_count=9, [valid] loss=7.5"
        >>> logged_epochs(line)
        {2: {'updates': 9, 'train_time': 0.5, 'train_loss': 1.0, 'valid_loss': 7.5}}
    """
    epochs = {}
    for match in re.finditer(r"(\d+)epoch results: \[train\](.*)\[valid\](.*)", log):
        train, valid = (dict(re.findall(r"(\w+)=([^,\s]+)", part)) for part in match.groups()[1:])
        epochs[int(match[1])] = {
            "updates": int(train["total_count"]),
            "train_time": float(train["train_time"]),
            "train_loss": float(train["loss"]),
            "valid_loss": float(valid["loss"]),
        }
    return epochs


class Outcome:
    """Finds out from ESPnet's log whether a training diverged.

    ESPnet leaves out updates whose gradient is not finite, and ends a training without an error
    when an epoch has no other updates.

    Args:
        earlier: Log of earlier attempts at the same training: when it has reached its last epoch,
            ESPnet has nothing more to say.
    """

    def __init__(self, earlier: str = ""):
        self._epochs = [line for line in earlier.splitlines() if "epoch results:" in line]
        self._ended_early = False

    def read(self, line: str) -> None:
        """Read one line of the log."""
        if "epoch results:" in line:
            self._epochs.append(line)
        self._ended_early = self._ended_early or ALL_INVALID in line

    def divergence(self) -> str | None:
        """The end of the loss curve of a training that diverged; None if it did not.

        Examples:
            >>> line = (
            ...     "{}epoch results: [train] loss={}, train_time=1, total_count=9, [valid] loss=2"
            ... )
            >>> outcome = Outcome()
            >>> outcome.read(line.format(1, 4)), outcome.read(line.format(2, "nan"))
            (None, None)
            >>> print(outcome.divergence())
            the training diverged in epoch 2. Its losses (training, validation):
              epoch 1: 4, 2
              epoch 2: nan, 2
        """
        epochs = logged_epochs("\n".join(self._epochs))
        losses = {n: (row["train_loss"], row["valid_loss"]) for n, row in epochs.items()}
        if not losses or not (
            self._ended_early or not all(map(math.isfinite, losses[max(losses)]))
        ):
            return None
        head = f"the training diverged in epoch {max(losses)}. Its losses (training, validation):"
        ends = [f"  epoch {n}: {losses[n][0]:.4g}, {losses[n][1]:.4g}" for n in sorted(losses)[-6:]]
        return "\n".join([head, *ends])


class Progress:
    """Prints a line for each epoch of a training and each checkpoint within one, from the log."""

    def __init__(self, name: str):
        self.name = name
        self.began: float | None = None
        self.first_epoch = self.max_epoch = 0

    def read(self, line: str) -> None:
        """Read one line of the log, and print what it says of the progress."""
        if match := re.search(r" (\d+)/(\d+)epoch started", line):
            self.max_epoch = int(match[2])
            if self.began is None:
                self.began, self.first_epoch = time.monotonic(), int(match[1])
                print(f"{self.name}: training from epoch {match[1]}", flush=True)
        elif match := re.search(r" ((saved|continued) after \d+ batches of epoch \d+)$", line):
            print(f"{self.name}: {match[1]}", flush=True)
        elif self.began is not None and (summary := epoch_summary(line)):
            epoch, train_loss, valid_loss = summary
            done = epoch - self.first_epoch + 1
            left = (time.monotonic() - self.began) / done * (self.max_epoch - epoch)
            print(
                f"{self.name}: epoch {epoch}/{self.max_epoch}, train loss {train_loss}, "
                f"valid loss {valid_loss}, {format_seconds(left)} left",
                flush=True,
            )


def epoch_summary(line: str) -> tuple[int, str, str] | None:
    """Epoch, training and validation loss from a line of ESPnet's log; None for any other line.

    Examples:
        >>> epoch_summary("3epoch results: [train] iter_time=0.1, loss=-6.1, [valid] loss=-5.9")
        (3, '-6.1', '-5.9')
    """
    match = re.search(r"(\d+)epoch results: \[train\](.*)\[valid\](.*)", line)
    if not match:
        return None
    losses = [re.search(r"(?<!\w)loss=([^,\s]+)", part) for part in match.groups()[1:]]
    train_loss, valid_loss = (loss[1] if loss else "?" for loss in losses)
    return int(match[1]), train_loss, valid_loss


def format_seconds(seconds: float) -> str:
    """A duration in a form that is easy to read.

    Examples:
        >>> format_seconds(59.6), format_seconds(200), format_seconds(7325)
        ('1 min', '3 min 20 s', '2 h 2 min')
    """
    seconds = round(seconds)
    units = (("h", seconds // 3600), ("min", seconds // 60 % 60), ("s", seconds % 60))
    shown = [f"{value} {unit}" for unit, value in units if value]
    return " ".join(shown[:2]) or "0 s"
