// Weights as they lie in a file -> a tile. Inputs k0 .. k0 + kn of rows row0 .. row0 + 16; rows past the last repeat it.
#pragma once

#include "packed.h"

// Codes of 8 bits go into two halves where only products of 4 bits are fast.
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr bool HALVES = true;
#else
constexpr bool HALVES = false;
#endif

// Codes are held less their zero, with a sign, where such products are no slower.
#ifdef __AMX_INT8__
constexpr bool SIGNS = true;
#else
constexpr bool SIGNS = false;
#endif

// What comes next is asked for while tiles are decoded, or while they are multiplied: where that takes no longer than
// decoding, asking for all of it at once would hold the processor up.
constexpr bool ASKED_DECODING = HALVES;

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
  void fetch(int64_t bytes) {
    for (int i = 0; i < bytes && at < end; i += 64, at += 64) {
      if (TILES > 1) __builtin_prefetch(at, 0, 3);
      else __builtin_prefetch(at, 0, 2);
    }
  }
  void fetch_all() { fetch(end - at); }
  Ahead part(int64_t i, int64_t count) const { return part(i, i + 1, count); }
  Ahead part(int64_t first, int64_t last, int64_t count) const {
    return {at + (end - at) * first / count, at + (end - at) * last / count};
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
inline __m256i less(__m256i v, int zero) { return _mm256_sub_epi8(v, _mm256_set1_epi8((char)zero)); }

inline void put(uint8_t *codes, int chunk, int half, __m256i v) {
  _mm256_store_si256((__m256i *)(codes + (chunk * 2 + half) * 32), v);
}

// Words of one column each, of as many rows as a vector holds: all sixteen, or eight.
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

constexpr int ROWS_HELD = sizeof(Columns) / 4, PARTS = OUTS / ROWS_HELD;

// The sixteen bytes (or eight) from `at` on of as many rows as a vector holds -> four columns (or two). Rows that meet in
// a vector are loaded into it side by side, as exchanging parts of vectors is slow.
inline void columns_of_16(const uint8_t *const *rows, int64_t at, int bytes, Columns columns[4]) {
  Columns v[4];
  for (int i = 0; i < 4; i++) {
    __m128i parts[ROWS_HELD / 4];
    for (int j = 0; j < ROWS_HELD / 4; j++) {
      const __m128i *from = (const __m128i *)(rows[i + 4 * j] + at);
      parts[j] = bytes == 16 ? _mm_loadu_si128(from) : _mm_loadl_epi64(from);
    }
    v[i] = beside(parts);
  }
  const Columns a = low_words(v[0], v[1]), b = low_words(v[2], v[3]);
  const Columns c = high_words(v[0], v[1]), d = high_words(v[2], v[3]);
  columns[0] = low_pairs(a, b), columns[1] = high_pairs(a, b);
  columns[2] = low_pairs(c, d), columns[3] = high_pairs(c, d);
}

// Halves of bytes: of each word the lower and the upper ones are a chunk each.
inline void put_nibbles(const Weight &w, const Columns *words, int count, int zero, Tile &t, int chunk, int part) {
  const int step = w.kind == Q4_K ? 1 : 2, other = w.kind == Q4_K ? 8 : 1;
  for (int j = 0; j < count; j++, chunk += step) {
    Columns low = lower(words[j]), high = upper(words[j]);
    if (w.kind == FP4) low = fp4_codes(low), high = fp4_codes(high);
    if (SIGNS) low = less(low, zero), high = less(high, zero);
    put(t.codes, chunk, part, low);
    put(t.codes, chunk + other, part, high);
  }
}

inline void decode_nibbles(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, int zero,
                           Ahead ahead) {
  for (int k = 0; k < kn; k += 32) {
    const int bytes = kn - k < 32 ? 8 : 16;
    int64_t at = (k0 + k) / 2;
    int chunk = k / 4;
    if (w.kind == Q4_K) {
      at = (k0 + k) / 256 * 144 + 16 + (k0 + k) % 256 / 2;
      chunk = k / 64 * 16 + k % 64 / 8;
    }
    for (int part = 0; part < PARTS; part++) {
      ahead.fetch(256 / PARTS);
      Columns words[4];
      columns_of_16(rows + part * ROWS_HELD, at, bytes, words);
      put_nibbles(w, words, bytes / 4, zero, t, chunk, part);
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

template <typename Words>
inline void put_bytes(const Words *words, int count, bool halves, int zero, Tile &t, int chunk, int part) {
  for (int j = 0; j < count; j++) {
    put(t.codes, chunk + j, part, halves ? lower(words[j]) : SIGNS ? less(words[j], zero) : words[j]);
    if (halves) put(t.high, chunk + j, part, upper(words[j]));
  }
}

// Of a kind whose bytes are read as they lie but for their sign.
inline void decode_whole_bytes(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t,
                               bool halves, int zero, Ahead ahead) {
  for (int k = 0; k < kn; k += 16) {
    const int64_t at = w.kind == Q8_0 ? (k0 + k) / 32 * 34 + 2 + (k0 + k) % 32 : k0 + k;
    for (int part = 0; part < PARTS; part++) {
      ahead.fetch(256 / PARTS);
      Columns words[4];
      columns_of_16(rows + part * ROWS_HELD, at, 16, words);
      for (Columns &word : words) word = turned(word, w.kind == UINT8 ? 0 : 0x80);
      put_bytes(words, 4, halves, zero, t, k / 4, part);
    }
  }
}

inline void decode_bytes(const Weight &w, const uint8_t *const rows[OUTS], int64_t k0, int kn, Tile &t, bool halves,
                         int zero, Ahead ahead) {
  if (w.kind != Q5_0 && w.kind != Q6_K) return decode_whole_bytes(w, rows, k0, kn, t, halves, zero, ahead);
  for (int k = 0; k < kn; k += 32)
    for (int half = 0; half < 2; half++) {
      ahead.fetch(256);
      __m256i words[8];
      for (int i = 0; i < 8; i++) words[i] = vector_of_32(w, rows[8 * half + i], k0 + k, 32);
      transpose(words);
      put_bytes(words, 8, halves, zero, t, k / 4, half);
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

// Of all scales that stand apart.
inline float scale_factor(const Weight &w) { return w.kind == FP4 ? w.factor * 0.5f : w.factor; }

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
    const float factor = scale_factor(w);
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

#ifdef __AVX2__
// Numbers of bfloat16, a row of them for each output, times a factor -> out [groups][16]; eight groups at a time, for
// which the last ones are read with those before them. A row has eight or more.
inline void put_bfloat16(const uint8_t *array, const int64_t *row, int64_t a_row, int64_t first, int groups, float factor,
                         float *out) {
  const uint8_t *rows[OUTS];
  for (int o = 0; o < OUTS; o++) rows[o] = array + 2 * row[o] * a_row;
  alignas(64) float eight[8 * OUTS];
  for (int g = 0; g < groups; g += 8) {
    const int count = groups - g < 8 ? groups - g : 8;
    const int64_t from = first + g + 8 <= a_row ? first + g : a_row - 8;
    float *to = count == 8 ? out + g * OUTS : eight;
    for (int part = 0; part < PARTS; part++) {
      Columns pairs[4];
      columns_of_16(rows + part * ROWS_HELD, 2 * from, 16, pairs);
      for (int i = 0; i < 4; i++) put_pair(pairs[i], factor, to + 2 * i * OUTS + part * ROWS_HELD);
    }
    if (count < 8) memcpy(out + g * OUTS, eight + (first + g - from) * OUTS, sizeof(float) * count * OUTS);
  }
}
#endif

// One number a row, which all of its groups have.
inline void put_alike(const uint8_t *array, int type, const int64_t *row, int groups, float factor, float *out) {
  for (int o = 0; o < OUTS; o++) out[o] = number(array, type, row[o]) * factor;
  for (int g = 1; g < groups; g++) memcpy(out + g * OUTS, out, sizeof(float) * OUTS);
}

inline void decode_scales(const Weight &w, const Shape &s, const int64_t *row, const uint8_t *const rows[OUTS],
                          int64_t k0, int kn, float *to, float *offsets_to) {
  const int64_t first = k0 / s.group, a_row = w.group ? w.in / w.group : 0;
  const int groups = kn / s.group;
  if (a_row == 1 && !s.offsets && w.kind < Q4_K)
    return put_alike(w.scales, w.scale_type, row, groups, scale_factor(w), to);
#ifdef __AVX2__
  if (w.group == s.group && !s.offsets && w.scale_type == BFLOAT16 && a_row >= 8)
    return put_bfloat16(w.scales, row, a_row, first, groups, scale_factor(w), to);
#endif
  alignas(32) float scales[OUTS][MOST_GROUPS], offsets[OUTS][MOST_GROUPS];
  for (int o = 0; o < OUTS; o++) scales_of(w, s, rows[o], row[o] * a_row, first, groups, scales[o], offsets[o]);
  put_floats(scales, groups, to);
  if (s.offsets) put_floats(offsets, groups, offsets_to);
}

// Where a tile's rows are.
struct Place {
  int64_t row[OUTS];
  const uint8_t *rows[OUTS];
};

inline Place place_of(const Weight &w, int64_t row0) {
  Place p;
  for (int o = 0; o < OUTS; o++) {
    p.row[o] = row0 + o < w.out ? row0 + o : w.out - 1;
    p.rows[o] = w.codes + p.row[o] * row_bytes(w);
  }
  return p;
}

// What is multiplied next: rows of a weight from row0 on, or nothing.
struct Next {
  const Weight *w;
  int64_t row0;
};

// The bytes of `most` of its rows, `bytes` each.
inline Ahead rows_ahead(const Next &next, int64_t most, const uint8_t *array, int64_t bytes) {
  const int64_t left = next.w->out - next.row0, rows = left < most ? left : most;
  const uint8_t *at = array + next.row0 * bytes;
  return {at, at + rows * bytes};
}

inline Ahead codes_ahead(const Next &next, int64_t most) {
  return next.w ? rows_ahead(next, most, next.w->codes, row_bytes(*next.w)) : Ahead{nullptr, nullptr};
}

inline int64_t scale_bytes(const Weight &w) {
  return w.in / w.group * (w.scale_type == FLOAT32 ? 4 : w.scale_type == FLOAT8 ? 1 : 2);
}

inline Ahead scales_ahead(const Next &next, int64_t most) {
  if (!next.w || next.w->kind >= Q4_K) return {nullptr, nullptr};  // which stand among the codes
  return rows_ahead(next, most, next.w->scales, scale_bytes(*next.w));
}

inline void decode_codes(const Weight &w, const Shape &s, const Place &p, int64_t k0, int kn, Tile &t, Ahead ahead) {
  const int zero = s.is_signed() ? s.zero : 0;
  if (s.bits == 4 || w.kind == FP4) decode_nibbles(w, p.rows, k0, kn, t, zero, ahead);
  else decode_bytes(w, p.rows, k0, kn, t, HALVES && s.bits == 8, zero, ahead);
}
