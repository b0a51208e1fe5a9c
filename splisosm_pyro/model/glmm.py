"""``MultinomGLMM``: the documented model of isoform usage with a spatial random effect."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from splisosm_pyro.collapsed import log_marginal
from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.given_field import fit_given_field
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.glmm.starting_values import INIT_RATIOS, starting_values
from splisosm_pyro.fit.glmm.uncertainty import GeneErrors
from splisosm_pyro.fit.options import FitOptions, GLMMOptions, boolean, choose
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.axes import ArrayLike, DesignLike, as_counts, as_device
from splisosm_pyro.maths.covariance.as_kernel import Kernel, as_kernel
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.maths.priors import Priors
from splisosm_pyro.maths.priors.symmetric import check_coding
from splisosm_pyro.model import at_parameters
from splisosm_pyro.model.base import BaseModel, GeneSolver
from splisosm_pyro.model.data import ModelData
from splisosm_pyro.model.glm import MultinomGLM
from splisosm_pyro.model.posterior_of import posterior_with_field
from splisosm_pyro.model.torch_objectives import log_joint


class MultinomGLMM(MultinomGLM, BaseModel, nn.Module):
    """The multinomial generalised linear mixed model of spatial isoform usage.

    ``Y[g,s,:] ~ Multinomial(total[g,s], softmax([eta[g,s,:], 0]))`` with
    ``eta = X beta + bias_eta + nu`` and, for every logit q,
    ``nu[g,:,q] ~ MVN(0, sigma^2 (theta V + (1 - theta) I))``, ``theta = sigmoid(theta_logit)``.

    Parameters
    ----------
    share_variance : bool
        One (sigma, theta) for all logits of a gene, or one each.
    var_fix_sigma : bool
        Keep sigma at its start, the Fano-factor estimate.
    var_prior_model : str
        ``'none'``; Gamma(alpha, rate beta) on sigma (``'gamma'``), InverseGamma(alpha, beta) on
        sigma^2 (``'inv_gamma'``); beyond the documented ones ``'half_normal'``, ``'half_t'``,
        ``'exponential'``, ``'pc'`` and ``'pc_usage'`` on sigma; or a ``ScalePrior``, a Pyro
        distribution, or ``ModelPriors``, with those of theta, beta and bias_eta.
    var_prior_model_params : dict, optional
        The prior's parameters; ``alpha`` and ``beta`` default to (2.0, 0.3) and (3, 0.5).
    init_ratio : {'uniform', 'observed'}
        Where ``nu`` starts: 0, or the observed log ratios.
    fitting_method : {'joint_gd', 'joint_newton', 'marginal_gd', 'marginal_newton'}
        ``joint_*`` maximise ``log p(Y | eta) + log p(nu | sigma, theta) + log p(sigma)``;
        ``marginal_*`` the Laplace approximation of ``log p(Y | sigma, theta, beta, bias_eta)`` at
        the conditional mode of ``nu``, plus ``log p(sigma)``. Estimate variances by the marginal:
        the joint density drives theta to 1 and, with free sigma, sigma to its floor (0.1).
    fitting_configs : dict, optional
        Any of ``'lr'``, ``'optim'`` (``'lbfgs'``, ``'adam'``, ``'sgd'``: moves what is not
        eliminated by Newton steps), ``'tol'``, ``'tol_relative'``, ``'max_epochs'``,
        ``'patience'``, ``'update_nu_every_k'``; beyond the documented ones, for ``marginal_*``,
        ``'nugget'`` (``'laplace'`` or ``'quadrature'``: how the field's white part is integrated
        out), ``'nugget_nodes'`` (``'auto'`` or an int) and ``'smooth'`` (``'laplace'`` or ``'ep'``:
        its smooth part). What is left out takes a value that reaches the optimum.
    coding : {'reference', 'symmetric'}
        Each logit against the last isoform has its own field, or each isoform (docs/model.md).

    Attributes
    ----------
    beta, bias_eta : Parameter, shapes (G, F, Q) and (G, Q)
        Fixed effects, logit scale.
    nu : Parameter, shape (G, S, Q)
        The random effect, logit scale: its joint or conditional mode after a fit; under
        ``'quadrature'`` its posterior mean at the conditional mode of its smooth part.
    sigma, theta_logit : Parameter, shape (G, C)
        Total standard deviation, logit of the spatial share; C is 1 or Q.

    Raises
    ------
    TypeError, ValueError
        If an argument is not legal; the message names it and what is.

    Notes
    -----
    An evaluation of the objective costs one Cholesky factorisation a gene, of the occupied spots
    (``(n Q)^3 / 3``) or of the sparse precision (about ``(S Q)^1.5``); a fit takes 30 to 60.

    References
    ----------
    Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, sections 3.4 and 3.5;
    Rue, Martino and Chopin (2009), doi:10.1111/j.1467-9868.2008.00700.x.

    Examples
    --------
    >>> from splisosm_pyro.utils import get_cov_sp
    >>> generator = torch.Generator().manual_seed(0)
    >>> counts = torch.randint(0, 4, (2, 30, 3), generator=generator)
    >>> coords = torch.rand(30, 2, generator=generator, dtype=torch.float64)
    >>> model = MultinomGLMM(var_fix_sigma=False, fitting_method="marginal_newton")
    >>> model.setup_data(counts, corr_sp=get_cov_sp(coords, k=4, rho=0.9))
    >>> model.fit(quiet=True)
    >>> tuple(model.nu.shape), tuple(model.sigma.shape)
    ((2, 30, 2), (2, 1))
    """

    options_class: ClassVar[type[FitOptions]] = GLMMOptions
    posterior = posterior_with_field

    nu: nn.Parameter
    sigma: nn.Parameter
    theta_logit: nn.Parameter

    def __init__(
        self,
        share_variance: bool = True,
        var_fix_sigma: bool = True,
        var_prior_model: Any = "none",
        var_prior_model_params: Mapping[str, float] | None = None,
        init_ratio: Literal["observed", "uniform"] = "uniform",
        fitting_method: Literal[
            "joint_gd", "joint_newton", "marginal_gd", "marginal_newton"
        ] = "joint_gd",
        fitting_configs: Mapping[str, Any] | None = None,
        *,
        coding: Literal["reference", "symmetric"] = "reference",
    ) -> None:
        share = boolean("share_variance", share_variance)
        fix = boolean("var_fix_sigma", var_fix_sigma)
        priors = Priors.of(var_prior_model, var_prior_model_params)
        choose("init_ratio", init_ratio, INIT_RATIOS)
        BaseModel.__init__(self, fitting_method, fitting_configs)
        self.objective = "log_joint" if fitting_method.startswith("joint") else "log_marginal"
        self.share_variance: bool = share
        self.var_fix_sigma: bool = fix
        self.var_prior_model: Any = var_prior_model
        self.var_prior_model_params: dict[str, float] = priors.sigma.params
        self.priors: Priors = priors
        self.init_ratio: str = init_ratio
        check_coding(coding, share_variance=share, priors=priors)
        self.coding: str = coding

    @interrupts_heard()
    def setup_data(  # type: ignore[override]  # documented with corr_sp in second place
        self,
        counts: ArrayLike,
        corr_sp: ArrayLike | Kernel | None = None,
        design_mtx: DesignLike | None = None,
        device: Literal["cpu", "cuda", "mps"] = "cpu",
        corr_sp_eigvals: ArrayLike | None = None,
        corr_sp_eigvecs: ArrayLike | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Take the data, create the parameters. A bad call leaves the model as it was.

        Parameters
        ----------
        counts : Tensor or ndarray, shape (G, S, P) or (S, P)
            Isoform counts, dense or sparse.
        corr_sp : Tensor or ndarray, shape (S, S), or a kernel object
            The spatial covariance V; one whose inverse is sparse (``get_cov_sp``) is recognised.
        design_mtx : Tensor, ndarray or DataFrame, shape (S, F), optional
            Covariates of the spots, without intercept. None: intercept only.
        device : {'cpu', 'cuda', 'mps'}
            Where parameters and outputs live; ``'cuda'`` with a dense ``corr_sp`` also fits there.
        corr_sp_eigvals, corr_sp_eigvecs : Tensor or ndarray, shapes (R,) and (S, R), optional
            Eigenpairs of V in the place of ``corr_sp``; with R < S the leading ones, and the
            residual eigenvalue keeps the trace S.
        strict : bool
            Refuse columns without a coefficient of their own, as ``MultinomGLM.setup_data`` has it.

        Raises
        ------
        TypeError, ValueError, NotImplementedError
            If an argument is not legal; the message names it, what was expected and what came.
        """
        place = as_device(device)
        checked = as_counts(counts)
        kernel = as_kernel(corr_sp, corr_sp_eigvals, corr_sp_eigvecs, checked.n_spots)
        data = ModelData.of(checked, design_mtx, kernel, strict=strict)
        sizes = data.design.shape[1], 1 if self.share_variance else checked.n_isos - 1
        self._install(data, starting_values(checked, *sizes, self.init_ratio), place)
        self.sigma.requires_grad_(not self.var_fix_sigma)

    def forward(self) -> Tensor:
        """Return the objective of the fitting method at the current parameters.

        Returns
        -------
        Tensor, shape (G,)
            ``log_joint()`` for the ``joint_*`` methods, ``log_marginal()`` for the ``marginal_*``;
            in nats, differentiable in the parameters.
        """
        return self.log_joint() if self._spec().joint else self.log_marginal()

    def log_joint(self) -> Tensor:
        """``log p(Y | eta) + log p(nu | sigma, theta)`` and the log priors at the parameters.

        Returns
        -------
        Tensor, shape (G,)
            In nats, with all constants; differentiable in all parameters.
        """
        spec, counts, sigma = self._spec(), self.data.counts.values, self._sigma_in_force()
        coefficients = self.beta, self.bias_eta
        return log_joint(spec, counts, self._eta(), self.nu, *coefficients, sigma, self.theta_logit)

    def log_marginal(
        self,
        nugget: Literal["laplace", "quadrature"] | None = None,
        smooth: Literal["laplace", "ep"] | None = None,
    ) -> Tensor:
        """Approximation of ``log p(Y)`` plus the log priors at the current parameters.

        The field is integrated out here; the parameter ``nu`` is neither read nor changed.

        Parameters
        ----------
        nugget : {'laplace', 'quadrature'}, optional
            The field's white part by Laplace's method or exactly. None: as ``fitting_configs``.
        smooth : {'laplace', 'ep'}, optional
            Its smooth part by Laplace's method or, with ``'quadrature'``, expectation propagation.

        Returns
        -------
        Tensor, shape (G,)
            In nats, with all constants; differentiable in ``beta, bias_eta, sigma, theta_logit`` by
            the exact gradient, the mode's own dependence included.
        """
        return log_marginal(
            self._spec().with_nugget(nugget, smooth),
            self.data.counts.values.numpy(),
            self.beta,
            self.bias_eta,
            self._sigma_in_force(),
            self.theta_logit,
        )

    def log_marginal_error(self, draws: int = 400, seed: int = 0) -> pd.DataFrame:
        """Certificate: what ``log_marginal()`` lacks, by importance sampling; dearer than a fit.

        Parameters
        ----------
        draws : int
            Draws a gene of the smooth part from its Gaussian, 30 or more, in opposite pairs.
        seed : int
            A gene's draws depend on it and on the gene's own counts.

        Returns
        -------
        DataFrame
            One row a gene: ``correction`` (exact minus approximate ``log_marginal``, nats), its
            ``standard_error``, and ``pareto_k`` of the weights: above 0.7 neither is to be trusted.
        """
        spec, counts, params = self._inputs()
        return at_parameters.marginal_errors(spec.with_nugget(), counts, params, draws, seed)

    def get_isoform_ratio(self, kind: Literal["at_nu", "posterior_mean"] = "at_nu") -> Tensor:
        """Isoform ratios (G, S, P) at the current parameters, which sum to 1 at every spot.

        Parameters
        ----------
        kind : {'at_nu', 'posterior_mean'}
            The ratios at ``nu`` as it stands, or their posterior mean given the other parameters,
            for which ``nu`` is not read: milder, the more so the fewer counts a spot has.

        A ValueError if the model has no data or ``kind`` is not legal.
        """
        if choose("kind", kind, ("at_nu", "posterior_mean")) == "at_nu":
            return super().get_isoform_ratio()
        spec, counts, params = self._inputs()
        ratios = at_parameters.mean_ratios(spec.with_nugget(), counts, params)
        return torch.from_numpy(ratios).to(self.nu)

    def var_total(self) -> Tensor:
        """Total variance ``sigma^2`` in force, (G, C).

        The ``joint_*`` methods hold it at 1e-2 or more.
        """
        return self._sigma_in_force().detach() ** 2

    def var_sp_prop(self) -> Tensor:
        """Share ``theta`` of the variance that is spatial, (G, C)."""
        self.data  # noqa: B018  (raises before setup_data)
        return torch.sigmoid(self.theta_logit.detach())

    def standard_errors(self) -> dict[str, Tensor]:
        """Return standard errors at the current parameters.

        From the curvature of the objective: for the ``marginal_*`` methods that of ``log_marginal``
        in all outer parameters together; for the ``joint_*`` methods that of ``log_joint``, where
        ``nu`` is uncertain too.

        Returns
        -------
        dict of name to Tensor
            ``beta`` (G, F, Q), ``bias_eta`` (G, Q), ``log_sigma`` and ``theta_logit`` (G, C). 0 for
            a fixed sigma; infinite at a bound and where the curvature is not positive.

        Raises
        ------
        ValueError
            Before the first fit.

        Notes
        -----
        Two evaluations of the gradient per outer parameter and gene; kept until one changes.
        """
        errors = [gene.standard_errors for gene in self._errors()]
        return {
            name: torch.stack([torch.as_tensor(error[name]) for error in errors]).to(self.beta)
            for name in errors[0]
        }

    def ratio_standard_errors(self) -> Tensor:
        """Return standard errors (G, S, P) of the isoform ratios about their posterior mean.

        They hold the posterior variance given all other parameters and, to first order, the
        uncertainty of those that are not at a bound. A ValueError before the first fit.
        """
        return torch.stack([torch.as_tensor(e.ratio) for e in self._errors()]).to(self.nu)

    def diagnose(self, marginal_error: bool = False, *, posterior: Any = None) -> pd.DataFrame:
        """Certificates of the last fit, one row a gene.

        Parameters
        ----------
        marginal_error : bool
            Add ``log_marginal_error()``, prefix ``marginal_``; it costs more than the fit.
        posterior : InferenceData or DataTree, optional
            As ``MultinomGLM.diagnose`` has it.

        Returns
        -------
        DataFrame
            ``status``, ``reason``, ``gradient_norm`` (of the objective in the outer parameters that
            are not at a bound), ``min_eigenvalue`` (of the negative Hessian there), ``epochs`` and
            the objective. A ValueError before the first fit.
        """
        table = super().diagnose(posterior=posterior)
        table["min_eigenvalue"] = [gene.min_eigenvalue for gene in self._errors()]
        if boolean("marginal_error", marginal_error):
            table = table.join(self.log_marginal_error().add_prefix("marginal_"))
        return table

    predict = at_parameters.predict

    # ---- inside

    _inputs = at_parameters.inputs

    def _forget_fit(self) -> None:
        super()._forget_fit()
        self._error_cache: tuple[tuple[int, ...], list[GeneErrors]] | None = None

    def _spec(self) -> GLMMSpec:
        """Say what is fitted."""
        held = self._held
        return GLMMSpec(
            kernel=self.data.kernel,
            design=self.data.standard_where(held),
            share_variance=self.share_variance,
            fix_sigma=self.var_fix_sigma or "sigma" in held,
            held=held,
            priors=self.priors,
            options=GLMMOptions.from_configs(self.fitting_method, self.fitting_configs),
            names=self.data.names,
            coding=self.coding,
        ).for_isoforms(self.n_isos)

    def _sigma_in_force(self) -> Tensor:
        floor = self._spec().sigma_floor  # raises before setup_data
        return self.sigma.clamp(min=floor)

    def _eta(self) -> Tensor:
        fixed = super()._eta()
        return fixed + self.nu.to(fixed)

    def _gene_solver(self, keep_path: bool) -> GeneSolver:
        """Fit gene g; after a first fit that did not break, from where it ended."""
        spec, counts = self._spec(), self.data.counts.values.numpy()
        warm = [fit.epochs > 0 for fit in self._fits] or [False] * self.n_genes

        def solve(gene: int, kernel: Kernel = spec.kernel) -> GeneFit:
            start, own = self._params_of(gene), replace(spec, kernel=kernel)
            if spec.joint and "nu" in spec.held:
                return fit_given_field(own, counts[gene], start)
            return fit_gene(own, counts[gene], start, warm=warm[gene], keep_path=keep_path)

        return solve

    def _errors(self) -> list[GeneErrors]:
        """Return every gene's standard errors at the current parameters."""
        fits = self._fitted()
        now = tuple(value._version for value in self.parameters())
        if self._error_cache is None or self._error_cache[0] != now:
            errors = at_parameters.standard_errors(*self._inputs(), fits, self.beta.device)
            self._error_cache = now, errors
        return self._error_cache[1]
