// A few rows times a tile, from the weights as they lie: what a token costs is reading them, and memory is fastest when
// it is read in its order.
//
// Sums of a group are the same whole numbers that `multiply.h` has, and are added and rounded in its order.
#pragma once

#include "multiply.h"

constexpr int DIRECT_BLOCK = 8192;  // inputs whose sums or scales are held

// Bytes of the sixteen rows behind those from `row` on: codes of their inputs k0 .. k0 + kn, roughly, and all their scales.
inline Ahead codes_behind(const Weight &w, int64_t row, int64_t k0, int kn) {
  const int64_t bytes = row_bytes(w), end = w.out * bytes, behind = (row + OUTS) * bytes + OUTS * bytes * k0 / w.in;
  const int64_t share = OUTS * bytes * kn / w.in;
  return {w.codes + (behind < end ? behind : end), w.codes + (behind + share < end ? behind + share : end)};
}

inline Ahead scales_behind(const Weight &w, int64_t row) {
  if (w.kind >= Q4_K) return {nullptr, nullptr};  // which stand among the codes
  const int64_t bytes = w.in / w.group * (w.scale_type == FLOAT32 ? 4 : w.scale_type == FLOAT8 ? 1 : 2);
  const int64_t end = w.out * bytes, behind = (row + OUTS) * bytes, next = behind + OUTS * bytes;
  return {w.scales + (behind < end ? behind : end), w.scales + (next < end ? next : end)};
}

#if defined(__AVX512VNNI__)
#include "direct_avx512.h"
#elif defined(__AVX2__)
#include "direct_avx2.h"
#else

struct Direct {};
constexpr int FEW = 0;
inline bool is_direct(const Weight &, const Shape &, int64_t) { return false; }
inline void rows_direct(const Weight &, const Shape &, const Place &, const Activations &, int64_t, int, int64_t, int,
                        Direct &, float *) {}

#endif
