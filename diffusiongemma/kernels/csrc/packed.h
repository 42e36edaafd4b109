// Weights in few bits as files hold them, and the tiles that the products decode them into.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef NEON  // `kernels/build.py` says so: plain code on ARM does without
#include <arm_neon.h>
#endif

enum Kind { INT4, UINT8, INT8, FP4, Q4_K, Q5_0, Q6_K, Q8_0, Q5_K };
enum Float { FLOAT32, BFLOAT16, FLOAT16, FLOAT8 };

constexpr int OUTS = 16;          // outputs of a tile
#ifdef __AVX512VNNI__
constexpr int TILES = 2;          // that are multiplied at once
#else
constexpr int TILES = 1;
#endif
constexpr int WIDTH = TILES * OUTS;
constexpr int MOST_GROUP = 32;    // inputs of a group as the products see it, 16 or 32
constexpr int K_BLOCK = 1024 / TILES;  // inputs decoded at a time: 16 KiB of codes stay in the first cache
constexpr int ROW_BLOCK = 256;    // rows that one decoded tile serves

// Codes are held less their zero, with a sign, where there are no other products.
#ifdef NEON
constexpr bool SIGNS = true;
#else
constexpr bool SIGNS = false;
#endif

// A matrix [out, in]; the field order is `kernels/native.py`'s.
struct Weight {
  int32_t kind, scale_type, offset_type, zero;
  int64_t out, in, group;  // `group` inputs share a scale; of GGUF's kinds it is fixed
  float factor;            // of all scales
  const uint8_t *codes, *scales, *offsets;
};

// How a kind is multiplied: codes below 16, below 32 or of 8 bits, inputs a group, order of the inputs in a tile.
struct Shape {
  int bits, group, zero;
  bool offsets, even_odd;  // even_odd: of each eight inputs the even ones come first, as the halves of bytes lie
  bool whole_bytes = true;  // of codes of 8 bits: whether they use all of them

  // Whether codes less their zero fit a byte with a sign, which all do but unsigned bytes about another zero than 128.
  bool is_signed() const { return bits < 8 || zero == 128 || !whole_bytes; }
  // What decoding takes off the codes; the sums want for the rest of the zero.
  int taken_off() const { return !SIGNS ? 0 : is_signed() ? zero : 128; }
  int left_of_zero() const { return zero - taken_off(); }
};

inline Shape shape_of(const Weight &w) {
  int group = w.group % 32 ? 16 : 32;
  switch (w.kind) {
    case INT4: return {4, group, w.zero, w.offsets != nullptr, true};
    case FP4: return {5, group, 12, false, true};  // codes are twice the value plus 12
    case UINT8: return {8, group, w.zero, w.offsets != nullptr, false};
    case INT8: return {8, group, w.zero + 128, w.offsets != nullptr, false};
    case Q4_K: return {4, 32, 0, true, false};
    case Q5_0: return {5, 32, 16, false, false};
    case Q5_K: return {5, 32, 0, true, false};
    case Q6_K: return {8, 16, 32, false, false, false};
    default: return {8, 32, 128, false, false};  // Q8_0
  }
}

inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline float half_to_float(const uint8_t *at) {
  uint16_t h;
  memcpy(&h, at, 2);
#if defined(__F16C__)
  return _cvtsh_ss(h);
#elif defined(NEON)
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
#else
  const uint32_t sign = (uint32_t)(h >> 15) << 31, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 31) return float_of_bits(sign | 255u << 23 | fraction << 13);
  if (exponent) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
  const float value = (float)fraction * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -value : value;
#endif
}

inline float e4m3_to_float(uint8_t v) {
  const uint32_t exponent = v >> 3 & 15, fraction = v & 7;
  const float small = (float)fraction * 0.001953125f;  // 2^-9
  const float value = exponent ? float_of_bits((exponent + 120) << 23 | fraction << 20) : small;
  return v >> 7 ? -value : value;
}

inline float number(const uint8_t *array, int type, int64_t i) {
  switch (type) {
    case FLOAT32: {
      float value;
      memcpy(&value, array + 4 * i, 4);
      return value;
    }
    case BFLOAT16: {
      uint16_t half;
      memcpy(&half, array + 2 * i, 2);
      return float_of_bits((uint32_t)half << 16);
    }
    case FLOAT16: return half_to_float(array + 2 * i);
    default: return e4m3_to_float(array[i]);
  }
}

// Numbers first, first + 1, … of an array of any of the types, times a factor.
inline void numbers(const uint8_t *array, int type, int64_t first, int count, float factor, float *out) {
  int i = 0;
#ifdef __AVX2__
  const __m256 factors = _mm256_set1_ps(factor);
  if (type == BFLOAT16 || type == FLOAT16)
    for (; i + 8 <= count; i += 8) {
      const __m128i halves = _mm_loadu_si128((const __m128i *)(array + 2 * (first + i)));
      const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
      const __m256 eight = type == FLOAT16 ? _mm256_cvtph_ps(halves) : _mm256_castsi256_ps(wide);
      _mm256_storeu_ps(out + i, _mm256_mul_ps(eight, factors));
    }
  if (type == FLOAT8)  // shifted into the place of halves, whose exponents count from eight more
    for (; i + 8 <= count; i += 8) {
      const __m128i wide = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(array + first + i)));
      const __m128i size = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(127)), 7);
      const __m128i sign = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(128)), 8);
      const __m256 eight = _mm256_mul_ps(_mm256_cvtph_ps(_mm_or_si128(size, sign)), _mm256_set1_ps(256.0f));
      _mm256_storeu_ps(out + i, _mm256_mul_ps(eight, factors));
    }
#elif defined(NEON)
  if (type == BFLOAT16 || type == FLOAT16)
    for (; i + 4 <= count; i += 4) {
      const uint16x4_t halves = vld1_u16((const uint16_t *)(array + 2 * (first + i)));
      const float32x4_t wide = vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
      vst1q_f32(out + i, vmulq_n_f32(type == FLOAT16 ? vcvt_f32_f16(vreinterpret_f16_u16(halves)) : wide, factor));
    }
#endif
  for (; i < count; i++) out[i] = number(array, type, first + i) * factor;
}

// Sixteen rows of a weight, some of their inputs, decoded: codes [in / 4][16][4], floats [groups][16].
struct Tile {
  alignas(4096) uint8_t codes[K_BLOCK * OUTS];
  alignas(64) uint8_t high[K_BLOCK * OUTS];  // the upper halves, where codes of 8 bits are multiplied by halves
  alignas(64) float scales[K_BLOCK / 16 * OUTS];
  alignas(64) float offsets[K_BLOCK / 16 * OUTS];
};
