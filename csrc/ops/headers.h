/* What the loops of every instruction set include from outside them. */
#ifndef TM_OPS_HEADERS_H
#define TM_OPS_HEADERS_H

#include "../error.h"
#include "../grad.h"
#include "../op.h"
#include "../parallel.h"
#include "../shape.h"

#include <math.h>
#include <string.h>

/* dy times a factor: nothing flows from a zero dy, not even through an infinite or undefined factor. */
#define FLOW(dy, factor) ((dy) == 0 ? 0 : (dy) * (factor))

#endif
