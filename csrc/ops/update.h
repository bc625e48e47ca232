/* Optimizer updates: one pass over a parameter, its gradient and its states.
 *
 * hyper starts with {lr, weight_decay, maximize}, then come the rule's own. State 0 of a rule that has any is the step
 * counter, a double, already counted up for the step at hand; the other states are shaped like the parameter. Formulas,
 * names and rounding as in PyTorch: https://docs.pytorch.org/docs/stable/optim.html */

#if defined(RULES)

enum { LR, WEIGHT_DECAY, MAXIMIZE, OWN };

#elif defined(ROWS)

/* sgd without momentum needs no memory, hence two rules */
{.name = "sgd", .n_states = 0, .n_hypers = OWN, .kernel = {FLOATS(sgd_update)}},
/* states: step, momentum_buffer; hyper: momentum, dampening, nesterov */
{.name = "sgd_momentum", .n_states = 2, .n_hypers = OWN + 3, .kernel = {FLOATS(sgd_momentum_update)}},
/* states: step, exp_avg, exp_avg_sq, max_exp_avg_sq for amsgrad; hyper: beta1, beta2, eps, decoupled (as in AdamW) */
{.name = "adam", .n_states = 3, .n_hypers = OWN + 4, .kernel = {FLOATS(adam_update)}},
{.name = "adam_amsgrad", .n_states = 4, .n_hypers = OWN + 4, .kernel = {FLOATS(adam_amsgrad_update)}},
/* states: step, square_avg, grad_avg if centered, momentum_buffer if there is one; hyper: alpha, eps, momentum */
{.name = "rmsprop", .n_states = 2, .n_hypers = OWN + 3, .kernel = {FLOATS(rmsprop_update)}},
{.name = "rmsprop_momentum", .n_states = 3, .n_hypers = OWN + 3, .kernel = {FLOATS(rmsprop_momentum_update)}},
{.name = "rmsprop_centered", .n_states = 3, .n_hypers = OWN + 3, .kernel = {FLOATS(rmsprop_centered_update)}},
{.name = "rmsprop_centered_momentum", .n_states = 4, .n_hypers = OWN + 3,
 .kernel = {FLOATS(rmsprop_centered_momentum_update)}},
/* states: step, sum; hyper: lr_decay, eps */
{.name = "adagrad", .n_states = 2, .n_hypers = OWN + 2, .kernel = {FLOATS(adagrad_update)}},

#elif REAL_IS_FLOAT

#define UPDATE(rule)                                                                                                   \
    static void FN(rule##_update)(int64_t n, void *parameter, const void *gradient, void *const *states,               \
                                  const double *hyper)

/* The gradient of what is minimised: of the loss or of its negative, with the L2 penalty if there is one. */
static inline REAL FN(descent)(REAL g, REAL p, REAL sign, REAL decay)
{
    return sign * g + (decay != 0 ? decay * p : 0);
}

static inline REAL FN(root)(REAL x)
{
    return REAL_IS_F32 ? sqrtf((float)x) : (REAL)sqrt(x);
}

