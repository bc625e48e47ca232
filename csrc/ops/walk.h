/* Walks over strided elements, which movement.h and indexing.h share, and moving what is met on them. */

#if defined(RULES)

/* What moves at once: rows of columns, with strides of their own where they come from and where they go. */
typedef struct {
    int64_t rows, columns, from_row, from_column, to_row, to_column;
} plane;

/* One dimension of a walk: its extent, and how far apart its elements are in x and in y. */
typedef struct {
    int64_t extent, x, y;
} walk_axis;

/* A walk over a contiguous y and the elements of x that y's come from, plane by plane. */
typedef struct {
    walk_axis row, column; /* within a plane */
    int64_t planes;        /* how many; 0 when y is empty */
    int64_t x, y;          /* where the current plane starts in x and in y */
    int rank;              /* dimensions outside the plane, innermost first */
    walk_axis axes[TM_MAX_RANK];
    int64_t index[TM_MAX_RANK];
} walk;

/* y's first element is x's element `start`; one step along dimension d of y goes stride[d] elements on in x.
 * Neighbouring dimensions that are walked like one are merged. Columns are the innermost dimension; rows are
 * the one whose elements are nearest together in x: in a transposition, the one contiguous there. */
static walk walk_start(const tm_node *y, int64_t start, const int64_t *stride)
{
    walk w = {.row = {1, 0, 0}, .column = {1, 1, 1}, .x = start};
    int n = 0, row = 1;
    for (int64_t d = y->rank - 1, step = 1; d >= 0; step *= tm_shape(y)[d--]) {
        int64_t extent = tm_shape(y)[d];
        if (extent == 1)
            continue;
        if (n && stride[d] == w.axes[n - 1].x * w.axes[n - 1].extent)
            w.axes[n - 1].extent *= extent;
        else
            w.axes[n++] = (walk_axis){extent, stride[d], step};
    }
    for (int i = 2; i < n; i++)
        if (fabs((double)w.axes[i].x) < fabs((double)w.axes[row].x))
            row = i;
    if (n > 0)
        w.column = w.axes[0];
    if (n > 1)
        w.row = w.axes[row];
    for (int i = 1; i < n; i++)
        if (i != row)
            w.axes[w.rank++] = w.axes[i];
    w.planes = y->size ? y->size / (w.row.extent * w.column.extent) : 0;
    return w;
}

static void walk_next(walk *w)
{
    for (int d = 0; d < w->rank; d++) {
        const walk_axis *axis = &w->axes[d];
        w->x += axis->x;
        w->y += axis->y;
        if (++w->index[d] < axis->extent)
            return;
        w->x -= axis->x * axis->extent;
        w->y -= axis->y * axis->extent;
        w->index[d] = 0;
    }
}

/* The distance in elements between neighbours along each dimension. */
static void contiguous_strides(const tm_node *x, int64_t *stride)
{
    int64_t step = 1;
    for (int d = x->rank - 1; d >= 0; step *= tm_shape(x)[d--])
        stride[d] = step;
}

#else

/* Part of a transposition. It goes through a small array, so that each cache line of either side is touched
 * once: the lines of one tile may well compete for the same place in the cache. */
#define TILE (int)(64 / sizeof(REAL))
static inline void FN(move_tile)(int64_t rows, int64_t columns, const REAL *restrict from,
                                 int64_t from_column, REAL *restrict to, int64_t to_row, int add)
{
    REAL tile[TILE][TILE];
    for (int64_t c = 0; c < columns; c++)
        memcpy(tile[c], from + c * from_column, (size_t)rows * sizeof(REAL));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            to[r * to_row + c] = add ? to[r * to_row + c] + tile[c][r] : tile[c][r];
}

static void FN(move_transposed)(plane p, const REAL *from, REAL *to, int add)
{
    for (int64_t r = 0; r < p.rows; r += TILE)
        for (int64_t c = 0; c < p.columns; c += TILE) {
            const REAL *source = from + c * p.from_column + r;
            REAL *target = to + r * p.to_row + c;
            const int64_t rows = p.rows - r < TILE ? p.rows - r : TILE;
            const int64_t columns = p.columns - c < TILE ? p.columns - c : TILE;
            if (rows == TILE && columns == TILE && !add) /* constants, for the compiler to unroll */
                FN(move_tile)(TILE, TILE, source, p.from_column, target, p.to_row, 0);
            else
                FN(move_tile)(rows, columns, source, p.from_column, target, p.to_row, add);
        }
}
#undef TILE

