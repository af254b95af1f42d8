"""Following a network's code with torch.fx where that code asks for sizes, iterates or changes tensors.

torch.fx runs forward() on stand-ins for tensors. Questions about sizes and types are answered by what the example input
gives, and each answer that depends on sizes becomes an operation of the graph that holds the input to it; questions
about the numbers in a tensor have no answer, and are refused.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import operator
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute
from torch.nn.modules.conv import _ConvNd

from zoo.errors import ZooError
from zoo.modules.same_padding import SamePad2d
from zoo.modules.several_inputs import UnpackInputs
from zoo.surgery.example_values import UNKNOWN, ExampleValues
from zoo.surgery.plain_layers import has_own_call

#: Functions and methods that accept sizes and no other stand-in, so that torch.fx does not see them.
_OF_SIZES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (
        torch,
        (
            "zeros",
            "ones",
            "full",
            "empty",
            "arange",
            "linspace",
            "eye",
            "rand",
            "randn",
            "tensor",
            "as_tensor",
        ),
    ),
    (Tensor, ("expand", "view", "reshape", "repeat", "tile", "__getitem__")),
)
#: Attributes and methods of tensors whose answer depends on the size of the input.
_SIZES = frozenset({"shape", "size", "numel", "nelement", "stride", "nbytes", "__len__"})
#: What timm keeps out of graphs because it changes tensors in place, which is removed here.
_FOLLOWED = ("NormFreeBlock",)
#: Code that is not the network's own.
_LIBRARIES = tuple(str(Path(module.__file__ or "").parent) for module in (torch, sys.modules["zoo"]))


class Untraceable(Exception):
    """Why a network's code cannot be followed.

    Attributes:
        hint: How to write it instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def hold_decision(value: Any, decided: Any) -> None:
    """Hold an input to what the code decided on the example: the graph has only that way.

    Raises:
        ZooError: The network would go another way for this input.
    """
    if type(decided)(value) != decided:
        raise ZooError(
            f"The network's code goes another way for an input of this size: it was followed where a number is "
            f"{decided}, which is {value} here.",
            hint="Use inputs of the size of the architecture's example, or write that code without Python's if, int() "
            "and loops over sizes.",
        )


fx.node.has_side_effect(hold_decision)


class StandIn(fx.Proxy):
    """A traced value that answers what its example answers, and can be changed in place."""

    tracer: Tracer

    @property
    def example(self) -> Any:
        """Return what it is on the example input; `UNKNOWN` if that cannot be known."""
        return self.tracer.values.of(self.node)

    def __getattr__(self, name: str) -> Any:
        if name == "data" and isinstance(self.example, Tensor):
            return self.detach()  # which torch can export, and computes the same
        return _AttributeStandIn(self, name)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __len__(self) -> int:
        value = self.example
        if isinstance(value, Tensor):
            return int(self.tracer.decide(self.size(0), int))
        if not isinstance(value, (tuple, list)):
            raise self.tracer.no_answer("a length", value)
        if not isinstance(value, torch.Size) and not self.tracer.splits_channels(self.node):
            self.tracer.decide(self.tracer.create_proxy("call_function", len, (self,), {}), int)
        return len(value)

    def __int__(self) -> int:
        return int(self.tracer.decide(self, int))

    def __index__(self) -> int:
        if not isinstance(self.example, int):
            raise self.tracer.no_answer("a number", self.example)
        return int(self.tracer.decide(self, int))

    def __float__(self) -> float:
        return float(self.tracer.decide(self, float))


class _AttributeStandIn(StandIn, Attribute):
    """An attribute of a traced value; called, it is a method of it."""


def _changes_in_place(name: str) -> Callable[[StandIn, Any], Any]:
    in_place, plain = (
        getattr(operator, f"i{name}"),
        getattr(operator, f"{name}_", None) or getattr(operator, name),
    )

    def change(self: StandIn, other: Any) -> Any:
        if isinstance(self.example, Tensor):
            return self.tracer.create_proxy("call_function", in_place, (self, other), {})
        return plain(self, other)

    return change


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(StandIn, f"__i{_name}__", _changes_in_place(_name))


