"""The families of policies that are known here: the one that is built in, and those of installed packages.

A package offers one by the entry-point group `vla_edge.families`, whose values are objects of the class `Family`:

    [project.entry-points."vla_edge.families"]
    mine = "my_package.my_family:FAMILY"

Nothing is imported before a checkpoint is read or a bundle's family is asked for.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.errors import InputError, VlaError

from .family import Family

GROUP = "vla_edge.families"
BUILT_IN = "kosmos2"
_BUILT_IN = EntryPoint(BUILT_IN, "vla_edge.export.kosmos2.family:FAMILY", GROUP)
# What a package of others may raise: whatever it likes, and `sys.exit` is no exception to it.
_ANYTHING = (Exception, SystemExit)
_WAY_AROUND = f"Mend or uninstall that package, or name another family: --family {BUILT_IN}"
_SET_BY_EVERY = ("name", "parts", "architecture", "settings", "gates")


def built_in() -> Family:
    """The family that comes with this package."""
    return family_of(BUILT_IN)


def family_of_bundle(manifest: Manifest) -> Family:
    """The family of a bundle's policy; before manifests named it there was one. Raises as `family_of`."""
    return family_of(manifest.architecture.family if manifest.architecture else BUILT_IN)


def all_families() -> tuple[Family, ...]:
    """Every family, the one that is built in first.

    Raises:
        InputError: a package that offers one cannot be imported.
    """
    return tuple(map(family_of, _offers()))


@cache
def family_of(name: str) -> Family:
    """The family with this name.

    Raises:
        InputError: there is none, several packages offer one, or its package cannot be imported.
    """
    offers = _offers()
    if name not in offers:
        raise InputError(
            f"there is no family {name!r} here; known: {', '.join(offers)}.",
            "Install the package that offers it, in this environment.",
        )
    if len(offers[name]) > 1:
        packages = ", ".join(map(_package, offers[name]))
        raise InputError(f"several packages offer the family {name!r}: {packages}.", "Uninstall all but one.")
    offer = offers[name][0]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no result of a command
            family = offer.load()
    except _ANYTHING as error:
        raise InputError(
            f"the family {name!r} ({offer.value} of {_package(offer)}) cannot be imported: {_told(error)}.",
            _WAY_AROUND,
        ) from error
    whole = isinstance(family, Family) and all(hasattr(family, field) for field in _SET_BY_EVERY)
    if not whole or family.name != name:
        raise InputError(
            f"the family {name!r} ({offer.value} of {_package(offer)}) is no Family of that name.",
            "It must be an object of a class derived from vla_edge.export.family.Family that sets "
            f"{', '.join(_SET_BY_EVERY)}.",
        )
    return family


@contextlib.contextmanager
def asking(family: Family) -> Iterator[None]:
    """Where every family is asked: a mistake in one that a package added is told as that package's.

    Raises:
        InputError: it raised what is no error of ours.
    """
    try:
        yield
    except (VlaError, MemoryError):
        raise
    except _ANYTHING as error:
        if family.name == BUILT_IN:
            raise
        raise InputError(f"the family {family.name!r} failed: {_told(error)}.", _WAY_AROUND) from error


@cache
def _offers() -> dict[str, list[EntryPoint]]:
    """By name; a package that stands twice on the path is one."""
    found = {BUILT_IN: [_BUILT_IN]}
    try:
        offered = entry_points(group=GROUP)
    except Exception as error:  # importlib.metadata's, over a package's file that it cannot parse
        raise InputError(
            f"the entry points of the installed packages cannot be read: {_told(error)}.",
            "An entry_points.txt there is damaged: install its package again.",
        ) from error
    for offer in offered:
        others = found.setdefault(offer.name, [])
        if all((offer.value, _package(offer)) != (other.value, _package(other)) for other in others):
            others.append(offer)
    return found


def _package(offer: EntryPoint) -> str:
    if offer.dist is None:
        return "vla-edge"
    return offer.dist.name or "a package without a name"  # where its metadata is missing


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