static inline void FN(run_copy)(int64_t n, const REAL *restrict from, int64_t from_step, REAL *restrict to,
                                int64_t to_step)
{
    const REAL first = *from;
    if (to_step != 1)
        for (int64_t i = 0; i < n; i++)
            to[i * to_step] = from[i * from_step];
    else if (from_step == 1)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (from_step == 0)
        for (int64_t i = 0; i < n; i++)
            to[i] = first;
    else if (from_step == -1)
        for (int64_t i = 0; i < n; i++)
            to[i] = from[-i];
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i * from_step];
}

#if REAL_IS_FLOAT

static inline void FN(run_add)(int64_t n, const REAL *restrict from, int64_t from_step, REAL *restrict to,
                               int64_t to_step)
{
    REAL sum;
    if (from_step == 1 && to_step == 1)
        FN(add_terms)(n, from, to, 1, 1);
    else if (from_step == 1 && to_step == 0)
        FN(fold_sum)(n, 1, 1, from, &sum), *to += sum;
    else
        for (int64_t i = 0; i < n; i++)
            to[i * to_step] += from[i * from_step];
}

/* Adds up rows that all go to one place, where columns are 1 or 0 apart. */
static void FN(add_rows)(plane p, const REAL *from, REAL *to)
{
    REAL sums[REDUCE_COLUMNS];
    for (int64_t c = 0; c < p.columns; c += REDUCE_COLUMNS) {
        const int64_t columns = p.columns - c < REDUCE_COLUMNS ? p.columns - c : REDUCE_COLUMNS;
        FN(fold_sum)(p.rows, columns, p.from_row, from + c, sums);
        FN(run_add)(columns, sums, 1, to + c * p.to_column, p.to_column);
    }
}

#endif

/* Copies one plane, or (floats only) adds it to what is there; only then may elements share a place. */
static void FN(move)(plane p, const REAL *from, REAL *to, int add)
{
    enum { SHORT = 8 }; /* a loop not worth starting */
    const int narrow = p.rows < SHORT || p.columns < SHORT;
#if REAL_IS_FLOAT
    if (add && p.to_row == 0 && p.rows > 1) {
        FN(add_rows)(p, from, to);
        return;
    }
#endif
    if (narrow ? p.rows > p.columns : p.to_row == 1 && p.to_column > 1)
        p = (plane){p.columns, p.rows, p.from_column, p.from_row, p.to_column, p.to_row};
    if (!narrow && p.from_row == 1 && p.from_column > 1 && p.to_column == 1) {
        FN(move_transposed)(p, from, to, add);
        return;
    }
    for (int64_t r = 0; r < p.rows; r++, from += p.from_row, to += p.to_row)
#if REAL_IS_FLOAT
        if (add)
            FN(run_add)(p.columns, from, p.from_column, to, p.to_column);
        else
#endif
            FN(run_copy)(p.columns, from, p.from_column, to, p.to_column);
}

/* Takes y's elements from where the walk finds them in x. */
static int FN(walk_forward)(tm_node *y, walk w)
{
    const plane p = {w.row.extent, w.column.extent, w.row.x, w.column.x, w.row.y, w.column.y};
    const REAL *x = tm_data(y->in[0]);
    REAL *to = tm_data(y);
    for (; w.planes; w.planes--, walk_next(&w))
        FN(move)(p, x + w.x, to + w.y, 0);
    return 0;
}

#if REAL_IS_FLOAT

/* dy flows to where the walk found y's elements in x; where they share a place, it adds up. The rest is 0. */
static int FN(walk_backward)(tm_node *y, walk w)
{
    int add;
    tm_node *x = y->in[0];
    const REAL *dy = tm_grad_data(y);
    REAL *dx = tm_grad_open(x, &add);
    if (!dx)
        return 0;
    if (!add && x->size != y->size) {
        memset(dx, 0, (size_t)x->size * sizeof *dx);
        add = 1;
    }
    const plane p = {w.row.extent, w.column.extent, w.row.y, w.column.y, w.row.x, w.column.x};
    for (; w.planes; w.planes--, walk_next(&w))
        FN(move)(p, dy + w.y, dx + w.x, add);
    return 0;
}

#endif
#endif
