"""Building modules on the meta device, for the shapes of their tensors alone."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """While modules are built on the meta device: element-wise results are empty tensors of their shape.

    Computing them there would be right too, but imports torch's compiler, a second of every command.
    """

    ELEMENTWISE = frozenset(
        [
            "add",
            "sub",
            "mul",
            "div",
            "true_divide",
            "sqrt",
            "rsqrt",
            "square",
            "neg",
            "reciprocal",
            "__add__",
            "__radd__",
            "__sub__",
            "__rsub__",
            "__mul__",
            "__rmul__",
            "__truediv__",
            "__rtruediv__",
            "__rdiv__",
            "__neg__",
            "__pow__",
        ]
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        if tensors and not kwargs and all(x.is_meta for x in tensors):
            if name in self.ELEMENTWISE:
                shape = torch.broadcast_shapes(*(x.shape for x in tensors))  # type: ignore[no-untyped-call]
                return torch.empty(shape, dtype=tensors[0].dtype, device="meta")
            if name == "outer":
                return torch.empty(len(args[0]), len(args[1]), dtype=args[0].dtype, device="meta")
            if name == "sum" and len(args) == 1:
                return torch.empty((), dtype=args[0].dtype, device="meta")
        return func(*args, **(kwargs or {}))
