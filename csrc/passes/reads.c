/* What backward reads. tm_step_accesses says, to be safe, that a BACKWARD step reads its result and all of its inputs.
 * But the gradient of a + b takes neither a nor b, and that of a product only the other factor: an array that nobody
 * needs that long need not go to memory at all (blocks.c), or makes room for another one (share.c). */
#include "../passes.h"

#include <ctype.h>

/* Whether the text has the one-letter name. */
static int mentions(const char *text, char name)
{
    for (const char *at = text; *at; at++)
        if (*at == name && (at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_')) &&
            !(isalnum((unsigned char)at[1]) || at[1] == '_'))
            return 1;
    return 0;
}

static const char *derivative(const tm_node *y, uint32_t operand)
{
    return operand < sizeof y->op->derivative / sizeof *y->op->derivative ? y->op->derivative[operand] : NULL;
}

int tm_flow_reads_result(const tm_node *y, uint32_t operand)
{
    const char *text = derivative(y, operand);
    return !text || mentions(text, 'y');
}

int tm_flow_reads_input(const tm_node *y, uint32_t operand, uint32_t input)
{
    const char *text = derivative(y, operand);
    return !text || mentions(text, input ? 'b' : 'a') || (!input && mentions(text, 'x'));
}

typedef struct {
    const tm_step *step;
    tm_visit *visit;
    void *context;
} filter;

static int flow_reads(tm_node *y, const tm_node *x)
{
    tm_node **inputs = tm_inputs(y);
    for (uint32_t operand = 0; operand < y->n_inputs; operand++) {
        if (!(inputs[operand]->flags & TM_REQUIRES_GRAD))
            continue;
        if (x == y && tm_flow_reads_result(y, operand))
            return 1;
        for (uint32_t i = 0; i < y->n_inputs; i++)
            if (inputs[i] == x && tm_flow_reads_input(y, operand, i))
                return 1;
    }
    return 0;
}

static void pass_on(void *context, tm_access access, tm_node *x)
{
    const filter *f = context;
    if (access != TM_READS_DATA || flow_reads(f->step->y, x))
        f->visit(f->context, access, x);
}

void tm_true_accesses(const tm_step *step, tm_visit *visit, void *context)
{
    const int flows = step->kind == TM_STEP_BACKWARD || step->kind == TM_STEP_DESCEND;
    if (flows && step->y->op->derivative[0])
        tm_step_accesses(step, pass_on, &(filter){step, visit, context});
    else if (!step->inside.n)
        tm_step_accesses(step, visit, context);
    for (int i = 0; i < step->inside.n; i++)
        tm_true_accesses(&step->inside.step[i], visit, context);
}
