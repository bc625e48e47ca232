/* Gradients: their memory, and the lock under which threads add to those of shared leaves. */
#ifndef TM_GRAD_H
#define TM_GRAD_H

#include "node.h"

/* Room for x's gradient; -1 when there is no memory. */
int tm_grad_reserve(tm_node *x);
/* x has no gradient any more; its buffer goes back to the pool unless somebody else looks at it or `keep` is set. */
void tm_grad_clear(tm_node *x, int keep);

/* x's gradient becomes a copy of source's data, or goes where source is NULL. */
int tm_grad_store(tm_node *x, tm_node *source);

/* backward.c: the gradient of `root` starts from that node's data, or from 1: written to a result, added to a leaf. */
int tm_seed(tm_node *root, tm_node *gradient);
/* y's part of the chain rule: its gradient flows into its inputs. me: the calling thread. */
int tm_flow(tm_node *y, uint32_t me);

/* For backward kernels: where to put the gradient of x, NULL when x wants none. *add tells whether to add to what is
 * there or to write; from then on there is something. The sweep has reserved the memory. */
static inline void *tm_grad_open(tm_node *x, int *add)
{
    if (!(x->flags & TM_REQUIRES_GRAD))
        return NULL;
    *add = x->has_grad;
    x->has_grad = 1;
    return tm_grad_data(x);
}

/* Threads may sweep graphs of their own over shared leaves, so leaves are locked while a kernel adds to their
 * gradients. All leaves among the inputs or none: who cannot have them all lets go and waits, so nobody waits while
 * holding one. `me` is the calling thread's tm_thread_id(). */
void tm_leaves_lock(tm_node **inputs, uint32_t n, uint32_t me);
void tm_leaves_unlock(tm_node **inputs, uint32_t n, uint32_t me);

#endif
