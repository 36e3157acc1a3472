"""What libraries and the system raise is told in plain words."""

from __future__ import annotations

import errno

import pytest

from vla_edge.runtime.command.failures import in_plain_words
from vla_edge.runtime.errors import BundleError, EngineError, MissingPackageError, ResourceError

TORCH = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"
)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7.63 GiB for an array"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object", name="torch"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        TORCH,
    ],
    ids=str,
)
def test_little_memory_is_told_as_such_whatever_the_type(error: Exception) -> None:
    found = in_plain_words(error)
    assert isinstance(found, ResourceError)
    assert found.problem.startswith("not enough memory")
    assert "ulimit -v" in found.hint


@pytest.mark.parametrize(
    ("module", "extra"), [("torch", "export"), ("scipy", "bench"), ("onnxruntime", "onnxruntime")]
)
def test_a_known_package_that_is_missing_names_its_extra(module: str, extra: str) -> None:
    found = in_plain_words(ModuleNotFoundError(f"No module named '{module}'", name=module))
    assert isinstance(found, MissingPackageError)
    assert (found.problem, found.hint) == (
        f"{module} is not installed here.",
        f"pip install 'vla-edge[{extra}]'",
    )


@pytest.mark.parametrize("name", ["torch.cuda.nothing", "charset_normalizer", None])
def test_a_broken_installation_is_told_with_what_was_wrong(name: str | None) -> None:
    found = in_plain_words(ImportError("undefined symbol: abc", name=name))
    assert isinstance(found, EngineError)
    assert "cannot be imported: undefined symbol: abc" in found.problem


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), RuntimeError("x"), ImportError("y", name="vla_edge.export.z")]
)
def test_a_mistake_of_ours_is_none_of_the_users(error: Exception) -> None:
    assert in_plain_words(error) is None


def test_a_user_error_stays_what_it_is() -> None:
    error = BundleError("gone.")
    assert in_plain_words(error) is error
