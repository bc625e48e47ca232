/* Matrix products C = A B, for the current REAL and instruction set.
 *
 * C is made of tiles of at most GEMM_ROWS x GEMM_COLUMNS elements, whose sums stay in registers over a run of k. A step
 * of k loads GEMM_VECTORS vectors of a row of B, and multiplies each by one element of A for every row of the tile.
 *
 *     for blocks of GEMM_K rows and GEMM_PANELS panels of columns of B    packed: they stay in the second-level cache
 *         for panels of GEMM_ROWS rows of A                               packed: they stay in the first-level cache
 *             for panels of GEMM_COLUMNS columns of the block
 *                 tile += panel of A * panel of B
 *
 * A packed panel holds side by side what one step of a tile reads, for each k in turn. Rows and columns are cut into
 * panels as even as possible. Where a matrix is too small to repay packing, tiles read it in place. Products with one
 * row or column, and a few other thin ones, do about one sum for each load from memory, so they have loops of their
 * own.
 *
 * The order of an element's sum depends on the shapes alone, so any number of threads gives the same bits. */
#include "parallel.h"
#include "pool.h"

#include <stdint.h>
#include <string.h>

#define GEMM_LANES (TM_VECTOR_BYTES / (int)sizeof(REAL))
#if TM_VECTOR_BYTES == 64 || defined(__aarch64__) /* 32 registers: 24 sums, 3 of B, and one of A */
#define GEMM_ROWS 8
#define GEMM_VECTORS 3
#elif TM_VECTOR_BYTES == 32 /* 16 registers: 12 sums */
#define GEMM_ROWS 4
#define GEMM_VECTORS 3
#else /* 16 registers, and products need one before they are added: 8 sums */
#define GEMM_ROWS 4
#define GEMM_VECTORS 2
#endif
#define GEMM_COLUMNS (GEMM_VECTORS * GEMM_LANES)
#define GEMM_DOT_ROWS (GEMM_ROWS / 2)
#define GEMM_LINE (64 / (int)sizeof(REAL))  /* elements of a cache line */
#define GEMM_M 64                           /* rows of A packed at a time */
#define GEMM_K 256                          /* a panel of A has at most 8 KB in float */
#define GEMM_PANELS (512 / GEMM_COLUMNS)    /* of a block of B, which has at most 512 KB in float */
#define GEMM_PACK_A 256                     /* columns from which on packing A pays, where it may be read in place */
#define GEMM_PACK_B 256                     /* rows, likewise for B */
#define GEMM_SERIAL 2000000                 /* products m n k below it are not worth a second thread */
#define GEMM_TINY 64                        /* products m n k up to it are not worth a tile */
#define GEMM_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define GEMM_UNROLL _Pragma("clang loop unroll(full)")
#define GEMM_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define GEMM_UNROLL _Pragma("GCC unroll 16")
#define GEMM_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (FN(gemm_four_indices)){i, j, k, l})
#endif

/* How a product ends: C = A*B, plus what C held, plus a bias added to every row. */
typedef struct {
    int accumulate;
    const REAL *bias;
} FN(gemm_tail);

