"""Finding the policy's weights in a checkpoint: under which key, below which wrappers, and what else could be meant.

Trainers keep averaged weights (EMA, SWA) beside the last ones, under names of their own. What is meant by
"other weights" here is therefore told by the tensors' names and shapes, not by a list of keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_edge.export.checkpoint.file.archive import RESAVE
from vla_edge.export.checkpoint.pickle.stored_tensors import UnreadableTensor
from vla_edge.export.family import Parts
from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.printable import printable

from .plain import key_text
from .wrappers import is_trained, policies_in, unwrapped

if TYPE_CHECKING:
    import torch

# Where a state dict is found, in this order; a file may also be a bare one.
STATE_DICT_KEYS = ("model_state_dict", "state_dict", "model")
OPTIMIZER_KEYS = ("optimizer_state_dict", "optimizer_states", "optimizer")
# No module is nested deeper; the tree of vla-inspect follows the dots.
MAX_NAME_PARTS = 100
LISTED_KEYS = 10

_DEEPEST = 3
_MOST_PLACES = 1000
_MOST_VALUES = 1_000_000
_LONGEST_KEY = 200


@dataclass(frozen=True)
class FoundWeights:
    """The weights of a checkpoint.

    Attributes:
        key: where they were, such as "model_state_dict" or "ema.state_dict"; "" for a bare state dict.
        tensors: by name, without wrappers and counters.
        stripped: what wrappers had added to the names, such as "module.".
        counters: names of dropped counters of averaging.
        given: the same as it stands in the file.
        others: by key, other weights of the same names, which were not taken.
    """

    key: str
    tensors: Mapping[str, torch.Tensor]
    stripped: str
    counters: tuple[str, ...]
    given: Mapping[str, Any]
    others: Mapping[str, Any]


def find_weights(path: Path, content: Mapping[str, Any], asked: str | None, parts: Parts) -> FoundWeights:
    """The weights that were asked for by key, or those under the first of the usual keys.

    Args:
        path: for errors.
        content: the file's.
        asked: key of the state dict to take.
        parts: how the names of the policy's tensors begin.

    Raises:
        CheckpointError: there are none, a value among them is no tensor or a tensor without plain values, or a
            name nests too deep.
    """
    places = dict(_places(content, parts))
    if asked is None:
        key = next((key for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), "")
        given: Any = content[key] if key else content
    else:
        key, given = asked, places.get(asked)
        if given is None:
            raise _no_such_key(path, asked, places)
    if not isinstance(given, Mapping):
        raise CheckpointError(
            f"{path}: {printable(key)} holds {len(given)} tensors without names, as EMA packages keep them.",
            "Copy them into the model in the training script (such as ema.copy_to(model.parameters())), "
            f"then save it: {RESAVE}.",
        )
    _check_tensors(path, key, given, places)
    _check_names(path, given)
    key, policy = _trained(path, key, given, parts)
    tensors, stripped, counters = unwrapped(policy, parts)
    others = {
        place: value
        for place, value in places.items()
        if place != key and value is not given and _is_like(tensors, value, parts)
    }
    return FoundWeights(key, tensors, stripped, counters, given, others)


def _trained(path: Path, key: str, given: Mapping[str, Any], parts: Parts) -> tuple[str, Mapping[str, Any]]:
    """Of several policies in one state dict the one that is trained, with its key; others are averages of it."""
    policies = policies_in(given, parts)
    if not policies:
        return key, given
    first = next(iter(policies))
    if not is_trained(first):
        listed = ", ".join(printable(_joined(key, front)) for front in policies)
        raise CheckpointError(
            f"{path}: {printable(key) or 'the state dict'} holds {len(policies)} policies: {listed}.",
            "Say which one is meant with --weights, such as --weights " + printable(_joined(key, first)),
        )
    return _joined(key, first), policies[first]


def _joined(key: str, front: str) -> str:
    return ".".join(filter(None, (key, front.removesuffix("."))))


def _policies(place: str, given: Mapping[str, Any], parts: Parts) -> Iterator[tuple[str, Any]]:
    return (
        (_joined(place, front), policy)
        for front, policy in policies_in(given, parts).items()
        if front and _usable(_joined(place, front))
    )


def _places(content: Mapping[str, Any], parts: Parts) -> Iterator[tuple[str, Any]]:
    """Dictionaries and lists of tensors down to three levels, by their keys joined with dots."""
    if any(map(_is_tensor, content.values())):
        yield from _policies("", content, parts)
    waiting: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in content.items() if _usable(key)]
    looked_at = 0
    for _ in range(_MOST_PLACES):
        if not waiting or looked_at > _MOST_VALUES:
            return
        place, value, level = waiting.pop(0)
        if place in OPTIMIZER_KEYS:
            continue
        looked_at += len(value) if isinstance(value, (Mapping, list)) else 1
        if isinstance(value, Mapping):
            if any(map(_is_tensor, value.values())):
                yield place, value
                yield from _policies(place, value, parts)
            elif level < _DEEPEST:
                inner = ((f"{place}.{key}", item, level + 1) for key, item in value.items() if _usable(key))
                waiting += [each for each in inner if len(each[0]) <= _LONGEST_KEY]
        elif isinstance(value, list) and len(value) > 1 and all(map(_is_tensor, value)):
            yield place, value


def _usable(key: Any) -> bool:
    """A key that can be shown, typed and kept in a manifest."""
    return isinstance(key, str) and 0 < len(key) <= _LONGEST_KEY and key.isprintable()


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, (torch.Tensor, UnreadableTensor))


def _is_like(tensors: Mapping[str, torch.Tensor], other: Any, parts: Parts) -> bool:
    """Whether most tensors of the policy are there a second time, with the same names and shapes."""
    if isinstance(other, list):
        shapes = Counter(tuple(tensor.shape or ()) for tensor in other)
        return not shapes - Counter(tuple(tensor.shape) for tensor in tensors.values())
    names = {name: tensor for name, tensor in other.items() if isinstance(name, str) and _is_tensor(tensor)}
    found = unwrapped(names, parts)[0]
    same = sum(name in found and found[name].shape == tensor.shape for name, tensor in tensors.items())
    return 2 * same > len(tensors)


def _check_tensors(path: Path, key: str, given: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    import torch

    wrong = [
        f"{printable(key_text(name))} ({_kind(value)})"
        for name, value in given.items()
        if not (isinstance(name, str) and isinstance(value, torch.Tensor))
    ]
    if given and not wrong:
        return
    more = f" and {len(wrong) - LISTED_KEYS} more" if len(wrong) > LISTED_KEYS else ""
    listed = (", ".join(wrong[:LISTED_KEYS]) or "nothing") + more
    if any(map(_is_tensor, given.values())):
        raise CheckpointError(
            f"{path}: {printable(key) or 'the state dict'} holds {len(wrong)} values that are no plain tensors: "
            f"{listed}.",
            f"Save the weights without them, as plain tensors on the CPU: {RESAVE}.",
        )
    where = (
        f"{printable(key)} holds"
        if key
        else f"it has no {', '.join(STATE_DICT_KEYS)}, and is itself no dictionary of tensors:"
    )
    other = (
        f" It has tensors under {', '.join(list(places)[:LISTED_KEYS])}: --weights KEY takes them."
        if places
        else ""
    )
    raise CheckpointError(
        f"{path} holds no state dict: {where} {listed}.",
        f'Save the weights as torch.save({{"model_state_dict": model.state_dict()}}, path).{other}',
    )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    return value.kind if isinstance(value, UnreadableTensor) else type(value).__name__


def _no_such_key(path: Path, asked: str, places: Mapping[str, Any]) -> CheckpointError:
    listed = ", ".join(list(places)[:LISTED_KEYS]) or "nowhere"
    return CheckpointError(
        f"{path} has no weights under {printable(asked)!r}; it has tensors under: {listed}.",
        "Give one of these keys with --weights, or leave it out.",
    )


def _check_names(path: Path, names: Mapping[str, Any]) -> None:
    deep = next((name for name in names if name.count(".") >= MAX_NAME_PARTS), None)
    if deep is not None:
        raise CheckpointError(
            f"{path}: the tensor name {printable(deep[:40])}... has {deep.count('.') + 1} parts between dots, "
            f"at most {MAX_NAME_PARTS} are read.",
            "No model nests that deep: the file is damaged or made to do harm; take it from its origin again.",
        )