UPDATE(sgd)
{
    REAL *restrict p = parameter;
    const REAL *restrict g = gradient;
    const REAL lr = (REAL)hyper[LR], decay = (REAL)hyper[WEIGHT_DECAY], sign = hyper[MAXIMIZE] != 0 ? -1 : 1;
    (void)states;
    for (int64_t i = 0; i < n; i++)
        p[i] -= lr * FN(descent)(g[i], p[i], sign, decay);
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html: the first step is not dampened. */
UPDATE(sgd_momentum)
{
    REAL *restrict p = parameter, *restrict buffer = states[1];
    const REAL *restrict g = gradient;
    const REAL lr = (REAL)hyper[LR], decay = (REAL)hyper[WEIGHT_DECAY], sign = hyper[MAXIMIZE] != 0 ? -1 : 1;
    const REAL momentum = (REAL)hyper[OWN];
    const REAL intake = *(const double *)states[0] == 1 ? 1 : (REAL)(1 - hyper[OWN + 1]);
    const int nesterov = hyper[OWN + 2] != 0;
    for (int64_t i = 0; i < n; i++) {
        const REAL d = FN(descent)(g[i], p[i], sign, decay), b = momentum * buffer[i] + intake * d;
        buffer[i] = b;
        p[i] -= lr * (nesterov ? d + momentum * b : b);
    }
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html and AdamW.html; `largest` is NULL or the state
 * that amsgrad divides by. */
static inline void FN(adam_loop)(int64_t n, REAL *restrict p, const REAL *restrict g, REAL *restrict m,
                                 REAL *restrict v, REAL *restrict largest, double step, const double *hyper)
{
    const double beta1 = hyper[OWN], beta2 = hyper[OWN + 1];
    const int decoupled = hyper[OWN + 3] != 0;
    const REAL sign = hyper[MAXIMIZE] != 0 ? -1 : 1, eps = (REAL)hyper[OWN + 2];
    const REAL decay = decoupled ? 0 : (REAL)hyper[WEIGHT_DECAY];
    const REAL shrink = decoupled ? (REAL)(1 - hyper[LR] * hyper[WEIGHT_DECAY]) : 1;
    const REAL keep = (REAL)beta2, gain1 = (REAL)(1 - beta1), gain2 = (REAL)(1 - beta2);
    const REAL stride = (REAL)(hyper[LR] / (1 - pow(beta1, step)));
    const REAL correction = (REAL)(1 / sqrt(1 - pow(beta2, step)));
    for (int64_t i = 0; i < n; i++) {
        const REAL d = FN(descent)(g[i], p[i], sign, decay);
        m[i] += gain1 * (d - m[i]);
        REAL square = v[i] = keep * v[i] + gain2 * d * d;
        if (largest)
            square = largest[i] = square > largest[i] ? square : largest[i];
        p[i] = shrink * p[i] - stride * m[i] / (FN(root)(square) * correction + eps);
    }
}

UPDATE(adam)
{
    FN(adam_loop)(n, parameter, gradient, states[1], states[2], NULL, *(const double *)states[0], hyper);
}

UPDATE(adam_amsgrad)
{
    FN(adam_loop)(n, parameter, gradient, states[1], states[2], states[3], *(const double *)states[0], hyper);
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html; `mean` and `buffer` are NULL where the rule
 * has no such state. */
static inline void FN(rmsprop_loop)(int64_t n, REAL *restrict p, const REAL *restrict g, REAL *restrict v,
                                    REAL *restrict mean, REAL *restrict buffer, const double *hyper)
{
    const REAL lr = (REAL)hyper[LR], decay = (REAL)hyper[WEIGHT_DECAY], sign = hyper[MAXIMIZE] != 0 ? -1 : 1;
    const REAL keep = (REAL)hyper[OWN], gain = (REAL)(1 - hyper[OWN]), eps = (REAL)hyper[OWN + 1];
    const REAL momentum = (REAL)hyper[OWN + 2];
    for (int64_t i = 0; i < n; i++) {
        const REAL d = FN(descent)(g[i], p[i], sign, decay);
        REAL square = v[i] = keep * v[i] + gain * d * d;
        if (mean) {
            mean[i] += gain * (d - mean[i]);
            square -= mean[i] * mean[i];
        }
        REAL move = d / (FN(root)(square) + eps);
        if (buffer)
            move = buffer[i] = momentum * buffer[i] + move;
        p[i] -= lr * move;
    }
}

UPDATE(rmsprop)
{
    FN(rmsprop_loop)(n, parameter, gradient, states[1], NULL, NULL, hyper);
}

UPDATE(rmsprop_momentum)
{
    FN(rmsprop_loop)(n, parameter, gradient, states[1], NULL, states[2], hyper);
}

UPDATE(rmsprop_centered)
{
    FN(rmsprop_loop)(n, parameter, gradient, states[1], states[2], NULL, hyper);
}

UPDATE(rmsprop_centered_momentum)
{
    FN(rmsprop_loop)(n, parameter, gradient, states[1], states[2], states[3], hyper);
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html */
UPDATE(adagrad)
{
    REAL *restrict p = parameter, *restrict sum = states[1];
    const REAL *restrict g = gradient;
    const double step = *(const double *)states[0];
    const REAL lr = (REAL)(hyper[LR] / (1 + (step - 1) * hyper[OWN])), eps = (REAL)hyper[OWN + 1];
    const REAL decay = (REAL)hyper[WEIGHT_DECAY], sign = hyper[MAXIMIZE] != 0 ? -1 : 1;
    for (int64_t i = 0; i < n; i++) {
        const REAL d = FN(descent)(g[i], p[i], sign, decay);
        sum[i] += d * d;
        p[i] -= lr * d / (FN(root)(sum[i]) + eps);
    }
}

#undef UPDATE

#endif
