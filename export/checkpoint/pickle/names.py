"""What the names in a checkpoint's pickle stand for: our own inert values, and nothing of what they name.

Three kinds of names: those of torch's tensors and storages, which `stored_tensors` answers; those of harmless
values that training scripts put beside the weights, answered here; and all others, which are foreign. A file
with foreign names is read to its end, so that the refusal can list them, and is then refused.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .arrays import Array, ArrayType, array_of, array_type
from .limits import MAX_PATH_PARTS, Budget, LongText, PickleLimitError, UnreadablePickleError
from .stored_tensors import TENSOR_NAMES, Storage, TensorBuilder, UnreadableTensor

# Python 2's names of modules, which pickles of protocol 2 still carry.
_MODULES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "torch.tensor": "torch._tensor",
    "UserDict": "collections",
    "UserList": "collections",
    "UserString": "collections",
}
_RENAMED = {
    "builtins.unicode": "builtins.str",
    "builtins.long": "builtins.int",
    "collections.IterableUserDict": "collections.UserDict",
}
# Built by calls whose arguments are not worth reading: nothing here needs their values.
_DESCRIBED = re.compile(
    r"datetime\.(datetime|date|time|timedelta|timezone)|decimal\.Decimal|fractions\.Fraction|uuid\.UUID"
    r"|random\.Random|builtins\.(slice|range|xrange)"
    r"|numpy\.random\._pickle\.__(randomstate|generator|bit_generator)_ctor"
    r"|numpy\.random\.bit_generator\.(__pyx_unpickle_SeedSequence|SeedSequence)"
    r"|numpy\.ma\.core\._mareconstruct|torch\.serialization\._get_layout|torch\.(_C\.)?Generator"
    r"|collections\.(UserDict|UserList|UserString|ChainMap)|time\.struct_time|zoneinfo\.ZoneInfo(\._unpickle)?"
    # the standard library's enumerations
    r"|signal\.(Signals|Handlers|Sigmasks)|http\.(HTTPStatus|HTTPMethod)|re\.RegexFlag|uuid\.SafeUUID"
    r"|socket\.(AddressFamily|SocketKind|MsgFlag|AddressInfo)|inspect\._ParameterKind|plistlib\.PlistFormat"
    r"|ssl\.(TLSVersion|VerifyMode|Purpose|Options|AlertDescription)|enum\.(EnumCheck|FlagBoundary)"
)
# Classes that stand as values or as arguments.
_REFERENCES = re.compile(
    r"builtins\.(object|Ellipsis|NotImplemented)"
    r"|numpy\.(ndarray|matrix|recarray|memmap|ma\.MaskedArray|ma\.core\.MaskedArray)"
    r"|numpy\.(rec\.)?(recarray|record)|numpy\.void"
    r"|numpy\.random\._(mt19937|pcg64|philox|sfc64)\.\w+|numpy\.random\.mtrand\.RandomState"
    r"|numpy\.(float|int|uint|bool|complex)\w{0,4}|numpy\.dtypes?\.\w+DType"
)


@dataclass(frozen=True)
class Reference:
    """A known class or function, by its name alone."""

    name: str
    hashable = True


@dataclass(frozen=True)
class Foreign:
    """What only code from outside could build."""

    name: str


@dataclass(frozen=True)
class Described:
    """A harmless value that is read past."""

    text: str

    def __str__(self) -> str:
        return self.text


class Record(dict[str, Any]):
    """A namespace, such as argparse's."""


