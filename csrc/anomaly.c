/* Looking for nan, or infinity, where it is made. Python knows which line made a node, and says what was found. */
#include "anomaly.h"
#include "callback.h"
#include "grad.h"
#include "tinyml.h"

_Thread_local unsigned tm_anomaly TM_FAST_TLS;

unsigned tm_set_anomaly(unsigned what)
{
    const unsigned before = tm_anomaly;
    tm_anomaly = what;
    return before;
}

unsigned tm_anomaly_mode(void)
{
    return tm_anomaly;
}

/* Whether nan and infinity are among numbers of x's size and dtype. */
static unsigned found_in(const tm_node *x, const void *numbers)
{
    unsigned nan = 0, infinity = 0;
    if (x->dtype == TM_F32)
        for (int64_t i = 0; i < x->size; i++) {
            const float number = ((const float *)numbers)[i];
            nan |= number != number;
            infinity |= __builtin_fabsf(number) == __builtin_inff();
        }
    else if (x->dtype == TM_F64)
        for (int64_t i = 0; i < x->size; i++) {
            const double number = ((const double *)numbers)[i];
            nan |= number != number;
            infinity |= __builtin_fabs(number) == __builtin_inf();
        }
    return (nan ? TM_NAN : 0) | (infinity ? TM_INFINITY : 0);
}

static unsigned found_in_gradients(tm_node *y, uint32_t me)
{
    unsigned found = 0;
    tm_leaves_lock(tm_inputs(y), y->n_inputs, me);
    for (uint32_t i = 0; i < y->n_inputs; i++) {
        tm_node *x = tm_inputs(y)[i];
        if ((x->flags & TM_REQUIRES_GRAD) && x->has_grad)
            found |= found_in(x, tm_grad_data(x));
    }
    tm_leaves_unlock(tm_inputs(y), y->n_inputs, me);
    return found;
}

int tm_anomaly_forward(tm_node *y)
{
    unsigned made = found_in(y, tm_data(y)) & tm_anomaly;
    for (uint32_t i = 0; i < y->n_inputs && made; i++)
        made &= ~found_in(tm_inputs(y)[i], tm_data(tm_inputs(y)[i]));
    return tm_call_python(made ? TM_EVENT_ANOMALY : TM_EVENT_MADE, made, y);
}

int tm_anomaly_flow(tm_node *y, uint32_t me)
{
    const unsigned before = found_in(y, tm_grad_data(y)) | found_in_gradients(y, me);
    if (tm_flow(y, me))
        return -1;
    const unsigned made = found_in_gradients(y, me) & ~before & tm_anomaly;
    return made ? tm_call_python(TM_EVENT_ANOMALY_BACKWARD, made, y) : 0;
}
