"""Reading what ESPnet's trainer logs."""

from __future__ import annotations

import re


def logged_epochs(log: str) -> dict[int, dict]:
    """Results of each epoch in ESPnet's log: updates so far, train_time, valid_loss.

    Examples:
        >>> line = "2epoch results: [train] loss=1, train_time=0.5, total_count=9, [valid] loss=7.5"
        >>> logged_epochs(line)
        {2: {'updates': 9, 'train_time': 0.5, 'valid_loss': 7.5}}
    """
    epochs = {}
    for match in re.finditer(r"(\d+)epoch results: \[train\](.*)\[valid\](.*)", log):
        train, valid = (dict(re.findall(r"(\w+)=([^,\s]+)", part)) for part in match.groups()[1:])
        epochs[int(match[1])] = {
            "updates": int(train["total_count"]),
            "train_time": float(train["train_time"]),
            "valid_loss": float(valid["loss"]),
        }
    return epochs
