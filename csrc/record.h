/* Recording: what the engine tells the program that its thread is recording. */
#ifndef TM_RECORD_H
#define TM_RECORD_H

#include "program.h"

/* The program that the calling thread records; NULL otherwise, which is all that the common path looks at. */
extern _Thread_local tm_program *tm_recording TM_FAST_TLS;

/* Each returns 0, or -1 after tm_fail: what cannot be recorded must not go on unrecorded. Call them only while
 * tm_recording is set, after the work has been done. */
/* A node that the function returns. */
int tm_record_result(tm_node *y);
int tm_record_forward(tm_node *y);
/* A leaf that is made; x: the node whose memory or data it has, or NULL. */
int tm_record_leaf(tm_node *y, tm_node *x);
int tm_record_sweep(tm_node *root, tm_node *gradient, tm_node **order, size_t n);
int tm_record_backward(tm_node *y);
/* requires_grad is about to change. */
int tm_record_switch(const tm_node *x);
int tm_record_clear(tm_node *const *nodes, int n);
int tm_record_copy(tm_node *y, tm_node *x);
int tm_record_read_grad(tm_node *y, tm_node *x);
int tm_record_write_grad(tm_node *y, tm_node *x);
int tm_record_update(const tm_update_rule *rule, tm_node *const *parameters, int n, tm_node *const *states,
                     const double *hyper);
int tm_record_clip_norm(tm_node *y, tm_node *const *nodes, int n, double max_norm, double norm_type);
int tm_record_clip_value(tm_node *const *nodes, int n, double clip_value);

#endif
