// Activations in full precision -> 8 bits, a scale for each group of inputs.
#pragma once

#include <cmath>
#include <cstdlib>

#include "direct.h"

// The parts of one buffer that hold activations in 8 bits. Of a group's numbers there are `rows`.
struct Owned {
  int8_t *codes;
  float *scales, *sums;
  int32_t *zeros;
  int64_t in, groups, rows;
  Activations view() const { return {codes, scales, zeros, sums, in, rows}; }
  void release() { free(scales); }

  // `count` rows of a buffer in which the rows from `first` on stand apart from others, groups beside each other.
  Owned part(int64_t first, int64_t count) const {
    const int64_t at = first * groups;
    return {codes + first * in, scales + at, sums + at, zeros + at, in, groups, count};
  }
};

// Groups an odd number of lines apart, so that they do not crowd the same places of the first cache.
inline int64_t padded(int64_t rows) { return rows > 16 ? (rows + 15) / 32 * 32 + 16 : rows; }

Owned owned(int64_t rows, int64_t in, const Shape &shape) {
  int64_t groups = in / shape.group;
  rows = padded(rows);
  char *memory = (char *)aligned_alloc(64, (rows * (in + 12 * groups) + 256) / 64 * 64 + 64);
  Owned o = {nullptr, (float *)memory, nullptr, nullptr, in, groups, rows};
  o.sums = o.scales + rows * groups;
  o.zeros = (int32_t *)(o.sums + rows * groups);
  o.codes = (int8_t *)(o.zeros + rows * groups);
  return o;
}

inline float largest_of(const float *x, int group) {
#ifdef __AVX2__
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 most = _mm256_and_ps(_mm256_loadu_ps(x), magnitude);
  for (int i = 8; i < group; i += 8) most = _mm256_max_ps(most, _mm256_and_ps(_mm256_loadu_ps(x + i), magnitude));
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
#elif defined(NEON)
  float32x4_t most = vabsq_f32(vld1q_f32(x));
  for (int i = 4; i < group; i += 4) most = vmaxnmq_f32(most, vabsq_f32(vld1q_f32(x + i)));
  return vmaxnmvq_f32(most);
#else
  float most = 0;
  for (int i = 0; i < group; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  return most;
#endif
}

// The codes of a group, of each eight inputs the even ones first if asked for, and their sum.
inline int32_t round_group(const float *x, int group, float inverse, bool even_odd, int8_t *codes) {
#ifdef __AVX2__
  const __m256 factor = _mm256_set1_ps(inverse);
  const __m128i order = _mm_set1_epi64x(even_odd ? 0x0705030106040200 : 0x0706050403020100);
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < group; i += 8) {
    const __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
    sum = _mm256_add_epi32(sum, whole);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)(codes + i), _mm_shuffle_epi8(_mm_packs_epi16(words, words), order));
  }
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(four) + _mm_extract_epi32(four, 1);
#elif defined(NEON)
  int32x4_t sum = vdupq_n_s32(0);
  for (int i = 0; i < group; i += 8) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
    sum = vaddq_s32(sum, vaddq_s32(low, high));
    const int8x8_t eight = vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high)));
    const int32x2_t even = vreinterpret_s32_s8(vuzp1_s8(eight, eight)), odd = vreinterpret_s32_s8(vuzp2_s8(eight, eight));
    vst1_s8(codes + i, even_odd ? vreinterpret_s8_s32(vzip1_s32(even, odd)) : eight);
  }
  return vaddvq_s32(sum);
#else
  int32_t sum = 0;
  for (int i = 0; i < group; i++) {
    const int place = even_odd ? (i & ~7) + (i & 7) / 2 + (i & 1) * 4 : i;
    codes[place] = (int8_t)lrintf(x[i] * inverse);
    sum += codes[place];
  }
  return sum;
#endif
}

#ifdef __AVX512VNNI__

