"""Genes fitted together: the batched algebra against the single one, the fits against the engine's.

Runs on the CPU, and on a CUDA device where there is one.
"""

import threading
from dataclasses import replace

import cases
import numpy as np
import pytest
import torch
from problems import central

from splisosm_pyro import DenseKernel, LowRankKernel, MultinomGLMM
from splisosm_pyro.fit.accelerator import lockstep_fit
from splisosm_pyro.fit.accelerator.dense_batch import BatchedKernel, DenseBatch, Operation
from splisosm_pyro.fit.accelerator.lockstep import Lockstep, Stopped
from splisosm_pyro.maths.numeric.errors import NotPositiveDefinite

DEVICES = [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()
on_devices = pytest.mark.parametrize("device", DEVICES, ids=str)
N_SPOTS = 30


@pytest.fixture(autouse=True)
def one_thread():
    """Matrices this small are not worth a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def kernel():
    coords = np.random.default_rng(0).uniform(size=(N_SPOTS, 2))
    return DenseKernel(cases.correlation(coords))


def ragged(n_logits):
    """Occupied spots and information of genes of different size, one of little information."""
    rng = np.random.default_rng(1)
    occupied = [np.sort(rng.permutation(N_SPOTS)[:n]) for n in (30, 7, 1, 12)]
    halves = [rng.normal(size=(len(places), n_logits, n_logits)) for places in occupied]
    information = [half @ half.transpose(0, 2, 1) for half in halves]
    information[3] *= 1e-9
    return occupied, information


# ---- the algebra


@on_devices
@pytest.mark.parametrize("together_", [4, 3, 1])
@pytest.mark.parametrize("n_logits", [1, 2, 4])
def test_a_batch_does_what_each_system_does_alone(n_logits, together_, device):
    occupied, information = ragged(n_logits)
    batch = DenseBatch(kernel().dense().to(device), N_SPOTS, n_logits, 4, together_)
    steps = Lockstep(batch.answer)
    rng = np.random.default_rng(2)
    sides = [rng.normal(size=(len(places), n_logits, 1 + i)) for i, places in enumerate(occupied)]

    def work(gene, slot):
        system = BatchedKernel(kernel(), steps.ask, slot).system(occupied[gene], n_logits)
        factor = system.factorise(information[gene])
        every = (factor.blocks(), factor.all_blocks(), factor.sample(noise(gene)))
        return factor.log_det, factor.solve(sides[gene]), factor.solve(sides[gene][..., 0]), *every

    def noise(gene):
        return np.random.default_rng(gene).normal(size=(2 * n_logits * len(occupied[gene]), 2))

    found = steps.run(work, [0, 1, 2, 3], width=4)
    for gene, (log_det, solved, one, blocks, all_blocks, draws) in enumerate(found):
        alone = kernel().system(occupied[gene], n_logits).factorise(information[gene])
        assert log_det == pytest.approx(alone.log_det, rel=1e-12, abs=1e-14)
        np.testing.assert_allclose(solved, alone.solve(sides[gene]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(one, alone.solve(sides[gene][..., 0]), rtol=0, atol=1e-12)
        np.testing.assert_allclose(blocks, alone.blocks(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(all_blocks, alone.all_blocks(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(draws, alone.sample(noise(gene)), rtol=0, atol=1e-12)


@on_devices
def test_one_indefinite_gene_does_not_touch_the_others(device):
    cov = torch.eye(3, dtype=torch.float64)
    cov[0, 1] = cov[1, 0] = 3.0  # no correlation: -1 + 1 after scaling by the second gene's roots
    batch = DenseBatch(cov.to(device), 3, 1, 2)
    roots = [np.full((3, 1, 1), size) for size in (0.1, 10.0)]
    asked = [Operation("factorise", slot, np.arange(3), root) for slot, root in enumerate(roots)]
    good, bad = batch.answer(asked)
    expected = np.linalg.slogdet(np.eye(3) + 0.01 * cov.numpy())[1]
    assert good == pytest.approx(expected, rel=1e-12)
    assert isinstance(bad, NotPositiveDefinite)


@pytest.mark.parametrize("most", [2, 1, 0])
def test_where_memory_runs_out_fewer_genes_are_worked_on_at_once(most, monkeypatch):
    batch = DenseBatch(kernel().dense(), N_SPOTS, 1, 5)
    plain, sizes = DenseBatch.factorise, []

    def narrow(self, operations):
        if len(operations) > most:
            raise torch.OutOfMemoryError("no room")
        sizes.append(len(operations))
        return plain(self, operations)

    monkeypatch.setattr(DenseBatch, "factorise", narrow)
    roots = [np.full((N_SPOTS, 1, 1), 0.1 * (1 + slot)) for slot in range(5)]
    asked = [Operation("factorise", slot, np.arange(N_SPOTS), r) for slot, r in enumerate(roots)]
    if most == 0:
        with pytest.raises(torch.OutOfMemoryError):
            batch.answer(asked)
        return
    found = batch.answer(asked)
    scaled = [np.eye(N_SPOTS) + r[0, 0, 0] ** 2 * kernel().dense().numpy() for r in roots]
    np.testing.assert_allclose(found, [np.linalg.slogdet(B)[1] for B in scaled], rtol=1e-12)
    assert sizes == ([2, 2, 1] if most == 2 else [1] * 5)


# ---- lockstep


def test_a_round_waits_for_all_and_replies_in_order():
    sizes = []

    def answer(requests):
        sizes.append(len(requests))
        return [request**2 for request in requests]

    steps = Lockstep(answer)
    # job j asks j times: the rounds shrink as jobs end, and later jobs take their slots
    found = steps.run(lambda job, slot: [steps.ask(job) for _ in range(job)], [1, 2, 3, 2], width=3)
    assert found == [[1], [4, 4], [9, 9, 9], [4, 4]]
    assert sizes == [3, 3, 2]
    assert steps.run(lambda job, slot: job, [], width=3) == []


def test_slots_are_never_shared():
    busy, lock = set(), threading.Lock()
    steps = Lockstep(lambda requests: requests)

    def work(job, slot):
        with lock:
            assert slot not in busy
            busy.add(slot)
        steps.ask(job)
        with lock:
            busy.remove(slot)
        return slot

    assert set(steps.run(work, range(50), width=7)) == set(range(7))


@pytest.mark.parametrize("where", ["reply", "round"])
def test_an_error_is_raised_where_the_request_was_made(where):
    def answer(requests):
        if where == "round":
            raise MemoryError("no room")
        return [MemoryError("no room") if request == 2 else request for request in requests]

    def work(job, slot):
        try:
            return steps.ask(job)
        except MemoryError as error:
            return str(error)

    steps = Lockstep(answer)
    expected = ["no room"] * 3 if where == "round" else [1, "no room", 3]
    assert steps.run(work, [1, 2, 3], width=3) == expected


def test_what_a_job_raises_comes_out_when_all_have_ended():
    ended = []

    def work(job, slot):
        steps.ask(job)
        if job == 1:
            raise ZeroDivisionError("job 1")
        ended.append(job)

    steps = Lockstep(lambda requests: requests)
    with pytest.raises(ZeroDivisionError, match="job 1"):
        steps.run(work, [0, 1, 2, 3], width=2)
    assert sorted(ended) == [0, 2, 3]


def test_an_interrupt_ends_all_jobs():
    rounds, seen = [], []

    def answer(requests):
        rounds.append(len(requests))
        if len(rounds) == 3:
            raise KeyboardInterrupt
        return requests

    def work(job, slot):
        try:
            while True:
                steps.ask(job)
        except Stopped as error:
            seen.append(str(error))

    steps = Lockstep(answer)
    with pytest.raises(KeyboardInterrupt):
        steps.run(work, range(5), width=2)
    assert seen == ["the work of all genes was interrupted"] * 2
    assert not any(thread.name.startswith("gene") for thread in threading.enumerate())


# ---- fits


def fitted(counts, design, device="cpu", **options):
    model = MultinomGLMM(
        var_fix_sigma=False, fitting_method=options.pop("method", "marginal_newton"), **options
    )
    model.setup_data(counts, corr_sp=kernel(), design_mtx=design, device=device)
    model.fit(quiet=True)
    return model


def some_genes(n_isos=3, n_genes=5):
    """Genes of growing sparsity; the last but one has no counts, the last a missing isoform."""
    case = cases.make("", 5, n_genes=n_genes, n_spots=N_SPOTS, n_isos=n_isos, n_factors=1)
    counts = case.counts.copy()
    for gene in range(n_genes):
        counts[gene, : 2 * gene] = 0.0
    counts[-2] = 0.0
    counts[-1, :, 0] = 0.0
    return torch.from_numpy(counts), torch.from_numpy(case.design)


VARIANTS = [
    {},
    {"share_variance": False, "var_prior_model": "gamma"},
    {"fitting_configs": {"nugget": "quadrature"}},
    {"fitting_configs": {"smooth": "ep"}},
    {"method": "joint_newton", "var_prior_model": "inv_gamma"},
]


@on_devices
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_fits_are_those_of_the_engine(options, device, monkeypatch):
    counts, design = some_genes()
    alone = fitted(counts, design, **options)
    monkeypatch.setattr(lockstep_fit, "batches_on", lambda kernel, device: True)
    monkeypatch.setattr(lockstep_fit, "MOST_TOGETHER", 2)  # slots are used again
    batched = fitted(counts, design, device=str(device), **options)
    assert batched.status == alone.status
    np.testing.assert_allclose(
        batched.diagnose()[alone.objective], alone.diagnose()[alone.objective], rtol=0, atol=1e-8
    )
    for name, value in alone.named_parameters():
        np.testing.assert_allclose(
            dict(batched.named_parameters())[name].detach().cpu(), value.detach(), atol=1e-4
        )
    reasons = batched.diagnose()["reason"].tolist()
    assert reasons == alone.diagnose()["reason"].tolist()


def test_the_gradient_of_a_batch_is_that_of_differences():
    """At a point away from the optimum, through the model's own objective."""
    counts, design = some_genes(n_genes=2)
    steps = Lockstep(DenseBatch(kernel().dense(), N_SPOTS, 2, 1).answer)
    model = fitted(counts, design)

    def work(gene, slot):
        spec = replace(model.as_arrays().spec, kernel=BatchedKernel(kernel(), steps.ask, slot))
        problem = spec.problem(counts[gene].numpy())
        B = np.zeros((2, 2))
        objective = spec.objective(problem, B, np.ones((2, 2), dtype=bool), np.array([0.7]))
        u = objective.space.start(B, np.array([0.7]), np.array([0.4]))
        exact = objective.evaluate(u).gradient
        slopes = [central(lambda v: objective.value(v, None)[0], u, i) for i in range(u.size)]
        return exact, np.array(slopes)

    ((exact, slopes),) = steps.run(work, [0], width=1)
    np.testing.assert_allclose(exact, slopes, rtol=1e-6, atol=1e-6)


def test_a_gene_that_breaks_in_a_batch_is_data(monkeypatch):
    counts, design = some_genes()
    monkeypatch.setattr(lockstep_fit, "batches_on", lambda kernel, device: True)
    plain = DenseBatch.blocks

    def failing(self, operations):
        replies = plain(self, operations)
        wrong = [operation.slot == 0 for operation in operations]
        return [RuntimeError("broken") if w else r for w, r in zip(wrong, replies, strict=True)]

    monkeypatch.setattr(DenseBatch, "blocks", failing)
    model = fitted(counts, design)
    broken = [status == "failed: RuntimeError: broken" for status in model.status]
    assert any(broken)
    assert not all(broken)


# ---- where and how many


def test_which_fits_are_batched():
    cuda, mps, cpu = (torch.device(name) for name in ("cuda", "mps", "cpu"))
    low_rank = LowRankKernel(np.ones(2), np.eye(4)[:, :2])
    assert lockstep_fit.batches_on(kernel(), cuda)
    assert not lockstep_fit.batches_on(kernel(), mps)
    assert not lockstep_fit.batches_on(kernel(), cpu)
    assert not lockstep_fit.batches_on(low_rank, cuda)


def test_genes_are_grouped_by_size():
    groups = lockstep_fit.alike([100, 10, 0, 12, 90, 13, 1])
    assert groups == [[2], [6], [1, 3], [5], [4, 0]]


def test_the_memory_decides_how_many(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(lockstep_fit, "free_bytes", lambda device: 20e9)
    width, at_once = lockstep_fit.room(cpu, 900, 900, 2)
    used = 8 * 1800**2 * (width + 4 * at_once) + 8 * 900**2
    assert 0.79 * 20e9 < used <= 0.8 * 20e9
    monkeypatch.setattr(lockstep_fit, "free_bytes", lambda device: 1e8)
    with pytest.raises(MemoryError, match=r"need about 0\.2 GB on cpu, 0\.1 GB are free"):
        lockstep_fit.room(cpu, 900, 900, 2)