static inline int64_t FN(gemm_least)(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

/* How many parts of at most `largest` make up n > 0; a division takes as long as a small tile. */
static inline int64_t FN(gemm_parts)(int64_t n, int64_t largest)
{
    return n <= largest ? 1 : largest == 1 ? n : (n + largest - 1) / largest;
}

typedef REAL FN(gemm_vector) __attribute__((vector_size(TM_VECTOR_BYTES)));
typedef REAL FN(gemm_unaligned) __attribute__((vector_size(TM_VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

/* C (rows x vectors * GEMM_LANES) = A (rows x k) * B (k x columns); B's rows are contiguous. */
GEMM_INLINE void FN(gemm_any_tile)(const int rows, const int vectors, int64_t k, const REAL *a, int64_t ars, int64_t acs,
                                   const REAL *b, int64_t brs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    FN(gemm_vector) sum[GEMM_ROWS][GEMM_VECTORS] = {{{0}}}, of_b[GEMM_VECTORS];
    for (int64_t p = 0; p < k; p++, a += acs, b += brs) {
        GEMM_UNROLL
        for (int v = 0; v < vectors; v++)
            of_b[v] = *(const FN(gemm_unaligned) *)(b + v * GEMM_LANES);
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            GEMM_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[i][v] += a[i * ars] * of_b[v];
        }
    }
    GEMM_UNROLL
    for (int i = 0; i < rows; i++) {
        GEMM_UNROLL
        for (int v = 0; v < vectors; v++) {
            FN(gemm_unaligned) *to = (FN(gemm_unaligned) *)(c + i * ldc + v * GEMM_LANES);
            if (tail.accumulate)
                sum[i][v] += *to;
            if (tail.bias)
                sum[i][v] += *(const FN(gemm_unaligned) *)(tail.bias + v * GEMM_LANES);
            *to = sum[i][v];
        }
    }
}

typedef void FN(gemm_tile)(int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b, int64_t brs, REAL *c,
                           int64_t ldc, FN(gemm_tail) tail);

#define GEMM_TILE(rows, vectors)                                                                                       \
    static void FN(gemm_tile_##rows##x##vectors)(int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,    \
                                                 int64_t brs, REAL *c, int64_t ldc, FN(gemm_tail) tail)                \
    {                                                                                                                  \
        FN(gemm_any_tile)(rows, vectors, k, a, ars, acs, b, brs, c, ldc, tail);                                        \
    }
#if GEMM_VECTORS == 3
#define GEMM_TILES(rows) GEMM_TILE(rows, 1) GEMM_TILE(rows, 2) GEMM_TILE(rows, 3)
#define GEMM_NAMES(rows) {FN(gemm_tile_##rows##x1), FN(gemm_tile_##rows##x2), FN(gemm_tile_##rows##x3)}
#else
#define GEMM_TILES(rows) GEMM_TILE(rows, 1) GEMM_TILE(rows, 2)
#define GEMM_NAMES(rows) {FN(gemm_tile_##rows##x1), FN(gemm_tile_##rows##x2)}
#endif
GEMM_TILES(1) GEMM_TILES(2) GEMM_TILES(3) GEMM_TILES(4)
#if GEMM_ROWS == 8
GEMM_TILES(5) GEMM_TILES(6) GEMM_TILES(7) GEMM_TILES(8)
#endif
static FN(gemm_tile) *const FN(gemm_tiles)[GEMM_ROWS][GEMM_VECTORS] = {
    GEMM_NAMES(1), GEMM_NAMES(2), GEMM_NAMES(3), GEMM_NAMES(4),
#if GEMM_ROWS == 8
    GEMM_NAMES(5), GEMM_NAMES(6), GEMM_NAMES(7), GEMM_NAMES(8),
#endif
};

typedef REAL FN(gemm_four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#if REAL_IS_F32
typedef int32_t FN(gemm_four_indices) __attribute__((vector_size(16)));
#else
typedef int64_t FN(gemm_four_indices) __attribute__((vector_size(32)));
#endif

/* Four sums from column j on, ended by the tail. */
GEMM_INLINE void FN(gemm_end_four)(const REAL *sums, const REAL *c, FN(gemm_tail) tail, int64_t j, FN(gemm_four) *ended)
{
    *ended = *(const FN(gemm_four) *)(sums + j);
    if (tail.accumulate)
        *ended += *(const FN(gemm_four) *)(c + j);
    if (tail.bias)
        *ended += *(const FN(gemm_four) *)(tail.bias + j);
}

/* A tile of fewer columns than its vectors hold goes through a whole one. */
static void FN(gemm_put_tile)(int64_t rows, int64_t columns, int64_t k, const REAL *a, int64_t ars, int64_t acs,
                              const REAL *b, int64_t brs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    const int64_t vectors = (columns + GEMM_LANES - 1) / GEMM_LANES;
    FN(gemm_tile) *tile = FN(gemm_tiles)[rows - 1][vectors - 1];
    if (columns == vectors * GEMM_LANES) {
        tile(k, a, ars, acs, b, brs, c, ldc, tail);
        return;
    }
    REAL whole[GEMM_ROWS * GEMM_COLUMNS];
    tile(k, a, ars, acs, b, brs, whole, GEMM_COLUMNS, (FN(gemm_tail)){0, NULL});
    for (int64_t i = 0; i < rows; i++, c += ldc) {
        const REAL *from = whole + i * GEMM_COLUMNS;
        if (columns >= 4) { /* the last four may overlap those before, so they are read first */
            FN(gemm_four) four, last;
            FN(gemm_end_four)(from, c, tail, columns - 4, &last);
            for (int64_t j = 0; j + 4 < columns; j += 4) {
                FN(gemm_end_four)(from, c, tail, j, &four);
                *(FN(gemm_four) *)(c + j) = four;
            }
            *(FN(gemm_four) *)(c + columns - 4) = last;
        } else {
            for (int64_t j = 0; j < columns; j++)
                c[j] = from[j] + (tail.accumulate ? c[j] : 0) + (tail.bias ? tail.bias[j] : 0);
        }
    }
}

/* to[p * to_stride + i] = from[i * stride + p] for i, p < 4 */
GEMM_INLINE void FN(gemm_transpose4)(const REAL *from, int64_t stride, REAL *to, int64_t to_stride)
{
    typedef FN(gemm_four) four;
    const four x0 = *(const four *)from, x1 = *(const four *)(from + stride), x2 = *(const four *)(from + 2 * stride),
               x3 = *(const four *)(from + 3 * stride);
    const four low02 = GEMM_SHUFFLE(x0, x2, 0, 4, 1, 5), low13 = GEMM_SHUFFLE(x1, x3, 0, 4, 1, 5),
               high02 = GEMM_SHUFFLE(x0, x2, 2, 6, 3, 7), high13 = GEMM_SHUFFLE(x1, x3, 2, 6, 3, 7);
    *(four *)to = GEMM_SHUFFLE(low02, low13, 0, 4, 1, 5);
    *(four *)(to + to_stride) = GEMM_SHUFFLE(low02, low13, 2, 6, 3, 7);
    *(four *)(to + 2 * to_stride) = GEMM_SHUFFLE(high02, high13, 0, 4, 1, 5);
    *(four *)(to + 3 * to_stride) = GEMM_SHUFFLE(high02, high13, 2, 6, 3, 7);
}

/* to[p * padded + i] = from[p * stride + i] for i < width */
GEMM_INLINE void FN(gemm_copy_rows)(int64_t width, int64_t padded, int64_t k, const REAL *from, int64_t stride, REAL *to)
{
    for (int64_t p = 0; p < k; p++, from += stride, to += padded) {
        int64_t i = 0;
        for (; i + GEMM_LANES <= width; i += GEMM_LANES)
            *(FN(gemm_unaligned) *)(to + i) = *(const FN(gemm_unaligned) *)(from + i);
        if (width >= 4 && i < width) { /* the last four may overlap those before */
            for (; i + 4 < width; i += 4)
                *(FN(gemm_four) *)(to + i) = *(const FN(gemm_four) *)(from + i);
            *(FN(gemm_four) *)(to + width - 4) = *(const FN(gemm_four) *)(from + width - 4);
        } else {
            for (; i < width; i++)
                to[i] = from[i];
        }
    }
}

/* Packs a panel: to[p * padded + i] = from[i * stride + p * k_stride] for i < width, 0 for the rest. */
static void FN(gemm_pack)(int64_t width, int64_t padded, int64_t k, const REAL *from, int64_t stride, int64_t k_stride,
                          REAL *to)
{
    int64_t i = 0;
    if (width < padded)
        memset(to, 0, (size_t)(padded * k) * sizeof(REAL));
    if (stride == 1) {
        if (width == GEMM_ROWS) /* the usual widths, as constants */
            FN(gemm_copy_rows)(GEMM_ROWS, padded, k, from, k_stride, to);
        else if (width == GEMM_COLUMNS)
            FN(gemm_copy_rows)(GEMM_COLUMNS, padded, k, from, k_stride, to);
        else
            FN(gemm_copy_rows)(width, padded, k, from, k_stride, to);
        return;
    }
    for (; k_stride == 1 && i + 4 <= width; i += 4) {
        int64_t p = 0;
        for (; p + 4 <= k; p += 4)
            FN(gemm_transpose4)(from + i * stride + p, stride, to + p * padded + i, padded);
        for (; p < k; p++)
            for (int64_t j = i; j < i + 4; j++)
                to[p * padded + j] = from[j * stride + p];
    }
    for (; i < width; i++)
        for (int64_t p = 0; p < k; p++)
            to[p * padded + i] = from[i * stride + p * k_stride];
}

/* Fills in where `parts` nearly equal parts of n units begin, and where the last one ends. */
static void FN(gemm_cut)(int64_t n, int64_t unit, int64_t parts, int64_t *begin)
{
    begin[0] = 0;
    if (parts > 1) {
        const int64_t units = FN(gemm_parts)(n, unit), each = units / parts, larger = units % parts;
        for (int64_t i = 1; i < parts; i++)
            begin[i] = (each * i + FN(gemm_least)(i, larger)) * unit;
    }
    begin[parts] = n;
}

/* The operands of a product, or of a part of it. */
typedef struct {
    int64_t m, n, k;
    const REAL *a;
    int64_t ars, acs;
    const REAL *b;
    int64_t brs, bcs;
    REAL *c;
    int64_t ldc;
    FN(gemm_tail) tail;
    int64_t columns_a_task; /* for gemm_run_columns */
} FN(gemm_product);

/* A block of B with all of A, and how both are cut into panels and tasks. */
typedef struct {
    FN(gemm_product) of;
    int pack_a, pack_b;
    REAL *packed_a, *packed_b; /* packed_a has GEMM_M rows for each task */
    int64_t panels, panel[GEMM_PANELS + 1]; /* where each panel of columns begins */
    int64_t rows_a_task, column_tasks, panels_a_task;
} FN(gemm_block);

static int64_t FN(gemm_padded)(int64_t columns)
{
    return FN(gemm_parts)(columns, GEMM_LANES) * GEMM_LANES;
}

static void FN(gemm_pack_b)(void *context, int64_t j)
{
    const FN(gemm_block) *block = context;
    const FN(gemm_product) *of = &block->of;
    const int64_t at = block->panel[j], width = block->panel[j + 1] - at;
    FN(gemm_pack)(width, FN(gemm_padded)(width), of->k, of->b + at * of->bcs, of->bcs, of->brs,
                  block->packed_b + at * of->k);
}

/* Several panels of A at once: where A is transposed, each alone would use but a part of the cache lines it reads. */
static void FN(gemm_pack_a)(const FN(gemm_product) *of, int64_t row, int64_t panels, const int64_t *begin, REAL *to)
{
    const int64_t k_step = of->ars == 1 ? GEMM_LINE : of->k;
    for (int64_t p = 0; p < of->k; p += k_step)
        for (int64_t i = 0; i < panels; i++) {
            const int64_t rows = begin[i + 1] - begin[i];
            FN(gemm_pack)(rows, rows, FN(gemm_least)(of->k - p, k_step), of->a + (row + begin[i]) * of->ars + p * of->acs,
                          of->ars, of->acs, to + begin[i] * of->k + p * rows);
        }
}

/* One panel of rows with some panels of columns. */
static void FN(gemm_put_panel)(const FN(gemm_block) *block, int64_t rows, const REAL *a, int64_t ars, int64_t acs, REAL *c,
                               int64_t panel, int64_t panel_end)
{
    const FN(gemm_product) *of = &block->of;
    for (int64_t j = panel; j < panel_end; j++) {
        const int64_t at = block->panel[j], columns = block->panel[j + 1] - at;
        const REAL *b = block->packed_b + at * of->k;
        int64_t brs = FN(gemm_padded)(columns);
        FN(gemm_tail) tail = of->tail;
        if (!block->pack_b && columns == brs)
            b = of->b + at, brs = of->brs;
        if (tail.bias)
            tail.bias += at;
        FN(gemm_put_tile)(rows, columns, of->k, a, ars, acs, b, brs, c + at, of->ldc, tail);
    }
}

static void FN(gemm_put_part)(void *context, int64_t task)
{
    const FN(gemm_block) *block = context;
    const FN(gemm_product) *of = &block->of;
    const int64_t row_task = block->column_tasks == 1 ? task : task / block->column_tasks,
                  column_task = task - row_task * block->column_tasks;
    const int64_t row_end = FN(gemm_least)((row_task + 1) * block->rows_a_task, of->m);
    const int64_t panel = column_task * block->panels_a_task,
                  panel_end = FN(gemm_least)(panel + block->panels_a_task, block->panels);
    REAL *packed_a = block->pack_a ? block->packed_a + task * GEMM_M * of->k : NULL;
    for (int64_t row = row_task * block->rows_a_task; row < row_end; row += GEMM_M) {
        const int64_t m = FN(gemm_least)(GEMM_M, row_end - row), panels = FN(gemm_parts)(m, GEMM_ROWS);
        int64_t begin[GEMM_M / GEMM_ROWS + 1];
        FN(gemm_cut)(m, 1, panels, begin);
        if (block->pack_a)
            FN(gemm_pack_a)(of, row, panels, begin, packed_a);
        for (int64_t i = 0; i < panels; i++) {
            const int64_t rows = begin[i + 1] - begin[i];
            REAL *c = of->c + (row + begin[i]) * of->ldc;
            if (block->pack_a)
                FN(gemm_put_panel)(block, rows, packed_a + begin[i] * of->k, 1, rows, c, panel, panel_end);
            else
                FN(gemm_put_panel)(block, rows, of->a + (row + begin[i]) * of->ars, of->ars, of->acs, c, panel, panel_end);
        }
    }
}

static void FN(gemm_run)(int64_t tasks, void (*run)(void *context, int64_t task), void *context, int parallel)
{
    if (parallel)
        tm_parallel(tasks, run, context);
    else
        for (int64_t task = 0; task < tasks; task++)
            run(context, task);
}

static int FN(gemm_is_parallel)(const FN(gemm_product) *of)
{
    return of->m * of->n * of->k >= GEMM_SERIAL && tm_num_threads() > 1;
}

static int FN(gemm_tiled)(const FN(gemm_product) *whole)
{
    const int64_t m = whole->m, n = whole->n, k = whole->k;
    const int64_t k_step = FN(gemm_parts)(k, FN(gemm_parts)(k, GEMM_K)), panels = FN(gemm_parts)(n, GEMM_COLUMNS),
                  n_step = FN(gemm_parts)(panels, FN(gemm_parts)(panels, GEMM_PANELS)) * GEMM_COLUMNS;
    const int parallel = FN(gemm_is_parallel)(whole);
    /* About four tasks a thread, so that one that is late costs little; of rows, or where these are few, of
     * columns too. */
    const int64_t row_panels = FN(gemm_parts)(m, GEMM_ROWS), tasks = parallel ? 4 * tm_num_threads() : 1;
    FN(gemm_block) block = {.of = *whole};
    block.rows_a_task = FN(gemm_parts)(row_panels, FN(gemm_least)(row_panels, tasks)) * GEMM_ROWS;
    const int64_t row_tasks = FN(gemm_parts)(m, block.rows_a_task), column_tasks = FN(gemm_parts)(tasks, row_tasks);
    block.pack_a = n >= GEMM_PACK_A || (whole->ars != 1 && whole->acs != 1);
    block.pack_b = m >= GEMM_PACK_B || whole->bcs != 1;
    if (block.pack_a) {
        block.packed_a = tm_scratch(TM_SCRATCH_A, (size_t)(row_tasks * column_tasks * GEMM_M * k_step) * sizeof(REAL));
        if (!block.packed_a)
            return -1;
    }
    block.packed_b = tm_scratch(TM_SCRATCH_B, (size_t)(n_step * k_step) * sizeof(REAL));
    if (!block.packed_b)
        return -1;
    for (int64_t column = 0; column < n; column += n_step) {
        FN(gemm_product) *of = &block.of;
        of->n = FN(gemm_least)(n - column, n_step);
        of->c = whole->c + column;
        block.panels = FN(gemm_parts)(of->n, GEMM_COLUMNS);
        FN(gemm_cut)(of->n, GEMM_LANES, block.panels, block.panel);
        block.panels_a_task = FN(gemm_parts)(block.panels, column_tasks);
        block.column_tasks = FN(gemm_parts)(block.panels, block.panels_a_task);
        for (int64_t p = 0; p < k; p += k_step) {
            of->k = FN(gemm_least)(k - p, k_step);
            of->a = whole->a + p * whole->acs;
            of->b = whole->b + p * whole->brs + column * whole->bcs;
            of->tail.accumulate = p > 0 || whole->tail.accumulate;
            of->tail.bias = p == 0 && whole->tail.bias ? whole->tail.bias + column : NULL;
            if (block.pack_b)
                FN(gemm_run)(block.panels, FN(gemm_pack_b), &block, parallel);
            else if (of->n % GEMM_LANES)
                FN(gemm_pack_b)(&block, block.panels - 1); /* only the panel whose last vector would read too far */
            FN(gemm_run)(row_tasks * block.column_tasks, FN(gemm_put_part), &block, parallel);
        }
    }
    return 0;
}

/* Runs tasks that each make some columns of a product with few rows. */
static void FN(gemm_run_columns)(FN(gemm_product) *product, void (*run)(void *context, int64_t task))
{
    const int parallel = FN(gemm_is_parallel)(product);
    product->columns_a_task = product->n;
    if (parallel)
        product->columns_a_task = FN(gemm_parts)(FN(gemm_parts)(product->n, 2 * tm_num_threads()), GEMM_LINE) * GEMM_LINE;
    FN(gemm_run)(FN(gemm_parts)(product->n, product->columns_a_task), run, product, parallel);
}

static void FN(gemm_take_columns)(const FN(gemm_product) *product, int64_t task, FN(gemm_product) *part)
{
    const int64_t column = task * product->columns_a_task;
    *part = *product;
    part->n = FN(gemm_least)(product->n - column, product->columns_a_task);
    part->b += column * product->bcs;
    part->c += column;
    if (part->tail.bias)
        part->tail.bias += column;
}

/* sums[j] = the sum of the j-th vector's lanes, j < 4 */
GEMM_INLINE void FN(gemm_add_lanes)(const REAL *vectors, REAL *sums)
{
    typedef FN(gemm_four) four;
    if (GEMM_LANES < 4) {
        for (int j = 0; j < 4; j++)
            sums[j] = vectors[j * GEMM_LANES] + vectors[j * GEMM_LANES + 1];
        return;
    }
    REAL part[16], turned[16];
    for (int j = 0; j < 4; j++) {
        four sum = *(const four *)(vectors + j * GEMM_LANES);
        for (int lane = 4; lane < GEMM_LANES; lane += 4)
            sum += *(const four *)(vectors + j * GEMM_LANES + lane);
        *(four *)(part + 4 * j) = sum;
    }
    FN(gemm_transpose4)(part, 4, turned, 4);
    *(four *)sums = (*(four *)turned + *(four *)(turned + 4)) + (*(four *)(turned + 8) + *(four *)(turned + 12));
}

/* Up to four dot products for each of a few rows of A, with rows of the transposed B; both contiguous along k. */
GEMM_INLINE void FN(gemm_any_dots)(const int rows, const int columns, int64_t k, const REAL *a, int64_t ars, const REAL *b,
                                   int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    FN(gemm_vector) sum[GEMM_DOT_ROWS][4] = {{{0}}}, of_b[4];
    REAL lanes[4 * GEMM_LANES], dot[4];
    const int64_t rest = k % GEMM_LANES;
    int64_t p = 0;
    for (; p < k - rest; p += GEMM_LANES) {
        GEMM_UNROLL
        for (int j = 0; j < columns; j++)
            of_b[j] = *(const FN(gemm_unaligned) *)(b + j * bcs + p);
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            const FN(gemm_vector) of_a = *(const FN(gemm_unaligned) *)(a + i * ars + p);
            GEMM_UNROLL
            for (int j = 0; j < columns; j++)
                sum[i][j] += of_a * of_b[j];
        }
    }
    GEMM_UNROLL
    for (int i = 0; i < rows; i++) {
        GEMM_UNROLL
        for (int j = 0; j < 4; j++)
            *(FN(gemm_unaligned) *)(lanes + j * GEMM_LANES) = sum[i][j];
        FN(gemm_add_lanes)(lanes, dot);
        for (int j = 0; j < columns; j++) {
            for (int64_t q = 0; q < rest; q++)
                dot[j] += a[i * ars + p + q] * b[j * bcs + p + q];
            c[i * ldc + j] = dot[j] + (tail.accumulate ? c[i * ldc + j] : 0) + (tail.bias ? tail.bias[j] : 0);
        }
    }
}

#define GEMM_DOTS(rows)                                                                                                \
    static void FN(gemm_dots_##rows)(int64_t n, int64_t k, const REAL *a, int64_t ars, const REAL *b, int64_t bcs,     \
                                     REAL *c, int64_t ldc, FN(gemm_tail) tail)                                         \
    {                                                                                                                  \
        int64_t j = 0;                                                                                                 \
        for (; j + 4 <= n; j += 4, tail.bias += tail.bias ? 4 : 0)                                                     \
            FN(gemm_any_dots)(rows, 4, k, a, ars, b + j * bcs, bcs, c + j, ldc, tail);                                 \
        for (; j < n; j++, tail.bias += tail.bias ? 1 : 0)                                                             \
            FN(gemm_any_dots)(rows, 1, k, a, ars, b + j * bcs, bcs, c + j, ldc, tail);                                 \
    }
GEMM_DOTS(1)
GEMM_DOTS(2)
#if GEMM_ROWS == 8
GEMM_DOTS(3)
GEMM_DOTS(4)
#endif

typedef void FN(gemm_dots)(int64_t n, int64_t k, const REAL *a, int64_t ars, const REAL *b, int64_t bcs, REAL *c,
                           int64_t ldc, FN(gemm_tail) tail);
static FN(gemm_dots) *const FN(gemm_dots_of_rows)[GEMM_DOT_ROWS] = {
    FN(gemm_dots_1), FN(gemm_dots_2),
#if GEMM_ROWS == 8
    FN(gemm_dots_3), FN(gemm_dots_4),
#endif
};

static void FN(gemm_put_dots)(void *context, int64_t task)
{
    FN(gemm_product) part;
    FN(gemm_take_columns)(context, task, &part);
    for (int64_t i = 0; i < part.m; i += GEMM_DOT_ROWS)
        FN(gemm_dots_of_rows)[FN(gemm_least)(part.m - i, GEMM_DOT_ROWS) - 1](
            part.n, part.k, part.a + i * part.ars, part.ars, part.b, part.bcs, part.c + i * part.ldc, part.ldc, part.tail);
}

/* Few rows or columns, and the larger operand contiguous along k: what is not so in the other one is copied. */
static int FN(gemm_thin)(FN(gemm_product) *product)
{
    const int64_t k = product->k;
    if (product->acs != 1 || product->brs != 1) {
        const int turn_a = product->acs != 1;
        REAL *turned = tm_scratch(TM_SCRATCH_A, (size_t)(k * (turn_a ? product->m : product->n)) * sizeof(REAL));
        if (!turned)
            return -1;
        if (turn_a) {
            FN(gemm_pack)(k, k, product->m, product->a, product->acs, product->ars, turned);
            product->a = turned, product->ars = k;
        } else {
            FN(gemm_pack)(k, k, product->n, product->b, product->brs, product->bcs, turned);
            product->b = turned, product->bcs = k;
        }
    }
    FN(gemm_run_columns)(product, FN(gemm_put_dots));
    return 0;
}

/* One row: a sum of B's rows, a few at a time. */
static void FN(gemm_put_row_sum)(void *context, int64_t task)
{
    FN(gemm_product) part;
    FN(gemm_take_columns)(context, task, &part);
    const int64_t n = part.n, acs = part.acs, brs = part.brs;
    const REAL *a = part.a, *bias = part.tail.bias;
    REAL *restrict c = part.c;
    for (int64_t j = 0; j < n; j++)
        c[j] = (part.tail.accumulate ? c[j] : 0) + (bias ? bias[j] : 0);
    int64_t p = 0;
    for (; p + 8 <= part.k; p += 8, a += 8 * acs) {
        const REAL *restrict b = part.b + p * brs;
        const REAL a0 = a[0], a1 = a[acs], a2 = a[2 * acs], a3 = a[3 * acs], a4 = a[4 * acs], a5 = a[5 * acs],
                   a6 = a[6 * acs], a7 = a[7 * acs];
        for (int64_t j = 0; j < n; j++) {
            REAL low = a0 * b[j], high = a4 * b[4 * brs + j];
            low += a1 * b[brs + j], high += a5 * b[5 * brs + j];
            low += a2 * b[2 * brs + j], high += a6 * b[6 * brs + j];
            low += a3 * b[3 * brs + j], high += a7 * b[7 * brs + j];
            c[j] += low + high;
        }
    }
    for (; p < part.k; p++, a += acs) {
        const REAL *restrict b = part.b + p * brs;
        for (int64_t j = 0; j < n; j++)
            c[j] += *a * b[j];
    }
}

/* k = 1: every row of C is a multiple of one row. */
static void FN(gemm_outer)(int64_t m, int64_t n, const REAL *a, int64_t ars, const REAL *restrict b, REAL *restrict c,
                           int64_t ldc, FN(gemm_tail) tail)
{
    const REAL *restrict bias = tail.bias;
    for (int64_t i = 0; i < m; i++, a += ars, c += ldc) {
        const REAL x = *a;
        if (tail.accumulate && bias)
            for (int64_t j = 0; j < n; j++)
                c[j] += x * b[j] + bias[j];
        else if (tail.accumulate)
            for (int64_t j = 0; j < n; j++)
                c[j] += x * b[j];
        else if (bias)
            for (int64_t j = 0; j < n; j++)
                c[j] = x * b[j] + bias[j];
        else
            for (int64_t j = 0; j < n; j++)
                c[j] = x * b[j];
    }
}

static void FN(gemm_tiny)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,
                          int64_t brs, int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            REAL sum = (tail.accumulate ? c[i * ldc + j] : 0) + (tail.bias ? tail.bias[j] : 0);
            for (int64_t p = 0; p < k; p++)
                sum += a[i * ars + p * acs] * b[p * brs + j * bcs];
            c[i * ldc + j] = sum;
        }
}

/* C (m x n, row-major, row stride ldc) = A (m x k) * B (k x n); element (i,j) of A stands at a[i*ars + j*acs], likewise
 * B: transposed operands are just other strides. Returns 0, or -1 when there is no memory for the packed panels. */
static int FN(gemm)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b, int64_t brs,
                    int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    if (m == 0 || n == 0)
        return 0;
    if (m * n * k <= GEMM_TINY) {
        FN(gemm_tiny)(m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail);
        return 0;
    }
    if (n == 1 && ldc == 1 && m > 1) { /* as one row: its transpose lies in memory in the same way */
        if (tail.bias)
            for (int64_t i = 0; i < m; i++)
                c[i] = (tail.accumulate ? c[i] : 0) + *tail.bias;
        return FN(gemm)(1, m, k, b, bcs, brs, a, acs, ars, c, m, (FN(gemm_tail)){tail.accumulate || tail.bias, NULL});
    }
    if (k == 1 && bcs == 1) {
        FN(gemm_outer)(m, n, a, ars, b, c, ldc, tail);
        return 0;
    }
    FN(gemm_product) product = {m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail, n};
    if (k >= 2 * GEMM_LANES && ((brs == 1 && m <= GEMM_ROWS) || (acs == 1 && n <= 4)))
        return FN(gemm_thin)(&product);
    if (m == 1 && bcs == 1) {
        FN(gemm_run_columns)(&product, FN(gemm_put_row_sum));
        return 0;
    }
    return FN(gemm_tiled)(&product);
}

#undef GEMM_LANES
#undef GEMM_ROWS
#undef GEMM_VECTORS
#undef GEMM_COLUMNS
#undef GEMM_K
#undef GEMM_INLINE
#undef GEMM_UNROLL
#undef GEMM_SHUFFLE
#undef GEMM_TILE
#undef GEMM_TILES
#undef GEMM_NAMES
#undef GEMM_DOT_ROWS
#undef GEMM_M
#undef GEMM_LINE
#undef GEMM_PANELS
#undef GEMM_PACK_A
#undef GEMM_PACK_B
#undef GEMM_SERIAL
#undef GEMM_TINY
#undef GEMM_DOTS
