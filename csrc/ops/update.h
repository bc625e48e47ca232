/* Optimizer updates: one pass over a parameter, its gradient and its states.
 *
 * hyper starts with {lr, weight_decay, maximize}, then come the rule's own. State 0 of a rule that has any is the step
 * counter, a double, already counted up for the step at hand; the other states are shaped like the parameter and start
 * at 0. Formulas, names and rounding as in PyTorch: https://docs.pytorch.org/docs/stable/optim.html */

#if defined(RULES)

enum { LR, WEIGHT_DECAY, MAXIMIZE, OWN };

#elif defined(ROWS)

/* sgd without momentum needs no memory, hence two rules */
{.name = "sgd", .n_states = 0, .n_hypers = OWN, .kernel = {FLOATS(sgd_update)}},
/* states: step, momentum_buffer; hyper: momentum, dampening, nesterov */
{.name = "sgd_momentum", .n_states = 2, .n_hypers = OWN + 3, .kernel = {FLOATS(sgd_momentum_update)}},
/* states: step, exp_avg, exp_avg_sq; hyper: beta1, beta2, eps */
{.name = "adam", .n_states = 3, .n_hypers = OWN + 3, .kernel = {FLOATS(adam_update)}},
{.name = "adamw", .n_states = 3, .n_hypers = OWN + 3, .kernel = {FLOATS(adamw_update)}},

#elif REAL_IS_FLOAT

/* The gradient of what is minimised: of the loss or of its negative, with the L2 penalty if there is one. */
static inline REAL FN(descent)(REAL g, REAL p, REAL sign, REAL decay)
{
    return sign * g + (decay != 0 ? decay * p : 0);
}

static void FN(sgd_update)(int64_t n, void *parameter, const void *gradient, void *const *states, const double *hyper)
{
    REAL *restrict p = parameter;
    const REAL *restrict g = gradient;
    const REAL lr = (REAL)hyper[LR], decay = (REAL)hyper[WEIGHT_DECAY], sign = hyper[MAXIMIZE] != 0 ? -1 : 1;
    (void)states;
    for (int64_t i = 0; i < n; i++)
        p[i] -= lr * FN(descent)(g[i], p[i], sign, decay);
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html: the first step is not dampened. */
static void FN(sgd_momentum_update)(int64_t n, void *parameter, const void *gradient, void *const *states, const double *hyper)
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

/* The loop of Adam and AdamW; `shrink` and `decay` are the decoupled and the L2 form of weight decay. */
static inline void FN(adam_loop)(int64_t n, REAL *restrict p, const REAL *restrict g, void *const *states,
                                 const double *hyper, REAL shrink, REAL decay)
{
    REAL *restrict m = states[1], *restrict v = states[2];
    const double step = *(const double *)states[0], beta1 = hyper[OWN], beta2 = hyper[OWN + 1];
    const REAL sign = hyper[MAXIMIZE] != 0 ? -1 : 1, eps = (REAL)hyper[OWN + 2];
    const REAL keep = (REAL)beta2, gain1 = (REAL)(1 - beta1), gain2 = (REAL)(1 - beta2);
    const REAL stride = (REAL)(hyper[LR] / (1 - pow(beta1, step)));
    const REAL correction = (REAL)(1 / sqrt(1 - pow(beta2, step)));
    for (int64_t i = 0; i < n; i++) {
        const REAL d = FN(descent)(g[i], p[i], sign, decay);
        m[i] += gain1 * (d - m[i]);
        v[i] = keep * v[i] + gain2 * d * d;
        p[i] = shrink * p[i] - stride * m[i] / ((REAL_IS_F32 ? sqrtf((float)v[i]) : (REAL)sqrt(v[i])) * correction + eps);
    }
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html */
static void FN(adam_update)(int64_t n, void *parameter, const void *gradient, void *const *states, const double *hyper)
{
    FN(adam_loop)(n, parameter, gradient, states, hyper, 1, (REAL)hyper[WEIGHT_DECAY]);
}

/* https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html */
static void FN(adamw_update)(int64_t n, void *parameter, const void *gradient, void *const *states, const double *hyper)
{
    FN(adam_loop)(n, parameter, gradient, states, hyper, (REAL)(1 - hyper[LR] * hyper[WEIGHT_DECAY]), 0);
}

#endif
