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

#elif defined(ROWS)

{.name = "to", .min_in = 1, .max_in = 1, .min_attr = 1, .rule = to_rule,
 .forward = {ALL(to_forward)}, .backward = {FLOATS(to_backward)}},
{.name = "where", .min_in = 3, .max_in = 3, .promote = 2, .rule = where_rule,
 .forward = {ALL(where_forward)}, .backward = {FLOATS(where_backward)}},

#else

static int FN(to_forward)(tm_node *y)
{
    const REAL *from = tm_data(y->in[0]);
    void *to = tm_data(y);
    switch (y->dtype) {
    case TM_F32:
        for (int64_t i = 0; i < y->size; i++)
            ((float *)to)[i] = (float)from[i];
        break;
    case TM_F64:
        for (int64_t i = 0; i < y->size; i++)
            ((double *)to)[i] = (double)from[i];
        break;
    case TM_I64:
        for (int64_t i = 0; i < y->size; i++) {
#if REAL_IS_FLOAT
            if (!(from[i] >= -0x1p63 && from[i] < 0x1p63))
                return tm_fail(TM_VALUE_ERROR, "to: %g has no int64 value; clamp or mask it first", (double)from[i]);
#endif
            ((int64_t *)to)[i] = (int64_t)from[i];
        }
        break;
    default:
        for (int64_t i = 0; i < y->size; i++)
            ((uint8_t *)to)[i] = from[i] != 0;
    }
    return 0;
}

static int FN(where_forward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const REAL *a = tm_data(in[0]), *b = tm_data(in[1]);
    const uint8_t *condition = tm_data(in[2]);
    REAL *to = tm_data(y);
    tm_loop loop;
    tm_loop_start(&loop, y, 3, in);
    for (int64_t r = 0; r < loop.runs; r++, to += loop.run, tm_loop_next(&loop)) {
        const REAL *as = a + loop.at[0], *bs = b + loop.at[1];
        const uint8_t *cs = condition + loop.at[2];
        for (int64_t i = 0; i < loop.run; i++)
            to[i] = cs[i * loop.step[2]] ? as[i * loop.step[0]] : bs[i * loop.step[1]];
    }
    return 0;
}

#if REAL_IS_FLOAT

static int FN(to_backward)(tm_node *y)
{
    int add;
    REAL *dx = tm_grad_open(y->in[0], &add);
    const void *dy = tm_grad_data(y);
    if (!dx)
        return 0;
    if (!add)
        memset(dx, 0, (size_t)y->size * sizeof *dx);
    if (y->dtype == TM_F32)
        for (int64_t i = 0; i < y->size; i++)
            dx[i] += (REAL)((const float *)dy)[i];
    else
        for (int64_t i = 0; i < y->size; i++)
            dx[i] += (REAL)((const double *)dy)[i];
    return 0;
}

/* dy flows to a where the condition holds, to b elsewhere: selected, not multiplied. */
static int FN(where_backward)(tm_node *y)
{
    tm_node **in = tm_inputs(y);
    const uint8_t *condition = tm_data(in[2]);
    for (int operand = 0; operand < 2; operand++) {
        int add;
        tm_node *x = in[operand];
        REAL *dx = tm_grad_open(x, &add);
        const REAL *dy = tm_grad_data(y);
        if (!dx)
            continue;
        if (!add)
            memset(dx, 0, (size_t)x->size * sizeof *dx);
        tm_loop loop;
        tm_loop_start(&loop, y, 3, in);
        for (int64_t r = 0; r < loop.runs; r++, dy += loop.run, tm_loop_next(&loop)) {
            REAL *to = dx + loop.at[operand];
            const uint8_t *cs = condition + loop.at[2];
            for (int64_t i = 0; i < loop.run; i++)
                to[i * loop.step[operand]] += (cs[i * loop.step[2]] ? 0 : 1) == operand ? dy[i] : 0;
        }
    }
    return 0;
}

#endif
#endif
