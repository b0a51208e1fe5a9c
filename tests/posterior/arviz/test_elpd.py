"""Pointwise densities as each ArviZ takes them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from splisosm_pyro.posterior.arviz.elpd import to_elpd_data

NEXT_ARVIZ = SimpleNamespace()  # without InferenceData


def with_kind(kind, **given):
    return {"kind": kind, **given}


def without_kind(
    *, elpd, se, p, n_samples, n_data_points, scale, warning, good_k, elpd_i, pareto_k
):
    return {**locals(), "kind": "loo"}


@pytest.mark.parametrize("made", [with_kind, without_kind], ids=["1.0", "1.3"])
def test_elpd_data_of_the_next_arviz(monkeypatch, made):
    monkeypatch.setitem(sys.modules, "arviz_stats.utils", SimpleNamespace(ELPDData=made))
    values = np.array([-1.0, -2.0, -4.0])
    found = to_elpd_data(values, 0.1 * values, "abc", 1.5, warning=True, arviz=NEXT_ARVIZ)
    assert (found["kind"], found["elpd"], found["p"], found["warning"]) == ("loo", -7.0, 1.5, True)
    assert found["se"] == pytest.approx(np.sqrt(3 * np.var(values)))
    assert found["elpd_i"].coords["spot"].values.tolist() == ["a", "b", "c"]
