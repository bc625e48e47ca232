/* Runs tapes, see ../tape.h: one case for each instruction, those of elementwise ops made of the lines of
 * elementwise.h. */

#define SQRT(x) __builtin_sqrt(x)
#define POW(a, b) ((b) == 2 ? (a) * (a) : (b) == 1 ? (a) : __builtin_pow(a, b))

/* The gradients of neighbours. */
static inline void tape_flow(uint32_t n, double d, const double *restrict x, double *restrict dx)
{
    if (d == 0) /* nothing but perhaps the sign of a zero, and faster by being said */
        for (uint32_t i = 0; i < n; i++)
            dx[i] += 0;
    else
        for (uint32_t i = 0; i < n; i++)
            dx[i] = FN(add_product)(dx[i], d, x[i]);
}

/* Parameters next to each other take one call, unless steps have been counted for each of them differently. */
static void tape_update(const tm_recorded_update *update, const uint32_t *code, double *v, double *g)
{
    const uint32_t first = code[2], n = code[3], *state = code + 4;
    const int n_states = update->rule->n_states;
    void *states[TAPE_STATES];
    uint32_t together = n;
    for (uint32_t i = 0; n_states && i < n; i++) {
        v[state[0] + i]++;
        together = v[state[0] + i] == v[state[0]] ? together : 1;
    }
    for (uint32_t i = 0; i < n; i += together) {
        for (int k = 0; k < n_states; k++)
            states[k] = v + state[k] + i;
        update->rule->kernel[TM_F64](together, v + first + i, g + first + i, states, update->hyper);
    }
}

static void tape_run(const tm_tape *tape)
{
    const uint32_t *c = tape->code;
    double *restrict v = tape->values, *restrict g = tape->gradients;
    for (;;)
        switch (c[0]) {
        case TAPE_END:
            return;
        case TAPE_FILL:
            for (uint32_t i = 0, n = c[2]; i < n; i++)
                g[c[1] + i] = -0.0;
            c += TAPE_WORDS;
            break;
        case TAPE_COPY:
            v[c[1]] = v[c[2]];
            c += TAPE_WORDS;
            break;
        case TAPE_SEED:
            g[c[1]] = v[c[2]] + 0.0;
            c += TAPE_WORDS;
            break;
        case TAPE_SEED_MORE:
            g[c[1]] = v[c[2]] + g[c[1]];
            c += TAPE_WORDS;
            break;
        case TAPE_READ_GRAD:
            v[c[1]] = g[c[2]];
            c += TAPE_WORDS;
            break;
        case TAPE_WRITE_GRAD:
            g[c[1]] = v[c[2]];
            c += TAPE_WORDS;
            break;
        case TAPE_UPDATE:
            tape_update(tape->updates[c[1]], c, v, g);
            c += TAPE_UPDATE_WORDS;
            break;
        case TAPE_ADD_N_RUN: {
            double sum = 0;
            for (uint32_t i = 0, n = c[2]; i < n; i++)
                sum += v[c[3] + i];
            v[c[1]] = sum;
            c += TAPE_WORDS;
            break;
        }
        case TAPE_ADD_N: {
            const uint32_t n = c[2], *x = c + TAPE_WORDS;
            double sum = 0;
            for (uint32_t i = 0; i < n; i++)
                sum += v[x[i]];
            v[c[1]] = sum;
            c = x + n;
            break;
        }
        case TAPE_ADD_N_RUN_BACK: {
            const double dy = g[c[1]];
            double *dx = g + c[3];
            for (uint32_t i = 0, n = c[2]; i < n; i++)
                dx[i] += dy;
            c += TAPE_WORDS;
            break;
        }
        case TAPE_ADD_N_BACK: {
            const uint32_t n = c[2], *x = c + TAPE_WORDS;
            const double dy = g[c[1]];
            for (uint32_t i = 0; i < n; i++)
                g[x[i]] += dy;
            c = x + n;
            break;
        }
        case TAPE_DOT_RUN: {
            const double *w = v + c[5], *x = v + c[6];
            double s = c[4] == TAPE_NO_SLOT ? 0 : v[c[4]];
            for (uint32_t at = 0, n = c[2]; at < n; at += DOT_CHUNK)
                s = FN(dot_sum)(n - at < DOT_CHUNK ? n - at : DOT_CHUNK, w + at, x + at, s);
            v[c[1]] = FN(dot_activate)((int)c[3], s);
            c += TAPE_DOT_WORDS;
            break;
        }
        case TAPE_DOT: {
            const uint32_t n = c[2], *w = c + TAPE_DOT_WORDS, *x = w + n;
            double s = c[4] == TAPE_NO_SLOT ? 0 : v[c[4]], ws[DOT_CHUNK], xs[DOT_CHUNK];
            for (uint32_t at = 0; at < n; at += DOT_CHUNK) {
                const uint32_t count = n - at < DOT_CHUNK ? n - at : DOT_CHUNK;
                for (uint32_t i = 0; i < count; i++) {
                    ws[i] = v[w[at + i]];
                    xs[i] = v[x[at + i]];
                }
                s = FN(dot_sum)(count, ws, xs, s);
            }
            v[c[1]] = FN(dot_activate)((int)c[3], s);
            c = x + n;
            break;
        }
        case TAPE_DOT_RUN_BACK: {
            const uint32_t n = c[2], w = c[5], x = c[6];
            const double ds = FN(dot_flow)((int)c[3], v[c[1]], g[c[1]]);
            if (c[7] & TAPE_WANTS_W)
                tape_flow(n, ds, v + x, g + w);
            if (c[7] & TAPE_WANTS_X)
                tape_flow(n, ds, v + w, g + x);
            if (c[4] != TAPE_NO_SLOT)
                g[c[4]] += ds;
            c += TAPE_DOT_WORDS;
            break;
        }
        case TAPE_DOT_BACK: {
            const uint32_t n = c[2], *w = c + TAPE_DOT_WORDS, *x = w + n;
            const double ds = FN(dot_flow)((int)c[3], v[c[1]], g[c[1]]);
            for (uint32_t i = 0; i < n; i++) {
                g[w[i]] = FN(add_product)(g[w[i]], ds, v[x[i]]);
                g[x[i]] = FN(add_product)(g[x[i]], ds, v[w[i]]);
            }
            if (c[4] != TAPE_NO_SLOT)
                g[c[4]] += ds;
            c = x + n;
            break;
        }

#define UNARY_WITH(name, value, dydx, attributes)                                                                      \
    case TAPE_##name: {                                                                                                \
        const double x = v[c[2]];                                                                                      \
        attributes;                                                                                                    \
        v[c[1]] = value;                                                                                               \
        c += TAPE_WORDS;                                                                                               \
        break;                                                                                                         \
    }                                                                                                                  \
    case TAPE_##name##_BACK: {                                                                                         \
        const double x = v[c[2]], y = v[c[1]], dy = g[c[1]];                                                           \
        attributes;                                                                                                    \
        (void)x, (void)y;                                                                                              \
        g[c[2]] += FLOW(dy, dydx);                                                                                     \
        c += TAPE_WORDS;                                                                                               \
        break;                                                                                                         \
    }
