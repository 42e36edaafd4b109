// Columns of sixteen rows of bytes by AVX2 and AVX-512.
#pragma once

#include "packed.h"

// words[i] holds eight words of row i -> eight words of one column each.
__attribute__((always_inline)) inline void transpose(__m256i words[8]) {
  __m256i a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_epi32(words[i], words[i + 1]);
    a[i + 1] = _mm256_unpackhi_epi32(words[i], words[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    words[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
    words[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
  }
}

inline __m256i lower(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline __m256i upper(__m256i v) { return lower(_mm256_srli_epi16(v, 4)); }
inline __m256i less(__m256i v, int zero) { return _mm256_sub_epi8(v, _mm256_set1_epi8((char)zero)); }

inline void put(uint8_t *codes, int chunk, int half, __m256i v) {
  _mm256_store_si256((__m256i *)(codes + (chunk * 2 + half) * 32), v);
}

// Words of one column each, of as many rows as a vector holds: all sixteen, or eight. Their parts are of one row.
typedef __m128i Part;
inline Part sixteen_bytes(const uint8_t *at) { return _mm_loadu_si128((const __m128i *)at); }
inline Part eight_bytes(const uint8_t *at) { return _mm_loadl_epi64((const __m128i *)at); }

#ifdef __AVX512BW__

typedef __m512i Columns;
inline Columns lower(Columns v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline Columns upper(Columns v) { return lower(_mm512_srli_epi16(v, 4)); }
inline Columns less(Columns v, int zero) { return _mm512_sub_epi8(v, _mm512_set1_epi8((char)zero)); }
inline Columns turned(Columns v, int sign) { return _mm512_xor_si512(v, _mm512_set1_epi8((char)sign)); }
inline Columns fp4_codes(Columns v) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)FP4_CODES)), v);
}
inline Columns low_words(Columns a, Columns b) { return _mm512_unpacklo_epi32(a, b); }
inline Columns high_words(Columns a, Columns b) { return _mm512_unpackhi_epi32(a, b); }
inline Columns low_pairs(Columns a, Columns b) { return _mm512_unpacklo_epi64(a, b); }
inline Columns high_pairs(Columns a, Columns b) { return _mm512_unpackhi_epi64(a, b); }
inline Columns beside(const __m128i parts[4]) {
  const __m512i first = _mm512_inserti32x4(_mm512_castsi128_si512(parts[0]), parts[1], 1);
  return _mm512_inserti32x4(_mm512_inserti32x4(first, parts[2], 2), parts[3], 3);
}
inline void put(uint8_t *codes, int chunk, int, Columns v) { _mm512_store_si512(codes + chunk * 64, v); }
inline void put_pair(Columns pair, float factor, float *to) {
  const __m512i upper_half = _mm512_set1_epi32((int)0xffff0000);
  const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
  const __m512 second = _mm512_castsi512_ps(_mm512_and_si512(pair, upper_half));
  _mm512_store_ps(to, _mm512_mul_ps(first, _mm512_set1_ps(factor)));
  _mm512_store_ps(to + OUTS, _mm512_mul_ps(second, _mm512_set1_ps(factor)));
}

#else

typedef __m256i Columns;
inline Columns turned(Columns v, int sign) { return _mm256_xor_si256(v, _mm256_set1_epi8((char)sign)); }
inline Columns fp4_codes(Columns v) { return _mm256_shuffle_epi8(_mm256_load_si256((const __m256i *)FP4_CODES), v); }
inline Columns low_words(Columns a, Columns b) { return _mm256_unpacklo_epi32(a, b); }
inline Columns high_words(Columns a, Columns b) { return _mm256_unpackhi_epi32(a, b); }
inline Columns low_pairs(Columns a, Columns b) { return _mm256_unpacklo_epi64(a, b); }
inline Columns high_pairs(Columns a, Columns b) { return _mm256_unpackhi_epi64(a, b); }
inline Columns beside(const __m128i parts[2]) { return _mm256_set_m128i(parts[1], parts[0]); }
inline void put_pair(Columns pair, float factor, float *to) {
  const __m256i upper_half = _mm256_set1_epi32((int)0xffff0000);
  const __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16));
  const __m256 second = _mm256_castsi256_ps(_mm256_and_si256(pair, upper_half));
  _mm256_store_ps(to, _mm256_mul_ps(first, _mm256_set1_ps(factor)));
  _mm256_store_ps(to + OUTS, _mm256_mul_ps(second, _mm256_set1_ps(factor)));
}

