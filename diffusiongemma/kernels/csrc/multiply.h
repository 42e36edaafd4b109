// Rows of 8-bit activations times one tile, for each instruction set that the file is compiled for.
//
// All of them add in the same order and round alike: sums of a group are whole numbers, then
//   acc += float(sum - zero · sum of the row's codes) · weight's scale · row's scale, and offset · row's sum.
#pragma once

#include "decode.h"

// Activations in 8 bits: x ≈ scale · code for each group of inputs. What belongs to groups stands row beside row, as the
// products read it.
struct Activations {
  const int8_t *codes;    // [rows, in]
  const float *scales;    // [groups, rows]
  const int32_t *zeros;   // [groups, rows]: sum of the codes times what is left of the weight's zero
  const float *sums;      // [groups, rows]: sum of the codes times their scale
  int64_t in, rows;
};

// Row r of `a` from input k0 on, its first group g0, against a tile: acc [rows][16] is added to. `ahead` is decoded next.
struct Slice {
  const Activations &a;
  int64_t row, k0, g0;
  int groups;
  Ahead ahead;
};

inline bool allowed() { return true; }

#if defined(__AVX512VNNI__)

constexpr int MOST_ROWS = 6;

// Two tiles at once: activations are what is loaded most, and serve both. Six rows are what registers hold of sums.
template <int ROWS, int CHUNKS, bool OFFSETS>
inline void rows_times_tile(const Slice &s, const Tile *t, float *acc) {
  const int64_t in = s.a.in;
  const int8_t *a = s.a.codes + s.row * in + s.k0;
  Ahead ahead = s.ahead;
  const int64_t share = (ahead.end - ahead.at + 64 * s.groups - 1) / (64 * s.groups) * 64;  // of a group
  __m512 totals[ROWS][TILES];
  for (int r = 0; r < ROWS; r++)
    for (int i = 0; i < TILES; i++) totals[r][i] = _mm512_loadu_ps(acc + r * WIDTH + i * OUTS);
  for (int g = 0; g < s.groups; g++) {
    ahead.fetch(share);
    __m512i sums[ROWS][TILES];
    for (int r = 0; r < ROWS; r++)
      for (int i = 0; i < TILES; i++) sums[r][i] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int c = 0; c < CHUNKS; c++) {
      __m512i codes[TILES];
      for (int i = 0; i < TILES; i++) codes[i] = _mm512_load_si512(t[i].codes + (g * CHUNKS + c) * 64);
      for (int r = 0; r < ROWS; r++) {
        float four;
        memcpy(&four, a + r * in + (g * CHUNKS + c) * 4, 4);
        const __m512i x = _mm512_castps_si512(_mm512_set1_ps(four));
        for (int i = 0; i < TILES; i++) sums[r][i] = _mm512_dpbusd_epi32(sums[r][i], codes[i], x);
      }
    }
    const int64_t at = (s.g0 + g) * s.a.rows + s.row;
    for (int i = 0; i < TILES; i++) {
      const __m512 scale = _mm512_load_ps(t[i].scales + g * OUTS);
      for (int r = 0; r < ROWS; r++) {
        const __m512i whole = _mm512_sub_epi32(sums[r][i], _mm512_set1_epi32(s.a.zeros[at + r]));
        const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
        totals[r][i] = _mm512_fmadd_ps(sum, _mm512_set1_ps(s.a.scales[at + r]), totals[r][i]);
        if (OFFSETS) {
          const __m512 offset = _mm512_load_ps(t[i].offsets + g * OUTS);
          totals[r][i] = _mm512_fmadd_ps(offset, _mm512_set1_ps(s.a.sums[at + r]), totals[r][i]);
        }
      }
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int i = 0; i < TILES; i++) _mm512_storeu_ps(acc + r * WIDTH + i * OUTS, totals[r][i]);
}

#elif defined(__AVX2__)

// Keeps a sum in its register: the compiler would reorder a long row of additions and put some of them into memory.
inline void in_place(__m256i &sum) { asm("" : "+x"(sum)); }

