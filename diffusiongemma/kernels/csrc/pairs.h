// Weights as they lie in a file -> bfloat16, 32 inputs of a row at a time: what AMX multiplies, and rows of them need no
// turning. A number is rounded once, from its code, scale and offset in float32.
//
// Halves of bytes come in the order in which one instruction takes them apart (`even_odd` of their shape), as do the
// activations that they are multiplied with.
#pragma once

#include <array>

#include "decode.h"

#define ALWAYS __attribute__((always_inline)) inline

constexpr int STEP = 32;  // inputs that are multiplied at once

// Of each place among 32 inputs the one that stands there: fours of the first and of the second sixteen in turn.
struct Order {
  alignas(64) uint16_t input[STEP];
  alignas(64) uint8_t bits[2 * STEP];  // where the half of a byte begins in the eight bytes that hold it
};
constexpr Order order_of_halves() {
  Order o = {};
  for (int p = 0; p < STEP; p++) {
    o.input[p] = (uint16_t)(16 * (p % 8 / 4) + 4 * (p / 8) + p % 4);
    o.bits[2 * p] = o.bits[2 * p + 1] = (uint8_t)(4 * (o.input[p] % 16));
  }
  return o;
}
static constexpr Order ORDER = order_of_halves();

// Sixteen bytes -> words of which the lower halves of bytes are their 32 codes in that order.
ALWAYS __m512i halves_of_bytes(__m128i bytes) {
  return _mm512_multishift_epi64_epi8(_mm512_load_si512(ORDER.bits), _mm512_broadcast_i32x4(bytes));
}

// --- codes of 4 bits about 8, a scale of bfloat16 for 32 of them: the products are looked up ---------------------------

// What codes stand for under a scale of exponent BASE, for each of its fractions; and noughts. Another exponent is added
// to theirs: a nought so becomes 2^-32 of the scale or less.
constexpr int BASE = 32, FRACTIONS = 128;
constexpr uint16_t product_of(int level, int fraction) {
  if (!level) return 0;
  int size = (level < 0 ? -level : level) * (128 + fraction), shift = 0;
  while (size >> shift > 255) shift++;
  const int rest = size & ((1 << shift) - 1), half = 1 << shift >> 1;
  size >>= shift;
  if (shift && (rest > half || (rest == half && size & 1))) size++;  // to the nearest, ties to even
  return (uint16_t)((level < 0 ? 0x8000 : 0) + (BASE + shift) * 128 + size - 128);
}
constexpr std::array<uint16_t, (FRACTIONS + 1) * 16> products_of_codes() {
  std::array<uint16_t, (FRACTIONS + 1) * 16> all = {};
  for (int f = 0; f < FRACTIONS; f++)
    for (int code = 0; code < 16; code++) all[f * 16 + code] = product_of(code - 8, f);
  return all;
}
alignas(64) static constexpr auto PRODUCTS = products_of_codes();

inline bool is_looked_up(const Weight &w, const Shape &s) {
  return w.kind == INT4 && w.zero == 8 && w.group == 32 && w.scale_type == BFLOAT16 && w.factor == 1.0f && !s.offsets;
}

// Scales and offsets of some groups of the rows of a tile; or where their products stand, and what is added to these.
struct Sides {
  union {
    struct {
      alignas(64) float scales[WIDTH][MOST_GROUPS], offsets[WIDTH][MOST_GROUPS];
    };
    struct {
      alignas(64) uint32_t products[WIDTH][MOST_GROUPS], exponents[WIDTH][MOST_GROUPS];
    };
  };
};

// Up to sixteen groups of a row, from bfloat16.
ALWAYS void look_up_scales(const uint8_t *scales, int count, uint32_t *products, uint32_t *exponents) {
  const __mmask16 some = (__mmask16)((1u << count) - 1);
  const __m512i s = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, scales));
  const __m512i fraction = _mm512_and_si512(s, _mm512_set1_epi32(127)), size = _mm512_and_si512(s, _mm512_set1_epi32(0x7fff));
  const __mmask16 tiny = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(BASE * 128));
  const __m512i added = _mm512_sub_epi32(_mm512_sub_epi32(s, fraction), _mm512_set1_epi32(BASE * 128));
  const __m512i twice = _mm512_or_si512(_mm512_and_si512(added, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(added, 16));
  _mm512_store_si512(products, _mm512_mask_mov_epi32(fraction, tiny, _mm512_set1_epi32(FRACTIONS)));
  _mm512_store_si512(exponents, _mm512_maskz_mov_epi32((__mmask16)~tiny, twice));
}

ALWAYS void look_up_step(const uint8_t *const *rows, int64_t k, int64_t g, const Sides &sides, uint16_t *to) {
#pragma GCC unroll 4
  for (int r = 0; r < WIDTH; r++) {
    const __m512i codes = halves_of_bytes(sixteen_bytes(rows[r] + k / 2));
    const uint16_t *products = PRODUCTS.data() + 16 * sides.products[r][g];
    // Twice, as words are looked up by five of their bits, of which the last is another code's.
    const __m512i table = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)products));
    const __m512i found = _mm512_permutexvar_epi16(codes, table);
    _mm512_store_si512(to + r * STEP, _mm512_add_epi16(found, _mm512_set1_epi32((int)sides.exponents[r][g])));
  }
}

// --- all others --------------------------------------------------------------------------------------------------------