#endif

inline __m256i load32(const uint8_t *at) { return _mm256_loadu_si256((const __m256i *)at); }
inline __m256i load16(const uint8_t *at) { return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)at)); }

// The codes of 32 inputs, of a kind with codes of a byte; of `left` ones where a row ends before.
inline __m256i vector_of_32(const Weight &w, const uint8_t *row, int64_t k, int64_t left) {
  switch (w.kind) {
    case INT8: return _mm256_xor_si256(left < 32 ? load16(row + k) : load32(row + k), _mm256_set1_epi8(-128));
    case UINT8: return left < 32 ? load16(row + k) : load32(row + k);
    case Q8_0: return _mm256_xor_si256(load32(row + k / 32 * 34 + 2), _mm256_set1_epi8(-128));
    case Q5_0: {
      const uint8_t *block = row + k / 32 * 22 + 2;
      int32_t bits;
      memcpy(&bits, block, 4);
      // Byte i of the vector takes byte i / 8 of the bits, of which it keeps bit i % 8.
      const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
      const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
      __m256i high = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), byte), bit);
      high = _mm256_and_si256(_mm256_cmpeq_epi8(high, bit), _mm256_set1_epi8(16));
      __m128i pairs = _mm_loadu_si128((const __m128i *)(block + 4));
      __m256i low = lower(_mm256_set_m128i(_mm_srli_epi16(pairs, 4), pairs));
      return _mm256_or_si256(low, high);
    }
    case Q5_K: {  // of 256 inputs eight groups of 32, of which two share bytes of halves, and all of them bytes of upper bits
      const uint8_t *block = row + k / 256 * 176 + 16;
      const int group = k % 256 / 32;
      const __m256i pairs = load32(block + 32 + group / 2 * 32), low = group & 1 ? upper(pairs) : lower(pairs);
      const __m256i high = _mm256_srl_epi16(load32(block), _mm_cvtsi32_si128(group));
      return _mm256_or_si256(low, _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(1)), 4));
    }
    default: {  // Q6_K
      const uint8_t *block = row + k / 256 * 210;
      const int half = k % 256 / 128, part = k % 128 / 32;
      __m256i low = load32(block + 64 * half + 32 * (part & 1)), high = load32(block + 128 + 32 * half);
      low = part & 2 ? upper(low) : lower(low);
      high = _mm256_and_si256(_mm256_srl_epi16(high, _mm_cvtsi32_si128(2 * part)), _mm256_set1_epi8(3));
      return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
    }
  }
}

// The codes of 32 inputs of eight rows, of a kind that vectors are unpacked of -> eight columns.
typedef __m256i Words;
constexpr int ROWS_OF_32 = 8;
inline void words_of_32(const Weight &w, const uint8_t *const *rows, int64_t k, Words words[8]) {
  for (int i = 0; i < 8; i++) words[i] = vector_of_32(w, rows[i], k, 32);
  transpose(words);
}

// In the order of a row.
inline void put_codes_of_32(const Weight &w, const uint8_t *row, int64_t k, int count, uint8_t *out) {
  _mm256_storeu_si256((__m256i *)out, vector_of_32(w, row, k, count));
}

// rows [16][stride] -> out [groups][16]
inline void put_floats(const float *rows, int stride, int groups, float *out) {
  for (int half = 0; half < OUTS; half += 8)
    for (int g = 0; g < groups; g += 8) {
      __m256i eight[8];
      for (int i = 0; i < 8; i++) eight[i] = _mm256_load_si256((const __m256i *)(rows + (half + i) * stride + g));
      transpose(eight);
      for (int i = 0; i < 8; i++) _mm256_store_si256((__m256i *)(out + (g + i) * OUTS + half), eight[i]);
    }
}
