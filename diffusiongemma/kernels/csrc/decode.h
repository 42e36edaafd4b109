// Weights as they lie in a file -> a tile. Inputs k0 .. k0 + kn of rows row0 .. row0 + 16; rows past the last repeat it.
#pragma once

#include "packed.h"

// Codes of 8 bits go into two halves where only products of 4 bits are fast.
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr bool HALVES = true;
#else
constexpr bool HALVES = false;
#endif

// --- bytes -----------------------------------------------------------------------------------------------------------

inline int64_t row_bytes(const Weight &w) {
  switch (w.kind) {
    case INT4: case FP4: return w.in / 2;
    case Q4_K: return w.in / 256 * 144;
    case Q5_0: return w.in / 32 * 22;
    case Q6_K: return w.in / 256 * 210;
    case Q8_0: return w.in / 32 * 34;
    default: return w.in;
  }
}

// Twice the value of E2M1's codes, plus 12.
alignas(32) static const uint8_t FP4_CODES[32] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                                  12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// The bytes that are decoded next, asked for while others are: of the sixteen rows behind these, the same share.
struct Ahead {
  const uint8_t *at, *end;
  void fetch(int bytes) {
    for (int i = 0; i < bytes && at < end; i += 64, at += 64) __builtin_prefetch(at, 0, 2);
  }
};

// --- codes -----------------------------------------------------------------------------------------------------------

#ifdef __AVX2__
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

inline void put(uint8_t *codes, int chunk, int half, __m256i v) {
  _mm256_store_si256((__m256i *)(codes + (chunk * 2 + half) * 32), v);
}

// Halves of bytes: word j of 64 inputs (or of 32) gives the chunks lows[j] and highs[j].
inline void put_nibbles(Tile &t, int chunk, int half, __m256i words[8], int count, bool even_odd, bool fp4) {
  transpose(words);
  const __m256i table = _mm256_load_si256((const __m256i *)FP4_CODES);
  for (int j = 0; j < count; j++) {
    __m256i low = lower(words[j]), high = upper(words[j]);
    if (fp4) low = _mm256_shuffle_epi8(table, low), high = _mm256_shuffle_epi8(table, high);
    put(t.codes, chunk + (even_odd ? 2 * j : j), half, low);
    put(t.codes, chunk + (even_odd ? 2 * j + 1 : j + 8), half, high);
  }
}

inline void decode_nibbles(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, Ahead ahead) {
  for (int k = 0, n; k < kn; k += n) {
    n = kn - k >= 64 ? 64 : kn - k >= 32 ? 32 : 16;
    for (int half = 0; half < 2; half++) {
      ahead.fetch(256);
      __m256i words[8];
      for (int i = 0; i < 8; i++) {
        const uint8_t *row = rows[8 * half + i], *at = row + (k0 + k) / 2;
        if (w.kind == Q4_K) at = row + (k0 + k) / 256 * 144 + 16 + (k0 + k) % 256 / 2;
        words[i] = n == 64   ? _mm256_loadu_si256((const __m256i *)at)
                   : n == 32 ? _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)at))
                             : _mm256_zextsi128_si256(_mm_loadl_epi64((const __m128i *)at));
      }
      put_nibbles(t, k / 4, half, words, n / 8, w.kind != Q4_K, w.kind == FP4);
    }
  }
}

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

inline void decode_bytes(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, bool halves,
                         Ahead ahead) {
  for (int k = 0; k < kn; k += 32)
    for (int half = 0; half < 2; half++) {
      ahead.fetch(256);
      __m256i words[8];
      for (int i = 0; i < 8; i++) words[i] = vector_of_32(w, rows[8 * half + i], k0 + k, kn - k);
      transpose(words);
      for (int j = 0; j < (kn - k < 32 ? 4 : 8); j++) {
        put(t.codes, k / 4 + j, half, halves ? lower(words[j]) : words[j]);
        if (halves) put(t.high, k / 4 + j, half, upper(words[j]));
      }
    }
}
#else
// The codes of 32 inputs, of a kind with codes of a byte; of `left` ones where a row ends before.
inline void bytes_of_32(const Weight &w, const uint8_t *row, int64_t k, int64_t left, uint8_t *out) {
  const int count = left < 32 ? (int)left : 32;
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
    default: {  // Q6_K
      const uint8_t *block = row + k / 256 * 210;
      int half = k % 256 / 128, part = k % 128 / 32;
      const uint8_t *low = block + 64 * half + 32 * (part & 1), *high = block + 128 + 32 * half;
      for (int i = 0; i < 32; i++) out[i] = (low[i] >> (part & 2) * 2 & 15) | (high[i] >> 2 * part & 3) << 4;
    }
  }
}