ALWAYS __m512i two_halves(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// Codes less their zero -> numbers of a group.
template <bool OFFSETS>
ALWAYS __m512 numbers_of(__m512 codes, float scale, float offset) {
  return OFFSETS ? _mm512_fmadd_ps(codes, _mm512_set1_ps(scale), _mm512_set1_ps(offset))
                 : _mm512_mul_ps(codes, _mm512_set1_ps(scale));
}

// The numbers that halves of bytes stand for, less the zero.
inline __m512 levels_of(const Weight &w, const Shape &s) {
  alignas(64) float levels[16];
  for (int i = 0; i < 16; i++) levels[i] = (float)((w.kind == FP4 ? FP4_CODES[i] : i) - s.zero);
  return _mm512_load_ps(levels);
}

// Inputs of a row by what each of sixteen codes stands for in its group; behind the last sixteen there may be anything.
template <int KIND, int GROUP, bool OFFSETS, bool WHOLE>
ALWAYS __m512i by_levels(const uint8_t *row, int64_t k, __m512 levels, const float *scales, const float *offsets) {
  const __m512 first = numbers_of<OFFSETS>(levels, scales[0], offsets[0]);
  if (KIND == Q4_K) {  // halves of bytes are 32 inputs apart
    const uint8_t *block = row + k / 256 * 144 + 16 + k % 256 / 64 * 32;
    const __m512i codes = _mm512_cvtepu8_epi16(k % 64 < 32 ? lower(load32(block)) : upper(load32(block)));
    return _mm512_permutexvar_epi16(codes, _mm512_castsi256_si512((__m256i)_mm512_cvtneps_pbh(first)));
  }
  const __m512i codes = halves_of_bytes(WHOLE ? sixteen_bytes(row + k / 2) : eight_bytes(row + k / 2));
  if (GROUP == 32) return _mm512_permutexvar_epi16(codes, two_halves(first, first));
  const __m512i of_second = _mm512_set_epi64(0x0010001000100010, 0, 0x0010001000100010, 0, 0x0010001000100010, 0,
                                             0x0010001000100010, 0);
  const __m512i places = _mm512_ternarylogic_epi32(codes, _mm512_set1_epi16(15), of_second, 0xea);  // a & b | c
  const __m512 second = WHOLE ? numbers_of<OFFSETS>(levels, scales[1], offsets[1]) : first;  // no scale stands there
  return _mm512_permutexvar_epi16(places, two_halves(first, second));
}

// Bytes less the zero, the sixteen of half `i`.
ALWAYS __m512i codes_of_16(__m256i bytes, int i, int zero) {
  const __m128i half = i ? _mm256_extracti128_si256(bytes, 1) : _mm256_castsi256_si128(bytes);
  return _mm512_sub_epi32(_mm512_cvtepu8_epi32(half), _mm512_set1_epi32(zero));
}

// Inputs of a row whose codes have more bits.
template <int KIND, int GROUP, bool OFFSETS, bool WHOLE>
ALWAYS __m512i by_codes(const Weight &w, const uint8_t *row, int64_t k, int zero, const float *scales, const float *offsets) {
  constexpr bool SIGNED_BYTES = KIND == INT8 || KIND == Q8_0;  // about nought, as all that are made are
  const uint8_t *at = KIND == Q8_0 ? row + k / 32 * 34 + 2 : row + k;
  const int64_t left = w.in - k;
  Weight known = w;
  known.kind = KIND;  // so that the compiler need not ask
  __m512 halves[2];
  for (int i = 0; i < 2; i++) {
    __m512i codes;
    if (SIGNED_BYTES && zero == 128) codes = _mm512_cvtepi8_epi32(sixteen_bytes(at + (left > 16 ? 16 * i : 0)));
    else codes = codes_of_16(vector_of_32(known, row, k, left), i, zero);
    const int g = GROUP == 16 && WHOLE ? i : 0;
    halves[i] = numbers_of<OFFSETS>(_mm512_cvtepi32_ps(codes), scales[g], offsets[g]);
  }
  return two_halves(halves[0], halves[1]);
}

// Inputs k .. k + 32 of the rows of a tile, or where not `WHOLE` the last sixteen, behind which there are noughts -> [rows][32].
// Groups are counted from the first of `sides`.
template <int KIND, int GROUP, bool OFFSETS, bool WHOLE>
ALWAYS void compute_step(const Weight &w, const Shape &s, const uint8_t *const *rows, int64_t k, int64_t g, __m512 levels,
                         const Sides &sides, uint16_t *to) {
  constexpr bool IN_HALVES = KIND == INT4 || KIND == FP4;
  constexpr __mmask16 HERE = WHOLE ? 0xffff : IN_HALVES ? 0x3333 : 0x00ff;
#pragma GCC unroll 4
  for (int r = 0; r < WIDTH; r++) {
    const float *scales = sides.scales[r] + g, *offsets = sides.offsets[r] + g;
    __m512i pairs;
    if (IN_HALVES || KIND == Q4_K) pairs = by_levels<KIND, GROUP, OFFSETS, WHOLE>(rows[r], k, levels, scales, offsets);
    else pairs = by_codes<KIND, GROUP, OFFSETS, WHOLE>(w, rows[r], k, s.zero, scales, offsets);
    _mm512_store_si512(to + r * STEP, WHOLE ? pairs : _mm512_maskz_mov_epi32(HERE, pairs));
  }
}
