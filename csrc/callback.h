/* Calling Python: one function, which Python sets, and what it is called for. */
#ifndef TM_CALLBACK_H
#define TM_CALLBACK_H

#include "node.h"

/* In the order of _core.Event. The number that goes with it: */
typedef enum {
    TM_EVENT_FORWARD,  /* y's data is wanted; the number of its Python object */
    TM_EVENT_BACKWARD, /* y's gradient is to flow on, through tm_function_flow; the same */
    TM_EVENT_LET_GO,   /* the node with that object is gone */
    TM_EVENT_MADE,     /* y has been made under detect_anomaly() */
    TM_EVENT_ANOMALY,  /* and has what none of its inputs have; bits of anomaly.h */
    TM_EVENT_ANOMALY_BACKWARD, /* its backward kernel has made a gradient of that kind; the same */
} tm_event;

/* 0, or -1 after tm_fail: Python has put an exception aside, which _core.fail will raise, or is gone. */
int tm_call_python(tm_event event, int64_t number, tm_node *y);
/* For the release of a node with TM_CALLS_PYTHON; does not fail. */
void tm_python_let_go(int64_t number);

#endif
