"""Registers of 8 or 16 float32 for numba: loads, stores and arithmetic that LLVM need not find out by itself.

LLVM turns loops over a few channels into vector code only where it can prove that arrays do not overlap, which numba's
arrays do not say, and a function called for a pixel pays for every array it is given, which is counted. So here are
pointers, which are not: ``pointer(array)`` of a contiguous array, which must outlive it. ``load8(p, i)`` reads eight
values from the i-th on, ``number_at(p, i)`` one, ``store(p, i, v)`` writes a register, ``splat8(x)`` fills one with a
number, ``fma(a, b, c)`` is a * b + c, fused where the processor can, and ``+``, ``-`` and ``*`` work between registers.
Processors with narrower registers do the same in two or four steps. Nothing is checked.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from pose2rgbd_ros.models.relief.config import LANES, WIDE_LANES


class Register(types.Type):
    """The type of some float32 side by side in numba's eyes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.vector = ir.VectorType(ir.FloatType(), lanes)
        super().__init__(f"Register({lanes})")


@register_model(Register)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def _address(context: Any, builder: Any, signature: Any, arguments: Any, vector: Any) -> Any:
    number = context.cast(builder, arguments[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(arguments[0], [number]), ir.PointerType(vector))


def _load(register: Register) -> Any:
    @intrinsic
    def load(typing: Any, values: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(_address(context, builder, signature, arguments, register.vector), align=4)

        return register(values, index), generate

    return load


def _splat(register: Register) -> Any:
    @intrinsic
    def splat(typing: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = context.cast(builder, arguments[0], signature.args[0], types.float32)
            nothing, place = ir.Constant(register.vector, ir.Undefined), ir.IntType(32)
            first = builder.insert_element(nothing, value, ir.Constant(place, 0))
            places = ir.Constant(ir.VectorType(place, register.lanes), [0] * register.lanes)
            return builder.shuffle_vector(first, nothing, places)

        return register(number), generate

    return splat


@intrinsic
def load8_short(typing: Any, values: Any, index: Any) -> Any:
    """Eight int16 as a register of float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = [ir.VectorType(ir.IntType(bits), LANES) for bits in (16, 32)]
        short = builder.load(_address(context, builder, signature, arguments, kinds[0]), align=2)
        return builder.sitofp(builder.sext(short, kinds[1]), ir.VectorType(ir.FloatType(), LANES))

    return Register(LANES)(values, index), generate


@intrinsic
def number_at(typing: Any, values: Any, index: Any) -> Any:
    """A float32 by a pointer to float32, or to uint16 that are the bits of finite numbers in half precision."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = context.cast(builder, arguments[1], signature.args[1], types.intp)
        value = builder.load(builder.gep(arguments[0], [place]))
        if values.dtype == types.float32:
            return value
        # Sign, exponent and fraction moved to where a float32 has them, then the exponents' zero: exact on any
        # processor, where a conversion of its own may be missing.
        wide = builder.shl(builder.sext(value, ir.IntType(32)), ir.Constant(ir.IntType(32), 13))
        moved = builder.and_(wide, ir.Constant(ir.IntType(32), 0x8FFFE000))
        return builder.fmul(builder.bitcast(moved, ir.FloatType()), ir.Constant(ir.FloatType(), 2.0**112))

    if isinstance(values, types.CPointer) and values.dtype in (types.float32, types.uint16):
        return types.float32(values, index), generate
    return None


load8, load16 = _load(Register(LANES)), _load(Register(WIDE_LANES))
splat8, splat16 = _splat(Register(LANES)), _splat(Register(WIDE_LANES))


@intrinsic
def pointer(typing: Any, array: Any) -> Any:
    """To the values of a contiguous array, in a row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def store(typing: Any, values: Any, index: Any, register: Any) -> Any:
    """Write a register at values[index] and on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature, arguments, register.vector), align=4)
        return context.get_dummy_value()

    return types.void(values, index, register), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(a.vector, [a.vector] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{a.lanes}f32")
        return builder.call(function, arguments)

    return a(a, b, c), generate


@intrinsic
def positive(typing: Any, a: Any) -> Any:
    """What is below 0 becomes 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(a.vector, [0.0] * a.lanes)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zero), arguments[0], zero)

    return a(a), generate


def _between_registers(operation: Any, instruction: str) -> None:
    def typed(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return a(a, b), generate

    both: Any = intrinsic(typed)
    # Lambdas: numba compares annotations with those of the implementation.
    overload(operation)(lambda a, b: (lambda a, b: both(a, b)) if isinstance(a, Register) and a == b else None)


_between_registers(operator.add, "fadd")
_between_registers(operator.sub, "fsub")
_between_registers(operator.mul, "fmul")
