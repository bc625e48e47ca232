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
 * A packed panel holds side by side what one step of a tile reads, for each k in turn. Where a matrix is too small to
 * repay packing, tiles read it in place. Products of one panel of columns do without blocks and tasks; those with one
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
#define GEMM_ROWS2 12
#define GEMM_ROWS1 16
#define GEMM_VECTORS 3
#elif TM_VECTOR_BYTES == 32 /* 16 registers: 12 sums */
#define GEMM_ROWS 4
#define GEMM_ROWS2 6
#define GEMM_ROWS1 12
#define GEMM_VECTORS 3
#else /* 16 registers, and products need one before they are added: 8 sums */
#define GEMM_ROWS 4
#define GEMM_ROWS2 4
#define GEMM_ROWS1 8
#define GEMM_VECTORS 2
#endif
#define GEMM_COLUMNS (GEMM_VECTORS * GEMM_LANES)
#define GEMM_DOT_ROWS (GEMM_ROWS / 2)
#define GEMM_ACROSS (GEMM_LANES < 16 ? GEMM_LANES / 4 + 1 : 4) /* columns too few to fill vectors with */
#define GEMM_LINE (64 / (int)sizeof(REAL))  /* elements of a cache line */
#define GEMM_M 64                           /* rows of A packed at a time */
#define GEMM_K 256                          /* a panel of A has at most 8 KB in float */
#define GEMM_PANELS (512 / GEMM_COLUMNS)    /* of a block of B, which has at most 512 KB in float */
#define GEMM_PACK_A 256                     /* columns from which on packing A pays, where it may be read in place */
#define GEMM_PACK_B 256                     /* rows, likewise for B */
#define GEMM_SERIAL (1 << 20)               /* products m n k up to it go without blocks, tasks and a second thread */
#define GEMM_TINY 16                        /* products m n k up to it are not worth a tile */
#define GEMM_THIN 256                       /* thin products up to it are not worth their own loops */
#define GEMM_FAR 64                         /* rows of B from which on C is worth fetching early */
#define GEMM_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define GEMM_UNROLL _Pragma("clang loop unroll(full)")
#define GEMM_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define GEMM_UNROLL _Pragma("GCC unroll 16")
#define GEMM_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (FN(gemm_four_indices)){i, j, k, l})
#endif

/* How a product ends: C = A*B, plus a bias added to every row, plus what C held. Or as a step of plain SGD with A*B for
 * gradient, with the bits that ops/update.h gives: C = C - rate * (A*B). */
typedef struct {
    int accumulate, descend;
    REAL rate;
    const REAL *bias;
} FN(gemm_tail);

#define GEMM_DESCEND(c, rate, g) ((c) - (rate) * ((g) + (REAL)0)) /* with update.h's 0 for the weight decay */