inline void decode_nibbles(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, Ahead) {
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

inline void decode_bytes(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, bool, Ahead) {
  for (int o = 0; o < OUTS; o++)
    for (int k = 0; k < kn; k += 32) {
      uint8_t bytes[32];
      bytes_of_32(w, rows[o], k0 + k, kn - k, bytes);
      for (int j = 0; j < (kn - k < 32 ? 4 : 8); j++) memcpy(t.codes + ((k / 4 + j) * OUTS + o) * 4, bytes + 4 * j, 4);
    }
}
#endif

// The codes of `count` inputs, up to 32, in the order of the row.
inline void codes_of_32(const Weight &w, const uint8_t *row, int64_t k, int count, uint8_t *out) {
  if (w.kind == Q4_K) {
    const uint8_t *block = row + k / 256 * 144 + 16 + k % 256 / 64 * 32;
    const int shift = k % 64 / 32 * 4;
    for (int i = 0; i < 32; i++) out[i] = block[i] >> shift & 15;
  } else if (w.kind == INT4 || w.kind == FP4) {
    for (int i = 0; i < count / 2; i++) {
      const uint8_t pair = row[k / 2 + i];
      out[2 * i] = w.kind == FP4 ? FP4_CODES[pair & 15] : pair & 15;
      out[2 * i + 1] = w.kind == FP4 ? FP4_CODES[pair >> 4] : pair >> 4;
    }
  } else {
#ifdef __AVX2__
    _mm256_storeu_si256((__m256i *)out, vector_of_32(w, row, k, count));
#else
    bytes_of_32(w, row, k, count, out);
#endif
  }
}

// --- scales ----------------------------------------------------------------------------------------------------------

// Q4_K's scale and minimum of a group of 32, 6 bits each (the layout of ggml's block_q4_K).
inline void scale_and_minimum(const uint8_t *packed, int group, int *scale, int *minimum) {
  if (group < 4) {
    *scale = packed[group] & 63;
    *minimum = packed[group + 4] & 63;
  } else {
    *scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
    *minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
  }
}

// Scales, and offsets where there are any, of groups first .. first + count of a row. `at` is the place of the row's
// first scale, where scales stand apart.
inline void scales_of(const Weight &w, const Shape &s, const uint8_t *row, int64_t at, int64_t first, int count,
                      float *scales, float *offsets) {
  if (w.kind == Q4_K) {
    for (int g = 0; g < count; g++) {
      const uint8_t *block = row + (first + g) / 8 * 144;
      int scale, minimum;
      scale_and_minimum(block + 4, (first + g) % 8, &scale, &minimum);
      scales[g] = half_to_float(block) * (float)scale;
      offsets[g] = -(half_to_float(block + 2) * (float)minimum);
    }
  } else if (w.kind == Q6_K) {
    for (int g = 0; g < count; g++) {
      const uint8_t *block = row + (first + g) / 16 * 210;
      scales[g] = half_to_float(block + 208) * (float)(int8_t)block[192 + (first + g) % 16];
    }
  } else if (w.kind > Q4_K) {
    const int64_t bytes = w.kind == Q5_0 ? 22 : 34;
    for (int g = 0; g < count; g++) scales[g] = half_to_float(row + (first + g) * bytes);
  } else {
    const float factor = w.kind == FP4 ? w.factor * 0.5f : w.factor;
    if (w.group == s.group) {
      numbers(w.scales, w.scale_type, at + first, count, factor, scales);
      if (s.offsets) numbers(w.offsets, w.offset_type, at + first, count, 1.0f, offsets);
    } else {
      const int64_t shared = w.group / s.group;  // groups of the products that share one scale of the file
      for (int g = 0, n; g < count; g += n) {
        const int64_t group = at + (first + g) / shared, left = shared - (first + g) % shared;
        n = left < count - g ? (int)left : count - g;
        const float scale = number(w.scales, w.scale_type, group) * factor;
        const float offset = s.offsets ? number(w.offsets, w.offset_type, group) : 0.0f;
        for (int i = g; i < g + n; i++) scales[i] = scale, offsets[i] = offset;
      }
    }
  }
}

constexpr int MOST_GROUPS = K_BLOCK / 16;

// rows [16][MOST_GROUPS] -> out [groups][16]
inline void put_floats(const float rows[OUTS][MOST_GROUPS], int groups, float *out) {
#ifdef __AVX2__
  for (int half = 0; half < OUTS; half += 8)
    for (int g = 0; g < groups; g += 8) {
      __m256i eight[8];
      for (int i = 0; i < 8; i++) eight[i] = _mm256_load_si256((const __m256i *)(rows[half + i] + g));
      transpose(eight);
      for (int i = 0; i < 8; i++) _mm256_store_si256((__m256i *)(out + (g + i) * OUTS + half), eight[i]);
    }
#else
  for (int g = 0; g < groups; g++)
    for (int o = 0; o < OUTS; o++) out[g * OUTS + o] = rows[o][g];
#endif
}

inline void decode_scales(const Weight &w, const Shape &s, const int64_t *row, const uint8_t *const rows[OUTS],
                          int64_t k0, int kn, Tile &t) {
  alignas(32) float scales[OUTS][MOST_GROUPS], offsets[OUTS][MOST_GROUPS];
  const int64_t first = k0 / s.group, a_row = w.group ? w.in / w.group : 0;
  const int groups = kn / s.group;
  for (int o = 0; o < OUTS; o++) scales_of(w, s, rows[o], row[o] * a_row, first, groups, scales[o], offsets[o]);
  put_floats(scales, groups, t.scales);
  if (s.offsets) put_floats(offsets, groups, t.offsets);
}

// Where a tile's rows are.
struct Place {
  int64_t row[OUTS];
  const uint8_t *rows[OUTS];
  Ahead ahead;
};

inline Place place_of(const Weight &w, int64_t row0, int64_t k0) {
  Place p;
  const int64_t bytes = row_bytes(w), behind = (row0 + OUTS) * bytes + OUTS * bytes * k0 / w.in, all = bytes * w.out;
  for (int o = 0; o < OUTS; o++) {
    p.row[o] = row0 + o < w.out ? row0 + o : w.out - 1;
    p.rows[o] = w.codes + p.row[o] * bytes;
  }
  p.ahead = {w.codes + (behind < all ? behind : all), w.codes + all};
  return p;
}

inline void decode_codes(const Weight &w, const Shape &s, const Place &p, int64_t k0, int kn, Tile &t) {
  if (s.bits == 4 || w.kind == FP4) decode_nibbles(w, p.rows, k0, kn, t, p.ahead);
  else decode_bytes(w, p.rows, k0, kn, t, HALVES && s.bits == 8, p.ahead);
}
