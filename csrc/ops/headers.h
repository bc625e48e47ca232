/* What the loops of every instruction set include from outside them. */
#ifndef TM_OPS_HEADERS_H
#define TM_OPS_HEADERS_H

#include "../error.h"
#include "../grad.h"
#include "../op.h"
#include "../parallel.h"
#include "../shape.h"
#include "../tape.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <math.h>
#include <string.h>

/* Rounded before anything is added to it, wherever the compiler would rather fuse the two. clang fuses only within an
 * expression, and not through a choice. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define ROUNDED(x) __builtin_assoc_barrier(x)
#else
#define ROUNDED(x) (x)
#endif

/* dy times a factor: nothing flows from a zero dy, not even through an infinite or undefined factor. */
#define FLOW(dy, factor) ((dy) == 0 ? 0 : ROUNDED((dy) * (factor)))

#endif
