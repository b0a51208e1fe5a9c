"""``MultinomGLM``: the documented model of isoform usage without a random effect."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from splisosm_pyro.fit.glm.coefficients import on_logits
from splisosm_pyro.fit.glm.fit_gene import GLMFit, fit_glms, one_by_one
from splisosm_pyro.fit.glm.some_coefficients import GivenLogits, fit_some
from splisosm_pyro.fit.options import FitOptions, GLMOptions
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.axes import (
    ArrayLike,
    DesignLike,
    as_counts,
    as_device,
)
from splisosm_pyro.maths.density.likelihood import isoform_ratio, log_lik
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.model.base import BaseModel, GeneSolver
from splisosm_pyro.model.data import ModelData
from splisosm_pyro.model.loo_of import loo_of
from splisosm_pyro.model.posterior_of import posterior_of
from splisosm_pyro.posterior.density.priors import PosteriorPriors
from splisosm_pyro.posterior.draws.arguments import Request
from splisosm_pyro.posterior.loo.table import Loo


class MultinomGLM(BaseModel, nn.Module):
    """The multinomial generalised linear model of isoform usage.

    ``Y[g,s,:] ~ Multinomial(total[g,s], softmax([eta[g,s,:], 0]))`` with
    ``eta[g,s,:] = X[s,:] @ beta[g] + bias_eta[g]``; the last isoform is the reference. ``fit``
    maximises the log-likelihood, gene by gene.

    Parameters
    ----------
    fitting_method : {'iwls', 'newton', 'gd'}
        Iteratively reweighted least squares, Newton's method, or gradient ascent by the optimiser
        ``fitting_configs['optim']``. All end at the same, unique maximum.
    fitting_configs : dict, optional
        Any of ``'lr'`` (first step length of gradient ascent, damping of a Newton step),
        ``'optim'`` (``'adam'``, ``'sgd'``, ``'lbfgs'``), ``'tol'`` (nats), ``'tol_relative'``,
        ``'max_epochs'`` and ``'patience'``. What is left out takes a value that reaches the
        optimum.

    Attributes
    ----------
    beta : Parameter, shape (G, F, Q)
        Covariate coefficients, logit scale; from ``setup_data`` on.
    bias_eta : Parameter, shape (G, Q)
        Intercepts, logit scale; from ``setup_data`` on.

    Raises
    ------
    TypeError, ValueError
        If the method, or a key or value of the options, is not legal.

    Notes
    -----
    Parameters and outputs have the floating dtype of the counts, for integers that of the design,
    else torch's default; the solvers work in float64 on the CPU. A gene costs about
    O(S (P + F^2 Q^2)) an epoch, 4 to 8 epochs.

    References
    ----------
    Agresti (2013), Categorical Data Analysis, 3rd ed., section 8.1.

    Examples
    --------
    >>> counts = torch.tensor([[3, 1], [1, 3], [0, 0], [2, 2]])
    >>> model = MultinomGLM()
    >>> model.setup_data(counts, design_mtx=torch.tensor([[-1.0], [1.0], [5.0], [0.0]]))
    >>> model.fit(quiet=True)
    >>> round(model.beta.item(), 6), model.status
    (-1.098612, ['converged'])
    """

    options_class: ClassVar[type[FitOptions]] = GLMOptions

    beta: nn.Parameter
    bias_eta: nn.Parameter

    def __init__(
        self,
        fitting_method: Literal["iwls", "newton", "gd"] = "iwls",
        fitting_configs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(fitting_method, fitting_configs)

    def setup_data(
        self,
        counts: ArrayLike,
        design_mtx: DesignLike | None = None,
        device: Literal["cpu", "cuda", "mps"] = "cpu",
        *,
        strict: bool = False,
    ) -> None:
        """Take the data and create the parameters, at 0. A bad call leaves the model as it was.

        Parameters
        ----------
        counts : Tensor or ndarray, shape (G, S, P) or (S, P)
            Isoform counts, dense or sparse.
        design_mtx : Tensor, ndarray or DataFrame, shape (S, F), optional
            Covariates of the spots, without intercept. None: intercept only.
        device : {'cpu', 'cuda', 'mps'}
            Where parameters and outputs live.
        strict : bool
            Refuse columns that are constant or follow from others and the intercept, such as those
            of all levels. Otherwise a warning says which are left out: their beta stays 0.

        Raises
        ------
        TypeError, ValueError
            If an argument is not legal; the message names it, what was expected and what came.
        NotImplementedError
            If there is one isoform only.
        """
        place = as_device(device)
        checked = as_counts(counts)
        data = ModelData.of(checked, design_mtx, strict=strict)
        self._install(data, _zeros(data), place)

    def forward(self) -> Tensor:
        """Log-likelihood of each gene at the current parameters.

        Returns
        -------
        Tensor, shape (G,)
            In nats, with the multinomial coefficient; differentiable in the parameters.

        Raises
        ------
        ValueError
            If the model has no data.
        """
        eta = self._eta()
        return log_lik(eta, self.data.counts.values.to(eta)).to(self.beta.dtype)

    def get_isoform_ratio(self) -> Tensor:
        """Isoform ratios at the current parameters.

        Returns
        -------
        Tensor, shape (G, S, P)
            Each spot's ratios sum to 1, also at spots without counts. Without gradient.

        Raises
        ------
        ValueError
            If the model has no data.
        """
        return isoform_ratio(self._eta().detach()).to(self.beta.dtype)

    def posterior(
        self,
        method: Literal["auto", "laplace", "nested_laplace", "marginal_nuts", "nuts"] = "auto",
        draws: int = 1000,
        chains: int = 4,
        seed: int = 0,
        genes: Sequence[int] | None = None,
        *,
        prior: PosteriorPriors | None = None,
        field: Literal["auto", "draws", "quantiles"] = "auto",
        names: Mapping[str, Sequence[Any]] | None = None,
        warmup: int | None = None,
        predictive: bool = False,
    ) -> Any:
        """Draw from the posterior of every gene; it needs no fit and leaves the model as it is.

        Parameters
        ----------
        method : {'auto', 'laplace', 'nested_laplace', 'marginal_nuts', 'nuts'}
            ``'laplace'``: a Gaussian at the mode of ``beta`` and ``bias_eta``.
            ``'nested_laplace'``: draws of the density interpolated between weighted points.
            ``'marginal_nuts'``: Pyro's NUTS, moved by that interpolation and corrected.
            ``'nuts'``: Pyro's NUTS over the program. ``'auto'``: the first of the first three that
            passes its own check.
        draws, chains : int
            Draws of a chain, number of chains; without NUTS all draws are independent.
        seed : int
            A gene's draws depend on the seed and its own counts, not on the batch.
        genes : sequence of int, optional
            Places of the genes wanted, all by default.
        prior : PosteriorPriors or ModelPriors, optional
            Default: Normal(0, 10) for the effect of one standard deviation of a covariate (of the
            step between its two values, such as 0 and 1) and for the intercept at the covariates'
            means.
        field : {'auto', 'draws', 'quantiles'}
            Keep ``eta`` and ``isoform_ratio`` draw by draw, or their mean, sd and quantiles in the
            group ``posterior_quantiles``; ``'auto'`` keeps draws up to 256 MB.
        names : mapping, optional
            Names of ``'gene'`` (G), ``'spot'`` (S) and ``'isoform'`` (P); places by default.
        warmup : int, optional
            Transitions of a chain of NUTS before its draws; 250 of ``'marginal_nuts'``, 600 of
            ``'nuts'`` by default.
        predictive : bool
            Add the groups ``posterior_predictive``, ``prior`` and ``prior_predictive``: counts with
            every spot's own total (rounded where it is a fraction, as ``status`` then says), and
            parameters from the prior. Of their draws as many are kept, evenly spaced, as fit in
            256 MB together.

        Returns
        -------
        InferenceData or DataTree
            As the installed ArviZ has it, with groups ``posterior``, ``sample_stats`` (``method``,
            ``status``, ``khat`` or ``r_hat`` by gene; what NUTS says of every draw), ``log_prior``,
            ``log_likelihood`` of every spot, ``observed_data``, ``constant_data``. A gene that
            breaks is NaN and has the status ``'failed: ...'``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not legal or the model has no data.

        Examples
        --------
        >>> import warnings
        >>> model = MultinomGLM()
        >>> model.setup_data(torch.tensor([[30, 10], [10, 30], [0, 0], [20, 20]]))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", FutureWarning)
        ...     posterior = model.posterior("laplace", draws=500)
        >>> dict(posterior["posterior"].sizes)["draw"]
        500
        """
        model = self.as_arrays()
        places, labels = model.chosen(genes, names)
        request = Request(method, draws, chains, seed, places, field, warmup, predictive)
        return posterior_of(model, request, labels, prior)

    def loo(
        self,
        genes: Sequence[int] | None = None,
        outer: Literal["one_step", "refit", "plug_in"] = "one_step",
        *,
        names: Mapping[str, Sequence[Any]] | None = None,
    ) -> Loo:
        """Leave-one-spot-out log predictive densities at the fit, without refitting.

        A spot's counts are predicted from all others: nugget and smooth part are integrated out,
        the latter given the other spots (its cavity). The conditional density, given a random
        effect of the spot's own, is not offered: it has seen the spot. A GLM is taken at its
        maximum, its coefficients moved by an exact Newton step without the spot.

        Parameters
        ----------
        genes : sequence of int, optional
            Places of the genes wanted, all by default.
        outer : {'one_step', 'refit', 'plug_in'}
            What becomes of sigma, theta, beta and bias_eta of a GLMM when the spot is left out: one
            Newton step; a new fit where that step changes the density by more than 0.1 nats; or
            nothing, which favours the model with more of them. A GLM takes its step in any case;
            ``'refit'`` fits it again without spots of a leverage above 0.7.
        names : mapping, optional
            Names of ``'gene'`` (G) and ``'spot'`` (S); places by default.

        Returns
        -------
        Loo
            ``table``, one row a gene; ``loo[gene]`` is an ``arviz.ELPDData``, which
            ``arviz.compare`` takes.

        Raises
        ------
        TypeError, ValueError
            If an argument is not legal or the model is not fitted.

        References
        ----------
        Vehtari, Mononen, Tolvanen, Sivula and Winther (2016), JMLR 17(103), arXiv:1412.7461.

        Examples
        --------
        >>> model = MultinomGLM()
        >>> model.setup_data(torch.tensor([[3, 1], [1, 3], [0, 0], [2, 2]]))
        >>> model.fit(quiet=True)
        >>> model.loo().table[["elpd_loo", "p_loo"]].round(3).to_dict("records")
        [{'elpd_loo': -5.001, 'p_loo': 1.247}]
        """
        return loo_of(self.as_arrays(fitted=True), genes, outer, names)

    def _eta(self) -> Tensor:
        """Logits (G, S, Q), in float64 where the device has it."""
        design = self.data.design
        precise = torch.float32 if self.beta.device.type == "mps" else torch.float64
        design = design.to(device=self.beta.device, dtype=precise)
        fixed = torch.einsum("sf,gfq->gsq", design, self.beta.to(precise))
        return fixed + self.bias_eta.to(precise)[:, None, :]

    def _gene_solver(self, keep_path: bool) -> GeneSolver:
        """Fit genes from their current parameters, a block at a time."""
        options = GLMOptions.from_configs(self.fitting_method, self.fitting_configs)
        if self._held:
            return self._solver_of_some(options)
        names, design = self.data.names, self.data.standard
        counts = self.data.counts.values.numpy()
        starts = design.standard(_float64(self.beta), _float64(self.bias_eta))  # (G,F+1,Q)

        def fit(genes: slice) -> list[GeneFit]:
            own = counts[genes], design.rows, options
            fits = fit_glms(*own, starts=starts[genes], names=names, keep_path=keep_path)
            errors = _errors(fits, design.back)
            return [_as_gene_fit(*one, design.back) for one in zip(fits, errors, strict=True)]

        return one_by_one(fit, len(counts))

    def _solver_of_some(self, options: GLMOptions) -> GeneSolver:
        """Fit the coefficients that have a gradient, given the others."""
        data, held = self.data, self._held
        design = data.standard.about_origin()
        counts = data.counts.values.numpy()
        rows = np.repeat(["beta" not in held, "bias_eta" not in held], [self.n_factors or 0, 1])

        def fit(gene: int) -> GeneFit:
            params = self._params_of(gene)
            problem = GivenLogits(counts[gene], design.with_intercept, np.zeros((1, 1)))
            start = design.standard(params["beta"], params["bias_eta"])
            moving = np.broadcast_to(rows[:, None], start.shape)
            epochs = options.most_epochs
            found = fit_some(problem, start, moving, tol=options.tol, max_epochs=epochs)
            return found.as_gene_fit(design.back)

        return fit


def _zeros(data: ModelData) -> dict[str, Tensor]:
    """Make starting values of the fixed effects."""
    n_genes, n_logits = data.counts.n_genes, data.counts.n_isos - 1
    return {
        "beta": torch.zeros(n_genes, data.design.shape[1], n_logits),
        "bias_eta": torch.zeros(n_genes, n_logits),
    }


def _float64(parameter: Tensor) -> FloatArray:
    """Bring a parameter to a float64 array."""
    return np.asarray(parameter.detach().to("cpu", torch.float64).numpy())


def split_coefficients(B: FloatArray) -> dict[str, FloatArray]:
    """Documented parameters from B (F+1, Q), whose last row is the intercept."""
    return {"beta": B[:-1], "bias_eta": B[-1]}


def _errors(fits: list[GLMFit], back: FloatArray) -> FloatArray:
    """Return the standard errors (G, F+1, Q) of the user's coefficients."""
    whole = on_logits(back, fits[0].B.shape[1])
    covariance = np.stack([fit.covariance for fit in fits])
    variance = np.maximum(((whole @ covariance) * whole).sum(axis=2), 0.0)
    errors: FloatArray = np.sqrt(variance).reshape(len(fits), *fits[0].B.shape)
    for own, fit in zip(errors, fits, strict=True):
        if fit.fixed.any():
            own[~fit.coefficients.on_scale(back).known] = np.inf
    return errors


def _as_gene_fit(fit: GLMFit, errors: FloatArray, back: FloatArray) -> GeneFit:
    """Put the solver's result under the documented names, in the user's units."""
    return GeneFit(
        params=split_coefficients(back @ fit.B),
        standard_errors=split_coefficients(errors),
        objective="log_lik",
        value=fit.log_lik,
        status=fit.status,
        reason=fit.reason,
        gradient_norm=fit.gradient_norm,
        min_eigenvalue=fit.min_eigenvalue,
        epochs=fit.epochs,
        values=fit.values,
        params_path=[split_coefficients(back @ B) for B in fit.path],
    )
