"""The families of policies that are known here: the one that is built in, and those of installed packages.

A package offers one by the entry-point group `vla_edge.families`, whose values are objects of the class `Family`:

    [project.entry-points."vla_edge.families"]
    mine = "my_package.my_family:FAMILY"

Nothing is imported before a checkpoint is read or a bundle's family is asked for.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.errors import InputError

from .family import Family

GROUP = "vla_edge.families"
BUILT_IN = "kosmos2"
_BUILT_IN = EntryPoint(BUILT_IN, "vla_edge.export.kosmos2.family:FAMILY", GROUP)


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
        family = offer.load()
    except Exception as error:  # a package of others: it may raise whatever it likes
        raise InputError(
            f"the family {name!r} ({offer.value} of {_package(offer)}) cannot be imported: "
            f"{type(error).__name__}: {error}.",
            f"Mend or uninstall that package, or name another family: --family {BUILT_IN}",
        ) from error
    if not isinstance(family, Family) or family.name != name:
        raise InputError(
            f"the family {name!r} ({offer.value} of {_package(offer)}) is no Family of that name.",
            "It must be an object of a class derived from vla_edge.export.family.Family.",
        )
    return family


@cache
def _offers() -> dict[str, list[EntryPoint]]:
    """By name; a package that stands twice on the path is one."""
    found = {BUILT_IN: [_BUILT_IN]}
    for offer in entry_points(group=GROUP):
        others = found.setdefault(offer.name, [])
        if all((offer.value, _package(offer)) != (other.value, _package(other)) for other in others):
            others.append(offer)
    return found


def _package(offer: EntryPoint) -> str:
    return offer.dist.name if offer.dist else "vla-edge"
