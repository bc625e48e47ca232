/* Elementary functions without branches, so that loops over them become vector code; sin and cos are libm's.
 *
 * A template: included once per instruction set with REAL float and once with double. Bounds on the error, in
 * units in the last place of the true result (correct rounding has 0.5), with and without fused multiply-add:
 *
 *     exp 1    log 1    tanh 1.5    sigmoid 2    erf 2    log1p 2    softplus 2    sin, cos as libm (glibc: 1)
 *
 * Infinities, NaN, signed zeros and subnormal numbers give what C's Annex F asks for. Out of range, garbage
 * is computed and then selected away, which under -fno-trapping-math takes no branch. (To clamp x first would
 * tempt gcc to carry the constant through a second copy of the function.)
 *
 * The polynomials are minimax fits of our own: Remez exchange in 320 bits, then the coefficients rounded from
 * the lowest up, the rest refitted each time. Terms are summed in pairs of pairs (Estrin), which is quicker
 * for a single number than Horner's chain. */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* A call left in a loop would keep it from being vectorised. */
#define INLINE static inline __attribute__((always_inline))

#if REAL_IS_F32
#define LIBM(name) name##f
#define BITS uint32_t
#define MANTISSA_BITS 23
#define BIAS 127
#define SMALLEST_NORMAL 0x1p-126f
#define SQRT_HALF 0x1.6a09e6p-1f
#define LN2_HIGH 0x1.62e4p-1f /* short: its product with an exponent is exact */
#define LN2_LOW 0x1.7f7d1cp-20f
#define EXP_ZERO (-104) /* below, e^x rounds to 0 */
#define EXP_INFINITE 89 /* above, to infinity */
#define ERF_ONE 3.93f   /* above, erf x rounds to 1 */
#else
#define LIBM(name) name
#define BITS uint64_t
#define MANTISSA_BITS 52
#define BIAS 1023
#define SMALLEST_NORMAL 0x1p-1022
#define SQRT_HALF 0x1.6a09e667f3bcdp-1
#define LN2_HIGH 0x1.62e42fefa4p-1
#define LN2_LOW (-0x1.8432a1b0e2634p-43)
#define EXP_ZERO (-746)
#define EXP_INFINITE 710
#define ERF_ONE 5.93
#endif
#define HIDDEN_BIT ((BITS)1 << MANTISSA_BITS)
/* Numbers near it are 1 apart: ROUNDER + k has the integer k in its low bits. */
#define ROUNDER ((REAL)1.5 * HIDDEN_BIT)

#define POLY2(x, a, b) ((a) + (b) * (x))
#define POLY4(x, x2, a, b, c, d) (POLY2(x, a, b) + POLY2(x, c, d) * (x2))
#define POLY8(x, x2, x4, a, b, c, d, e, f, g, h) (POLY4(x, x2, a, b, c, d) + POLY4(x, x2, e, f, g, h) * (x4))

INLINE BITS FN(bits_of)(REAL x) {
    BITS u;
    memcpy(&u, &x, sizeof u);
    return u;
}

