/* A sweep that may fail half-way, because it calls Python or looks for nan, leaves the gradients of leaves as they
 * were. */
#ifndef TM_ROLLBACK_H
#define TM_ROLLBACK_H

#include "node.h"

typedef struct {
    tm_node *leaf;
    tm_slot grad; /* a copy of its own */
    uint8_t has_grad;
} tm_kept_gradient;

typedef struct {
    tm_kept_gradient *kept;
    size_t n;
} tm_rollback;

/* Keeps the gradients of all leaves that n results were made from; -1 after tm_fail, with what it has so far. */
int tm_rollback_begin(tm_rollback *rollback, tm_node *const *results, size_t n);
/* Brings them back when the sweep has failed, whatever other threads may have added meanwhile. Frees the copies. */
void tm_rollback_end(tm_rollback *rollback, int failed);

#endif
