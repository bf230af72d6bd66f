"""LLVM code on vectors, as intrinsics build it: constants, addresses, masks, shuffles, calls.

An intrinsic is a Numba function whose body is LLVM instructions. `builder` appends them; `context` knows how Numba lays out an array.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

INT = ir.IntType(32)
CONTRACT = ("contract",)  # a product and the sum it goes into may be one fused multiply-add


def constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def broadcast(builder, vector, scalar):
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), constant(ir.VectorType(INT, vector.count), 0))


def number_at(context, builder, array_type, array, index):
    """array[index], unchecked."""
    return builder.load(builder.gep(context.make_array(array_type)(context, builder, array).data, [index]))


def address_of(context, builder, array_type, array, index, pointee):
    """Where array[index] lies, as the address of a `pointee` that begins there."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), pointee.as_pointer())


def first_lanes(builder, vector, n):
    """A mask of the first n lanes."""
    ints = ir.VectorType(INT, vector.count)
    return builder.icmp_signed("<", ir.Constant(ints, list(range(vector.count))), broadcast(builder, ints, builder.trunc(n, INT)))


def pick(builder, a, b, indices):
    """The lanes of a, then b, that `indices` name."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, len(indices)), indices))


def pieces(builder, value, count):
    """The value cut into vectors of `count` lanes."""
    starts = range(0, value.type.count, count)
    return [pick(builder, value, value, list(range(start, start + count))) for start in starts]


def llvm_call(builder, name, result, *args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def suffix(vector: ir.VectorType) -> str:
    """What an LLVM function for such vectors is called behind the last dot: v16f32."""
    return f"v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}"