// CHUNKS chunks of ROWS rows, `in` bytes apart, times those of a tile -> their sums, in 16 bits.
template <int ROWS, int CHUNKS>
__attribute__((always_inline)) inline void sum_chunks(const int8_t *a, int64_t in, const uint8_t *codes,
                                                      __m256i sums[ROWS][2]) {
#pragma GCC unroll 8
  for (int c = 0; c < CHUNKS; c++) {
    const __m256i first = _mm256_load_si256((const __m256i *)(codes + 64 * c));
    const __m256i second = _mm256_load_si256((const __m256i *)(codes + 64 * c + 32));
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      int32_t four;
      memcpy(&four, a + r * in + 4 * c, 4);
      const __m256i x = _mm256_set1_epi32(four);
      const __m256i low = _mm256_maddubs_epi16(first, x), high = _mm256_maddubs_epi16(second, x);
      sums[r][0] = c ? _mm256_add_epi16(sums[r][0], low) : low;
      sums[r][1] = c ? _mm256_add_epi16(sums[r][1], high) : high;
      in_place(sums[r][0]);
      in_place(sums[r][1]);
    }
  }
}

// Codes below 16 times 127, two at a time, eight times: 30,480 fits 16 bits; codes below 32 four times.
template <int ROWS, int CHUNKS, int SUMS, bool HIGH, bool OFFSETS>
inline void rows_times_tile(const Slice &s, const Tile *t, float *__restrict acc) {
  const int64_t in = s.a.in, side = s.g0 * s.a.rows + s.row;
  const int8_t *__restrict a = s.a.codes + s.row * in + s.k0;
  const float *__restrict row_scales = s.a.scales + side, *__restrict row_sums = s.a.sums + side;
  const int32_t *__restrict zeros = s.a.zeros + side;
  const uint8_t *__restrict codes = t->codes, *__restrict high_codes = t->high;
  const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
  for (int g = 0; g < s.groups; g++) {
    __m256i wide[ROWS][2];
    for (int part = 0; part < SUMS; part++) {
      __m256i sums[ROWS][2];
      sum_chunks<ROWS, CHUNKS>(a, in, codes, sums);
      for (int r = 0; r < ROWS; r++)
        for (int h = 0; h < 2; h++) {
          const __m256i sum = _mm256_madd_epi16(sums[r][h], ones);
          wide[r][h] = part ? _mm256_add_epi32(wide[r][h], sum) : sum;
        }
      if (HIGH) {
        sum_chunks<ROWS, CHUNKS>(a, in, high_codes, sums);
        for (int r = 0; r < ROWS; r++)
          for (int h = 0; h < 2; h++) wide[r][h] = _mm256_add_epi32(wide[r][h], _mm256_madd_epi16(sums[r][h], sixteens));
      }
      a += 4 * CHUNKS, codes += 64 * CHUNKS, high_codes += 64 * CHUNKS;
    }
    for (int r = 0; r < ROWS; r++) {
      const int64_t at = g * s.a.rows + r;
      const __m256 row_scale = _mm256_broadcast_ss(row_scales + at);
      for (int h = 0; h < 2; h++) {
        __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide[r][h], _mm256_set1_epi32(zeros[at])));
        __m256 v = _mm256_loadu_ps(acc + r * 16 + 8 * h);
        v = _mm256_fmadd_ps(_mm256_mul_ps(sum, _mm256_load_ps(t->scales + g * 16 + 8 * h)), row_scale, v);
        if (OFFSETS)
          v = _mm256_fmadd_ps(_mm256_load_ps(t->offsets + g * 16 + 8 * h), _mm256_broadcast_ss(row_sums + at), v);
        _mm256_storeu_ps(acc + r * 16 + 8 * h, v);
      }
    }
  }
}
constexpr int MOST_ROWS = 4;

#elif defined(NEON)

#include "multiply_neon.h"

#else

