// A few rows times a tile by AVX-512 with VNNI. A vector holds 64 bytes of one row of weights; of sixteen rows the sums of
// four quarters are brought into columns at once, so that scaling needs no memory in between.
#pragma once

#include "multiply.h"

// Scales of a tile, [groups][16].
struct Direct {
  alignas(64) float scales[DIRECT_BLOCK / 16 * OUTS];
  alignas(64) float offsets[DIRECT_BLOCK / 16 * OUTS];
};

constexpr int FEW = 3;  // rows, at most, for which decoding a tile first does not pay

// Whether it pays here, and groups lie in whole quarters of a vector of sums.
inline bool is_direct(const Weight &w, const Shape &s, int64_t rows) {
  const bool pairs = w.kind == INT4 || w.kind == FP4;
  return w.in % 64 == 0 && rows <= FEW && (!pairs || s.group == 32);
}

constexpr bool in_halves(int kind) { return kind == INT4 || kind == FP4 || kind == Q4_K; }
constexpr int inputs_of(int kind) { return in_halves(kind) ? 128 : 64; }  // that 64 bytes hold

inline __m512i load64(const void *at) { return _mm512_loadu_si512(at); }
inline __m512i two(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

// 64 bytes of a row from input k on -> the sums of their products with activations `x`, four quarters. Of halves of bytes
// the lower ones are multiplied with the first 64 activations. `words` of the sixteen belong to the row.
template <int KIND>
inline __m512i quarters(const Weight &w, const uint8_t *row, int64_t k, __mmask16 words, const int8_t *x) {
  const __m512i none = _mm512_setzero_si512();
  if (KIND == INT4 || KIND == FP4) {
    const __m512i codes = _mm512_maskz_loadu_epi32(words, row + k / 2);
    __m512i low = lower(codes), high = upper(codes);
    if (KIND == FP4) low = fp4_codes(low), high = fp4_codes(high);
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(none, low, load64(x)), high, load64(x + 64));
  }
  if (KIND == Q4_K) {  // groups 0 and 2, and 1 and 3: together in the order 0, 2, 1, 3
    const __m512i codes = load64(row + k / 256 * 144 + 16 + k % 256 / 2);
    const __m512i even = _mm512_dpbusd_epi32(none, lower(codes), load64(x));
    const __m512i odd = _mm512_dpbusd_epi32(none, upper(codes), load64(x + 64));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(even, odd, 0x88), _mm512_shuffle_i32x4(even, odd, 0xdd));
  }
  Weight known = w;
  known.kind = KIND;  // so that the compiler need not ask
  __m512i codes;
  if (KIND == UINT8) codes = load64(row + k);
  else if (KIND == INT8) codes = turned(load64(row + k), 0x80);
  else codes = two(vector_of_32(known, row, k, 32), vector_of_32(known, row, k + 32, 32));
  return _mm512_dpbusd_epi32(none, codes, load64(x));
}

