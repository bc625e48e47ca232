/* Optimizer steps over many parameters in one call, and what bounds their gradients. None of it is part of a graph. */
#include "error.h"
#include "op.h"
#include "parallel.h"
#include "record.h"
#include "shape.h"
#include "tinyml.h"
#include "update.h"

#include <math.h>
#include <string.h>

enum {
    MAX_STATES = 4,
    TASK = 131072, /* elements: tens of microseconds, worth waking another thread */
};

static int check_state(const tm_update_rule *rule, const tm_node *p, int s, const tm_node *state)
{
    if (s == 0 ? state->rank == 0 && state->dtype == TM_F64 : tm_same_shape(p, state) && state->dtype == p->dtype)
        return 0;
    return tm_fail(state->dtype == (s ? p->dtype : TM_F64) ? TM_SHAPE_ERROR : TM_DTYPE_ERROR,
                   "%s: state %d is %s of shape %s, expected %s of shape %s; make a new optimizer for a changed "
                   "parameter",
                   rule->name, s, tm_dtype_name(state->dtype), tm_shape_of(state).text,
                   tm_dtype_name(s ? p->dtype : TM_F64), s ? tm_shape_of(p).text : "()");
}

static int check(const tm_update_rule *rule, tm_node *const *parameters, int n, tm_node *const *state)
{
    for (int i = 0; i < n; i++) {
        if (!rule->kernel[parameters[i]->dtype])
            return tm_fail(TM_DTYPE_ERROR, "%s: parameter %d is %s, expected float32 or float64; convert it with .float()",
                           rule->name, i, tm_dtype_name(parameters[i]->dtype));
        for (int s = 0; s < rule->n_states; s++)
            if (check_state(rule, parameters[i], s, state[(size_t)s * (size_t)n + (size_t)i]))
                return -1;
    }
    return 0;
}

/* One parameter's step, cut into tasks. */
typedef struct {
    const tm_update_rule *rule;
    const double *hyper;
    tm_node *parameter;
    char *data, *gradient;
    void *states[MAX_STATES];
} step;

static void run_task(void *context, int64_t task)
{
    const step *s = context;
    const int64_t first = task * TASK, left = s->parameter->size - first;
    const size_t at = (size_t)first * tm_item_size(s->parameter->dtype);
    void *states[MAX_STATES] = {s->states[0]};
    for (int i = 1; i < s->rule->n_states; i++)
        states[i] = (char *)s->states[i] + at;
    s->rule->kernel[s->parameter->dtype](left < TASK ? left : TASK, s->data + at, s->gradient + at, states, s->hyper);
}

void tm_update_run(const tm_update_rule *rule, tm_node *const *parameters, int n, tm_node *const *states,
                   const double *hyper)
{
    for (int i = 0; i < n; i++) {
        tm_node *p = parameters[i];
        if (!p->has_grad)
            continue;
        step s = {.rule = rule, .hyper = hyper, .parameter = p, .data = tm_data(p), .gradient = tm_grad_data(p)};
        for (int k = 0; k < rule->n_states; k++)
            s.states[k] = tm_data(states[(size_t)k * (size_t)n + (size_t)i]);
        if (rule->n_states)
            ++*(double *)s.states[0];
        if (p->size <= TASK)
            rule->kernel[p->dtype](p->size, s.data, s.gradient, s.states, hyper);
        else
            tm_parallel((p->size + TASK - 1) / TASK, run_task, &s);
    }
}

int tm_update(tm_ref rule_ref, const tm_ref *parameter_refs, int n, const tm_ref *state_refs, const double *hyper)
{
    const tm_update_rule *rule = (const tm_update_rule *)rule_ref;
    tm_node *const *parameters = (tm_node *const *)parameter_refs, *const *states = (tm_node *const *)state_refs;
    if (check(rule, parameters, n, states))
        return -1;
    tm_update_run(rule, parameters, n, states, hyper);
    return tm_recording ? tm_record_update(rule, parameters, n, states, hyper) : 0;
}

/* What the norm adds up, in double and in several sums, so that neither many elements nor large ones lose digits. */
enum { LANES = 8, CHUNK = 512 };
typedef struct {
    double lane[LANES];
    int undefined; /* met a nan, which comparisons would lose */
} total;

/* n is a multiple of LANES. */
static inline void add_lanes(total *t, const double *g, int n, double norm_type)
{
    total sum = *t;
    for (int i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const double x = fabs(g[i + k]);
            if (norm_type == INFINITY) {
                sum.lane[k] = x > sum.lane[k] ? x : sum.lane[k];
                sum.undefined |= x != x;
            } else {
                sum.lane[k] += norm_type == 2 ? x * x : norm_type == 1 ? x : pow(x, norm_type);
            }
        }
    *t = sum;
}