def _libraries_leaves() -> tuple[tuple[type, ...], tuple[Callable[..., Any], ...]]:
    """What timm says must not be traced through; nothing when timm is not in use."""
    if "timm" not in sys.modules:
        return (), ()
    layers: Any = importlib.import_module("timm.layers")
    modules = (
        layers.BatchNormAct2d,
        *(each for each in layers.get_notrace_modules() if each.__name__ not in _FOLLOWED),
    )
    return modules, tuple(layers.get_notrace_functions())


class Tracer(fx.Tracer):
    """Traces a network with the values that an example input has.

    Args:
        root: The module that is traced.
        example: The input, (N, C, H, W).

    Attributes:
        values: What the nodes are on the example.
        inside: The paths of the modules whose code is being followed, outermost first.
    """

    def __init__(self, root: nn.Module, example: Tensor) -> None:
        self._leaves, functions = _libraries_leaves()
        super().__init__(autowrap_functions=functions)
        self.values = ExampleValues(root, example)
        self.inside: list[str] = []
        #: Decisions taken since the last operation.
        self._decisions: list[fx.Node] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if has_own_call(m):
            return False  # its hooks and its own forward() become part of the graph
        if isinstance(m, (_ConvNd, nn.Linear)):
            return True  # a stranger's subclass: left alone under its own name
        return isinstance(m, (*self._leaves, SamePad2d, UnpackInputs)) or super().is_leaf_module(
            m, module_qualified_name
        )

    def proxy(self, node: fx.Node) -> StandIn:
        return StandIn(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.values.add(node)
        if node.target is hold_decision:
            self._decisions.append(node)
            return node
        if isinstance(node.target, BuiltinFunctionType):
            # A function of C looks at the numbers that it is called with before it is found to be traced.
            for decision in self._decisions:
                if decision.args[0] in node.all_input_nodes:
                    self.graph.erase_node(decision)
        self._decisions.clear()
        return node

    def create_arg(self, a: Any) -> Any:
        return a.node if issubclass(type(a), fx.Proxy) else super().create_arg(a)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.values.running:
            return forward(*args, **kwargs)
        try:
            path = self.path_of_module(m)
        except NameError as error:
            if next(m.parameters(), None) is None and next(m.buffers(), None) is None:
                return forward(*args, **kwargs)  # it only computes
            raise Untraceable(
                f"{type(m).__name__} is not registered in the network",
                "Assign the layer to an attribute, or keep it in nn.ModuleList or nn.ModuleDict: a plain list or dict "
                "hides its weights.",
            ) from error
        self.inside.append(path)
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.values.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    # ----------------------------------------------------------------------------------------------- questions

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.decide(obj, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        parts: Any = obj
        return iter([parts[index] for index in range(len(parts))])

    def decide(self, asked: fx.Proxy, kind: type) -> Any:
        """Return a value on the example, as `kind`; the graph holds its input to it if it depends on sizes."""
        value = self.values.of(asked.node)
        if isinstance(value, Tensor) or value is UNKNOWN:
            raise self.no_answer({bool: "yes or no", int: "a whole number"}.get(kind, "a number"), value)
        decided = kind(value)
        if self._depends_on_size(asked.node):
            self.create_node("call_function", hold_decision, (asked.node, decided), {})
        return decided

    def no_answer(self, wanted: str, value: Any) -> Untraceable:
        """Return the error for a question that only data can answer."""
        if not isinstance(value, Tensor) and value is not UNKNOWN:
            return Untraceable(
                f"its code takes {type(value).__name__} for {wanted}",
                "Write that line with torch's operators.",
            )
        return Untraceable(
            f"its code asks for {wanted} that depends on the numbers in a tensor",
            "A file has one way for all inputs: write `if` as torch.where(condition, a, b), which computes both, and "
            "keep numbers in tensors instead of using .item(), int() or float().",
        )

    def _depends_on_size(self, node: fx.Node) -> bool:
        waiting, seen = [node], set()
        while waiting:
            each = waiting.pop()
            if each in seen:
                continue
            seen.add(each)
            name = each.args[1] if each.target is getattr else each.target
            if name in _SIZES or each.target is len:
                return True
            waiting += [
                source for source in each.all_input_nodes if not isinstance(self.values.of(source), Tensor)
            ]
        return False

    def splits_channels(self, node: fx.Node) -> bool:
        """Return whether a node's values are parts along the channels, whose number does not depend on the input."""
        dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim")
        return dim in (1, -3)

    @contextlib.contextmanager
    def seeing_sizes(self) -> Iterator[None]:
        """Follow functions that accept sizes, and let the network's code see what is a tensor, while the body runs."""
        originals = [(owner, name, getattr(owner, name)) for owner, names in _OF_SIZES for name in names]
        names = [each for each in _namespaces(self.values.root) if "isinstance" not in each]
        for owner, name, original in originals:
            setattr(owner, name, self._followed(original, name, method=owner is Tensor))
        for namespace in names:
            namespace["isinstance"] = _is_instance
        wrapped: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
            (torch.autocast, "__enter__", self._refusing_autocast), (nn.Module, "to", _staying),
            (nn.Module, "get_parameter", _by_path), (nn.Module, "get_buffer", _by_path),
        )  # fmt: skip
        for owner, name, wrap in wrapped:
            original = getattr(owner, name)
            originals.append((owner, name, original))
            setattr(owner, name, wrap(original))
        try:
            yield
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)
            for namespace in names:
                del namespace["isinstance"]

    def _refusing_autocast(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A graph does not keep what torch does around its operators."""

        def enter(context: Any) -> Any:
            if context._enabled and not self.values.running:
                kind = str(context.fast_dtype).removeprefix("torch.")
                raise Untraceable(
                    f"its code computes in {kind} inside torch.autocast",
                    "Leave torch.autocast out of forward(); to train with it:  --precision bfloat16",
                )
            return original(context)

        return enter

    def _followed(self, original: Callable[..., Any], name: str, *, method: bool) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.values.running or not _has_stand_in((args, kwargs)):
                return original(*args, **kwargs)
            if name == "__getitem__":
                return self.create_proxy("call_function", operator.getitem, args, kwargs)
            if method:
                return self.create_proxy("call_method", name, args, kwargs)
            return self.create_proxy("call_function", original, args, kwargs)

        return call


def _staying(original: Callable[..., Any]) -> Callable[..., Any]:
    """nn.Module.to() for the network's code, whose layers are where its input is."""

    def move(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return module if _has_stand_in((args, kwargs)) else original(module, *args, **kwargs)

    return move


def _by_path(original: Callable[..., Any]) -> Callable[..., Any]:
    """get_parameter() and get_buffer() for the network's code, without a check that stand-ins fail."""

    def get(module: nn.Module, target: str) -> Any:
        return operator.attrgetter(target)(module)

    return get


def _is_instance(value: Any, kinds: Any) -> bool:
    """isinstance() for the network's code, to which a stand-in is what it stands for."""
    example = value.example if isinstance(value, StandIn) else UNKNOWN
    return isinstance(value, kinds) or (example is not UNKNOWN and isinstance(example, kinds))


def _namespaces(root: nn.Module) -> list[dict[str, Any]]:
    """The globals of the modules in which a network is written, without torch's own."""
    found: dict[int, dict[str, Any]] = {}
    for module in root.modules():
        for function in (getattr(type(module), "forward", None), *vars(module).values()):
            own = getattr(inspect.unwrap(function), "__globals__", {}) if callable(function) else {}
            if not str(own.get("__name__", "torch")).startswith("torch."):
                found[id(own)] = own
    return [each for each in found.values() if each]


def _has_stand_in(value: Any) -> bool:
    kind = type(value)
    if issubclass(kind, fx.Proxy):
        return True
    if issubclass(kind, (tuple, list)):
        return any(_has_stand_in(each) for each in value)
    if issubclass(kind, dict):
        return any(_has_stand_in(each) for each in value.values())
    if kind is slice:
        return _has_stand_in((value.start, value.stop, value.step))
    return False


def place_of(error: BaseException) -> str:
    """Return the line of the network's code that raised an error, as "file.py, line 12"; "" if there is none."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_LIBRARIES)
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