// Quarters of four rows -> the sum of each, or what else `op` makes of two numbers, of each quarter side by side.
template <typename Op>
inline __m512i four_by(__m512i a, __m512i b, __m512i c, __m512i d, Op op) {
  const __m512i first = op(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i second = op(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return op(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
}

inline __m512i four_sums(__m512i a, __m512i b, __m512i c, __m512i d) {
  return four_by(a, b, c, d, [](__m512i x, __m512i y) { return _mm512_add_epi32(x, y); });
}

// v[i], of rows 4 i and on -> the sums of each quarter, of sixteen rows.
inline void by_quarter(const __m512i v[4], __m512i sums[4]) {
  const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
  const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
  sums[0] = _mm512_shuffle_i32x4(a, c, 0x88), sums[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
  sums[2] = _mm512_shuffle_i32x4(b, d, 0x88), sums[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

// The sixteen numbers of each of sixteen vectors, brought together by `op`.
template <typename Op>
inline __m512i across(const __m512i v[16], Op op) {
  __m512i fours[4], parts[4];
  for (int i = 0; i < 4; i++) fours[i] = four_by(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3], op);
  by_quarter(fours, parts);
  return op(op(parts[0], parts[1]), op(parts[2], parts[3]));
}

// Activations as halves of bytes ask for them, 128 at a time: those of the lower ones first, noughts behind the last.
inline void halves_apart(int kind, const int8_t *a, int kn, int8_t *to) {
  const __m512i counted = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  for (int k = 0; k < kn; k += 128) {
    const __m512i x = load64(a + k), y = kn - k > 64 ? load64(a + k + 64) : _mm512_setzero_si512();
    const bool words = kind != Q4_K;  // that alternate; else stretches of 32
    const __m512i even = _mm512_permutex2var_epi32(x, counted, y);
    const __m512i odd = _mm512_permutex2var_epi32(x, _mm512_add_epi32(counted, _mm512_set1_epi32(1)), y);
    _mm512_storeu_si512(to + k, words ? even : _mm512_shuffle_i64x2(x, y, 0x44));
    _mm512_storeu_si512(to + k + 64, words ? odd : _mm512_shuffle_i64x2(x, y, 0xee));
  }
}

// Inputs k0 .. k0 + kn of row r of `a` times the tile: acc [16] is added to.
template <int KIND, int GROUP, bool OFFSETS>
inline void row_direct(const Weight &w, const Place &p, const Activations &a, int64_t r, int64_t k0, int kn,
                       const Direct &tile, Ahead codes_ahead, Ahead scales_ahead, float *acc) {
  constexpr int INPUTS = inputs_of(KIND);
  constexpr int GROUPS = INPUTS / GROUP;
  alignas(64) int8_t apart[DIRECT_BLOCK + 64];
  const int8_t *x = a.codes + r * a.in + k0;
  if (in_halves(KIND)) halves_apart(KIND, x, kn, apart), x = apart;
  const int64_t steps = (kn + INPUTS - 1) / INPUTS, side = k0 / GROUP * a.rows + r;
  const int64_t some = (codes_ahead.end - codes_ahead.at + 64 * steps - 1) / (64 * steps) * 64;
  const int64_t few = (scales_ahead.end - scales_ahead.at + 64 * steps - 1) / (64 * steps) * 64;
  const float *row_scales = a.scales + side, *row_sums = a.sums + side;
  const int32_t *zeros = a.zeros + side;
  __m512 total = _mm512_loadu_ps(acc);
  for (int k = 0, group = 0; k < kn; k += INPUTS) {
    codes_ahead.fetch(some), scales_ahead.fetch(few);
    const __mmask16 words = kn - k < INPUTS ? 0xff : 0xffff;
    __m512i fours[4], sums[4];
    for (int i = 0; i < 4; i++) {
      __m512i v[4];
      for (int j = 0; j < 4; j++) v[j] = quarters<KIND>(w, p.rows[4 * i + j], k0 + k, words, x + k);
      fours[i] = four_sums(v[0], v[1], v[2], v[3]);
    }
    by_quarter(fours, sums);
    if (GROUP * 4 > INPUTS) sums[0] = _mm512_add_epi32(sums[0], sums[1]), sums[1] = _mm512_add_epi32(sums[2], sums[3]);
    if (KIND == Q4_K) { const __m512i second = sums[1]; sums[1] = sums[2], sums[2] = second; }
    const int count = in_halves(KIND) && kn - k < INPUTS ? GROUPS / 2 : GROUPS;
    for (int g = 0; g < count; g++, group++) {
      const __m512i whole = _mm512_sub_epi32(sums[g], _mm512_set1_epi32(*zeros));
      const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_load_ps(tile.scales + group * OUTS));
      total = _mm512_fmadd_ps(sum, _mm512_set1_ps(*row_scales), total);
      if (OFFSETS)
        total = _mm512_fmadd_ps(_mm512_load_ps(tile.offsets + group * OUTS), _mm512_set1_ps(*row_sums), total);
      zeros += a.rows, row_scales += a.rows, row_sums += a.rows;
    }
  }
  _mm512_storeu_ps(acc, total);
}

typedef void RowDirect(const Weight &, const Place &, const Activations &, int64_t, int64_t, int, const Direct &, Ahead,
                       Ahead, float *);

template <int KIND, int GROUP>
inline RowDirect *of_offsets(const Shape &s) {
  return s.offsets ? row_direct<KIND, GROUP, true> : row_direct<KIND, GROUP, false>;
}

inline RowDirect *row_direct_of(const Weight &w, const Shape &s) {
  switch (w.kind) {
    case INT4: return of_offsets<INT4, 32>(s);
    case FP4: return row_direct<FP4, 32, false>;
    case Q4_K: return row_direct<Q4_K, 32, true>;
    case UINT8: return s.group == 32 ? of_offsets<UINT8, 32>(s) : of_offsets<UINT8, 16>(s);
    case INT8: return s.group == 32 ? of_offsets<INT8, 32>(s) : of_offsets<INT8, 16>(s);
    case Q5_0: return row_direct<Q5_0, 32, false>;
    case Q5_K: return row_direct<Q5_K, 32, true>;
    case Q6_K: return row_direct<Q6_K, 16, false>;
    default: return row_direct<Q8_0, 32, false>;
  }
}

// Inputs k0 .. k0 + kn of `n` rows from `first` on times the tile: acc [n][WIDTH] is added to. What the next tile reads is
// asked for in the order of memory while this one is multiplied.
inline void rows_direct(const Weight &w, const Shape &s, const Place &p, const Next &next, const Activations &a,
                        int64_t first, int n, int64_t k0, int kn, Direct &tile, float *acc) {
  for (int k = 0; k < kn; k += K_BLOCK) {
    const int at = k / s.group * OUTS;
    decode_scales(w, s, p.row, p.rows, k0 + k, kn - k < K_BLOCK ? kn - k : K_BLOCK, tile.scales + at, tile.offsets + at);
  }
  RowDirect *const product = row_direct_of(w, s);
  Ahead codes = codes_ahead(next, OUTS).part(k0, k0 + kn, w.in), scales = scales_ahead(next, OUTS).part(k0, k0 + kn, w.in);
  for (int r = 0; r < n; r++) {
    product(w, p, a, first + r, k0, kn, tile, codes, scales, acc + r * WIDTH);
    codes.at = codes.end, scales.at = scales.end;
  }
}
