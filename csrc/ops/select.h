/* Ops that pick or convert elements: to (the cast) and where. */

#if defined(RULES)

/* attributes: dtype */
static int to_rule(tm_call *call)
{
    tm_rule_like_input(call);
    call->dtype = (int)call->attr[0];
    return 0;
}

/* inputs: a, b, condition */
static int where_rule(tm_call *call)
{
    if (call->in[2]->dtype != TM_BOOL)
        return tm_fail(TM_DTYPE_ERROR, "where: condition is %s, expected bool; compare it, as in x > 0",
                       tm_dtype_name(call->in[2]->dtype));
    return tm_rule_broadcast(call);
}

/* What the tasks of a kernel on y share: how much each does, and the operand whose gradient it is. */
typedef struct {
    tm_node *y;
    int64_t part;
    void *dx;
    int operand, add;
} select_work;

#elif defined(ROWS)

{.name = "to", .min_in = 1, .max_in = 1, .min_attr = 1, .rule = to_rule,
 .forward = {ALL(to_forward)}, .backward = {FLOATS(to_backward)}},
{.name = "where", .min_in = 3, .max_in = 3, .promote = 2, .rule = where_rule,
 .forward = {ALL(where_forward)}, .backward = {FLOATS(where_backward)}},

#else

/* Elements `first` to `end` - 1. */
static int FN(to_range)(tm_node *y, int64_t first, int64_t end)
{
    const REAL *from = tm_data(y->in[0]);
    void *to = tm_data(y);
    switch (y->dtype) {
    case TM_F32:
        for (int64_t i = first; i < end; i++)
            ((float *)to)[i] = (float)from[i];
        break;
    case TM_F64:
        for (int64_t i = first; i < end; i++)
            ((double *)to)[i] = (double)from[i];
        break;
    case TM_I64:
        for (int64_t i = first; i < end; i++) {
#if REAL_IS_FLOAT
            if (!(from[i] >= -0x1p63 && from[i] < 0x1p63))
                return tm_fail(TM_VALUE_ERROR, "to: %g has no int64 value; clamp or mask it first", (double)from[i]);
#endif
            ((int64_t *)to)[i] = (int64_t)from[i];
        }
        break;
    default:
        for (int64_t i = first; i < end; i++)
            ((uint8_t *)to)[i] = from[i] != 0;
    }
    return 0;
}

static void FN(to_part)(void *context, int64_t task)
{
    const select_work *work = context;
    const int64_t first = task * work->part, end = first + work->part;
    FN(to_range)(work->y, first, end < work->y->size ? end : work->y->size);
}

static int FN(to_forward)(tm_node *y)
{
    select_work work = {.y = y, .part = tm_part(y->size, TM_PART)};
    if (y->dtype == TM_I64) /* may fail, which is for the calling thread to know */
        return FN(to_range)(y, 0, y->size);
    tm_parallel_parts(tm_parts(y->size, work.part), y->size, FN(to_part), &work);
    return 0;
}

static void FN(where_part)(void *context, int64_t task)
{
    const select_work *work = context;
    tm_node *y = work->y, **in = tm_inputs(y);
    const REAL *a = tm_data(in[0]), *b = tm_data(in[1]);
    const uint8_t *condition = tm_data(in[2]);
    pieces p;
    for (start_pieces(&p, y, work->part, task); p.n; next_piece(&p)) {
        REAL *to = (REAL *)tm_data(y) + p.at;
        const REAL *as = a + p.from[0], *bs = b + p.from[1];
        const uint8_t *cs = condition + p.from[2];
        const int64_t *step = p.loop.step, n = p.n;
        for (int64_t i = 0; i < n; i++)
            to[i] = cs[i * step[2]] ? as[i * step[0]] : bs[i * step[1]];
    }
}

static int FN(where_forward)(tm_node *y)
{
    select_work work = {.y = y, .part = tm_part(y->size, TM_PART)};
    tm_parallel_parts(tm_parts(y->size, work.part), y->size, FN(where_part), &work);
    return 0;
}

#if REAL_IS_FLOAT

static void FN(to_flow)(void *context, int64_t task)
{
    const select_work *work = context;
    tm_node *y = work->y;
    REAL *dx = work->dx;
    const void *dy = tm_grad_data(y);
    const int64_t first = task * work->part, left = y->size - first;
    const int64_t end = left < work->part ? y->size : first + work->part;
    if (!work->add)
        memset(dx + first, 0, (size_t)(end - first) * sizeof *dx);
    if (y->dtype == TM_F32)
        for (int64_t i = first; i < end; i++)
            dx[i] += (REAL)((const float *)dy)[i];
    else
        for (int64_t i = first; i < end; i++)
            dx[i] += (REAL)((const double *)dy)[i];
}

static int FN(to_backward)(tm_node *y)
{
    select_work work = {.y = y, .part = tm_part(y->size, TM_PART)};
    if ((work.dx = tm_grad_open(y->in[0], &work.add)))
        tm_parallel_parts(tm_parts(y->size, work.part), y->size, FN(to_flow), &work);
    return 0;
}

/* dy flows to a where the condition holds, to b elsewhere: selected, not multiplied. */
static void FN(where_flow)(void *context, int64_t task)
{
    const select_work *work = context;
    tm_node *y = work->y;
    const uint8_t *condition = tm_data(tm_inputs(y)[2]);
    const int operand = work->operand;
    pieces p;
    for (start_pieces(&p, y, work->part, task); p.n; next_piece(&p)) {
        const REAL *dy = (REAL *)tm_grad_data(y) + p.at;
        REAL *to = (REAL *)work->dx + p.from[operand];
        const uint8_t *cs = condition + p.from[2];
        const int64_t step = p.loop.step[operand], c_step = p.loop.step[2], n = p.n;
        for (int64_t i = 0; i < n; i++)
            to[i * step] += (cs[i * c_step] ? 0 : 1) == operand ? dy[i] : 0;
    }
}

/* A broadcast operand's elements belong to all parts, so that these make one task. */
static int FN(where_backward)(tm_node *y)
{
    select_work work = {.y = y};
    for (work.operand = 0; work.operand < 2; work.operand++) {
        tm_node *x = tm_inputs(y)[work.operand];
        if (!(work.dx = tm_grad_open(x, &work.add)))
            continue;
        if (!work.add)
            memset(work.dx, 0, (size_t)x->size * sizeof(REAL));
        work.part = x->size == y->size ? tm_part(y->size, TM_PART) : y->size;
        tm_parallel_parts(y->size ? tm_parts(y->size, work.part) : 0, y->size, FN(where_flow), &work);
    }
    return 0;
}

#endif
#endif
