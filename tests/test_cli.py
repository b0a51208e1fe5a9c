"""The command line: what it writes, its exit codes, its complaints."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splisosm_pyro import CARKernel, GeneFits, MultinomGLM, MultinomGLMM
from splisosm_pyro.__main__ import main
from splisosm_pyro.demo import demo_tissue
from splisosm_pyro.fit.glm.fit_gene import fit_glm
from splisosm_pyro.simulate import simulate_tissue

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tissue():
    return simulate_tissue(
        n_spots=91, n_genes=3, n_layers=2, depth=4.0, sigma=1.5, theta=0.8, seed=11
    )


def fitted(model, *data):
    """A model after its fit to the data."""
    model.setup_data(*data)
    model.fit(quiet=True)
    return model


def marginal(nugget="quadrature", smooth="ep", **options):
    configs = {"nugget": nugget, "smooth": smooth}
    options = {"var_prior_model": "half_normal", "coding": "symmetric"} | options
    options |= {"fitting_method": "marginal_newton", "fitting_configs": configs}
    return MultinomGLMM(var_fix_sigma=False, **options)


@pytest.fixture
def slide(tmp_path, tissue):
    """A file with genes of two and of three isoforms."""
    counts = tissue.counts.numpy()
    np.savez(
        tmp_path / "slide.npz",
        coords=tissue.coords,
        region=tissue.layers,
        counts_2=counts[:2, :, :2],
        gene_names_2=["a", "b"],
        counts_3=counts,
        iso_names_3=[[f"{g}.{p}" for p in "xyz"] for g in "cde"],
    )
    return tmp_path / "slide.npz"


def run(*argv):
    return main([str(word) for word in argv])


def test_fit_writes_what_the_models_say(slide, tissue, tmp_path, capsys):
    out = tmp_path / "fits.csv"
    assert run("fit", slide, "--out", out, "--covariates", "region", "--quiet") == 0
    table = pd.read_csv(out)
    assert table["gene"].tolist() == ["a", "b", "gene_0", "gene_1", "gene_2"]
    assert table["n_isos"].tolist() == [2, 2, 3, 3, 3]
    assert table["isoforms"][2] == "c.x;c.y;c.z"
    assert table["reads"][2] == int(tissue.counts[0].sum())
    assert table["occupied_spots"][2] == int((tissue.counts[0].sum(1) > 0).sum())
    assert set(table["status"]) <= {"converged", "boundary"}
    assert "5 genes" in capsys.readouterr().out

    glm = fitted(MultinomGLM(), tissue.counts[1], tissue.design)
    kernel = CARKernel.from_coords(tissue.coords, k=6, rho=0.99)
    glmm = fitted(marginal(), tissue.counts[1], kernel, tissue.design)
    assert 0.01 < glmm.var_sp_prop().item() < 1
    row = table.iloc[3]
    assert row["loglik_glm"] == pytest.approx(glm.forward().item(), rel=1e-10)
    assert row["log_marginal"] == pytest.approx(glmm.forward().item(), rel=1e-8)
    assert row["sigma"] == pytest.approx(glmm.sigma.item(), rel=1e-5)
    assert row["theta"] == pytest.approx(glmm.var_sp_prop().item(), abs=1e-5)
    assert row["beta_region=layer 2_1"] == pytest.approx(glmm.beta[0, 0, 1].item(), abs=1e-5)
    error = glmm.standard_errors()["bias_eta"][0, 0].item()
    assert row["bias_eta_0_se"] == pytest.approx(error, rel=1e-4)
    assert row[["usage_0", "usage_1", "usage_2"]].sum() == pytest.approx(1)
    assert np.isnan(table["usage_2"][0])


def test_fit_glm_alone_and_one_number_of_isoforms(slide, tmp_path):
    out = tmp_path / "fits.csv"
    assert run("fit", slide, "--out", out, "--model", "glm", "--n-isos", 2, "--quiet") == 0
    table = pd.read_csv(out)
    assert table["gene"].tolist() == ["a", "b"]
    assert "sigma" not in table
    assert table["gradient_norm"].max() < 1e-3


def test_fit_separate_variance_prior_and_kernel(slide, tissue, tmp_path):
    out = tmp_path / "fits.csv"
    options = (
        "--separate-variance",
        "--coding",
        "reference",
        "--prior",
        "inv_gamma",
        "--n-isos",
        3,
        "--quiet",
    )
    options = (*options, "--k", 4, "--rho", 0.9)
    assert run("fit", slide, "--out", out, *options) == 0
    table = pd.read_csv(out)
    assert {"sigma_0", "sigma_1", "theta_0", "theta_1"} <= set(table)
    assert "sigma" not in table
    own = {"share_variance": False, "coding": "reference"}
    glmm = marginal(var_prior_model="inv_gamma", **own)
    fitted(glmm, tissue.counts[0], CARKernel.from_coords(tissue.coords, k=4, rho=0.9))
    assert table["log_marginal"][0] == pytest.approx(glmm.log_marginal().item(), rel=1e-8)
    assert table["sigma_1"][0] == pytest.approx(glmm.sigma[0, 1].item(), rel=1e-4)


def test_fit_h5ad(tissue, tmp_path):
    anndata = pytest.importorskip("anndata")
    counts = tissue.counts.numpy().astype(np.float32)
    adata = anndata.AnnData(
        X=counts.transpose(1, 0, 2).reshape(91, 9),
        obs=pd.DataFrame({"region": tissue.layers}, index=[f"s{s}" for s in range(91)]),
        var=pd.DataFrame({"symbol": np.repeat(list("cde"), 3)}, index=[f"i{i}" for i in range(9)]),
    )
    adata.obs["region"] = adata.obs["region"].astype("category")
    adata.obsm["spatial"] = tissue.coords
    adata.write_h5ad(tmp_path / "slide.h5ad")
    out = tmp_path / "fits.csv"
    options = ("--layer", "X", "--group-iso-by", "symbol", "--covariates", "region")
    options = (*options, "--model", "glm", "--quiet")
    assert run("fit", tmp_path / "slide.h5ad", "--out", out, *options) == 0
    glm = fitted(MultinomGLM(), tissue.counts, tissue.design)
    table = pd.read_csv(out)
    assert table["isoforms"][0] == "i0;i1;i2"
    # single precision in the file is not single precision in the result
    np.testing.assert_allclose(table["bias_eta_1"], glm.bias_eta[:, 1].detach(), rtol=1e-9)
    np.testing.assert_allclose(table["loglik_glm"], glm.forward().detach(), rtol=1e-10)


def break_genes(monkeypatch, broken):
    """Let the fit of genes with such counts raise."""

    def fit(counts, *arguments, **more):
        # a spatial model takes the isoforms in an order of its own
        if any(np.array_equal(np.sort(counts), np.sort(gene)) for gene in broken):
            raise ArithmeticError("no such luck")
        return fit_glm(counts, *arguments, **more)

    monkeypatch.setattr("splisosm_pyro.genes.one_gene.fit_glm", fit)


def test_a_failing_gene_is_a_row_and_the_others_do_not_notice(tissue, tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", counts=tissue.counts.numpy(), coords=tissue.coords)
    tables = []
    for broken in ([], tissue.counts.numpy()[1:2]):
        break_genes(monkeypatch, broken)
        out = tmp_path / "x.csv"
        assert run("fit", tmp_path / "x.npz", "--out", out, "--model", "glm", "--quiet") == 0
        tables.append(pd.read_csv(out))
    good, bad = tables
    assert bad["status"][1] == "failed: no such luck"
    assert bad["reason"][1] == "ArithmeticError: no such luck"
    # sv_q is of a gene among the others
    columns = [name for name in good if name not in ("seconds", "reason", "sv_q")]
    pd.testing.assert_frame_equal(good.loc[[0, 2], columns], bad.loc[[0, 2], columns])


def test_every_gene_failing_is_exit_code_1(tissue, tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", counts=tissue.counts.numpy(), coords=tissue.coords)
    break_genes(monkeypatch, tissue.counts.numpy())
    assert run("fit", tmp_path / "x.npz", "--out", tmp_path / "x.csv", "--quiet") == 1
    assert len(pd.read_csv(tmp_path / "x.csv")) == 3
    assert run("fit", tmp_path / "x.npz", "--out", tmp_path / "x", "--quiet") == 1
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        *("data.npz", "effects.csv", "fits.npz", "isoforms.csv", "records.jsonl", "removed.csv"),
        *("result.json", "table.csv"),
    ]


def test_nugget_laplace(slide, tissue, tmp_path):
    out = tmp_path / "fits.csv"
    assert run("fit", slide, "--out", out, "--n-isos", 3, "--nugget", "laplace", "--quiet") == 0
    kernel = CARKernel.from_coords(tissue.coords, k=6, rho=0.99)
    glmm = fitted(marginal("laplace", "laplace"), tissue.counts[1].double(), kernel)
    assert pd.read_csv(out)["log_marginal"][1] == pytest.approx(glmm.forward().item(), rel=1e-8)


def test_smooth_laplace(slide, tissue, tmp_path):
    out = tmp_path / "fits.csv"
    assert run("fit", slide, "--out", out, "--n-isos", 3, "--smooth", "laplace", "--quiet") == 0
    kernel = CARKernel.from_coords(tissue.coords, k=6, rho=0.99)
    glmm = fitted(marginal(smooth="laplace"), tissue.counts[1], kernel)
    assert pd.read_csv(out)["log_marginal"][1] == pytest.approx(glmm.forward().item(), rel=1e-8)
    assert set(pd.read_csv(out)["smooth"]) == {"laplace"}


def test_fit_into_a_folder_resumes_and_draws(slide, tissue, tmp_path, capsys):
    out = tmp_path / "results"
    options = ("--out", out, "--n-isos", 2, "--covariates", "region", "--quiet", "--figures", 1)
    options = (*options, "--reference", "region=layer 2", "--min-counts", 1)
    assert run("fit", slide, *options) == 0
    top, page = sorted(out.glob("figures/*.png"), reverse=True)
    assert top.name == "top.png"
    assert page.name[:3] == "01_"
    assert page.read_bytes().startswith(b"\x89PNG")
    table = (out / "table.csv").read_text()
    assert "beta_region=layer 1_0" in table
    assert "delta_region=layer 1_low" in (out / "isoforms.csv").read_text()
    assert run("fit", slide, *options) == 2
    assert "holds the records of a run: add --resume" in capsys.readouterr().err
    assert run("fit", slide, *options, "--resume") == 0
    assert (out / "table.csv").read_text() == table  # the seconds too: nothing was done again
    fits = GeneFits.load(out)
    assert fits.model("a").sigma.item() == pytest.approx(fits.table["sigma"][0], rel=1e-6)


def test_warnings_are_one_line(tissue, tmp_path, capsys):
    coords = np.array(tissue.coords)
    coords[4] = coords[9]
    np.savez(tmp_path / "x.npz", counts=tissue.counts.numpy(), coords=coords)
    options = ("--out", tmp_path / "x.csv", "--model", "glm", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [("default", None, Warning, None, 0)])
        assert run("fit", tmp_path / "x.npz", *options) == 0
    said = capsys.readouterr().err
    assert "warning: 2 spots share their place with another (spot 4, spot 9)" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("fit", "none.npz", "--out", "x.csv"), "no such file: none.npz"),
        (("fit", "none.txt", "--out", "x.csv"), "must end in .npz or .h5ad"),
        (("fit", "SLIDE", "--out", "nowhere/x.csv"), "there is no folder nowhere"),
        (("fit", "SLIDE", "--out", "x.csv", "--n-isos", "7"), "n_isos = 7 asks for counts_7"),
        (("fit", "SLIDE", "--out", "x.csv", "--covariates", "age"), "the file has no 'age'"),
        (
            ("fit", "SLIDE", "--out", "x.csv", "--covariates", "coords,coords"),
            "came 'coords' twice",
        ),
        (("fit", "SLIDE", "--out", "x.csv", "--rho", "1.5"), "rho must"),
        (("fit", "SLIDE", "--out", "x.csv", "--resume"), "--resume needs a folder as --out"),
        (("fit", "SLIDE", "--out", "SLIDE"), "is no folder; give one, or a name that ends in .csv"),
        (("fit", "SLIDE", "--out", "x", "--n-jobs", "0"), "n_jobs must be a whole number above 0"),
        (("fit", "SLIDE", "--out", "y", "--min-counts", "1e9"), "no gene is left: 5 with fewer"),
        (("fit", "SLIDE", "--out", "x", "--reference", "age=1"), "reference names 'age'"),
        (("fit", "SLIDE", "--out", "x.csv", "--k", "0"), "k must be at least 1"),
        (("demo", "--spots", "0"), "n_spots must be a whole number of at least 1, came 0"),
        (("demo", "--genes", "0"), "n_genes must be a whole number of at least 1, came 0"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    argv, complaint, slide, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = [str(slide) if word == "SLIDE" else word for word in argv]
    assert main([*words, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fit"],
        ["fits"],
        ["fit", "a.npz", "--out", "b", "--k", "x"],
        ["fit", "a.npz", "--out", "b", "--reference", "region"],
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "error: " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["demo", "fit"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"python -m splisosm_pyro {command}" in capsys.readouterr().out


def test_demo_prints_and_writes(tmp_path, capsys):
    assert run("demo", "--out", tmp_path, "--genes", 5, "--spots", 91, "--seed", 4, "--quiet") == 0
    table = pd.read_csv(tmp_path / "demo.csv")
    tissue = demo_tissue(5, 91, 4)
    truth = table.pivot(index="gene", columns="parameter", values="truth")
    np.testing.assert_allclose(truth["sigma"], tissue.truth.sigma[:, 0])
    np.testing.assert_allclose(truth["beta_layer 3_0"], tissue.truth.beta[:, 1, 0])
    deep = table[(table["gene"] == "gene 4") & table["parameter"].str.startswith(("beta", "bias"))]
    assert (abs(deep["glmm"] - deep["truth"]) < 4 * deep["glmm_se"]).all()
    glm = fitted(MultinomGLM(), tissue.counts[4], tissue.design)
    glmm = fitted(marginal(), tissue.counts[4], tissue.kernel, tissue.design)
    rows = table[table["gene"] == "gene 4"].set_index("parameter")
    assert rows.loc["bias_eta_0", "glm"] == pytest.approx(glm.bias_eta[0, 0].item(), rel=1e-6)
    assert rows.loc["bias_eta_0", "glmm"] == pytest.approx(glmm.bias_eta[0, 0].item(), rel=1e-6)
    assert rows.loc["sigma", "glmm"] == pytest.approx(glmm.sigma.item(), rel=1e-6)
    error = glmm.sigma.item() * glmm.standard_errors()["log_sigma"].item()
    assert rows.loc["sigma", "glmm_se"] == pytest.approx(error, rel=1e-6)
    said = capsys.readouterr().out
    assert all(
        word in said for word in ("truth", "GLM", "GLMM", "sigma", "theta", "without a read")
    )
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_as_a_process(tmp_path):
    command = [sys.executable, "-m", "splisosm_pyro"]
    done = subprocess.run(
        [*command, "fit", tmp_path / "none.npz", "--out", tmp_path / "x.csv"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("splisosm_pyro fit: error: no such file")
    assert done.stderr.count("\n") == 1


def test_covariates_are_tested_after_a_run(tissue, tmp_path, capsys):
    anndata = pytest.importorskip("anndata")
    names = [f"s{s}" for s in range(91)]
    counts = tissue.counts.numpy().transpose(1, 0, 2).reshape(91, 9)
    symbols = pd.DataFrame({"gene_symbol": np.repeat(list("cde"), 3)}, index=list("abcdefghi"))
    adata = anndata.AnnData(counts, pd.DataFrame({"region": tissue.layers}, index=names), symbols)
    adata.obsm["spatial"] = tissue.coords
    adata.write_h5ad(tmp_path / "x.h5ad")
    out, results = tmp_path / "du.csv", tmp_path / "results"
    options = ("--layer", "X", "--no-tests", "--figures", 0, "--quiet")
    assert run("fit", tmp_path / "x.h5ad", "--out", results, *options) == 0
    assert "sv_p" not in pd.read_csv(results / "table.csv")
    command = ("test", results, "--from", tmp_path / "x.h5ad", "--quiet")
    assert run(*command, "--covariates", "region", "--genes", "c,e", "--out", out) == 0
    fits = GeneFits.load(results)
    truth = fits.differential_usage("region", adata, genes=["c", "e"], progress=False)
    pd.testing.assert_frame_equal(
        pd.read_csv(out, keep_default_na=False, na_values=[""])[["gene", "p", "change"]],
        truth[["gene", "p", "change"]],
    )
    assert "2 tests in 2 genes; wrote" in capsys.readouterr().out
    score = ("--refit-below", 0, "--no-space")
    assert run(*command, *score, "--out", out) == 0
    table = pd.read_csv(out)
    assert len(table) == 27
    assert (table["kind"] == "score").all()
    assert run(*command, "--out", tmp_path / "du.txt") == 2
    assert "--out must end in .csv" in capsys.readouterr().err
    assert run("test", tmp_path, "--from", tmp_path / "x.h5ad", "--out", out) == 2
    assert "holds no result" in capsys.readouterr().err


def test_a_population_by_the_command(slide, tmp_path):
    options = ("--population", "--no-tests", "--figures", 0, "--quiet")
    assert run("fit", slide, "--out", tmp_path / "out", *options) == 0
    fits = GeneFits.load(tmp_path / "out")
    assert fits.options.population == "gaussian"
    assert fits.table["pop_sigma"].gt(0.0).all()
