"""Leave-one-spot-out comparison of GLM, white noise and space, gene by gene."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from splisosm_pyro.fit.options import choose
from splisosm_pyro.fit.result import failed
from splisosm_pyro.model import MultinomGLM
from splisosm_pyro.posterior.loo.gene import OUTER
from splisosm_pyro.studies.comparison.candidates import Candidates
from splisosm_pyro.studies.comparison.heldout import BROKEN
from splisosm_pyro.studies.comparison.scores import Scores, stacked


def compare_loo(
    model: MultinomGLM,
    outer: str = "refit",
    *,
    genes: Sequence[int] | None = None,
    models: Sequence[str] | None = None,
    names: Mapping[str, Sequence[Any]] | None = None,
    quiet: bool = True,
) -> Scores:
    """Fit GLM, white noise and space and compare their leave-one-spot-out densities.

    Parameters
    ----------
    model : MultinomGLMM or MultinomGLM
        With data; as in ``heldout_log_lik``.
    outer : {'one_step', 'refit', 'plug_in'}
        As in ``model.loo``.
    genes, models, names, quiet
        As in ``heldout_log_lik``.

    Returns
    -------
    Scores
        A gene whose densities are not to be trusted has the status ``'unreliable: ...'``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal.

    Notes
    -----
    Costs a fit a gene and model and, with ``refit``, about as much again.

    Examples
    --------
    >>> from splisosm_pyro import MultinomGLMM, simulate_tissue
    >>> tissue = simulate_tissue(n_spots=37, n_genes=1, n_isos=2, depth=4.0, design="none", seed=0)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> model.fit(quiet=True)
    >>> compare_loo(model).models
    ('glm', 'white', 'spatial')
    """
    choose("outer", outer, OUTER)
    arrays = model.as_arrays()
    places, labels = arrays.chosen(genes, names)
    candidates, counts = Candidates.of_model(arrays), arrays.counts
    asked = candidates.checked(models)
    outcomes, n_parameters = [], np.zeros((len(places), len(asked)))
    for g, gene in enumerate(tqdm(places, desc="compare_loo", unit="gene", disable=quiet)):
        out, status = np.zeros((len(asked), len(counts[gene]))), []
        for m, name in enumerate(asked):
            try:
                found = candidates.loo(name, gene, counts[gene], outer)
            except BROKEN as error:
                out[m] = -np.inf
                status.append(failed(error))
                continue
            out[m, found.spots], n_parameters[g, m] = found.pointwise, found.n_parameters
            fine = "ok" if found.spots.size else "no counts"
            status.append(f"unreliable: {found.reason}" if found.reason else fine)
        outcomes.append((out, status))
    attrs = {"scheme": "leave one spot out", "outer": outer}
    axes = (labels.gene, asked, labels.spot)
    return stacked(outcomes, counts[list(places)], axes, attrs, n_parameters)
