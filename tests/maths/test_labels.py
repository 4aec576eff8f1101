import numpy as np
import pytest
import torch

from sfrbench.maths.labels import highest


@pytest.mark.parametrize("classes", [1, 2, 5, 14])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_highest_is_argmax(classes, dtype, axis):
    """The first of equal values, nan above all, -0 as 0; in any layout, with one thread and with two."""
    rng = np.random.default_rng(classes)
    values = (rng.normal(size=(3, classes, 9, 8, 7)) * 2).round() / 2
    values[rng.random(values.shape) < 0.05] = np.nan
    values[rng.random(values.shape) < 0.05] = np.inf
    values[rng.random(values.shape) < 0.1] = -0.0
    maps = torch.from_numpy(values).to(dtype)
    expected = np.argmax(maps.double().numpy(), axis)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for given in (maps, maps.contiguous(memory_format=torch.channels_last_3d)):
                found = highest(given, axis)
                assert found.dtype == torch.int64
                assert np.array_equal(found.numpy(), expected)
                assert torch.equal(found, given.argmax(axis))
    finally:
        torch.set_num_threads(threads)


def test_highest_keeps_no_graph():
    maps = torch.randn(1, 2, 3, requires_grad=True)
    assert (maps * 2).requires_grad  # there is a graph to keep
    assert not highest(maps * 2).requires_grad
