// A few rows times a tile by AVX2: the sums of its rows' groups are stored, then scaled and added up.
#pragma once

#include "multiply.h"

// Sums of sixteen rows' groups times one row of activations.
struct Direct {
  alignas(64) int32_t of_row[OUTS][DIRECT_BLOCK / 16];
  alignas(64) float scales[MOST_GROUPS * OUTS], offsets[MOST_GROUPS * OUTS];
};

constexpr int FEW = 3;  // rows, at most, for which decoding a tile first does not pay

// Whether it pays here, and groups lie in whole quarters or halves of a vector of codes.
inline bool is_direct(const Weight &w, const Shape &s, int64_t rows) {
  const bool pairs = w.kind == INT4 || w.kind == FP4;
  return w.in % 64 == 0 && (pairs ? rows == 1 && s.group == 32 : rows <= FEW);
}

// sums += codes · activations, four neighbours to a lane.
inline __m256i dots(__m256i sums, __m256i codes, __m256i activations, int bits) {
  const __m256i ones = _mm256_set1_epi16(1);
  if (bits < 8) return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, activations), ones));
  const __m256i low = _mm256_madd_epi16(_mm256_maddubs_epi16(lower(codes), activations), ones);
  const __m256i high = _mm256_madd_epi16(_mm256_maddubs_epi16(upper(codes), activations), ones);
  return _mm256_add_epi32(sums, _mm256_add_epi32(low, _mm256_slli_epi32(high, 4)));
}

// Eight vectors -> the sum of each one's lower four lanes, and of its upper four.
__attribute__((always_inline)) inline void halves_of(const __m256i v[8], __m256i *low, __m256i *high) {
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
  *low = _mm256_permute2x128_si256(a, b, 0x20);
  *high = _mm256_permute2x128_si256(a, b, 0x31);
}

inline void store(int32_t *to, __m256i v) { _mm256_storeu_si256((__m256i *)to, v); }

// Sums of the eight vectors' groups: one each, or two.
__attribute__((always_inline)) inline void store_sums(const __m256i v[8], bool one_each, int32_t *to) {
  __m256i low, high;
  halves_of(v, &low, &high);
  if (one_each) return store(to, _mm256_add_epi32(low, high));
  const __m256i a = _mm256_unpacklo_epi32(low, high), b = _mm256_unpackhi_epi32(low, high);
  store(to, _mm256_permute2x128_si256(a, b, 0x20));
  store(to + 8, _mm256_permute2x128_si256(a, b, 0x31));
}

// Vector i of the codes of a row that are stored a byte each once they are read, times theirs of the activations.
template <int KIND>
inline __m256i bytes_dot(const Weight &w, const uint8_t *row, int64_t k, const int8_t *a, int bits) {
  Weight known = w;
  known.kind = KIND;  // so that the compiler need not ask
  return dots(_mm256_setzero_si256(), vector_of_32(known, row, k, 32), load32((const uint8_t *)a), bits);
}

template <int KIND>
inline void sums_of_bytes(const Weight &w, const Shape &s, const uint8_t *row, int64_t k0, int kn, const int8_t *a,
                          int32_t *to) {
  const int bits = KIND == Q5_0 || KIND == Q5_K ? 5 : KIND == Q6_K ? 7 : 8;
  int k = 0;
  __m256i v[8];
  for (; k + 256 <= kn; k += 256, to += 256 / s.group) {
    for (int i = 0; i < 8; i++) v[i] = bytes_dot<KIND>(w, row, k0 + k + 32 * i, a + k + 32 * i, bits);
    store_sums(v, s.group == 32, to);
  }
  if (k == kn) return;
  for (int i = 0; i < 8; i++)
    v[i] = k + 32 * i < kn ? bytes_dot<KIND>(w, row, k0 + k + 32 * i, a + k + 32 * i, bits) : _mm256_setzero_si256();
  store_sums(v, s.group == 32, to);
}

// 64 activations, of which those of the lower halves of bytes come first.
inline __m256i pairs_dot(__m256i pairs, const int8_t *a, bool fp4) {
  const __m256i table = _mm256_load_si256((const __m256i *)FP4_CODES);
  __m256i low = lower(pairs), high = upper(pairs);
  if (fp4) low = _mm256_shuffle_epi8(table, low), high = _mm256_shuffle_epi8(table, high);
  const __m256i sum = dots(_mm256_setzero_si256(), low, load32((const uint8_t *)a), 5);
  return dots(sum, high, load32((const uint8_t *)a + 32), 5);
}

// Two neighbours to a byte: 64 inputs and two groups to a vector.
template <bool IS_FP4>
inline void sums_of_pairs(const uint8_t *row, int64_t k0, int kn, const int8_t *a, int32_t *to) {
  const uint8_t *at = row + k0 / 2;
  int k = 0;
  __m256i v[8];
  for (; k + 512 <= kn; k += 512, to += 16) {
    for (int i = 0; i < 8; i++) v[i] = pairs_dot(load32(at + k / 2 + 32 * i), a + k + 64 * i, IS_FP4);
    store_sums(v, false, to);
  }
  if (k == kn) return;
  for (int i = 0; i < 8; i++)
    v[i] = k + 64 * i < kn ? pairs_dot(load32(at + k / 2 + 32 * i), a + k + 64 * i, IS_FP4) : _mm256_setzero_si256();
  store_sums(v, false, to);
}

