"""Our classes are put in place and taken away, in a package that has splisosm's modules."""

import sys
from types import ModuleType

import pytest

from splisosm_pyro import compat

MODULES = ("", ".glmm", ".glmm.glm", ".glmm.glmm", ".glmm.workers", ".hyptest", ".hyptest.glmm")
TASKS = ("_fit_model_one_gene", "_fit_null_full_sv_one_gene", "_fit_perm_one_gene")


class Glm: ...


class Glmm: ...


class Full(Glmm): ...


class Null(Glmm): ...


@pytest.fixture
def splisosm(monkeypatch):
    """Modules by what follows ``splisosm``."""
    made = {name: ModuleType("splisosm" + name) for name in MODULES}
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, "splisosm" + name, module)
    made[".glmm.glm"].MultinomGLM = Glm
    made[".glmm.glmm"].MultinomGLMM = Glmm
    models = {"IsoFullModel": Full, "IsoNullNoSpVar": Null, "MultinomGLM": Glm}
    workers = made[".glmm.workers"]
    tasks = {name: (lambda n: lambda x: (n, workers.MultinomGLM, x))(name) for name in TASKS}
    for name, value in {**models, **tasks}.items():
        setattr(workers, name, value)
        setattr(made[".hyptest.glmm"], name, value)
    made[".glmm"].MultinomGLMM = Glmm
    yield made
    compat.uninstall()


def test_every_module_has_ours_and_gets_its_own_back(splisosm):
    before = {name: dict(vars(module)) for name, module in splisosm.items()}
    compat.install()
    compat.install()  # nothing more
    assert compat.is_installed()
    assert splisosm[".glmm"].MultinomGLMM is compat.MultinomGLMM
    assert splisosm[".glmm.glm"].MultinomGLM is compat.MultinomGLM
    assert splisosm[".glmm.workers"].IsoFullModel is compat.FullModel
    assert splisosm[".hyptest.glmm"].IsoNullNoSpVar is compat.NullModel
    compat.uninstall()
    compat.uninstall()
    assert not compat.is_installed()
    assert {name: dict(vars(module)) for name, module in splisosm.items()} == before


def test_a_task_of_a_worker_puts_them_in_place_first(splisosm):
    with compat.installed():
        task = splisosm[".hyptest.glmm"]._fit_perm_one_gene
    assert not compat.is_installed()
    assert task(3) == ("_fit_perm_one_gene", compat.MultinomGLM, 3)
    assert compat.is_installed()


def test_for_a_while_inside_what_was(splisosm):
    with pytest.raises(KeyError), compat.installed():
        raise KeyError
    assert not compat.is_installed()
    compat.install()
    with compat.installed():
        pass
    assert compat.is_installed()


def test_without_it_a_sentence_says_what_to_install(splisosm, monkeypatch):
    monkeypatch.delattr(splisosm[".glmm.workers"], "IsoFullModel")
    with pytest.raises(ImportError, match=r"IsoFullModel.*pip install splisosm==1\.2\.0"):
        compat.install()
    assert not compat.is_installed()
    monkeypatch.setitem(sys.modules, "splisosm.glmm.workers", None)
    with pytest.raises(ImportError, match=r"needs splisosm 1\.2"):
        compat.install()