// Sixteen groups of a row at once, the same numbers.
template <int GROUP>
inline void round_groups(const float *x, const Shape &s, const Owned &o, int64_t row, int64_t g0) {
  constexpr int PARTS = GROUP / 16;
  const auto most_of = [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); };  // bits of no sign are in order
  const auto sum_of = [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); };
  const int64_t eight = s.even_odd ? 0x0705030106040200 : 0x0706050403020100;
  const __m128i order = _mm_set_epi64x(eight + 0x0808080808080808, eight);
  const __m512 bound = _mm512_set1_ps(127.0f);
  __m512i v[16];
  for (int i = 0; i < 16; i++) {
    v[i] = _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + i * GROUP)));
    if (PARTS == 2) v[i] = most_of(v[i], _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + i * GROUP + 16))));
  }
  const __m512 most = _mm512_castsi512_ps(across(v, most_of)), scale = _mm512_div_ps(most, bound);
  const __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  alignas(64) float inverse[16], scales[16], sums[16];
  alignas(64) int32_t zeros[16];
  _mm512_store_ps(inverse, _mm512_maskz_div_ps(some, bound, most));
  int8_t *codes = o.codes + row * o.in + g0 * GROUP;
  for (int i = 0; i < 16; i++) {
    const __m512 factor = _mm512_set1_ps(inverse[i]);
    for (int j = 0; j < PARTS; j++) {
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * GROUP + 16 * j), factor));
      v[i] = j ? sum_of(v[i], whole) : whole;
      _mm_storeu_si128((__m128i *)(codes + i * GROUP + 16 * j), _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(whole), order));
    }
  }
  const __m512i sum = across(v, sum_of);
  _mm512_store_ps(scales, scale);
  _mm512_store_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale));
  _mm512_store_si512(zeros, _mm512_mullo_epi32(sum, _mm512_set1_epi32(s.left_of_zero())));
  for (int i = 0; i < 16; i++) {
    const int64_t at = (g0 + i) * o.rows + row;
    o.scales[at] = scales[i], o.sums[at] = sums[i], o.zeros[at] = zeros[i];
  }
}

inline void round_sixteens(const float *x, const Shape &s, const Owned &o, int64_t row) {
  for (int64_t g = 0; g < o.groups; g += 16) {
    const int64_t g0 = g + 16 <= o.groups ? g : o.groups - 16;  // some of the last ones twice
    if (s.group == 32) round_groups<32>(x + g0 * 32, s, o, row, g0);
    else round_groups<16>(x + g0 * 16, s, o, row, g0);
  }
}

#endif

// One row in 8 bits, a scale a group, in the order that the weight's tiles have.
void round_row(const float *x, const Shape &s, const Owned &o, int64_t row) {
#ifdef __AVX512VNNI__
  if (o.groups >= 16) return round_sixteens(x, s, o, row);
#endif
  for (int64_t g = 0; g < o.groups; g++) {
    const float *part = x + g * s.group;
    int8_t *codes = o.codes + row * o.in + g * s.group;
    const float most = largest_of(part, s.group);
    const int32_t sum = round_group(part, s.group, most > 0 ? 127.0f / most : 0.0f, s.even_odd, codes);
    const int64_t at = g * o.rows + row;
    o.scales[at] = most / 127.0f;
    o.sums[at] = (float)sum * o.scales[at];
    o.zeros[at] = s.left_of_zero() * sum;
  }
}

inline bool rounded_alike(const Shape &a, const Shape &b) {
  return a.group == b.group && a.zero == b.zero && a.even_odd == b.even_odd;
}

constexpr int64_t ROUNDED = 1;  // rows that are rounded together

// Rows first .. first + count, at `row(i)` each.
template <typename Source>
void round_rows(Source row, int64_t, const Shape &shape, const Owned &o, int64_t first, int64_t count) {
  for (int64_t r = first; r < first + count; r++) round_row(row(r), shape, o, r);
}

// What rounding to 8 bits leaves of a row.
void rest_of_row(const float *x, int64_t in, const Shape &shape, float *rest) {
  const int group = shape.group;
  for (int64_t g = 0; g < in; g += group) {
    const float most = largest_of(x + g, group), scale = most / 127.0f, inverse = most > 0 ? 127.0f / most : 0.0f;
    for (int64_t i = g; i < g + group; i++) rest[i] = x[i] - nearbyintf(x[i] * inverse) * scale;
  }
}