INLINE REAL FN(from_bits)(BITS u) {
    REAL x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The nearest integer, without a conversion to an integer type, which AVX2 lacks for double. */
INLINE REAL FN(nearest)(REAL x) {
    return (x + ROUNDER) - ROUNDER;
}

/* 2^k for an integer k, where that is a normal number. */
INLINE REAL FN(power_of_two)(REAL k) {
    return FN(from_bits)(FN(bits_of)(k + (ROUNDER + BIAS)) << MANTISSA_BITS);
}

/* e^x = 2^k (1 + p): returns k, the integer nearest to x / ln 2, and p = e^r - 1, where |r| <= ln 2 / 2.
 * The excess is what rounding had added to x. */
INLINE REAL FN(exp_parts)(REAL x, REAL excess, REAL *p) {
    const REAL k = FN(nearest)(x * (REAL)0x1.71547652b82fep+0);
    const REAL high = x - k * LN2_HIGH, low = k * LN2_LOW; /* high is exact */
    const REAL r = high - low, lost = (high - r) - low, r2 = r * r, r4 = r2 * r2;
#if REAL_IS_F32 /* relative error of p: 2^-28.7 */
    const REAL q = POLY4(r, r2, 0x1p-1f, 0x1.555554p-3f, 0x1.5554bp-5f, 0x1.11118ap-7f)
                 + POLY2(r, 0x1.6d7296p-10f, 0x1.a03286p-13f) * r4;
#else /* 2^-61.4 */
    const REAL q = POLY8(r, r2, r4, 0x1p-1, 0x1.5555555555559p-3, 0x1.5555555555548p-5, 0x1.111111110f59fp-7,
                         0x1.6c16c16c1cd41p-10, 0x1.a01a01b07f8d9p-13, 0x1.a01a01842fae5p-16,
                         0x1.71ddf66f45e38p-19)
                 + (POLY2(r, 0x1.27e525c1bbfdap-22, 0x1.af62985142cb4p-26) + 0x1.1f02120735f19p-29 * r2)
                       * (r4 * r4);
#endif
    *p = r + ((lost - excess) + r2 * q);
    return k;
}

/* e^x from EXP_ZERO to EXP_INFINITE. */
INLINE REAL FN(exp_inside)(REAL x) {
    REAL p, k = FN(exp_parts)(x, 0, &p);
    REAL half = FN(nearest)(k / 2); /* 2^k itself may overflow or be subnormal, its two factors never */
    return (1 + p) * FN(power_of_two)(half) * FN(power_of_two)(k - half);
}

/* e^x - 1 where 2^k is a normal number. */
INLINE REAL FN(expm1_inside)(REAL x, REAL excess) {
    REAL p, k = FN(exp_parts)(x, excess, &p), scale = FN(power_of_two)(k);
    return scale * p + (scale - 1);
}

INLINE REAL FN(exp)(REAL x) {
    REAL y = FN(exp_inside)(x);
    y = x > EXP_INFINITE ? (REAL)INFINITY : y;
    return x < EXP_ZERO ? 0 : y;
}

/* x = 2^e (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2). With s = f / (2 + f), log(1 + f) = 2 atanh(s), which is
 * 2 s + s R(s^2) = f - (h - s (h + R)), h = f^2 / 2: the leading f is exact, and the rest small. */
INLINE REAL FN(log)(REAL x) {
    const BITS bias = (BITS)BIAS << MANTISSA_BITS, lowest = FN(bits_of)(SQRT_HALF);
    const int subnormal = x < SMALLEST_NORMAL;
    const BITS u = FN(bits_of)(subnormal ? x * HIDDEN_BIT : x) - lowest + bias;
    /* e comes from its bits by way of a number that holds them in its mantissa. */
    const REAL e = FN(from_bits)(u >> MANTISSA_BITS | FN(bits_of)(HIDDEN_BIT))
                 - (subnormal ? HIDDEN_BIT + BIAS + MANTISSA_BITS : HIDDEN_BIT + BIAS);
    const REAL f = FN(from_bits)((u & (HIDDEN_BIT - 1)) + lowest) - 1;
    const REAL h = f * f / 2, s = f / (2 + f), s2 = s * s, s4 = s2 * s2;
#if REAL_IS_F32 /* relative error of log(1 + f): 2^-30.2 */
    const REAL R = s2 * (POLY2(s2, 0x1.55557ap-1f, 0x1.995edp-2f) + 0x1.31e1ap-2f * s4);
#else /* 2^-59.4 */
    const REAL s8 = s4 * s4;
    const REAL R = s2 * (POLY4(s2, s4, 0x1.5555555555593p-1, 0x1.999999997f9c6p-2, 0x1.249249422f894p-2,
                               0x1.c71c51d1af422p-3)
                         + (POLY2(s2, 0x1.74664b4b11092p-3, 0x1.39a06391a001cp-3) + 0x1.2f13c7fa2d6cdp-3 * s4)
                               * s8);
#endif
    const REAL sum = e * LN2_HIGH + f, lost = (e * LN2_HIGH - sum) + f;
    REAL y = sum + (lost + (e * LN2_LOW - (h - s * (h + R))));
    y = x < (REAL)INFINITY ? y : x;
    return x > 0 ? y : x == 0 ? -(REAL)INFINITY : (REAL)NAN;
}

/* tanh z = z + z^3 T(z^2) for small z, else 1 - 2 / (e^2z + 1). */
INLINE REAL FN(tanh)(REAL x) {
    const REAL z = LIBM(fabs)(x), z2 = z * z, z4 = z2 * z2, z8 = z4 * z4;
#if REAL_IS_F32 /* relative error of tanh: 2^-29.7 */
    const REAL T = POLY4(z2, z4, -0x1.55554ap-2f, 0x1.110ceep-3f, -0x1.b91e7ep-5f, 0x1.58e518p-6f)
                 - 0x1.9921aap-8f * z8;
#else /* 2^-55.4 */
    const REAL T = POLY8(z2, z4, z8, -0x1.555555555549ep-2, 0x1.11111111029b4p-3, -0x1.ba1ba1ad739bep-5,
                         0x1.664f45c32a3a8p-6, -0x1.226ddd4eeefdp-7, 0x1.d6c61e71c3402p-9,
                         -0x1.7cf3c404fad5p-10, 0x1.2fa2aaf216e2ap-11)
                 + POLY2(z2, -0x1.b90a82227288dp-13, 0x1.ac0302338f0f1p-15) * (z8 * z8);
#endif
    REAL y = 1 - 2 / (FN(expm1_inside)(2 * z, 0) + 2);
    y = z < (REAL)0.55 ? z + z * (z2 * T) : y;
    return LIBM(copysign)(z > 20 ? 1 : y, x);
}

/* With t = e^-|x| and q = t / (1 + t): 1 / (1 + t) = 1 - q, and for x < 0, t / (1 + t) = t - t q. So no power
 * is above 1, the left tail keeps its digits, and the errors of q enter damped. (To multiply a selected factor would
 * leave it to gcc whether t - t q is fused, and it decides one way in a vector and the other in the rest of a loop.) */
INLINE REAL FN(sigmoid)(REAL x) {
    const REAL z = LIBM(fabs)(x), inside = FN(exp_inside)(-z), t = z > -EXP_ZERO ? 0 : inside;
    const REAL q = t / (1 + t);
    return x < 0 ? t - t * q : 1 - q;
}

/* erf z = 1 - e^-g with g(z) = -log(1 - erf z) = z + z H(z), smooth from 0 to ERF_ONE; the larger g, the less
 * its error counts. */
INLINE REAL FN(erf)(REAL x) {
    const REAL z = LIBM(fabs)(x), z2 = z * z, z4 = z2 * z2, z8 = z4 * z4;
#if REAL_IS_F32 /* relative error of erf: 2^-27.6 */
    const REAL H = POLY8(z, z2, z4, 0x1.06eba8p-3f, 0x1.45f3p-1f, 0x1.a4f8c4p-4f, -0x1.39b7b4p-6f,
                         -0x1.639526p-13f, 0x1.b748bcp-10f, -0x1.4e2e3ap-11f, 0x1.f29572p-14f)
                 - 0x1.3b0becp-17f * z8;
#else /* 2^-55.2 */
    const REAL H0 = POLY8(z, z2, z4, 0x1.06eba8214db69p-3, 0x1.45f306dc9c8a9p-1, 0x1.a4f4e2a1ad6a3p-4,
                          -0x1.3966859196502p-6, -0x1.b6b69c94a9556p-13, 0x1.bca68db895f02p-10,
                          -0x1.356617c5f77e3p-11, 0x1.b28cec273265p-16);
    const REAL H1 = POLY8(z, z2, z4, 0x1.0e3b11031bda2p-14, -0x1.f06b7c18cc487p-16, 0x1.abd8f0eaa9f16p-19,
                          0x1.a1e9944ae2968p-19, -0x1.0f3c758f3df2p-19, 0x1.2c702f9afbcf7p-21,
                          -0x1.8b970c1533b03p-28, -0x1.2559c753e9043p-24);
    const REAL H2 = POLY8(z, z2, z4, 0x1.30a67f221ceaap-25, -0x1.7a5d23c662a9bp-27, 0x1.4b52e5411aaccp-29,
                          -0x1.a651c7331dedfp-32, 0x1.82ab503a4b29bp-35, -0x1.e43861fab857bp-39,
                          0x1.7434f0b209b57p-43, -0x1.0932513f292b1p-48);
    const REAL H = H0 + z8 * (H1 + z8 * H2);
#endif
    const REAL g = z + z * H, y = -FN(expm1_inside)(-g, (z - g) + z * H);
    return LIBM(copysign)(z > ERF_ONE ? 1 : y, x);
}

INLINE REAL FN(sin)(REAL x) {
    return LIBM(sin)(x);
}

INLINE REAL FN(cos)(REAL x) {
    return LIBM(cos)(x);
}

/* e^x - 1 for x <= 0, which rounds to -1 long before 2^k is not normal. */
INLINE REAL FN(expm1_below_0)(REAL x) {
    const REAL y = FN(expm1_inside)(x, 0);
    return x < -40 ? -1 : y;
}

/* log(1 + x): the logarithm of the rounded sum, and to first order what rounding took, which is known exactly. */
INLINE REAL FN(log1p)(REAL x) {
    const REAL u = 1 + x, log_u = FN(log)(u), lost = (x - (u - 1)) / u;
    return u > 0 && u < (REAL)INFINITY ? log_u + lost : log_u;
}

/* log(1 + e^x), which for large x is x and a little. */
INLINE REAL FN(softplus)(REAL x) {
    const REAL z = LIBM(fabs)(x), inside = FN(exp_inside)(-z), t = z > -EXP_ZERO ? 0 : inside;
    return (x < 0 ? 0 : x) + FN(log1p)(t);
}

/* The normal distribution, from -infinity to x and at x. */
INLINE REAL FN(normal_cdf)(REAL x) {
    return (REAL)0.5 + (REAL)0.5 * FN(erf)((REAL)0.7071067811865476 * x);
}

INLINE REAL FN(normal_density)(REAL x) {
    return (REAL)0.3989422804014327 * FN(exp)((REAL)-0.5 * x * x);
}

/* sigmoid(normal_logit(x)) is nearly normal_cdf(x): 2 sqrt(2 / pi) (x + 0.044715 x^3), and its slope. */
INLINE REAL FN(normal_logit)(REAL x) {
    return x * ((REAL)1.5957691216057308 + (REAL)0.07135481627260025 * (x * x));
}

INLINE REAL FN(normal_logit_slope)(REAL x) {
    return (REAL)1.5957691216057308 + (REAL)0.21406444881780076 * (x * x);
}

/* Larger numbers, and NaN, as they are. */
INLINE REAL FN(at_least)(REAL low, REAL x) {
    return x < low ? low : x;
}

#undef INLINE
#undef LIBM
#undef BITS
#undef MANTISSA_BITS
#undef BIAS
#undef SMALLEST_NORMAL
#undef SQRT_HALF
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_ZERO
#undef EXP_INFINITE
#undef ERF_ONE
#undef HIDDEN_BIT
#undef ROUNDER
#undef POLY2
#undef POLY4
#undef POLY8
