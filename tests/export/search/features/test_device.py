"""Where a search computes, and how exactly."""

from __future__ import annotations

import pytest
import torch

from vla_edge.export.search.features.device import chosen_device, peak_mib
from vla_edge.runtime.errors import InputError


def test_products_are_of_single_precision_whatever_the_surroundings_say() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True  # as a variable of NVIDIA's containers does
    assert chosen_device("cpu", tf32=True) == "cpu"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    chosen_device("cpu", tf32=False)
    assert not torch.backends.cudnn.allow_tf32
    chosen_device("cpu", tf32=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    assert chosen_device("auto", tf32=True) == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        chosen_device("cuda", tf32=True)


def test_a_cpu_has_no_peak() -> None:
    assert peak_mib("cpu") is None