#define UNARY(name, value, dydx) UNARY_WITH(name, value, dydx, )
#define UNARY_P(name, value, dydx) UNARY_WITH(name, value, dydx, const double p = v[c[3]])
#define PQ const double p = v[c[3]]; const double q = v[c[3] + 1]
#define UNARY_PQ(name, value, dydx) UNARY_WITH(name, value, dydx, PQ)
#define UNARY_NUMBER UNARY
#define BINARY_BACK(op, flow)                                                                                          \
    case op: {                                                                                                         \
        const double a = v[c[2]], b = v[c[3]], y = v[c[1]], dy = g[c[1]];                                              \
        (void)a, (void)b, (void)y;                                                                                     \
        flow;                                                                                                          \
        c += TAPE_WORDS;                                                                                               \
        break;                                                                                                         \
    }
#define BINARY(name, value, dyda, dydb)                                                                                \
    case TAPE_##name: {                                                                                                \
        const double a = v[c[2]], b = v[c[3]];                                                                         \
        v[c[1]] = value;                                                                                               \
        c += TAPE_WORDS;                                                                                               \
        break;                                                                                                         \
    }                                                                                                                  \
    BINARY_BACK(TAPE_##name##_BACK_A, g[c[2]] += FLOW(dy, dyda))                                                       \
    BINARY_BACK(TAPE_##name##_BACK_B, g[c[3]] += FLOW(dy, dydb))                                                       \
    BINARY_BACK(TAPE_##name##_BACK, g[c[2]] += FLOW(dy, dyda); g[c[3]] += FLOW(dy, dydb))
#define BINARY_NUMBER BINARY
#define COMPARE(name, value)
#include "elementwise.h"
        default:
            __builtin_unreachable();
        }
}

#undef UNARY_WITH
#undef UNARY
#undef UNARY_P
#undef UNARY_PQ
#undef PQ
#undef UNARY_NUMBER
#undef BINARY_BACK
#undef BINARY
#undef BINARY_NUMBER
#undef COMPARE
#undef SQRT
#undef POW