static inline int64_t FN(gemm_least)(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

/* How many parts of at most `largest` make up n > 0; a division takes as long as a small tile. */
static inline int64_t FN(gemm_parts)(int64_t n, int64_t largest)
{
    return n <= largest ? 1 : largest == 1 ? n : (n + largest - 1) / largest;
}

/* How many of n > 0 rows or columns the next panel takes: `largest`, but the last two panels share what is left, in
 * multiples of `unit`. */
static inline int64_t FN(gemm_next)(int64_t n, int64_t largest, int64_t unit)
{
    return n >= 2 * largest ? largest : n > largest ? ((n + 1) / 2 + unit - 1) / unit * unit : n;
}

typedef REAL FN(gemm_vector) __attribute__((vector_size(TM_VECTOR_BYTES)));
typedef REAL FN(gemm_unaligned) __attribute__((vector_size(TM_VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

/* The first elements of a vector: 0 < lanes <= GEMM_LANES. */
#if defined(__x86_64__) && TM_VECTOR_BYTES == 64
#if REAL_IS_F32
#define GEMM_LOAD_PART(from, lanes) _mm512_maskz_loadu_ps((__mmask16)((1u << (lanes)) - 1), from)
#define GEMM_STORE_PART(to, lanes, x) _mm512_mask_storeu_ps(to, (__mmask16)((1u << (lanes)) - 1), x)
#else
#define GEMM_LOAD_PART(from, lanes) _mm512_maskz_loadu_pd((__mmask8)((1u << (lanes)) - 1), from)
#define GEMM_STORE_PART(to, lanes, x) _mm512_mask_storeu_pd(to, (__mmask8)((1u << (lanes)) - 1), x)
#endif
#elif defined(__x86_64__) && TM_VECTOR_BYTES == 32
#if REAL_IS_F32
static const int32_t FN(gemm_mask)[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
#define GEMM_LOAD_PART(from, lanes) \
    _mm256_maskload_ps(from, _mm256_loadu_si256((const __m256i *)(FN(gemm_mask) + 8 - (lanes))))
#define GEMM_STORE_PART(to, lanes, x) \
    _mm256_maskstore_ps(to, _mm256_loadu_si256((const __m256i *)(FN(gemm_mask) + 8 - (lanes))), x)
#else
static const int64_t FN(gemm_mask)[8] = {-1, -1, -1, -1};
#define GEMM_LOAD_PART(from, lanes) \
    _mm256_maskload_pd(from, _mm256_loadu_si256((const __m256i *)(FN(gemm_mask) + 4 - (lanes))))
#define GEMM_STORE_PART(to, lanes, x) \
    _mm256_maskstore_pd(to, _mm256_loadu_si256((const __m256i *)(FN(gemm_mask) + 4 - (lanes))), x)
#endif
#else
#define GEMM_PADS /* parts go element by element, so panels of B whose last vector is a part are packed and padded */
static inline FN(gemm_vector) FN(gemm_load_part)(const REAL *from, int64_t lanes)
{
    FN(gemm_vector) x = {0};
    for (int i = 0; i < lanes; i++)
        x[i] = from[i];
    return x;
}

static inline void FN(gemm_store_part)(REAL *to, int64_t lanes, FN(gemm_vector) x)
{
    for (int i = 0; i < lanes; i++)
        to[i] = x[i];
}
#define GEMM_LOAD_PART(from, lanes) FN(gemm_load_part)(from, lanes)
#define GEMM_STORE_PART(to, lanes, x) FN(gemm_store_part)(to, lanes, x)
#endif

GEMM_INLINE FN(gemm_vector) FN(gemm_load)(const REAL *from, const int whole, int64_t lanes)
{
    if (whole)
        return *(const FN(gemm_unaligned) *)from;
    return GEMM_LOAD_PART(from, lanes);
}

GEMM_INLINE void FN(gemm_store)(REAL *to, const int whole, int64_t lanes, FN(gemm_vector) x)
{
    if (whole)
        *(FN(gemm_unaligned) *)to = x;
    else
        GEMM_STORE_PART(to, lanes, x);
}

/* What the tiles of one panel of columns have in common. */
typedef struct {
    int64_t k, ars, acs, brs, ldc, columns;
    const REAL *b;
    FN(gemm_tail) tail; /* its bias begins with the panel's first column */
} FN(gemm_strip);

/* Ends sums and puts them into C; unless `whole`, the last vector is a part. */
GEMM_INLINE void FN(gemm_end)(const int rows, const int vectors, const int whole, const FN(gemm_strip) *strip,
                              FN(gemm_vector) sum[][GEMM_VECTORS], REAL *c)
{
    const FN(gemm_tail) *tail = &strip->tail;
    const int64_t ldc = strip->ldc, lanes = strip->columns - (vectors - 1) * GEMM_LANES;
    if (tail->bias) {
        GEMM_UNROLL
        for (int v = 0; v < vectors; v++) {
            const FN(gemm_vector) bias = FN(gemm_load)(tail->bias + v * GEMM_LANES, whole || v + 1 < vectors, lanes);
            GEMM_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i][v] += bias;
        }
    }
    if (tail->accumulate) {
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            GEMM_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[i][v] += FN(gemm_load)(c + i * ldc + v * GEMM_LANES, whole || v + 1 < vectors, lanes);
        }
    } else if (tail->descend) {
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            GEMM_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[i][v] = GEMM_DESCEND(FN(gemm_load)(c + i * ldc + v * GEMM_LANES, whole || v + 1 < vectors, lanes),
                                         tail->rate, sum[i][v]);
        }
    }
    GEMM_UNROLL
    for (int i = 0; i < rows; i++) {
        GEMM_UNROLL
        for (int v = 0; v < vectors; v++)
            FN(gemm_store)(c + i * ldc + v * GEMM_LANES, whole || v + 1 < vectors, lanes, sum[i][v]);
    }
}

/* A tile of C = A (rows x k) * B (k x columns); B's rows are contiguous. */
GEMM_INLINE void FN(gemm_any_tile)(const int rows, const int vectors, const int whole, const FN(gemm_strip) *strip,
                                   const REAL *a, REAL *c)
{
    FN(gemm_vector) sum[GEMM_ROWS1][GEMM_VECTORS] = {{{0}}}, of_b[GEMM_VECTORS];
    const int64_t k = strip->k, ars = strip->ars, acs = strip->acs, brs = strip->brs;
    const int64_t lanes = strip->columns - (vectors - 1) * GEMM_LANES;
    const REAL *b = strip->b, *ninth = a + 8 * ars; /* kept apart, or there would be too many distances for registers */
    if (rows > 8)
        __asm__("" : "+r"(ninth));
    if (k >= GEMM_FAR) { /* C may come from further away than the last steps take */
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            GEMM_UNROLL
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(c + i * strip->ldc + v * GEMM_LANES, 1);
        }
    }
    for (int64_t p = 0; p < k; p++, a += acs, ninth += acs, b += brs) {
        GEMM_UNROLL
        for (int v = 0; v < vectors; v++)
#ifdef GEMM_PADS
            of_b[v] = *(const FN(gemm_unaligned) *)(b + v * GEMM_LANES);
#else
            of_b[v] = FN(gemm_load)(b + v * GEMM_LANES, whole || v + 1 < vectors, lanes);
#endif
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            GEMM_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[i][v] += (i < 8 ? a : ninth)[i % 8 * ars] * of_b[v];
        }
    }
    (void)lanes;
    FN(gemm_end)(rows, vectors, whole, strip, sum, c);
}