// Q4_K: 256 inputs to a block, of which 32 bytes hold two groups that follow each other.
inline void sums_of_q4_k(const uint8_t *row, int64_t k0, int kn, const int8_t *a, int32_t *to) {
  const __m256i none = _mm256_setzero_si256();
  for (int k = 0; k < kn; k += 256, to += 8) {
    const uint8_t *block = row + (k0 + k) / 256 * 144 + 16;
    __m256i v[8];
    for (int i = 0; i < 4; i++) {
      const __m256i pairs = load32(block + 32 * i);
      v[2 * i] = dots(none, lower(pairs), load32((const uint8_t *)a + k + 64 * i), 4);
      v[2 * i + 1] = dots(none, upper(pairs), load32((const uint8_t *)a + k + 64 * i + 32), 4);
    }
    store_sums(v, true, to);
  }
}

inline void sums_of_row(const Weight &w, const Shape &s, const uint8_t *row, int64_t k0, int kn, const int8_t *a,
                        int32_t *to) {
  switch (w.kind) {
    case INT4: return sums_of_pairs<false>(row, k0, kn, a, to);
    case FP4: return sums_of_pairs<true>(row, k0, kn, a, to);
    case Q4_K: return sums_of_q4_k(row, k0, kn, a, to);
    case UINT8: return sums_of_bytes<UINT8>(w, s, row, k0, kn, a, to);
    case INT8: return sums_of_bytes<INT8>(w, s, row, k0, kn, a, to);
    case Q5_0: return sums_of_bytes<Q5_0>(w, s, row, k0, kn, a, to);
    case Q5_K: return sums_of_bytes<Q5_K>(w, s, row, k0, kn, a, to);
    case Q6_K: return sums_of_bytes<Q6_K>(w, s, row, k0, kn, a, to);
    default: return sums_of_bytes<Q8_0>(w, s, row, k0, kn, a, to);
  }
}

// Of each 64 activations, whose words come from the lower and the upper halves of bytes in turn, the former first.
inline void halves_apart(const int8_t *a, int kn, int8_t *to) {
  for (int k = 0; k < kn; k += 64) {
    const __m256 x = _mm256_loadu_ps((const float *)(a + k)), y = _mm256_loadu_ps((const float *)(a + k + 32));
    const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));
    const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd));
    _mm256_storeu_si256((__m256i *)(to + k), _mm256_permute4x64_epi64(even, 0xd8));
    _mm256_storeu_si256((__m256i *)(to + k + 32), _mm256_permute4x64_epi64(odd, 0xd8));
  }
}

// Inputs k0 .. k0 + kn of row r of `a` times the tile: acc [16] is added to.
inline void row_direct(const Weight &w, const Shape &s, const Place &p, const Next &next, const Activations &a, int64_t r,
                       int64_t k0, int kn, Direct &tile, float *acc) {
  alignas(32) int8_t apart[DIRECT_BLOCK];
  const int8_t *codes = a.codes + r * a.in + k0;
  if (s.even_odd) halves_apart(codes, kn, apart);
  Ahead ahead = codes_ahead(next, OUTS).part(k0, k0 + kn, w.in);
  for (int o = 0; o < OUTS; o++) {
    ahead.fetch((ahead.end - ahead.at) / (OUTS - o));
    sums_of_row(w, s, p.rows[o], k0, kn, s.even_odd ? apart : codes, tile.of_row[o]);
  }
  Ahead scales = scales_ahead(next, OUTS).part(k0, k0 + kn, w.in);
  scales.fetch(scales.end - scales.at);
  for (int k = 0; k < kn; k += K_BLOCK) {
    const int n = kn - k < K_BLOCK ? kn - k : K_BLOCK, groups = n / s.group, first = k / s.group;
    const int64_t side = (k0 + k) / s.group;
    decode_scales(w, s, p.row, p.rows, k0 + k, n, tile.scales, tile.offsets);
    for (int half = 0; half < OUTS; half += 8) {
      __m256 total = _mm256_loadu_ps(acc + half);
      for (int g = 0; g < groups; g += 8) {
        __m256i eight[8];
        for (int i = 0; i < 8; i++) eight[i] = load32((const uint8_t *)(tile.of_row[half + i] + first + g));
        transpose(eight);
        for (int i = 0; i < 8 && g + i < groups; i++) {
          const int64_t at = (side + g + i) * a.rows + r;
          const __m256 sum = _mm256_cvtepi32_ps(_mm256_sub_epi32(eight[i], _mm256_set1_epi32(a.zeros[at])));
          const __m256 scaled = _mm256_mul_ps(sum, _mm256_load_ps(tile.scales + (g + i) * OUTS + half));
          total = _mm256_fmadd_ps(scaled, _mm256_set1_ps(a.scales[at]), total);
          if (s.offsets)
            total = _mm256_fmadd_ps(_mm256_load_ps(tile.offsets + (g + i) * OUTS + half), _mm256_set1_ps(a.sums[at]), total);
        }
      }
      _mm256_storeu_ps(acc + half, total);
    }
  }
}

inline void rows_direct(const Weight &w, const Shape &s, const Place &p, const Next &next, const Activations &a,
                        int64_t first, int n, int64_t k0, int kn, Direct &tile, float *acc) {
  for (int r = 0; r < n; r++) row_direct(w, s, p, next, a, first + r, k0, kn, tile, acc + r * WIDTH);
}