class CheckpointNames:
    """The names of one checkpoint. `foreign` lists those that are not known, in the order in which they came."""

    def __init__(self, tensors: TensorBuilder) -> None:
        self._tensors = tensors
        self.foreign: dict[str, None] = {}

    def find(self, module: str, name: str) -> Any:
        full = f"{_MODULES.get(module, module)}.{name}"
        full = _RENAMED.get(full, full)
        found = self._tensors.constant(full)
        if found is not None:
            return found
        known = full in TENSOR_NAMES or full in _CALLS
        if known or _DESCRIBED.fullmatch(full) or _REFERENCES.fullmatch(full):
            return Reference(full)
        return self._foreign(full)

    def _foreign(self, name: str) -> Foreign:
        self.foreign[name] = None
        return Foreign(name)

    def call(self, function: Any, args: Any, budget: Budget) -> Any:
        if isinstance(function, (Foreign, Described)):
            return function
        if not isinstance(function, Reference):
            raise UnreadablePickleError(f"it calls a {type(function).__name__}")
        if not isinstance(args, tuple):
            raise UnreadablePickleError(f"it calls {function.name} without arguments")
        if function.name == "builtins.type" and len(args) != 1:  # which makes a new class
            return self._foreign(function.name)
        budget.spend(len(args))  # one long tuple could be given many times
        if function.name in TENSOR_NAMES:
            return self._tensors.build(function.name, args)
        if function.name in _CALLS:
            return _CALLS[function.name](args, budget)
        if _DESCRIBED.fullmatch(function.name):
            return Described(function.name)
        return self._foreign(function.name)

    def set_state(self, value: Any, state: Any, budget: Budget) -> None:
        if isinstance(value, (Array, ArrayType)):
            value.set_state(state)
        elif isinstance(value, Record):
            value.update(_attributes(state, budget))
        elif not isinstance(value, (Foreign, Described, UnreadableTensor, dict, list, set, str)) and not (
            self._tensors.is_tensor(value)
        ):
            # attributes of ordered dictionaries (a state dict's versions), tensors, text: nothing here reads them
            raise UnreadablePickleError(f"it gives a state to a {type(value).__name__}")

    def append(self, value: Any, items: list[Any]) -> None:
        if not isinstance(value, (Foreign, Described)):
            raise UnreadablePickleError(f"it adds elements to a {type(value).__name__}")

    def set_items(self, value: Any, items: list[tuple[Any, Any]]) -> None:
        if not isinstance(value, (Foreign, Described)):
            raise UnreadablePickleError(f"it sets keys of a {type(value).__name__}")

    def stored(self, identity: Any) -> Storage:
        return self._tensors.storage(identity)


def _attributes(state: Any, budget: Budget) -> dict[str, Any]:
    """An instance's `__dict__`, which may come in a pair with what is in slots."""
    given = state[0] if isinstance(state, tuple) and len(state) == 2 else state
    budget.spend(8 * len(given) if isinstance(given, dict) else 0)
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise UnreadablePickleError("the state of a namespace is no dictionary of names")
    return given


def _sequence(args: tuple[Any, ...], budget: Budget) -> list[Any]:
    """The elements of the one optional argument."""
    if not args or args[0] is None:
        return []
    given = args[0]
    if not isinstance(given, (list, tuple, set, frozenset, dict)):
        raise UnreadablePickleError(f"it makes a collection of a {type(given).__name__}")
    budget.spend(8 * len(given))
    return list(given)


def _set(args: tuple[Any, ...], budget: Budget) -> set[Any]:
    return set(map(budget.key, _sequence(args, budget)))


def _dictionary(args: tuple[Any, ...], budget: Budget) -> dict[Any, Any]:
    if args and isinstance(args[0], dict):
        budget.spend(8 * len(args[0]))
        return dict(args[0])
    pairs = _sequence(args, budget)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise UnreadablePickleError("it makes a dictionary of what are no pairs")
    return {budget.key(key): value for key, value in pairs}


def _default_dictionary(args: tuple[Any, ...], budget: Budget) -> dict[Any, Any]:
    return _dictionary(args[1:], budget)


def _namespace(args: tuple[Any, ...], budget: Budget) -> Record:
    return Record()


def _bytes(args: tuple[Any, ...], budget: Budget) -> bytes | LongText:
    """bytes and bytearray: of nothing, of bytes, or of text in which each letter is a byte."""
    if not args:
        return b""
    if isinstance(args[0], (bytes, LongText)):
        return args[0]
    return _encoded(args, budget)


def _encoded(args: tuple[Any, ...], budget: Budget) -> bytes | LongText:
    """How protocol 2 writes bytes: text and "latin1"."""
    text, encoding = args if len(args) == 2 else (None, None)
    if encoding not in ("latin1", "latin-1"):
        raise UnreadablePickleError("it encodes text in another way than bytes are written")
    if isinstance(text, LongText):
        return text
    if not isinstance(text, str):
        raise UnreadablePickleError(f"it encodes a {type(text).__name__}")
    budget.spend(len(text))
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise UnreadablePickleError("letters that stand for bytes are none") from error


