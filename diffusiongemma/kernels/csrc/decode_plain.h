// Tiles decoded byte by byte.
#pragma once

#include "packed.h"

// The codes of 32 inputs, of a kind with codes of a byte; of `count` ones where a row ends before.
inline void put_codes_of_32(const Weight &w, const uint8_t *row, int64_t k, int count, uint8_t *out) {
  switch (w.kind) {
    case INT8:
      for (int i = 0; i < count; i++) out[i] = row[k + i] ^ 0x80;
      return;
    case UINT8: memcpy(out, row + k, count); return;
    case Q8_0: {
      const uint8_t *block = row + k / 32 * 34 + 2;
      for (int i = 0; i < 32; i++) out[i] = block[i] ^ 0x80;
      return;
    }
    case Q5_0: {
      const uint8_t *block = row + k / 32 * 22 + 2;
      uint32_t high;
      memcpy(&high, block, 4);
      for (int i = 0; i < 16; i++) {
        out[i] = (block[4 + i] & 15) | (high >> i & 1) << 4;
        out[i + 16] = (block[4 + i] >> 4) | (high >> (i + 16) & 1) << 4;
      }
      return;
    }
    case Q5_K: {
      const uint8_t *high = row + k / 256 * 176 + 16, *pairs = high + 32 + k % 256 / 64 * 32;
      const int group = k % 256 / 32;
      for (int i = 0; i < 32; i++) out[i] = (pairs[i] >> (group & 1) * 4 & 15) | (high[i] >> group & 1) << 4;
      return;
    }
    default: {  // Q6_K
      const uint8_t *block = row + k / 256 * 210;
      int half = k % 256 / 128, part = k % 128 / 32;
      const uint8_t *low = block + 64 * half + 32 * (part & 1), *high = block + 128 + 32 * half;
      for (int i = 0; i < 32; i++) out[i] = (low[i] >> (part & 2) * 2 & 15) | (high[i] >> 2 * part & 3) << 4;
    }
  }
}

inline void decode_nibbles(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, int, Ahead) {
  for (int o = 0; o < OUTS; o++)
    for (int k = 0; k < kn; k += 8) {  // a word of a row
      int64_t at = k0 + k, block = at % 256 / 8;
      const uint8_t *word = w.kind == Q4_K ? rows[o] + at / 256 * 144 + 16 + 4 * block : rows[o] + at / 2;
      int low = w.kind == Q4_K ? (int)(at / 256 * 256 + block / 8 * 64 + block % 8 * 4 - k0) / 4 : k / 4;
      int high = w.kind == Q4_K ? low + 8 : low + 1;
      for (int i = 0; i < 4; i++) {
        uint8_t a = word[i] & 15, b = word[i] >> 4;
        t.codes[(low * OUTS + o) * 4 + i] = w.kind == FP4 ? FP4_CODES[a] : a;
        t.codes[(high * OUTS + o) * 4 + i] = w.kind == FP4 ? FP4_CODES[b] : b;
      }
    }
}

inline void decode_bytes(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, bool, int,
                         Ahead) {
  for (int o = 0; o < OUTS; o++)
    for (int k = 0; k < kn; k += 32) {
      uint8_t bytes[32];
      put_codes_of_32(w, rows[o], k0 + k, kn - k < 32 ? kn - k : 32, bytes);
      for (int j = 0; j < (kn - k < 32 ? 4 : 8); j++) memcpy(t.codes + ((k / 4 + j) * OUTS + o) * 4, bytes + 4 * j, 4);
    }
}

// rows [16][stride] -> out [groups][16]
inline void put_floats(const float *rows, int stride, int groups, float *out) {
  for (int g = 0; g < groups; g++)
    for (int o = 0; o < OUTS; o++) out[g * OUTS + o] = rows[o * stride + g];
}
