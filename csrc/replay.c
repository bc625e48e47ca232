/* Replaying a program: arguments in, steps, results out; once, many times, or over the rows of arrays. */
#include "anomaly.h"
#include "error.h"
#include "grad.h"
#include "program.h"
#include "shape.h"
#include "tinyml.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROGRAM(ref) ((tm_program *)(ref))

static size_t bytes_of(const tm_node *x)
{
    return (size_t)x->size * tm_item_size(x->dtype);
}

/* Whether the gradient of argument i can go there: to a leaf that the steps do not reach in another way. */
static int takes_gradient(const tm_program *p, tm_node *const *arguments, int i)
{
    return tm_leaf_node(arguments[i]) && !tm_is_outer(p, arguments[i]) && !tm_given_twice(p, arguments, i);
}

/* Integers from there on are not all doubles: Python passes them as nodes. */
static const double LARGE = 0x1p53;

static int fits(const tm_program *p, tm_node *const *arguments, const double *numbers)
{
    if (tm_anomaly || p->grad_enabled != tm_grad_enabled()) /* steps are not watched one by one */
        return 0;
    for (int i = 0; i < p->n_inputs; i++) {
        const tm_node *input = p->made.node[i], *x = arguments[i];
        if (!x && input->dtype == TM_I64 && !(numbers[i] > -LARGE && numbers[i] < LARGE))
            return 0;
        if (!x)
            continue;
        if (x->dtype != input->dtype || !tm_same_shape(x, input) || ((x->flags ^ input->flags) & TM_REQUIRES_GRAD) ||
            ((x->flags & TM_REQUIRES_GRAD) && !takes_gradient(p, arguments, i)))
            return 0;
    }
    for (int i = 0; i < p->outer.n; i++) {
        tm_node *x = p->outer.node[i];
        if (((x->flags ^ p->outer_flags[i]) & TM_REQUIRES_GRAD) ||
            ((x->flags & TM_REQUIRES_GRAD) && tm_leaf_node(x) &&
             atomic_load_explicit(&x->refs, memory_order_relaxed) <= p->outer_uses[i]))
            return 0;
    }
    return 1;
}

/* The inputs take over the arguments' data, arrays by sharing the memory, and gradients that the steps continue. */
static int bind(tm_program *p, tm_node *const *arguments, const double *numbers)
{
    for (int i = 0; i < p->n_inputs; i++) {
        tm_node *input = p->made.node[i], *x = arguments[i], *before = p->arguments.node[i];
        if (x)
            tm_node_hold(x);
        if (before)
            tm_node_release(before);
        p->arguments.node[i] = x;
        if (!x) {
            if (input->dtype == TM_I64)
                input->data.i64 = (int64_t)numbers[i];
            else
                input->data.f64 = numbers[i];
            continue;
        }
        if (!input->rank) {
            input->data = x->data;
        } else if (input->data.array != x->data.array) {
            tm_buffer_drop(input->data.array);
            tm_buffer_hold(input->data.array = x->data.array);
        }
        if (!p->gives_grad[i])
            continue;
        input->has_grad = x->has_grad;
        if (x->has_grad) {
            if (tm_grad_reserve(input))
                return -1;
            memcpy(tm_grad_data(input), tm_grad_data(x), bytes_of(x));
        }
    }
    return 0;
}

int tm_give_gradients(tm_program *p)
{
    for (int i = 0; i < p->n_inputs; i++) {
        tm_node *input = p->made.node[i], *x = p->arguments.node[i];
        if (!x || !p->gives_grad[i])
            continue;
        if (!input->has_grad || p->gives_grad[i] == TM_GIVES_FRESH)
            tm_grad_clear(x, 1);
        if (input->has_grad && tm_grad_reserve(x))
            return -1;
        if (input->has_grad)
            memcpy(tm_grad_data(x), tm_grad_data(input), bytes_of(x));
        x->has_grad = input->has_grad;
    }
    return 0;
}

int tm_program_enter(tm_ref program, const tm_ref *arguments, const double *numbers)
{
    tm_program *p = PROGRAM(program);
    tm_node *const *nodes = (tm_node *const *)arguments;
    pthread_mutex_lock(&p->lock);
    const int status = !fits(p, nodes, numbers) ? 1 : bind(p, nodes, numbers);
    if (status)
        pthread_mutex_unlock(&p->lock);
    return status;
}

void tm_program_leave(tm_ref program)
{
    tm_give_gradients(PROGRAM(program));
    pthread_mutex_unlock(&PROGRAM(program)->lock);
}

