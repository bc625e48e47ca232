/* The elementwise ops, one line each: name, value, and the factors by which dy flows into the operands.
 * x or a, b: the operands; y: the result; p, q: attributes. elementwise_loops.h turns each line into loops and a row.
 * NUMBER lines exist for integers as well. At a kink: 0 for relu, abs and hardtanh, the slope for leaky_relu and prelu,
 * p for elu, 1 on the bounds of clamp, half each for the operands of maximum and minimum where they are equal. */

/*           name        value                              dy/dx                                                   */
UNARY_NUMBER(neg,        -x,                                -1)
UNARY_NUMBER(abs,        x < 0 ? -x : x,                    (REAL)((x > 0) - (x < 0)))
UNARY(       exp,        FN(exp)(x),                        y)
UNARY(       log,        FN(log)(x),                        1 / x)
UNARY(       sqrt,       SQRT(x),                           (REAL)0.5 / y)
UNARY(       sin,        FN(sin)(x),                        FN(cos)(x))
UNARY(       cos,        FN(cos)(x),                        -FN(sin)(x))
UNARY(       tanh,       FN(tanh)(x),                       1 - y * y)
UNARY(       sigmoid,    FN(sigmoid)(x),                    y * (1 - y))
UNARY(       erf,        FN(erf)(x),                        (REAL)1.1283791670955126 * FN(exp)(-x * x))
UNARY(       relu,       x < 0 ? 0 : x,                     x > 0 ? (REAL)1 : 0)
UNARY(       silu,       x * FN(sigmoid)(x),                FN(sigmoid)(x) * (1 + x * FN(sigmoid)(-x)))
UNARY(       gelu,       x * FN(normal_cdf)(x),             FN(normal_cdf)(x) + x * FN(normal_density)(x))
UNARY(       gelu_tanh,  x * FN(sigmoid)(FN(normal_logit)(x)),
                         FN(sigmoid)(FN(normal_logit)(x)) *
                             (1 + x * FN(sigmoid)(-FN(normal_logit)(x)) * FN(normal_logit_slope)(x)))
UNARY(       logsigmoid, -FN(softplus)(-x),                 FN(sigmoid)(-x))
UNARY_P(     leaky_relu, x > 0 ? x : p * x,                 x > 0 ? (REAL)1 : p)
UNARY_P(     elu,        x > 0 ? x : p * FN(expm1_below_0)(x), x > 0 ? (REAL)1 : p * FN(exp)(x))
UNARY_P(     huber,      x < -p ? -p * (x + p / 2) : x > p ? p * (x - p / 2) : x * x / 2, x < -p ? -p : x > p ? p : x)
UNARY_PQ(    clamp,      x < p ? p : x > q ? q : x,         x < p || x > q ? 0 : (REAL)1)
UNARY_PQ(    hardtanh,   x < p ? p : x > q ? q : x,         x <= p || x >= q ? 0 : (REAL)1)
UNARY_PQ(    softplus,   p * x > q ? x : FN(softplus)(p * x) / p, p * x > q ? (REAL)1 : FN(sigmoid)(p * x))

/*            name     value                      dy/da                                     dy/db                    */
BINARY_NUMBER(add,     a + b,                     1,                                        1)
BINARY_NUMBER(sub,     a - b,                     1,                                        -1)
BINARY_NUMBER(mul,     a * b,                     b,                                        a)
BINARY(       div,     a / b,                     1 / b,                                    -y / b)
BINARY(       pow,     POW(a, b),                 b == 0 ? 0 : b * POW(a, b - 1),           a == 0 && b >= 0 ? 0 : y * FN(log)(a))
BINARY_NUMBER(maximum, a > b || a != a ? a : b,   a > b ? 1 : a < b ? 0 : (REAL)0.5,        a > b ? 0 : a < b ? 1 : (REAL)0.5)
BINARY_NUMBER(minimum, a < b || a != a ? a : b,   a < b ? 1 : a > b ? 0 : (REAL)0.5,        a < b ? 0 : a > b ? 1 : (REAL)0.5)
BINARY(       prelu,   a > 0 ? a : b * a,         a > 0 ? (REAL)1 : b,                      a > 0 ? 0 : a)

/* Losses of a, a probability, its logarithm, or its logit (sigmoid of which it is), against a probability b. As in
 * PyTorch, bce takes no logarithm for less than -100, and no a (1 - a) for less than 1e-12, a float there. */
BINARY(bce, ROUNDED((1 - b) * -FN(at_least)(-100, FN(log1p)(-a))) - b * FN(at_least)(-100, FN(log)(a)),
       (a - b) / FN(at_least)(1e-12f, a * (1 - a)), FN(log1p)(-a) - FN(log)(a))
BINARY(bce_with_logits, a * (a > 0 ? 1 - b : -b) + FN(softplus)(a > 0 ? -a : a), FN(sigmoid)(a) - b, -a)
BINARY(kl_div, b == 0 ? 0 : b * (FN(log)(b) - a), -b, FN(log)(b) + 1 - a)

/*      name value */
COMPARE(eq,  a == b)
COMPARE(ne,  a != b)
COMPARE(lt,  a < b)
COMPARE(le,  a <= b)
COMPARE(gt,  a > b)
COMPARE(ge,  a >= b)
