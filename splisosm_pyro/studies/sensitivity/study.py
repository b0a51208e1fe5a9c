"""``prior_sensitivity``: how much a model's estimates depend on its priors, by three routes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from splisosm_pyro.fit.options import choose
from splisosm_pyro.maths.priors import Variable
from splisosm_pyro.model import MultinomGLMM
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.studies.sensitivity.by_derivative import by_derivative
from splisosm_pyro.studies.sensitivity.by_power import THRESHOLD, by_power
from splisosm_pyro.studies.sensitivity.by_refit import by_refit
from splisosm_pyro.studies.sensitivity.fitted import PriorSensitivity, Study

How = Literal["refit", "power_scaling", "local"]
HOWS = ("refit", "power_scaling", "local")


def prior_sensitivity(
    model: MultinomGLMM,
    priors: Any = None,
    how: How = "refit",
    *,
    map_in: Variable | None = None,
    genes: Sequence[int] | None = None,
    maps: bool | None = None,
    posterior: Any = None,
    scaled: str | Sequence[str] | None = None,
    threshold: float = THRESHOLD,
    draws: int = 1000,
    chains: int = 4,
    seed: int = 0,
    names: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> PriorSensitivity:
    """Say how much sigma, theta, the coefficients and the usage depend on the priors.

    Parameters
    ----------
    model : MultinomGLMM
        Fitted by a ``marginal_*`` method. It is not changed.
    priors : optional
        ``'refit'``: the grid, a mapping of label to prior or a sequence of priors, each a
        ``ModelPriors``, a prior of sigma (by name, with parameters, or as an object) or a prior of
        theta; what an entry leaves open stays as the model has it. Default: none, gamma, inverse
        gamma, half-normal, half-t and the two penalised-complexity priors.
        ``'local'``: priors to be brought in, beside those that the model has. Default, where the
        model has none: Gamma(2, rate 0.3) and HalfNormal(1) of sigma, Beta(2, 2) of theta.
        ``'power_scaling'``: the ``PosteriorPriors`` of the draws; default as `model.posterior`.
    how : {'refit', 'power_scaling', 'local'}
        Modes under every prior; importance weights on draws; or derivatives of the mode.
    map_in : {'sigma', 'sigma_sq', 'log_sigma'}, optional
        The variable in whose density the modes are meant, one for all priors of a study. Default:
        that of the model's own prior, so that its fit is one of the modes. theta, beta and
        bias_eta are always meant as themselves. A model without a prior has one mode in any.
    genes : sequence of int, optional
        Places of the genes wanted; all by default.
    maps : bool, optional
        Keep usage maps; default: where they fit in 256 MB.
    posterior : InferenceData or DataTree, optional
        Draws from `model.posterior` for ``'power_scaling'``, in the place of new ones.
    scaled : str or sequence of str, optional
        For ``'power_scaling'``: names in ``log_prior`` of the priors to be scaled; all by default.
    threshold : float
        From which a sensitivity counts, ``'power_scaling'``; ArviZ's own summary takes 0.05.
    draws, chains, seed
        Of new draws.
    names : mapping, optional
        Names of ``'gene'`` (G), ``'spot'`` and ``'isoform'``; places by default.
    progress : bool
        Show a bar.

    Returns
    -------
    PriorSensitivity
        ``dataset`` and ``table``, see there; figures by its methods.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal, the model is not fitted, or by a joint method. What is wrong
        with one gene is in its ``status`` or ``note`` instead.

    Notes
    -----
    ``'local'``: two evaluations of the gradient an outer parameter and gene, less than the fit.
    ``'refit'``: about a fit for every gene and prior. ``'power_scaling'``: the draws.

    At a bound (theta = 0 or 1, sigma -> 0) ``'local'`` has no number: ``note`` says so.

    References
    ----------
    Kallioinen, Paananen, Buerkner and Vehtari (2023), doi:10.1007/s11222-023-10366-5.

    Examples
    --------
    >>> from splisosm_pyro import simulate_tissue
    >>> tissue = simulate_tissue(n_spots=60, n_genes=1, n_isos=2, depth=9.0, seed=1)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(tissue.counts, corr_sp=tissue.kernel)
    >>> model.fit(quiet=True)
    >>> dataset, table = prior_sensitivity(model, ["none", "half_normal"])
    >>> table.query("parameter == 'sigma'")[["prior", "map_in"]].values.tolist()
    [['none', 'sigma'], ['half_normal(scale=1)', 'sigma']]
    """
    choose("how", how, HOWS)
    study = Study.of_model(model, map_in, genes, names, progress)
    if how == "power_scaling":
        if priors is not None and not isinstance(priors, PosteriorPriors):
            raise TypeError(
                "priors must be a PosteriorPriors with how='power_scaling', "
                f"came {type(priors).__name__}"
            )
        request = {"draws": draws, "chains": chains, "seed": seed, "prior": priors}
        return by_power(study, model, posterior, request, scaled, threshold)
    return (by_refit if how == "refit" else by_derivative)(study, priors, maps)