tm_ref tm_copy(tm_ref node)
{
    tm_node *x = (tm_node *)node;
    tm_node *y = tm_node_new(&tm_leaf_op, x->dtype, x->rank, tm_shape(x), 0, NULL, 0, 0, NULL);
    if (y)
        memcpy(tm_data(y), tm_data(x), bytes_of(x));
    return (tm_ref)y;
}

static int copy_results(const tm_program *p, tm_ref *results)
{
    for (int i = 0; i < p->results.n; i++)
        if (!(results[i] = tm_copy((tm_ref)p->results.node[i]))) {
            while (i-- > 0)
                tm_release(results[i]);
            return -1;
        }
    return 0;
}

int tm_program_call(tm_ref program, const tm_ref *arguments, const double *numbers, tm_ref *results)
{
    tm_program *p = PROGRAM(program);
    const int status = tm_program_enter(program, arguments, numbers);
    if (status)
        return status;
    const int failed = tm_steps_run(&p->last) || tm_give_gradients(p) || copy_results(p, results);
    pthread_mutex_unlock(&p->lock);
    return failed ? -1 : 0;
}

tm_ref tm_program_call1(tm_ref program, const tm_ref *arguments, const double *numbers)
{
    tm_ref result = 0;
    return tm_program_call(program, arguments, numbers, &result) == 1 ? 1 : result;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The rows of one replay, from arrays into the inputs' memory. */
static void gather(tm_program *p, const void *const *sources, const int64_t *order, int64_t i)
{
    for (int k = 0; k < p->n_inputs; k++) {
        tm_node *input = p->made.node[k];
        const char *from = sources[k];
        if (!from)
            continue;
        const int64_t rows = tm_shape(input)[0];
        const size_t row = rows ? bytes_of(input) / (size_t)rows : 0;
        char *to = tm_data(input);
        if (!order) {
            memcpy(to, from + (size_t)(i * rows) * row, (size_t)rows * row);
            continue;
        }
        for (int64_t r = 0; r < rows; r++)
            memcpy(to + (size_t)r * row, from + (size_t)order[i * rows + r] * row, row);
    }
}

/* Before replays that gather: inputs get memory of their own, because an argument's belongs to somebody. */
static int own_inputs(tm_program *p, const void *const *sources)
{
    for (int k = 0; k < p->n_inputs; k++) {
        tm_node *input = p->made.node[k];
        if (!sources[k] || !tm_buffer_shared(input->data.array))
            continue;
        void *own = tm_buffer_new(bytes_of(input));
        if (!own)
            return -1;
        tm_buffer_drop(input->data.array);
        input->data.array = own;
    }
    return 0;
}

int64_t tm_program_over(tm_ref program, int64_t first, int64_t n, double seconds, void *const *outputs,
                        const void *const *sources, const int64_t *order)
{
    tm_program *p = PROGRAM(program);
    enum { LOOKS = 32 }; /* replays between looks at the clock, as long as these are short against them */
    const tm_steps *inner = p->inner.n ? &p->inner : &p->last;
    double end = now() + seconds;
    int64_t done = 0, next_look = 0;
    int over = 0;
    if (sources && own_inputs(p, sources))
        return -1;
    while (done < n && !over) {
        if (done >= next_look) {
            const double left = end - now();
            over = left <= 0;
            next_look = done + (done && left > 0 && (seconds - left) / (double)done * LOOKS < 0.001 ? LOOKS : 1);
        }
        over |= done == n - 1;
        if (sources)
            gather(p, sources, order, first + done);
        if (tm_steps_run(over ? &p->last : inner)) /* who stops here leaves everything behind */
            return -1;
        for (int k = 0; k < p->results.n; k++) {
            tm_node *result = p->results.node[k];
            memcpy((char *)outputs[k] + (size_t)done * bytes_of(result), tm_data(result), bytes_of(result));
        }
        done++;
    }
    return done;
}

int64_t tm_program_repeat(tm_ref program, int64_t n, double seconds, void *const *outputs)
{
    return tm_program_over(program, 0, n, seconds, outputs, NULL, NULL);
}

int tm_program_profile(tm_ref program, int replays, double *seconds)
{
    tm_program *p = PROGRAM(program);
    for (int i = 0; i < p->last.n; i++)
        seconds[i] = 1e30;
    for (int r = 0; r < replays; r++)
        for (int i = 0; i < p->last.n; i++) {
            const double start = now();
            if (p->last.step[i].run(&p->last.step[i]))
                return -1;
            const double spent = now() - start;
            seconds[i] = spent < seconds[i] ? spent : seconds[i];
        }
    return 0;
}
