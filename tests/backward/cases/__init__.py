"""The one table of op cases: a rule without a row here fails `test_every_rule_has_a_case`."""

from tests.backward.cases import (
    activation,
    arithmetic,
    attention,
    linear,
    matmul,
    norm,
    pool,
    quantize,
    reduce,
    resize,
    sample,
    shape,
)
from tests.backward.harness import Case

CASES: list[Case] = [
    *arithmetic.CASES,
    *activation.CASES,
    *matmul.CASES,
    *linear.CASES,
    *pool.CASES,
    *norm.CASES,
    *reduce.CASES,
    *shape.CASES,
    *attention.CASES,
    *resize.CASES,
    *sample.CASES,
    *quantize.CASES,
]
