/* Looking for nan, or infinity, where it is made: detect_anomaly(). */
#ifndef TM_ANOMALY_H
#define TM_ANOMALY_H

#include "node.h"

enum { TM_NAN = 1, TM_INFINITY = 2 };

/* What the calling thread looks for; 0 otherwise, which is all that the common path looks at. */
extern _Thread_local unsigned tm_anomaly TM_FAST_TLS;

/* To be called for a fresh result while tm_anomaly is set: 0, or -1 after tm_fail when it has what no input has. */
int tm_anomaly_forward(tm_node *y);
/* tm_flow, and the same for the gradients that it makes. */
int tm_anomaly_flow(tm_node *y, uint32_t me);

#endif
