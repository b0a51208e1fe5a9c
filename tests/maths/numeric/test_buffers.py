"""Arrays that factors take in turn: whose they are, how many there are, copies."""

import copy
import pickle

import numpy as np
import pytest

from splisosm_pyro.maths.numeric.buffers import Buffers


class Owner:
    """A factor that is one number; counts how often it is made."""

    def __init__(self, buffers, value):
        self.buffers, self.value, self.made = buffers, value, 0

    def fill(self, array):
        self.made += 1
        array.fill(self.value)

    @property
    def number(self):
        return float(self.buffers.of(self, self.fill)[0])


@pytest.mark.parametrize("most", [1, 2, 3])
def test_every_owner_finds_its_own_numbers(most):
    buffers = Buffers((1,), most)
    owners = [Owner(buffers, float(k)) for k in range(4)]
    arrays = set()
    for k in (0, 1, 2, 3, 0, 1, 1, 3, 2, 0):
        assert owners[k].number == k
        arrays.add(buffers.of(owners[k], owners[k].fill).ctypes.data)
    assert len(arrays) == most


def test_what_was_used_last_is_kept():
    buffers = Buffers((1,), 2)
    here, first, second = (Owner(buffers, value) for value in (1.0, 2.0, 3.0))
    for trial in (first, second):
        assert here.number + trial.number == 1.0 + trial.value
    assert here.number == 1.0
    assert here.made == 1


def test_the_array_of_an_owner_that_is_gone_is_taken_first():
    buffers = Buffers((1,), 2)
    here, gone = Owner(buffers, 1.0), Owner(buffers, 2.0)
    assert here.number < gone.number
    del gone
    assert Owner(buffers, 3.0).number == 3.0
    assert here.number == 1.0
    assert here.made == 1


def test_an_array_that_could_not_be_filled_is_nobodys():
    buffers = Buffers((1,), 1)
    here = Owner(buffers, 1.0)
    assert here.number == 1.0

    def refuse(array):
        array.fill(np.nan)
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        buffers.of(Owner(buffers, 2.0), refuse)
    assert here.number == 1.0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda owner: pickle.loads(pickle.dumps(owner))])
def test_a_copy_has_arrays_of_its_own(copied):
    here = Owner(Buffers((1,)), 1.0)
    assert here.number == 1.0
    there = copied(here)
    assert there.number == 1.0
    there.buffers.of(there, there.fill)[0] = 5.0
    assert here.number == 1.0
