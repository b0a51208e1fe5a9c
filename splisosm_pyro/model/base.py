"""What the models share: data, parameters, the frame of a fit, certificates, words. No formula.

A model says how one gene is fitted (``_gene_solver``) and what its likelihood is (``forward``). The
frame loops over genes, turns what breaks into a status, and writes the parameters when all is done,
so that an interrupted fit leaves the model as it was.
"""

import copy
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from splisosm_pyro.fit.accelerator.lockstep_fit import each_gene
from splisosm_pyro.fit.accelerator.memory import check_fit_memory
from splisosm_pyro.fit.glmm.specification import GLMMSpec
from splisosm_pyro.fit.options import FitOptions
from splisosm_pyro.fit.result import GeneFit, Status, broken_fit
from splisosm_pyro.fit.slow_options import say_once
from splisosm_pyro.maths.covariance.kernel import Kernel
from splisosm_pyro.maths.numeric.arrays import FloatArray
from splisosm_pyro.maths.numeric.interrupts import interrupts_heard
from splisosm_pyro.model.as_arrays import ModelArrays
from splisosm_pyro.model.data import ModelData, WithBuffers, checked_parameter
from splisosm_pyro.model.history import FitLog, few_threads, logger, param_history, seeded, spoken
from splisosm_pyro.model.tested import WithTests
from splisosm_pyro.posterior.arviz.diagnose import with_posterior

GeneSolver = Callable[..., GeneFit]  # of gene g, and the kernel to use where there is one

WRITTEN_TOGETHER = 256  # genes


