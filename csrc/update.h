/* Optimizer steps and bounds on gradients, as recorded steps run them: without checks. */
#ifndef TM_UPDATE_H
#define TM_UPDATE_H

#include "op.h"

void tm_update_run(const tm_update_rule *rule, tm_node *const *parameters, int n, tm_node *const *states,
                   const double *hyper);
/* norm: a 0-d float64 node for the norm before. */
void tm_clip_norm_run(tm_node *norm, tm_node *const *nodes, int n, double max_norm, double norm_type);
void tm_clip_value_run(tm_node *const *nodes, int n, double clip_value);

#endif
