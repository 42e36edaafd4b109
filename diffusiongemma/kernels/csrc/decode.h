// Weights as they lie in a file -> a tile. Inputs k0 .. k0 + kn of rows row0 .. row0 + 16; rows past the last repeat it.
#pragma once

#include "packed.h"

// Codes of 8 bits go into two halves where only products of 4 bits are fast.
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr bool HALVES = true;
#else
constexpr bool HALVES = false;
#endif

// What comes next is asked for while tiles are decoded, or while they are multiplied: where that takes no longer than
// decoding, asking for all of it at once would hold the processor up.
constexpr bool ASKED_DECODING = HALVES || SIGNS;

// --- bytes -----------------------------------------------------------------------------------------------------------

inline int64_t row_bytes(const Weight &w) {
  switch (w.kind) {
    case INT4: case FP4: return w.in / 2;
    case Q4_K: return w.in / 256 * 144;
    case Q5_K: return w.in / 256 * 176;
    case Q5_0: return w.in / 32 * 22;
    case Q6_K: return w.in / 256 * 210;
    case Q8_0: return w.in / 32 * 34;
    default: return w.in;
  }
}

// Twice the value of E2M1's codes, plus 12.
alignas(32) static const uint8_t FP4_CODES[32] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                                                  12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// How near: into the first cache, or but the second one where tiles that are multiplied fill the first.
#if defined(__AVX512VNNI__) && !defined(__AMX_BF16__)
constexpr int NEAREST = 3;
#else
constexpr int NEAREST = 2;
#endif

// The bytes that are decoded next, asked for while others are: of the sixteen rows behind these, the same share.
struct Ahead {
  const uint8_t *at, *end;
  void fetch(int64_t bytes) {
    for (int i = 0; i < bytes && at < end; i += 64, at += 64) {
      __builtin_prefetch(at, 0, NEAREST);
    }
  }
  void fetch_all() { fetch(end - at); }
  Ahead part(int64_t i, int64_t count) const { return part(i, i + 1, count); }
  Ahead part(int64_t first, int64_t last, int64_t count) const {
    return {at + (end - at) * first / count, at + (end - at) * last / count};
  }
};

#if defined(__AVX2__) || defined(NEON)
#define COLUMNS
#include "decode_columns.h"
#else
#include "decode_plain.h"
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
    put_codes_of_32(w, row, k, count, out);
  }
}

#include "scales.h"

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
  const int zero = s.taken_off();
  if (s.bits == 4 || w.kind == FP4) decode_nibbles(w, p.rows, k0, kn, t, zero, ahead);
  else decode_bytes(w, p.rows, k0, kn, t, HALVES && s.bits == 8, zero, ahead);
}