def _complex(args: tuple[Any, ...], budget: Budget) -> complex:
    if not 1 <= len(args) <= 2 or not all(isinstance(part, float) for part in args):
        raise UnreadablePickleError("the parts of a complex number are no numbers")
    return complex(*args)


def _path(kind: type[pathlib.PurePath]) -> Callable[[tuple[Any, ...], Budget], str]:
    def build(args: tuple[Any, ...], budget: Budget) -> str:
        if not all(isinstance(part, str) for part in args):
            raise UnreadablePickleError("the parts of a path are no text")
        if len(args) > MAX_PATH_PARTS:
            raise PickleLimitError(f"a path of it has {len(args):,} parts, at most {MAX_PATH_PARTS} are read")
        budget.spend(sum(map(len, args)))
        return str(kind(*args))

    return build


def _plain_number(args: tuple[Any, ...], budget: Budget) -> Any:
    """int, float, str and bool of a value that is one already."""
    if len(args) != 1 or not isinstance(args[0], (int, float, str)):
        raise UnreadablePickleError("it makes a number of what is none")
    return args[0]


def _version(args: tuple[Any, ...], budget: Budget) -> str:
    """torch.__version__, which is text of a class of its own."""
    if len(args) != 1 or not isinstance(args[0], str):
        raise UnreadablePickleError("a version of torch is no text")
    return args[0]


def _class_of(args: tuple[Any, ...], budget: Budget) -> Described:
    """type(None) and its like, which have no name of their own."""
    return Described("NoneType" if args[0] is None else "type")


def _array_type(args: tuple[Any, ...], budget: Budget) -> ArrayType:
    return array_type(args[0] if args else None)


def _array_scalar(args: tuple[Any, ...], budget: Budget) -> Array:
    if len(args) != 2 or not isinstance(args[0], ArrayType):
        raise UnreadablePickleError("a NumPy scalar has no dtype and value")
    return array_of(args[0], (), args[1]) if args[0].readable else Array(replace(args[0]))


def _array_from_buffer(args: tuple[Any, ...], budget: Budget) -> Array:
    if len(args) != 4:
        raise UnreadablePickleError("a NumPy array is given by a wrong number of parts")
    data, kind, shape, order = args
    return array_of(kind, shape, data, order == "F")


def _empty_array(args: tuple[Any, ...], budget: Budget) -> Array:
    """What `_reconstruct` makes; the state that follows fills it."""
    return Array(ArrayType("empty"))


_CALLS: dict[str, Callable[[tuple[Any, ...], Budget], Any]] = {
    "argparse.Namespace": _namespace,
    "types.SimpleNamespace": _namespace,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "collections.deque": _sequence,
    "builtins.dict": _dictionary,
    "builtins.list": _sequence,
    "builtins.tuple": lambda args, budget: tuple(_sequence(args, budget)),
    "builtins.set": _set,
    "builtins.frozenset": lambda args, budget: frozenset(_set(args, budget)),
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.complex": _complex,
    "builtins.type": _class_of,
    "torch.torch_version.TorchVersion": _version,
    **{f"builtins.{name}": _plain_number for name in ("int", "float", "str", "bool")},
    "_codecs.encode": _encoded,
    # Python 3.13 moved the classes
    **{
        f"{module}.{name}": _path(kind)
        for module in ("pathlib", "pathlib._local")
        for names, kind in (
            (("PosixPath", "PurePosixPath", "Path", "PurePath"), pathlib.PurePosixPath),
            (("WindowsPath", "PureWindowsPath"), pathlib.PureWindowsPath),
        )
        for name in names
    },
    "numpy.dtype": _array_type,
    # NumPy 2 moved these functions
    **{
        f"numpy.{core}.{name}": build
        for core in ("core", "_core")
        for name, build in (
            ("multiarray.scalar", _array_scalar),
            ("multiarray._reconstruct", _empty_array),
            ("numeric._frombuffer", _array_from_buffer),
        )
    },
}
