"""Arithmetic on values of an ONNX graph, written as arithmetic."""

from __future__ import annotations

from typing import Any, Union

import numpy as np
from onnx import TensorProto

from pose2rgbd_ros.rendering.onnx_graph import Graph

KINDS = {
    np.float32: TensorProto.FLOAT,
    np.float64: TensorProto.DOUBLE,
    np.int64: TensorProto.INT64,
    np.uint8: TensorProto.UINT8,
    np.bool_: TensorProto.BOOL,
}

Operand = Union["Value", float, int, bool]


class Value:
    """A named value of a graph with its type; an operator adds the node that computes it.

    Numbers beside a value become constants of its type; values of different types must be cast by ``to``.
    """

    def __init__(self, graph: Graph, name: str, dtype: Any = np.float32) -> None:
        self.graph, self.name, self.dtype = graph, name, dtype

    def _operand(self, other: Operand) -> str:
        return other.name if isinstance(other, Value) else self.graph.constant(other, self.dtype)

    def _binary(self, operator: str, first: Operand, second: Operand, dtype: Any = None) -> Value:
        name = self.graph.add(operator, self._operand(first), self._operand(second))
        return Value(self.graph, name, dtype or self.dtype)

    def apply(self, operator: str, *others: Operand, dtype: Any = None, **attributes: Any) -> Value:
        """Any operator of ONNX with this value first."""
        inputs = [self._operand(other) for other in others]
        return Value(
            self.graph, self.graph.add(operator, self.name, *inputs, **attributes), dtype or self.dtype
        )

    def __add__(self, other: Operand) -> Value:
        return self._binary("Add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return self._binary("Add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return self._binary("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self._binary("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self._binary("Mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self._binary("Mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self._binary("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary("Div", other, self)

    def __gt__(self, other: Operand) -> Value:
        return self._binary("Greater", self, other, np.bool_)

    def __lt__(self, other: Operand) -> Value:
        return self._binary("Less", self, other, np.bool_)

    def __ge__(self, other: Operand) -> Value:
        return self._binary("GreaterOrEqual", self, other, np.bool_)

    def __le__(self, other: Operand) -> Value:
        return self._binary("LessOrEqual", self, other, np.bool_)

    def equals(self, other: Operand) -> Value:
        return self._binary("Equal", self, other, np.bool_)

    def __and__(self, other: Operand) -> Value:
        return self._binary("And", self, other)

    def __or__(self, other: Operand) -> Value:
        return self._binary("Or", self, other)

    def __invert__(self) -> Value:
        return self.apply("Not")

    def maximum(self, *others: Operand) -> Value:
        return self.apply("Max", *others)

    def minimum(self, *others: Operand) -> Value:
        return self.apply("Min", *others)

    def clip(self, lowest: Operand, highest: Operand) -> Value:
        return self.maximum(lowest).minimum(highest)

    def abs(self) -> Value:
        return self.apply("Abs")

    def floor(self) -> Value:
        return self.apply("Floor")

    def ceil(self) -> Value:
        return self.apply("Ceil")

    def isnan(self) -> Value:
        return self.apply("IsNaN", dtype=np.bool_)

    def to(self, dtype: Any) -> Value:
        return self.apply("Cast", dtype=dtype, to=KINDS[dtype])

    def where(self, yes: Value, no: Operand) -> Value:
        """`yes` where this condition holds, else `no`."""
        name = self.graph.add("Where", self.name, yes.name, yes._operand(no))
        return Value(self.graph, name, yes.dtype)

    def reshape(self, *shape: int) -> Value:
        return Value(self.graph, self.graph.reshape(self.name, list(shape)), self.dtype)

    def take(self, index: Value | int, axis: int = 0) -> Value:
        """Elements along an axis; a number takes the axis away."""
        which = index.name if isinstance(index, Value) else self.graph.constant(index, np.int64)
        return Value(self.graph, self.graph.add("Gather", self.name, which, axis=axis), self.dtype)

    def inside(self, graph: Graph) -> Value:
        """The same value read in the body of a loop: what is computed from it belongs to the body."""
        return Value(graph, self.name, self.dtype)


def constant(graph: Graph, values: Any, dtype: Any = np.float32) -> Value:
    """An array (or a number) as a value of a graph."""
    return Value(graph, graph.constant(values, dtype), dtype)


def concat(values: list[Value], axis: int) -> Value:
    """Values of one type joined along an axis."""
    graph = values[0].graph
    name = graph.add("Concat", *(value.name for value in values), axis=axis)
    return Value(graph, name, values[0].dtype)