class BaseModel(WithTests, WithBuffers, nn.Module):
    """A model of isoform counts, fitted gene by gene.

    A subclass sets ``options_class`` and ``objective``, creates its parameters in ``setup_data`` by
    ``_install``, and writes ``_gene_solver`` and ``forward``.

    Attributes
    ----------
    fitting_method : str
        Method for fitting the model.
    fitting_configs : dict
        All fitting options in force, given or by default.
    fitting_time : float
        Seconds that the last fit took.
    n_genes, n_spots, n_isos : int
        Sizes of the batch; 0 before ``setup_data``.
    n_factors : int or None
        Number of covariates; None before ``setup_data``.
    logger : FitLog or None
        Losses of the last fit, see ``FitLog``.
    status : list of str
        How each gene's last fit ended; empty before.
    """

    options_class: ClassVar[type[FitOptions]]
    objective: str = "log_lik"

    def __init__(self, fitting_method: str, fitting_configs: Mapping[str, Any] | None) -> None:
        options = self.options_class.from_configs(fitting_method, fitting_configs)
        say_once(type(self).__name__, fitting_method, fitting_configs)
        super().__init__()
        self.fitting_method: str = fitting_method
        self.fitting_configs: dict[str, Any] = options.as_configs()
        self.n_genes: int = 0
        self.n_spots: int = 0
        self.n_isos: int = 0
        self.n_factors: int | None = None
        self._data: ModelData | None = None
        self._forget_fit()

    # ---- what a subclass writes

    def _gene_solver(self, keep_path: bool) -> GeneSolver:
        """Return what fits gene g from the current parameters, and changes nothing."""
        raise NotImplementedError

    def _spec(self) -> GLMMSpec | None:
        """Say what is fitted; None where there is no random effect."""
        return None

    # ---- data and parameters

    def _install(self, data: ModelData, params: Mapping[str, Tensor], device: torch.device) -> None:
        """Take checked data and starting values; forget an earlier fit."""
        dtype = data.dtype
        made = {name: nn.Parameter(v.to(device=device, dtype=dtype)) for name, v in params.items()}
        self._data = data
        self.n_genes, self.n_spots, self.n_isos = data.counts.values.shape
        self.n_factors = data.design.shape[1]
        for name, parameter in made.items():
            self.register_parameter(name, parameter)
        self._forget_fit()

    def _forget_fit(self) -> None:
        """No fit so far."""
        self.fitting_time: float = 0.0
        self.logger: FitLog | None = None
        self.status: list[str] = []
        self._fits: list[GeneFit] = []

    @property
    def data(self) -> ModelData:
        """The data of the model; a ValueError before ``setup_data``."""
        if self._data is None:
            raise ValueError(
                f"{type(self).__name__} has no data yet: call setup_data(counts, ...) first"
            )
        return self._data

    def _params_of(self, gene: int) -> dict[str, FloatArray]:
        """One gene's parameters as float64 arrays."""
        return {
            name: value[gene].detach().to("cpu", torch.float64).numpy().copy()
            for name, value in self.named_parameters()
        }

    def as_arrays(self, *, fitted: bool = False) -> ModelArrays:
        """Return data, parameters and last fit as plain arrays; ``fitted`` asks for a fit."""
        data, spec = self.data, self._spec()
        fits = self._fitted() if fitted else self._fits
        params = {
            name: value.detach().to("cpu", torch.float64).numpy()
            for name, value in self.named_parameters()
        }
        if spec is not None:
            params["sigma"] = np.maximum(params["sigma"], spec.sigma_floor)
        counts = data.counts.values.numpy()
        return ModelArrays(counts, data.standard, data.names, spec, params, tuple(fits))

    def _write_fits(self, fits: list[GeneFit]) -> None:
        """Copy all genes' fitted parameters in, a block of genes at a time."""
        for name, value in self.named_parameters():
            for first in range(0, len(fits), WRITTEN_TOGETHER):
                block = [fit.params[name] for fit in fits[first : first + WRITTEN_TOGETHER]]
                value.data[first : first + len(block)] = torch.from_numpy(np.stack(block)).to(value)

    def update_params_from_dict(self, params: Mapping[str, Any]) -> None:
        """Overwrite some parameters; either all that are given change, or none.

        Parameters
        ----------
        params : dict
            Names of existing parameters and tensors or arrays of their shape. dtype and device are
            those of the model. A ``theta_logit`` of minus infinity is theta = 0.

        Raises
        ------
        TypeError
            If ``params`` is not a dict or a value is not numeric.
        ValueError
            If the model has no data, a name is unknown, a shape is wrong or a value not finite.
        """
        self.data  # noqa: B018  (raises before setup_data)
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be a dict of tensors, came {type(params).__name__}")
        own = dict(self.named_parameters())
        checked = {name: checked_parameter(name, value, own) for name, value in params.items()}
        with torch.no_grad():
            for name, value in checked.items():
                own[name].copy_(value)

    def take_up(self, fits: Sequence[GeneFit]) -> None:
        """Take the parameters of earlier fits to these genes; ``fit`` goes on from them alone."""
        self._write_fits(list(fits))
        self.status = [str(fit.status) for fit in fits]
        self._fits = [fit.without_params() for fit in fits]

    def clone(self) -> Self:
        """Return an independent copy: parameters, options, last fit. The data are shared."""
        return copy.deepcopy(self, {id(self._data): self._data})

    # ---- the frame of a fit

    def fit(
        self,
        store_param_history: bool = False,
        verbose: bool = False,
        quiet: bool = False,
        random_seed: int | None = None,
        diagnose: bool | None = None,
    ) -> dict[str, list[Any]] | None:
        """Fit every gene, from its current parameters on.

        Parameters
        ----------
        store_param_history : bool
            Return the parameters after each epoch. Losses are always in ``logger.loss_history``.
        verbose : bool
            Log one line a gene.
        quiet : bool
            No progress bar and no lines.
        random_seed : int, optional
            Seed of torch's generator during the fit, which is put back afterwards. The solvers of
            this package draw nothing.
        diagnose : bool, optional
            Deprecated alias of ``store_param_history``.

        Returns
        -------
        dict or None
            With ``store_param_history``: ``{'loss': [...], 'params': [...]}``, one entry an epoch,
            the losses (G,) and a dict of all parameters.

        Raises
        ------
        ValueError
            If the model has no data.
        MemoryError
            Before anything is fitted, if a gene's matrices would not fit into memory.

        Notes
        -----
        A parameter without gradient (``model.beta.requires_grad_(False)``) stays as it is, the
        others are fitted given it. Genes do not touch each other. A gene whose solver breaks keeps
        its parameters and has the status ``'failed: ...'``; the others go on.
        """
        if diagnose is not None:
            warnings.warn(
                "diagnose is deprecated, say store_param_history", DeprecationWarning, stacklevel=2
            )
            store_param_history = diagnose
        began = time.perf_counter()
        self._check_memory()
        with seeded(random_seed), spoken(verbose and not quiet), few_threads(self.n_spots):
            fits = self._fit_genes(self._solver(store_param_history), quiet)
        self.take_up([self._with_held(gene, fit) for gene, fit in enumerate(fits)])
        own = dict(self.named_parameters())
        history = param_history(fits, own) if store_param_history else None
        self.logger = FitLog.from_fits(fits, history)
        self.fitting_time = time.perf_counter() - began
        return history

    def _solver(self, keep_path: bool) -> GeneSolver:
        """Return what fits gene g; with 0 epochs, what stands for a fit at the start."""
        if self.fitting_configs["max_epochs"] != 0:
            return self._gene_solver(keep_path)
        values = self().detach().tolist()
        reason = "max_epochs is 0: the parameters are those of the start"

        def at_start(gene: int, *kernel: Kernel) -> GeneFit:
            fit = broken_fit(self._params_of(gene), self.objective, reason)
            return replace(fit, value=values[gene], status=Status.MAX_EPOCHS, reason=reason)

        return at_start

    @property
    def _held(self) -> frozenset[str]:
        """Names of the parameters without gradient, which a fit leaves as they are."""
        own = self.named_parameters()
        return frozenset(name for name, value in own if not value.requires_grad)

    def _with_held(self, gene: int, fit: GeneFit) -> GeneFit:
        """Return a fit with the held parameters to the last digit."""
        own = self._params_of(gene) if self._held else {}
        return replace(fit, params={**fit.params, **{name: own[name] for name in self._held}})

    def _check_memory(self) -> None:
        """Refuse a fit that cannot fit; without a random effect there is nothing large."""
        data = self.data
        if data.kernel is not None:
            occupied = int((data.counts.totals > 0).sum(-1).max())
            check_fit_memory(data.kernel, occupied, self.n_isos - 1)

    @interrupts_heard()
    def _fit_genes(self, solve: GeneSolver, quiet: bool) -> list[GeneFit]:
        """Fit every gene, one by one or many at a time; what raises becomes a status."""
        data, place = self.data, next(self.parameters()).device
        with tqdm(total=self.n_genes, desc=type(self).__name__, unit="gene", disable=quiet) as bar:

            def work(gene: int, *kernel: Kernel) -> GeneFit:
                fit = self._fit_or_why(solve, gene, *kernel)
                bar.update()
                return fit

            return each_gene(work, data.kernel, data.counts.values.numpy(), place)

    @interrupts_heard()
    def _fit_or_why(self, solve: GeneSolver, gene: int, *kernel: Kernel) -> GeneFit:
        """Fit one gene, or say why it could not be fitted."""
        try:
            fit = solve(gene, *kernel)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            fit = broken_fit(self._params_of(gene), self.objective, why)
        logger.info(
            "gene %d: %s after %d epochs, %s %.6g%s",
            gene,
            fit.status,
            fit.epochs,
            fit.objective,
            fit.value,
            f" ({fit.reason})" if fit.reason else "",
        )
        return fit

    def _fitted(self) -> list[GeneFit]:
        """Return the last fit; a ValueError before."""
        if not self._fits:
            raise ValueError(f"{type(self).__name__} is not fitted yet: call fit() first")
        return self._fits

    # ---- what the last fit says

    def diagnose(self, *, posterior: Any = None) -> pd.DataFrame:
        """Certificates of the last fit, one row a gene.

        Each status and reason has a line in docs/what_can_go_wrong.md.

        Parameters
        ----------
        posterior : InferenceData or DataTree, optional
            What ``posterior()`` returned, of all genes or of some by place. Adds the columns of
            ``splisosm_pyro.posterior.diagnose``, prefix ``posterior_``: method, whether to trust
            it, k-hat, R-hat, effective sizes, divergences, reason and remedy.

        Returns
        -------
        DataFrame
            ``status``, ``reason``, ``gradient_norm`` (of the objective, at the parameters),
            ``min_eigenvalue`` (of the observed information), both for standard covariates whatever
            the user's units, ``epochs`` and the objective.

        Raises
        ------
        ValueError
            Before the first fit, or if ``posterior`` is of other genes.
        """
        rows = [
            {
                "status": str(fit.status),
                "reason": fit.reason,
                "gradient_norm": fit.gradient_norm,
                "min_eigenvalue": fit.min_eigenvalue,
                "epochs": fit.epochs,
                fit.objective: fit.value,
            }
            for fit in self._fitted()
        ]
        table = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="gene"))
        return table if posterior is None else with_posterior(table, posterior)

    def standard_errors(self) -> dict[str, Tensor]:
        """Return standard errors, by the observed information of the last fit.

        Returns
        -------
        dict of name to Tensor
            In the parameters' shapes; infinite where a coefficient has no finite optimum.

        Raises
        ------
        ValueError
            Before the first fit.
        """
        fits = self._fitted()
        like = next(self.parameters())
        return {
            name: torch.stack([torch.as_tensor(fit.standard_errors[name]) for fit in fits]).to(like)
            for name in fits[0].standard_errors
        }

    def _words(self) -> list[str]:
        """Say what ``print`` shows, line by line."""
        lines = [f"{type(self).__name__}(fitting_method={self.fitting_method!r})"]
        if self._data is None:
            return [*lines, "  data: none yet, call setup_data"]
        like = next(self.parameters())
        lines.append(
            f"  data: {self.n_genes} genes x {self.n_spots} spots x {self.n_isos} isoforms, "
            f"{self.n_factors} covariates; {str(like.dtype).removeprefix('torch.')} on "
            f"{like.device}"
        )
        if not self.status:
            return [*lines, "  fit: none yet, call fit"]
        kinds = Counter("failed" if s.startswith("failed") else s for s in self.status)
        summary = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        return [*lines, f"  fit: {self.fitting_time:.3g} s; {summary}"]

    def __repr__(self) -> str:
        return "\n".join(self._words())
