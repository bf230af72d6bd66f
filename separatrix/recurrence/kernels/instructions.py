"""What a program is: a step of a network as a short list of instructions over one array of numbers.

    memory                 constants, inputs, results, in the program's precision
    code                   (operation, out, rows, inner, table, flags, extra), WORDS integers after each other for every instruction
    tables                 where rows begin, in memory
    weights                the right-hand sides of products with constants

A pointwise instruction makes `rows` rows of `inner` numbers, one behind the other from `out` on; row r of its operand number p begins at
tables[table + p rows + r] and runs on by itself, or is one number for the whole row when bit p of `flags` is set. So broadcasting costs
nothing and any operand whose rows are contiguous is read where it lies.

`weights` lie in panels as wide as a `Lanes` value, padded by zeros, so that a product with a vector is nothing but multiply-adds on rows
read in order.

`pointwise.py` and `program.py` carry instructions out; `models/recording` writes them.
"""

WORDS = 7

# The numbers are in the order in which the interpreter tells instructions apart.

# f(a). Those before ERF run on lanes.
COPY, NEGATIVE, EXP, SIGMOID, TANH, SILU, SOFTPLUS, LOG_SIGMOID, ERF, GELU, LOG, SQRT, RSQRT, RECIPROCAL, COS, SIN, ABS, NOT, LOG1P = range(
    19
)
# f(a, b). All but POWER run on lanes.
ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, GREATER, LESS, EQUAL, POWER = range(20, 30)
# Of (c, a, b): a where c is not 0, else b.  Of (a, b, c, d): a b + c d;  a b - c d. All on lanes.
WHERE, ADD_PRODUCTS, SUBTRACT_PRODUCTS = 30, 31, 32

# out[j] = memory[tables[table + j]] for j < inner.
GATHER = 40
# Runs of numbers one behind the other: run r from address tables[table + r] to tables[table + rows + r], both included.
RUNS = 41
# Complex numbers taken apart: out[j] = memory[tables[table] + 2 j] for j < inner;  and put together: two rows as a_0, b_0, a_1, b_1, ...
EVERY_OTHER, IN_TURN = 47, 48
# Row r of `inner` numbers added up to one;  rows added up, `extra` of them for each of the `rows` that come out.
SUM, SUM_ROWS = 42, 43
# [rows, extra] times [extra, inner]: a constant that begins at weights[flags];  given by its rows;  given by its columns. The table names
# the rows of the left matrix, then those or the columns of the right one.
WEIGHTED, PRODUCT, DOTS = 44, 45, 46
