/* Philox4x32-10: random words as a function of a key and a counter, with no state in between, so that any stretch of
 * the sequence can be drawn by itself. Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
 * (2011), https://doi.org/10.1145/2063384.2063405; their Random123 publishes the answers to check against
 * (kat_vectors). */
#ifndef TM_RANDOM_H
#define TM_RANDOM_H

#include <stdint.h>

/* How many counters are worked on side by side, enough to hide the latency of a round; the words do not depend on
 * it. */
enum { TM_PHILOX_LANES = 64, TM_PHILOX_WORDS = 4 * TM_PHILOX_LANES };

/* Ten rounds over the 128-bit counters (a, b, c, d), least significant word first, each in its lane. */
static inline void tm_philox_rounds(uint64_t key, uint32_t *restrict a, uint32_t *restrict b, uint32_t *restrict c,
                                    uint32_t *restrict d)
{
    uint32_t key0 = (uint32_t)key, key1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9, key1 += 0xBB67AE85)
        for (int i = 0; i < TM_PHILOX_LANES; i++) {
            const uint64_t first = (uint64_t)a[i] * 0xD2511F53, second = (uint64_t)c[i] * 0xCD9E8D57;
            a[i] = (uint32_t)(second >> 32) ^ b[i] ^ key0;
            b[i] = (uint32_t)second;
            c[i] = (uint32_t)(first >> 32) ^ d[i] ^ key1;
            d[i] = (uint32_t)first;
        }
}

/* The words of counters `counter`, `counter` + 1, ..., four from each. */
static inline void tm_philox(uint64_t key, uint64_t counter, uint32_t words[TM_PHILOX_WORDS])
{
    uint32_t a[TM_PHILOX_LANES], b[TM_PHILOX_LANES], c[TM_PHILOX_LANES], d[TM_PHILOX_LANES];
    for (int i = 0; i < TM_PHILOX_LANES; i++) {
        a[i] = (uint32_t)(counter + (uint64_t)i);
        b[i] = (uint32_t)((counter + (uint64_t)i) >> 32);
        c[i] = d[i] = 0;
    }
    tm_philox_rounds(key, a, b, c, d);
    for (int i = 0; i < TM_PHILOX_LANES; i++) {
        words[4 * i] = a[i];
        words[4 * i + 1] = b[i];
        words[4 * i + 2] = c[i];
        words[4 * i + 3] = d[i];
    }
}

#endif
