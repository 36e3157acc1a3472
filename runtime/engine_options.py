"""The options by which a command says in which engine a bundle runs: the same for all that run policies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.registry import ENGINES

# As `Policy.load` takes them; those that were not given are not there.
EngineArguments = dict[str, Any]

_Callback = TypeVar("_Callback", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--backend",
        type=click.Choice(["auto", *ENGINES]),
        default="auto",
        show_default=True,
        help="Engine. auto: TensorRT where the bundle has a plan (one that was checked, or a GPU is here), else ONNX "
        "Runtime on the CPU.",
    ),
    click.option(
        "--provider", type=click.Choice(["cpu", "cuda"]), help="Device of ONNX Runtime. [default: cpu]"
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of ONNX Runtime. [default: the usable cores]"
    ),
    click.option("--device", type=click.IntRange(0), help="CUDA's index of the GPU. [default: 0]"),
    click.option(
        "--memory",
        type=click.Choice(get_args(MemoryName)),
        help="Package for TensorRT's device memory. [default: cuda-bindings]",
    ),
    click.option(
        "--verify",
        type=click.Choice(["full", "size"]),
        default="full",
        show_default=True,
        help="Check hashes of the bundle's files, or their sizes only.",
    ),
)
_ALWAYS = ("backend", "verify")
# Of the command line -> of `Policy.load`.
_NAMES = {"provider": "provider", "threads": "threads", "device": "device_index", "memory": "memory"}


def engine_options(command: _Callback) -> Callable[..., Any]:
    """Add the options to a command; it gets them as `engine`, of the type `EngineArguments`."""

    @functools.wraps(command)
    def with_engine(**given: Any) -> Any:
        engine = {name: given.pop(name) for name in _ALWAYS}
        asked = {name: given.pop(option) for option, name in _NAMES.items()}
        engine |= {name: value for name, value in asked.items() if value is not None}
        return command(engine=engine, **given)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), with_engine)
