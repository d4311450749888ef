"""Which jobs an experiment needs, in which order, and with which weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from espnet2_tfckd.experiment.jobs import Job
from espnet2_tfckd.experiment.settings import Arm
from espnet2_tfckd.experiment.workspace import Workspace


def ordered_runs(arms: Sequence[Arm]) -> list[tuple[Arm, int]]:
    """Runs in an order in which the first results are already useful.

    First comes one seed of all arms that have the most seeds, then one of the others, then the
    rest.
    """
    most = max((len(arm.seeds) for arm in arms), default=0)
    runs = [
        ((index, len(arm.seeds) < most), arm, seed)
        for arm in arms
        for index, seed in enumerate(arm.seeds)
    ]
    return [(arm, seed) for _, arm, seed in sorted(runs, key=lambda run: run[0])]


def weights_to_try(
    centre: float, factor: float, most: int, losses: Mapping[float, float | None]
) -> list[float]:
    """Weights that a search on a geometric grid needs next.

    The grid begins with one step on each side of the centre. While the best weight is at an end,
    that end is extended by one step.

    Args:
        centre: Weight to begin with.
        factor: Ratio of neighbouring weights.
        most: Largest number of weights.
        losses: Validation loss of each weight that was tried; None if it was never finite.

    Returns:
        Weights, rounded to four digits; empty when the search is over.

    Examples:
        >>> weights_to_try(1, 3, 5, {})
        [0.3333, 1.0, 3.0]
        >>> weights_to_try(1, 3, 5, {0.3333: -6.0, 1.0: -6.1, 3.0: -6.2})
        [9.0]
    """
    first = [_rounded(centre / factor), _rounded(centre), _rounded(centre * factor)]
    if missing := [weight for weight in first if weight not in losses]:
        return missing
    best, tried = best_weight(losses), sorted(losses)
    if len(tried) >= most or best not in (tried[0], tried[-1]):
        return []
    return [_rounded(best / factor if best == tried[0] else best * factor)]


def best_weight(losses: Mapping[float, float | None]) -> float:
    """The weight with the lowest loss; the lower one of two that are equal."""
    return min(sorted(losses), key=lambda weight: (losses[weight] is None, losses[weight] or 0.0))


def _rounded(weight: float) -> float:
    return float(f"{weight:.4g}")


@dataclass(frozen=True)
class Search:
    """The search for the weight of an arm, in its present state.

    Attributes:
        jobs: All trainings that are known to be needed, including finished ones.
        records: Records of the finished jobs, in their order.
        weight: The chosen weight; None until all are finished.
    """

    jobs: list[Job]
    records: list[dict]
    weight: float | None


@dataclass(frozen=True)
class Plan:
    """The jobs for some arms and seeds of an experiment.

    Attributes:
        workspace: Makes the jobs.
        arms: The arms, with only those seeds that are wanted.
    """

    workspace: Workspace
    arms: Sequence[Arm]

    def jobs(self) -> list[Job]:
        """All jobs that are known so far, including finished ones, the most important first."""
        return list({job.directory: job for job in self._jobs()}.values())

    def _jobs(self) -> Iterator[Job]:
        workspace = self.workspace
        yield workspace.reference_job("noisy")
        if not workspace.given_teacher:
            yield workspace.teacher_job()
        if self.has_teacher():
            yield workspace.reference_job("teacher")
        for arm, seed in ordered_runs(self.arms):
            if arm.distill_config is None:
                yield workspace.run_job(arm, seed, None)
            elif arm.teacher_command or self.has_teacher():
                search = self.search(arm)
                yield from search.jobs
                if search.weight is not None:
                    yield workspace.run_job(arm, seed, search.weight)

    def has_teacher(self) -> bool:
        """Whether a trained teacher exists."""
        return bool(self.workspace.given_teacher or self.workspace.teacher_job().record())

    def search(self, arm: Arm) -> Search:
        """The search for the weight of an arm, or of the arm whose weight it uses."""
        workspace = self.workspace
        tuned = workspace.experiment.arms[arm.weight_of] if arm.weight_of else arm
        centre = workspace.default_weight(tuned)
        if not tuned.tune:
            return Search([], [], centre)
        settings = workspace.experiment.tuning
        jobs: list[Job] = []
        records: list[dict] = []
        losses: dict[float, float | None] = {}
        while weights := weights_to_try(centre, settings.factor, settings.most, losses):
            new = [workspace.tuning_job(tuned, weight) for weight in weights]
            jobs += new
            finished = {job.weight: record for job in new if (record := job.record())}
            records += finished.values()
            losses |= {weight: r["result"]["valid_loss"] for weight, r in finished.items()}
            if len(finished) < len(new):
                return Search(jobs, records, None)
        return Search(jobs, records, best_weight(losses))

    def num_to_come(self, jobs: Sequence[Job]) -> int:
        """Number of runs that are not jobs yet because a teacher or a weight is missing."""
        return sum(len(arm.seeds) for arm in self.arms) - sum(job.kind == "run" for job in jobs)
