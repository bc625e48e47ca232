/* Calling Python. Only threads that came from Python get here, within a call of the C API. */
#include "callback.h"
#include "error.h"
#include "tinyml.h"

/* NULL before Python sets it, and from the interpreter's exit on. */
static _Atomic(tm_callback) python;

void tm_set_callback(tm_callback callback)
{
    atomic_store(&python, callback);
}

int tm_call_python(tm_event event, int64_t number, tm_node *y)
{
    const tm_callback callback = atomic_load(&python);
    if (!callback)
        return tm_fail(TM_RUNTIME_ERROR, "function: Python is shutting down");
    return callback(event, number, (tm_ref)y) ? tm_fail(TM_PYTHON_ERROR, "a call from C to Python failed") : 0;
}

void tm_python_let_go(int64_t number)
{
    const tm_callback callback = atomic_load(&python);
    if (callback)
        callback(TM_EVENT_LET_GO, number, 0);
}
