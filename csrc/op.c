/* Picks the instruction set, once, and finds ops by name. */
#include "op.h"
#include "error.h"
#include "tinyml.h"

#include <string.h>

static const tm_table *chosen = &tm_table_base;

#if defined(__x86_64__)
static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

static int always(void)
{
    return 1;
}

/* Best first. */
static const struct {
    const tm_table *table;
    int (*runs_here)(void);
} tables[] = {
#if defined(__x86_64__)
    {&tm_table_avx512, has_avx512},
    {&tm_table_avx2, has_avx2},
#elif defined(__aarch64__)
    {&tm_table_neon, always},
#endif
    {&tm_table_base, always},
};
enum { TABLES = sizeof tables / sizeof *tables };

int tm_select_isa(const char *name)
{
    char here[64] = "";
    for (int i = 0; i < TABLES; i++) {
        if (!tables[i].runs_here())
            continue;
        if (!name || !*name || !strcmp(name, tables[i].table->isa)) {
            chosen = tables[i].table;
            return 0;
        }
        strcat(strcat(here, *here ? ", " : ""), tables[i].table->isa);
    }
    return tm_fail(TM_VALUE_ERROR, "TINYML_ISA is '%s', but this processor runs %s; set one of these or unset it",
                   name, here);
}

const char *tm_isa(void)
{
    return chosen->isa;
}

const char *tm_compiler(void)
{
    return
#if defined(__clang__)
        "clang " __clang_version__;
#else
        "gcc " __VERSION__;
#endif
}

const tm_op *tm_op_named(const char *name)
{
    for (const tm_op *op = chosen->ops; op->name; op++)
        if (!strcmp(op->name, name))
            return op;
    return NULL;
}

const tm_op *tm_cast_op(void)
{
    return chosen->ops;
}

void tm_run_tape(const tm_tape *tape)
{
    chosen->run_tape(tape);
}

tm_ref tm_find_op(const char *name)
{
    const tm_op *op = tm_op_named(name);
    if (!op)
        tm_fail(TM_VALUE_ERROR, "there is no op named '%s'", name);
    return (tm_ref)op;
}

const char *tm_op_name(int i)
{
    return chosen->ops[i].name;
}

tm_ref tm_find_update(const char *name)
{
    for (const tm_update_rule *rule = chosen->updates; rule->name; rule++)
        if (!strcmp(rule->name, name))
            return (tm_ref)rule;
    tm_fail(TM_VALUE_ERROR, "there is no update rule named '%s'", name);
    return 0;
}
