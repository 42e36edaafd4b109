// Tiles decoded by columns: words of four bytes, one of each of as many rows as a vector holds.
#pragma once

#ifdef __AVX2__
#include "columns_avx.h"
#else
#include "columns_neon.h"
#endif

constexpr int ROWS_HELD = sizeof(Columns) / 4, PARTS = OUTS / ROWS_HELD;

// Four words of each row, of which every vector holds others -> one word of all rows.
inline void columns_of_rows(const Columns v[4], Columns columns[4]) {
  const Columns a = low_words(v[0], v[1]), b = low_words(v[2], v[3]);
  const Columns c = high_words(v[0], v[1]), d = high_words(v[2], v[3]);
  columns[0] = low_pairs(a, b), columns[1] = high_pairs(a, b);
  columns[2] = low_pairs(c, d), columns[3] = high_pairs(c, d);
}

// The sixteen bytes (or eight) from `at` on of as many rows as a vector holds -> four columns (or two). Rows that meet in
// a vector are loaded into it side by side, as exchanging parts of vectors is slow.
inline void columns_of_16(const uint8_t *const *rows, int64_t at, int bytes, Columns columns[4]) {
  Columns v[4];
  for (int i = 0; i < 4; i++) {
    Part parts[ROWS_HELD / 4];
    for (int j = 0; j < ROWS_HELD / 4; j++) {
      const uint8_t *from = rows[i + 4 * j] + at;
      parts[j] = bytes == 16 ? sixteen_bytes(from) : eight_bytes(from);
    }
    v[i] = beside(parts);
  }
  columns_of_rows(v, columns);
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

template <typename Vector>
inline void put_bytes(const Vector *words, int count, bool halves, int zero, Tile &t, int chunk, int part) {
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
  if (w.kind != Q5_0 && w.kind != Q5_K && w.kind != Q6_K) return decode_whole_bytes(w, rows, k0, kn, t, halves, zero, ahead);
  for (int k = 0; k < kn; k += 32)
    for (int part = 0; part < OUTS / ROWS_OF_32; part++) {
      ahead.fetch(32 * ROWS_OF_32);
      Words words[8];
      words_of_32(w, rows + part * ROWS_OF_32, k0 + k, words);
      put_bytes(words, 8, halves, zero, t, k / 4, part);
    }
}