template <int ROWS, bool OFFSETS>
inline void rows_times_tile(const Slice &s, const Tile *t, float *acc, int chunks) {
  for (int r = 0; r < ROWS; r++) {
    const int8_t *a = s.a.codes + (s.row + r) * s.a.in + s.k0;
    for (int g = 0; g < s.groups; g++) {
      int32_t sums[OUTS] = {};
      for (int c = g * chunks; c < (g + 1) * chunks; c++)
        for (int o = 0; o < OUTS; o++)
          for (int i = 0; i < 4; i++) sums[o] += (int32_t)t->codes[(c * OUTS + o) * 4 + i] * a[c * 4 + i];
      const int64_t at = (s.g0 + g) * s.a.rows + s.row + r;
      for (int o = 0; o < OUTS; o++) {
        float v = acc[r * 16 + o];
        v = __builtin_fmaf((float)(sums[o] - s.a.zeros[at]) * t->scales[g * 16 + o], s.a.scales[at], v);
        if (OFFSETS) v = __builtin_fmaf(t->offsets[g * 16 + o], s.a.sums[at], v);
        acc[r * 16 + o] = v;
      }
    }
  }
}
constexpr int MOST_ROWS = 4;

#endif

template <int ROWS, bool OFFSETS>
inline void rows_of_shape(const Shape &shape, const Slice &s, const Tile *t, float *acc) {
#if defined(__AVX512VNNI__)
  if (shape.group == 32) rows_times_tile<ROWS, 8, OFFSETS>(s, t, acc);
  else rows_times_tile<ROWS, 4, OFFSETS>(s, t, acc);
#elif defined(__AVX2__)
  if (shape.bits == 8) {
    if (shape.group == 32) rows_times_tile<ROWS, 8, 1, true, OFFSETS>(s, t, acc);
    else rows_times_tile<ROWS, 4, 1, true, OFFSETS>(s, t, acc);
  } else if (shape.group == 16) rows_times_tile<ROWS, 4, 1, false, OFFSETS>(s, t, acc);
  else if (shape.bits == 5) rows_times_tile<ROWS, 4, 2, false, OFFSETS>(s, t, acc);
  else rows_times_tile<ROWS, 8, 1, false, OFFSETS>(s, t, acc);
#elif defined(NEON)
  rows_of_group<ROWS, OFFSETS>(shape, s, t, acc);
#else
  rows_times_tile<ROWS, OFFSETS>(s, t, acc, shape.group / 4);
#endif
}

#if defined(__AVX512VNNI__)

// In blocks of as many rows as can be, all about alike.
template <bool OFFSETS>
inline void multiply_rows(const Shape &shape, Slice s, int rows, const Tile *t, float *acc) {
  const int blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
  for (int i = 0, r = 0; i < blocks; i++) {
    const int count = (rows - r + blocks - i - 1) / (blocks - i);
    const Slice here = {s.a, s.row + r, s.k0, s.g0, s.groups, s.ahead.part(i, blocks)};
    float *at = acc + r * WIDTH;
    switch (count) {
      case 1: rows_of_shape<1, OFFSETS>(shape, here, t, at); break;
      case 2: rows_of_shape<2, OFFSETS>(shape, here, t, at); break;
      case 3: rows_of_shape<3, OFFSETS>(shape, here, t, at); break;
      case 4: rows_of_shape<4, OFFSETS>(shape, here, t, at); break;
      case 5: rows_of_shape<5, OFFSETS>(shape, here, t, at); break;
      default: rows_of_shape<6, OFFSETS>(shape, here, t, at);
    }
    r += count;
  }
}

#else

template <bool OFFSETS>
inline void multiply_rows(const Shape &shape, Slice s, int rows, const Tile *t, float *acc) {
  for (int r = 0; r < rows;) {
    Slice here = {s.a, s.row + r, s.k0, s.g0, s.groups, s.ahead};
    float *at = acc + r * WIDTH;
    int left = rows - r;
    if (left >= MOST_ROWS) rows_of_shape<MOST_ROWS, OFFSETS>(shape, here, t, at), r += MOST_ROWS;
    else if (left >= 2) rows_of_shape<2, OFFSETS>(shape, here, t, at), r += 2;
    else rows_of_shape<1, OFFSETS>(shape, here, t, at), r += 1;
  }
}

#endif
