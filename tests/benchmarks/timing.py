"""Interleaved timing, peak memory, and the factorisations that a fit takes.

Times are processor seconds of this process. All work here has one thread, so they are the seconds
of an idle machine, and what else runs on it hardly changes them.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from splisosm_pyro.fit.marginal.latent_problem import LatentProblem
from splisosm_pyro.maths.covariance.kernel import Factor

Made = TypeVar("Made")


def peak_memory() -> float:
    """Most memory that this process has held so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def timed(work: Callable[[], Made]) -> tuple[float, Made]:
    """Processor seconds of one call, and what it returned."""
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def median_time(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call."""
    return statistics.median(timed(work)[0] for _ in range(repeats))


@dataclass
class Series:
    """Calls of one program: the seconds of each and what the last returned."""

    work: Callable[[], object]
    seconds: list[float] = field(default_factory=list)
    last: Any = None

    def run(self) -> None:
        """Call once more."""
        took, self.last = timed(self.work)
        self.seconds.append(took)

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


def interleaved(works: list[Callable[[], Made]], repeats: list[int]) -> list[Series]:
    """Call programs in turn, each as often as ``repeats`` says, so that all see the same load."""
    series = [Series(work) for work in works]
    for round_ in range(max(repeats, default=0)):
        for one, wanted in zip(series, repeats, strict=True):
            if round_ < wanted:
                one.run()
    return series


class Tally:
    """Counts factorisations."""

    factorisations = 0


@contextmanager
def tally() -> Iterator[Tally]:
    """Count the factorisations of all latent problems for a while."""
    count, plain = Tally(), LatentProblem.factorise

    def counting(problem: LatentProblem, precision: npt.NDArray[np.float64]) -> Factor:
        count.factorisations += 1
        return plain(problem, precision)

    LatentProblem.factorise = counting  # type: ignore[method-assign,assignment]
    try:
        yield count
    finally:
        LatentProblem.factorise = plain  # type: ignore[method-assign]