static void add_gradient(total *t, tm_node *x, double norm_type)
{
    const void *g = tm_grad_data(x);
    double chunk[CHUNK];
    for (int64_t at = 0; at < x->size; at += CHUNK) {
        int n = (int)(x->size - at < CHUNK ? x->size - at : CHUNK);
        for (int i = 0; i < n; i++)
            chunk[i] = x->dtype == TM_F32 ? ((const float *)g)[at + i] : ((const double *)g)[at + i];
        for (; n % LANES; n++)
            chunk[n] = 0;
        if (norm_type == 2) /* constants, so that each loop is compiled for its norm */
            add_lanes(t, chunk, n, 2);
        else if (norm_type == 1)
            add_lanes(t, chunk, n, 1);
        else if (norm_type == INFINITY)
            add_lanes(t, chunk, n, INFINITY);
        else
            add_lanes(t, chunk, n, norm_type);
    }
}

static double norm_of(const total *t, double norm_type)
{
    double sum = 0;
    if (t->undefined)
        return NAN;
    for (int k = 0; k < LANES; k++)
        sum = norm_type == INFINITY ? fmax(sum, t->lane[k]) : sum + t->lane[k];
    return norm_type == 2 ? sqrt(sum) : norm_type == 1 || norm_type == INFINITY ? sum : pow(sum, 1 / norm_type);
}

static void scale_gradient(tm_node *x, double factor)
{
    void *g = tm_grad_data(x);
    if (x->dtype == TM_F32)
        for (int64_t i = 0; i < x->size; i++)
            ((float *)g)[i] *= (float)factor;
    else
        for (int64_t i = 0; i < x->size; i++)
            ((double *)g)[i] *= factor;
}

void tm_clip_norm_run(tm_node *norm, tm_node *const *nodes, int n, double max_norm, double norm_type)
{
    total t = {.undefined = 0};
    for (int i = 0; i < n; i++)
        if (nodes[i]->has_grad)
            add_gradient(&t, nodes[i], norm_type);
    norm->data.f64 = norm_of(&t, norm_type);
    const double factor = max_norm / (norm->data.f64 + 1e-6);
    if (max_norm < INFINITY && !(factor >= 1)) /* a nan spreads, as in PyTorch */
        for (int i = 0; i < n; i++)
            if (nodes[i]->has_grad)
                scale_gradient(nodes[i], factor);
}

tm_ref tm_clip_grad_norm(const tm_ref *parameters, int n, double max_norm, double norm_type)
{
    tm_node *const *nodes = (tm_node *const *)parameters;
    tm_node *norm = NULL;
    if (!(max_norm >= 0))
        tm_fail(TM_VALUE_ERROR, "clip_grad_norm_: max_norm is %g, expected 0 or more", max_norm);
    else if (!(norm_type > 0))
        tm_fail(TM_VALUE_ERROR, "clip_grad_norm_: norm_type is %g, expected a positive number or inf", norm_type);
    else
        norm = tm_scalar_new(&tm_leaf_op, 0);
    if (!norm)
        return 0;
    tm_clip_norm_run(norm, nodes, n, max_norm, norm_type);
    if (tm_recording && tm_record_clip_norm(norm, nodes, n, max_norm, norm_type)) {
        tm_node_release(norm);
        return 0;
    }
    return (tm_ref)norm;
}

void tm_clip_value_run(tm_node *const *nodes, int n, double clip_value)
{
    for (int i = 0; i < n; i++) {
        tm_node *x = nodes[i];
        if (!x->has_grad)
            continue;
        void *g = tm_grad_data(x);
        if (x->dtype == TM_F32) {
            const float bound = (float)clip_value;
            for (int64_t k = 0; k < x->size; k++) {
                const float v = ((float *)g)[k];
                ((float *)g)[k] = v > bound ? bound : v < -bound ? -bound : v;
            }
        } else {
            for (int64_t k = 0; k < x->size; k++) {
                const double v = ((double *)g)[k];
                ((double *)g)[k] = v > clip_value ? clip_value : v < -clip_value ? -clip_value : v;
            }
        }
    }
}

int tm_clip_grad_value(const tm_ref *parameters, int n, double clip_value)
{
    tm_node *const *nodes = (tm_node *const *)parameters;
    if (!(clip_value >= 0))
        return tm_fail(TM_VALUE_ERROR, "clip_grad_value_: clip_value is %g, expected 0 or more", clip_value);
    tm_clip_value_run(nodes, n, clip_value);
    return tm_recording ? tm_record_clip_value(nodes, n, clip_value) : 0;
}