typedef void FN(gemm_tile)(const FN(gemm_strip) *strip, const REAL *a, REAL *c);

#define GEMM_TILE(rows, vectors)                                                                                       \
    static void FN(gemm_tile_##rows##x##vectors)(const FN(gemm_strip) *strip, const REAL *a, REAL *c)                  \
    {                                                                                                                  \
        if (strip->columns == vectors * GEMM_LANES)                                                                    \
            FN(gemm_any_tile)(rows, vectors, 1, strip, a, c);                                                          \
        else                                                                                                           \
            FN(gemm_any_tile)(rows, vectors, 0, strip, a, c);                                                          \
    }
#define GEMM_TILES4(n, m, o, p, v) GEMM_TILE(n, v) GEMM_TILE(m, v) GEMM_TILE(o, v) GEMM_TILE(p, v)
#define GEMM_NAMES4(n, m, o, p, v)                                                                                     \
    FN(gemm_tile_##n##x##v), FN(gemm_tile_##m##x##v), FN(gemm_tile_##o##x##v), FN(gemm_tile_##p##x##v)
GEMM_TILES4(1, 2, 3, 4, 1)
GEMM_TILES4(5, 6, 7, 8, 1)
GEMM_TILES4(1, 2, 3, 4, 2)
#if GEMM_VECTORS == 3
GEMM_TILES4(9, 10, 11, 12, 1)
GEMM_TILE(5, 2)
GEMM_TILE(6, 2)
GEMM_TILES4(1, 2, 3, 4, 3)
#endif
#if GEMM_ROWS == 8
GEMM_TILES4(13, 14, 15, 16, 1)
GEMM_TILE(7, 2)
GEMM_TILE(8, 2)
GEMM_TILES4(9, 10, 11, 12, 2)
GEMM_TILES4(5, 6, 7, 8, 3)
#endif
/* By vectors and rows. */
static FN(gemm_tile) *const FN(gemm_tiles)[GEMM_VECTORS][GEMM_ROWS1] = {
#if GEMM_ROWS == 8
    {GEMM_NAMES4(1, 2, 3, 4, 1), GEMM_NAMES4(5, 6, 7, 8, 1), GEMM_NAMES4(9, 10, 11, 12, 1),
     GEMM_NAMES4(13, 14, 15, 16, 1)},
    {GEMM_NAMES4(1, 2, 3, 4, 2), GEMM_NAMES4(5, 6, 7, 8, 2), GEMM_NAMES4(9, 10, 11, 12, 2)},
    {GEMM_NAMES4(1, 2, 3, 4, 3), GEMM_NAMES4(5, 6, 7, 8, 3)},
#elif GEMM_VECTORS == 3
    {GEMM_NAMES4(1, 2, 3, 4, 1), GEMM_NAMES4(5, 6, 7, 8, 1), GEMM_NAMES4(9, 10, 11, 12, 1)},
    {GEMM_NAMES4(1, 2, 3, 4, 2), FN(gemm_tile_5x2), FN(gemm_tile_6x2)},
    {GEMM_NAMES4(1, 2, 3, 4, 3)},
#else
    {GEMM_NAMES4(1, 2, 3, 4, 1), GEMM_NAMES4(5, 6, 7, 8, 1)},
    {GEMM_NAMES4(1, 2, 3, 4, 2)},
#endif
};

static inline void FN(gemm_put)(const FN(gemm_strip) *strip, int64_t rows, const REAL *a, REAL *c)
{
    FN(gemm_tiles)[(strip->columns - 1) / GEMM_LANES][rows - 1](strip, a, c);
}

typedef REAL FN(gemm_four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#if REAL_IS_F32
typedef int32_t FN(gemm_four_indices) __attribute__((vector_size(16)));
#else
typedef int64_t FN(gemm_four_indices) __attribute__((vector_size(32)));
#endif

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
GEMM_INLINE void FN(gemm_copy_rows)(int64_t width, int64_t padded, int64_t k, const REAL *from, int64_t stride,
                                    REAL *to)
{
    for (int64_t p = 0; p < k; p++, from += stride, to += padded) {
        int64_t i = 0;
        for (; i + GEMM_LANES <= width; i += GEMM_LANES)
            *(FN(gemm_unaligned) *)(to + i) = *(const FN(gemm_unaligned) *)(from + i);
        if (i < width)
            FN(gemm_store)(to + i, 0, width - i, FN(gemm_load)(from + i, 0, width - i));
    }
}

/* Packs a panel: to[p * padded + i] = from[i * stride + p * k_stride] for i < width, 0 for the rest. */
static void FN(gemm_pack)(int64_t width, int64_t padded, int64_t k, const REAL *from, int64_t stride, int64_t k_stride,
                          REAL *to)
{
    int64_t i = 0;
#ifdef GEMM_PADS
    if (width < padded)
        memset(to, 0, (size_t)(padded * k) * sizeof(REAL));
#endif
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

/* Fills in where panels begin and the last one ends; returns how many there are. */
static int64_t FN(gemm_cut)(int64_t n, int64_t largest, int64_t unit, int64_t *begin)
{
    int64_t panels = 0;
    begin[0] = 0;
    for (int64_t at = 0; at < n; begin[++panels] = at)
        at += FN(gemm_next)(n - at, largest, unit);
    return panels;
}

static int64_t FN(gemm_padded)(int64_t columns)
{
    return (columns + GEMM_LANES - 1) / GEMM_LANES * GEMM_LANES;
}

/* Whether tiles can read a panel of B as it lies in memory. */
static int FN(gemm_in_place)(int64_t columns, int64_t bcs)
{
#ifdef GEMM_PADS
    return bcs == 1 && columns % GEMM_LANES == 0;
#else
    (void)columns;
    return bcs == 1;
#endif
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

/* A task packs half the rows of a panel: there may be but few panels. */
static void FN(gemm_pack_b)(void *context, int64_t task)
{
    const FN(gemm_block) *block = context;
    const FN(gemm_product) *of = &block->of;
    const int64_t at = block->panel[task / 2], width = block->panel[task / 2 + 1] - at, padded = FN(gemm_padded)(width);
    const int64_t half = FN(gemm_least)((of->k / 2 + 3) / 4 * 4, of->k), row = task % 2 ? half : 0;
    FN(gemm_pack)(width, padded, task % 2 ? of->k - half : half, of->b + at * of->bcs + row * of->brs, of->bcs, of->brs,
                  block->packed_b + at * of->k + row * padded);
}

/* Several panels of A at once: where A is transposed, each alone would use but a part of the cache lines it reads. */
static void FN(gemm_pack_a)(const FN(gemm_product) *of, int64_t row, int64_t panels, const int64_t *begin, REAL *to)
{
    const int64_t k_step = of->ars == 1 ? GEMM_LINE : of->k;
    for (int64_t p = 0; p < of->k; p += k_step)
        for (int64_t i = 0; i < panels; i++) {
            const int64_t rows = begin[i + 1] - begin[i];
            FN(gemm_pack)(rows, rows, FN(gemm_least)(of->k - p, k_step),
                          of->a + (row + begin[i]) * of->ars + p * of->acs,
                          of->ars, of->acs, to + begin[i] * of->k + p * rows);
        }
}

/* A panel of columns, as tiles take it. */
static FN(gemm_strip) FN(gemm_strip_of)(const FN(gemm_block) *block, int64_t panel)
{
    const FN(gemm_product) *of = &block->of;
    const int64_t at = block->panel[panel], columns = block->panel[panel + 1] - at;
    FN(gemm_strip) strip = {of->k, of->ars, of->acs, FN(gemm_padded)(columns), of->ldc, columns,
                            block->packed_b + at * of->k, of->tail};
    if (!block->pack_b && FN(gemm_in_place)(columns, of->bcs))
        strip.b = of->b + at, strip.brs = of->brs;
    if (strip.tail.bias)
        strip.tail.bias += at;
    return strip;
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
    FN(gemm_strip) strips[GEMM_PANELS];
    for (int64_t j = panel; j < panel_end; j++)
        strips[j] = FN(gemm_strip_of)(block, j);
    for (int64_t row = row_task * block->rows_a_task; row < row_end; row += GEMM_M) {
        int64_t begin[GEMM_M / GEMM_ROWS + 1];
        const int64_t panels = FN(gemm_cut)(FN(gemm_least)(GEMM_M, row_end - row), GEMM_ROWS, 1, begin);
        if (block->pack_a)
            FN(gemm_pack_a)(of, row, panels, begin, packed_a);
        for (int64_t i = 0; i < panels; i++) {
            const int64_t rows = begin[i + 1] - begin[i];
            const REAL *a = block->pack_a ? packed_a + begin[i] * of->k : of->a + (row + begin[i]) * of->ars;
            REAL *c = of->c + (row + begin[i]) * of->ldc;
            for (int64_t j = panel; j < panel_end; j++) {
                if (block->pack_a)
                    strips[j].ars = 1, strips[j].acs = rows;
                FN(gemm_put)(&strips[j], rows, a, c + block->panel[j]);
            }
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
    return of->m * of->n * of->k > GEMM_SERIAL && tm_num_threads() > 1;
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
        block.panels = FN(gemm_cut)(of->n, GEMM_COLUMNS, GEMM_LANES, block.panel);
        block.panels_a_task = FN(gemm_parts)(block.panels, column_tasks);
        block.column_tasks = FN(gemm_parts)(block.panels, block.panels_a_task);
        for (int64_t p = 0; p < k; p += k_step) {
            of->k = FN(gemm_least)(k - p, k_step);
            of->a = whole->a + p * whole->acs;
            of->b = whole->b + p * whole->brs + column * whole->bcs;
            of->tail.accumulate = p > 0 || whole->tail.accumulate;
            of->tail.bias = p == 0 && whole->tail.bias ? whole->tail.bias + column : NULL;
            if (block.pack_b)
                FN(gemm_run)(2 * block.panels, FN(gemm_pack_b), &block, parallel);
            else if (!FN(gemm_in_place)(of->n, of->bcs)) /* only the panel whose last vector would read too far */
                for (int64_t half = 0; half < 2; half++)
                    FN(gemm_pack_b)(&block, 2 * (block.panels - 1) + half);
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
        product->columns_a_task = FN(gemm_parts)(FN(gemm_parts)(product->n, 2 * tm_num_threads()),
                                                 GEMM_LINE) * GEMM_LINE;
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

/* Ends n sums, one by one: for loops whose sums do not lie as C does. */
GEMM_INLINE void FN(gemm_end_few)(int64_t n, const REAL *sums, int64_t stride, FN(gemm_tail) tail, REAL *c)
{
    for (int64_t j = 0; j < n; j++) {
        const REAL sum = sums[j * stride] + (tail.bias ? tail.bias[j] : 0);
        c[j] = tail.accumulate ? sum + c[j] : tail.descend ? GEMM_DESCEND(c[j], tail.rate, sum) : sum;
    }
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
GEMM_INLINE void FN(gemm_any_dots)(const int rows, const int columns, int64_t k, const REAL *a, int64_t ars,
                                   const REAL *b,
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
    if (rest) {
        GEMM_UNROLL
        for (int j = 0; j < columns; j++)
            of_b[j] = FN(gemm_load)(b + j * bcs + p, 0, rest);
        GEMM_UNROLL
        for (int i = 0; i < rows; i++) {
            const FN(gemm_vector) of_a = FN(gemm_load)(a + i * ars + p, 0, rest);
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
        FN(gemm_end_few)(columns, dot, 1, tail, c + i * ldc);
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
            part.n, part.k, part.a + i * part.ars, part.ars, part.b, part.bcs, part.c + i * part.ldc, part.ldc,
                part.tail);
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

/* A tile of one row: four sets of sums take turns, so that they need not wait for one another. */
GEMM_INLINE void FN(gemm_any_row)(const int vectors, const int whole, const FN(gemm_strip) *strip, const REAL *a,
                                  REAL *c)
{
    FN(gemm_vector) sum[4][GEMM_VECTORS] = {{{0}}};
    const int64_t k = strip->k, acs = strip->acs, brs = strip->brs;
    const int64_t lanes = strip->columns - (vectors - 1) * GEMM_LANES;
    const REAL *b = strip->b;
    int64_t p = 0;
    for (; p + 4 <= k; p += 4, a += 4 * acs, b += 4 * brs) {
        GEMM_UNROLL
        for (int way = 0; way < 4; way++) {
            GEMM_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[way][v] += a[way * acs] * FN(gemm_load)(b + way * brs + v * GEMM_LANES, whole || v + 1 < vectors,
                                                            lanes);
        }
    }
    for (; p < k; p++, a += acs, b += brs) {
        GEMM_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[0][v] += *a * FN(gemm_load)(b + v * GEMM_LANES, whole || v + 1 < vectors, lanes);
    }
    GEMM_UNROLL
    for (int v = 0; v < vectors; v++)
        sum[0][v] = (sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v]);
    FN(gemm_end)(1, vectors, whole, strip, sum, c);
}

#define GEMM_ROW(vectors)                                                                                              \
    static void FN(gemm_row_##vectors)(const FN(gemm_strip) *strip, const REAL *a, REAL *c)                            \
    {                                                                                                                  \
        if (strip->columns == vectors * GEMM_LANES)                                                                    \
            FN(gemm_any_row)(vectors, 1, strip, a, c);                                                                 \
        else                                                                                                           \
            FN(gemm_any_row)(vectors, 0, strip, a, c);                                                                 \
    }
GEMM_ROW(1)
GEMM_ROW(2)
#if GEMM_VECTORS == 3
GEMM_ROW(3)
#endif
static FN(gemm_tile) *const FN(gemm_rows)[GEMM_VECTORS] = {
    FN(gemm_row_1), FN(gemm_row_2),
#if GEMM_VECTORS == 3
    FN(gemm_row_3),
#endif
};

static void FN(gemm_put_row)(void *context, int64_t task)
{
    FN(gemm_product) part;
    FN(gemm_take_columns)(context, task, &part);
    FN(gemm_strip) strip = {.acs = part.acs, .brs = part.brs};
    for (int64_t j = 0; j < part.n; j += strip.columns) {
        strip.columns = FN(gemm_least)(part.n - j, GEMM_COLUMNS);
        strip.tail = part.tail;
        if (strip.tail.bias)
            strip.tail.bias += j;
        for (int64_t p = 0; p < part.k; p += strip.k, strip.tail.accumulate = 1, strip.tail.bias = NULL) {
            strip.k = FN(gemm_least)(part.k - p, GEMM_K);
            strip.b = part.b + p * part.brs + j;
            FN(gemm_rows)[(strip.columns - 1) / GEMM_LANES](&strip, part.a + p * part.acs, part.c + j);
        }
    }
}

/* k = 1: every row of C is a multiple of one row. */
static void FN(gemm_outer)(int64_t m, int64_t n, const REAL *a, int64_t ars, const REAL *restrict b, REAL *restrict c,
                           int64_t ldc, FN(gemm_tail) tail)
{
    const REAL *restrict bias = tail.bias, rate = tail.rate;
    for (int64_t i = 0; i < m; i++, a += ars, c += ldc) {
        const REAL x = *a;
        if (tail.descend)
            for (int64_t j = 0; j < n; j++) {
                const REAL g = x * b[j];
                c[j] = GEMM_DESCEND(c[j], rate, g == 0 ? 0 : g); /* or it would be rounded but once, after adding 0 */
            }
        else if (tail.accumulate && bias)
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

/* So few products that a tile would take longer. */
static void FN(gemm_tiny)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,
                          int64_t brs, int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            REAL sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += a[i * ars + p * acs] * b[p * brs + j * bcs];
            if (tail.bias)
                sum += tail.bias[j];
            REAL *to = c + i * ldc + j;
            *to = tail.accumulate ? sum + *to : tail.descend ? GEMM_DESCEND(*to, tail.rate, sum) : sum;
        }
}

/* One block of B, panel by panel; A is read as it lies in memory. */
static int FN(gemm_small)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,
                          int64_t brs, int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    FN(gemm_strip) strip = {.k = k, .ars = ars, .acs = acs, .ldc = ldc, .tail = tail};
    for (int64_t j = 0; j < n; j += strip.columns) {
        strip.columns = FN(gemm_next)(n - j, GEMM_COLUMNS, GEMM_LANES);
        strip.b = b + j * bcs;
        strip.brs = brs;
        if (!FN(gemm_in_place)(strip.columns, bcs)) {
            strip.brs = FN(gemm_padded)(strip.columns);
            REAL *packed = tm_scratch(TM_SCRATCH_B, (size_t)(strip.brs * k) * sizeof(REAL));
            if (!packed)
                return -1;
            FN(gemm_pack)(strip.columns, strip.brs, k, strip.b, bcs, brs, packed);
            strip.b = packed;
        }
        if (m == 1) {
            FN(gemm_rows)[(strip.columns - 1) / GEMM_LANES](&strip, a, c + j);
        } else {
            const int64_t most = strip.columns <= GEMM_LANES ? GEMM_ROWS1
                                 : strip.columns <= 2 * GEMM_LANES ? GEMM_ROWS2
                                                                   : GEMM_ROWS;
            for (int64_t i = 0, rows; i < m; i += rows) {
                rows = FN(gemm_next)(m - i, most, 1);
                FN(gemm_put)(&strip, rows, a + i * ars, c + i * ldc + j);
            }
        }
        if (strip.tail.bias)
            strip.tail.bias += strip.columns;
    }
    return 0;
}

/* Few columns, and A transposed: C's transpose is computed instead, a strip of C's rows at a time. */
static void FN(gemm_across)(const FN(gemm_product) *of)
{
    REAL sums[GEMM_ACROSS * GEMM_COLUMNS];
    FN(gemm_strip) strip = {.k = of->k, .ars = of->bcs, .acs = of->brs, .brs = of->acs, .ldc = GEMM_COLUMNS};
    for (int64_t i = 0; i < of->m; i += strip.columns) {
        strip.columns = FN(gemm_least)(of->m - i, GEMM_COLUMNS);
        strip.b = of->a + i;
        FN(gemm_put)(&strip, of->n, of->b, sums);
        for (int64_t row = 0; row < strip.columns; row++)
            FN(gemm_end_few)(of->n, sums + row, GEMM_COLUMNS, of->tail, of->c + (i + row) * of->ldc);
    }
}

static int FN(gemm)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,
                    int64_t brs,
                    int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail);

/* A step of descent whose gradient is not complete before C changes: it goes through memory. */
static int FN(gemm_descend_apart)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs,
                                  const REAL *b,
                                  int64_t brs, int64_t bcs, REAL *restrict c, int64_t ldc, FN(gemm_tail) tail)
{
    REAL *restrict g = tm_scratch(TM_SCRATCH_KERNEL, (size_t)(m * n) * sizeof(REAL));
    if (!g || FN(gemm)(m, n, k, a, ars, acs, b, brs, bcs, g, n, (FN(gemm_tail)){0}))
        return -1;
    for (int64_t i = 0; i < m; i++, c += ldc, g += n)
        for (int64_t j = 0; j < n; j++)
            c[j] = GEMM_DESCEND(c[j], tail.rate, g[j]);
    return 0;
}

/* One column, as one row: its transpose lies in memory in the same way. */
static int FN(gemm_column)(int64_t m, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b, int64_t brs,
                           int64_t bcs, REAL *c, FN(gemm_tail) tail)
{
    if (tail.bias) {
        for (int64_t i = 0; i < m; i++)
            c[i] = (tail.accumulate ? c[i] : 0) + *tail.bias;
        tail.accumulate = 1, tail.bias = NULL;
    }
    return FN(gemm)(1, m, k, b, bcs, brs, a, acs, ars, c, m, tail);
}

static int FN(gemm_large)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,
                          int64_t brs, int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    FN(gemm_product) product = {m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail, n};
    if (k >= GEMM_LANES && ((brs == 1 && m <= GEMM_ROWS) || (acs == 1 && n <= 4)))
        return FN(gemm_thin)(&product);
    if (k == 1 && bcs == 1 && n > GEMM_COLUMNS)
        FN(gemm_outer)(m, n, a, ars, b, c, ldc, tail);
    else if (m == 1 && bcs == 1)
        FN(gemm_run_columns)(&product, FN(gemm_put_row));
    else if (n <= GEMM_ACROSS && m >= GEMM_LANES && ars == 1 && k <= GEMM_K)
        FN(gemm_across)(&product);
    else
        return FN(gemm_tiled)(&product);
    return 0;
}

/* C (m x n, row-major, row stride ldc) = A (m x k) * B (k x n); element (i,j) of A stands at a[i*ars + j*acs], likewise
 * B: transposed operands are just other strides. Returns 0, or -1 when there is no memory for the packed panels. What
 * is small goes a short way, whose calls keep the arguments where they are. */
static int FN(gemm)(int64_t m, int64_t n, int64_t k, const REAL *a, int64_t ars, int64_t acs, const REAL *b,
                    int64_t brs,
                    int64_t bcs, REAL *c, int64_t ldc, FN(gemm_tail) tail)
{
    if (m == 0 || n == 0)
        return 0;
    if (tail.descend && (k > GEMM_K || a == c || b == c))
        return FN(gemm_descend_apart)(m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail);
    if (m * n * k <= GEMM_TINY) {
        FN(gemm_tiny)(m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail);
        return 0;
    }
    if (n == 1 && ldc == 1 && m > 1)
        return FN(gemm_column)(m, k, a, ars, acs, b, brs, bcs, c, tail);
    const int thin = (brs == 1 && m <= GEMM_ROWS) || n <= 4;
    if (k <= GEMM_K && m * n * k <= GEMM_SERIAL && !(thin && m * n * k > GEMM_THIN) && !(k == 1 && n > GEMM_COLUMNS))
        return FN(gemm_small)(m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail);
    return FN(gemm_large)(m, n, k, a, ars, acs, b, brs, bcs, c, ldc, tail);
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
#undef GEMM_DOT_ROWS
#undef GEMM_M
#undef GEMM_LINE
#undef GEMM_PANELS
#undef GEMM_PACK_A
#undef GEMM_PACK_B
#undef GEMM_SERIAL
#undef GEMM_TINY
#undef GEMM_FAR
#undef GEMM_THIN
#undef GEMM_ROWS1
#undef GEMM_ROWS2
#undef GEMM_TILES4
#undef GEMM_NAMES4
#undef GEMM_DOTS
#undef GEMM_ROW
#undef GEMM_ACROSS
#undef GEMM_DESCEND
#undef GEMM_LOAD_PART
#undef GEMM_STORE_PART
#undef GEMM_PADS
