// Columns of sixteen rows of bytes by NEON: a vector holds a word of each of four rows.
#pragma once

#include "packed.h"

typedef uint8x16_t Part, Columns;
inline Part sixteen_bytes(const uint8_t *at) { return vld1q_u8(at); }
inline Part eight_bytes(const uint8_t *at) { return vcombine_u8(vld1_u8(at), vdup_n_u8(0)); }
inline Columns beside(const Part parts[1]) { return parts[0]; }

inline Columns lower(Columns v) { return vandq_u8(v, vdupq_n_u8(15)); }
inline Columns upper(Columns v) { return vshrq_n_u8(v, 4); }
inline Columns less(Columns v, int zero) { return vsubq_u8(v, vdupq_n_u8((uint8_t)zero)); }
inline Columns turned(Columns v, int sign) { return veorq_u8(v, vdupq_n_u8((uint8_t)sign)); }
inline Columns fp4_codes(Columns v) { return vqtbl1q_u8(vld1q_u8(FP4_CODES), v); }

inline uint32x4_t as_words(Columns v) { return vreinterpretq_u32_u8(v); }
inline uint64x2_t as_pairs(Columns v) { return vreinterpretq_u64_u8(v); }
inline Columns low_words(Columns a, Columns b) { return vreinterpretq_u8_u32(vzip1q_u32(as_words(a), as_words(b))); }
inline Columns high_words(Columns a, Columns b) { return vreinterpretq_u8_u32(vzip2q_u32(as_words(a), as_words(b))); }
inline Columns low_pairs(Columns a, Columns b) { return vreinterpretq_u8_u64(vzip1q_u64(as_pairs(a), as_pairs(b))); }
inline Columns high_pairs(Columns a, Columns b) { return vreinterpretq_u8_u64(vzip2q_u64(as_pairs(a), as_pairs(b))); }
inline void columns_of_rows(const Columns v[4], Columns columns[4]);

inline void put(uint8_t *codes, int chunk, int part, Columns v) { vst1q_u8(codes + (chunk * 4 + part) * 16, v); }
inline void put_pair(Columns pair, float factor, float *to) {
  const uint32x4_t words = as_words(pair);
  vst1q_f32(to, vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32(words, 16)), factor));
  vst1q_f32(to + OUTS, vmulq_n_f32(vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff0000))), factor));
}

// The codes of 32 inputs, of a kind with codes of a byte; of sixteen where a row ends before.
inline void vectors_of_32(const Weight &w, const uint8_t *row, int64_t k, int count, uint8x16_t v[2]) {
  switch (w.kind) {
    case Q5_0: {
      const uint8_t *block = row + k / 32 * 22 + 2;
      const uint8x16_t pairs = vld1q_u8(block + 4), bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
      for (int i = 0; i < 2; i++) {  // of sixteen inputs the fifth bits are two bytes
        const uint8x16_t bytes = vcombine_u8(vdup_n_u8(block[2 * i]), vdup_n_u8(block[2 * i + 1]));
        const uint8x16_t high = vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(16));
        v[i] = vorrq_u8(i ? upper(pairs) : lower(pairs), high);
      }
      return;
    }
    case Q5_K: {  // of 256 inputs eight groups of 32, of which two share bytes of halves, and all of them bytes of upper bits
      const uint8_t *block = row + k / 256 * 176 + 16;
      const int group = k % 256 / 32;
      for (int i = 0; i < 2; i++) {
        const uint8x16_t pairs = vld1q_u8(block + 32 + group / 2 * 32 + 16 * i);
        const uint8x16_t high = vshlq_u8(vld1q_u8(block + 16 * i), vdupq_n_s8((int8_t)-group));
        v[i] = vorrq_u8(group & 1 ? upper(pairs) : lower(pairs), vshlq_n_u8(vandq_u8(high, vdupq_n_u8(1)), 4));
      }
      return;
    }
    case Q6_K: {
      const uint8_t *block = row + k / 256 * 210;
      const int half = k % 256 / 128, part = k % 128 / 32;
      for (int i = 0; i < 2; i++) {
        const uint8x16_t low = vld1q_u8(block + 64 * half + 32 * (part & 1) + 16 * i);
        const uint8x16_t high = vshlq_u8(vld1q_u8(block + 128 + 32 * half + 16 * i), vdupq_n_s8((int8_t)(-2 * part)));
        v[i] = vorrq_u8(part & 2 ? upper(low) : lower(low), vshlq_n_u8(vandq_u8(high, vdupq_n_u8(3)), 4));
      }
      return;
    }
    default: {
      const uint8_t *at = w.kind == Q8_0 ? row + k / 32 * 34 + 2 : row + k;
      for (int i = 0; i < 2 && 16 * i < count; i++) v[i] = turned(vld1q_u8(at + 16 * i), w.kind == UINT8 ? 0 : 0x80);
    }
  }
}

// The codes of 32 inputs of four rows, of a kind that vectors are unpacked of -> eight columns.
typedef Columns Words;
constexpr int ROWS_OF_32 = 4;
inline void words_of_32(const Weight &w, const uint8_t *const *rows, int64_t k, Words words[8]) {
  uint8x16_t v[4][2];
  for (int i = 0; i < 4; i++) vectors_of_32(w, rows[i], k, 32, v[i]);
  for (int half = 0; half < 2; half++) {
    const Columns four[4] = {v[0][half], v[1][half], v[2][half], v[3][half]};
    columns_of_rows(four, words + 4 * half);
  }
}

// In the order of a row.
inline void put_codes_of_32(const Weight &w, const uint8_t *row, int64_t k, int count, uint8_t *out) {
  uint8x16_t v[2];
  vectors_of_32(w, row, k, count, v);
  for (int i = 0; i < 2 && 16 * i < count; i++) vst1q_u8(out + 16 * i, v[i]);
}

// rows [16][stride] -> out [groups][16]
inline void put_floats(const float *rows, int stride, int groups, float *out) {
  for (int o = 0; o < OUTS; o += 4)
    for (int g = 0; g < groups; g += 4) {
      Columns four[4], columns[4];
      for (int i = 0; i < 4; i++) four[i] = vreinterpretq_u8_f32(vld1q_f32(rows + (o + i) * stride + g));
      columns_of_rows(four, columns);
      for (int i = 0; i < 4; i++) vst1q_f32(out + (g + i) * OUTS + o, vreinterpretq_f32_u8(columns[i]));
    }
}
