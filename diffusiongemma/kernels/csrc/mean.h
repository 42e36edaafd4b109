// The mean row of a weight under shares of its rows, without the smallest of them.
#pragma once

#include <cstdlib>

#include "decode.h"
#include "readout.h"

constexpr int SLICE = 128;  // inputs of a mean that are summed at a time, in registers
constexpr int NEAR = 64;    // tokens that are unpacked together: 32 KiB of a slice

// (code - zero) · scale + offset of sixteen codes.
inline void floats_of_16(const uint8_t *codes, int zero, float scale, float offset, float *out) {
#ifdef __AVX2__
  for (int half = 0; half < 16; half += 8) {
    const __m256i whole = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + half)));
    const __m256 x = _mm256_cvtepi32_ps(_mm256_sub_epi32(whole, _mm256_set1_epi32(zero)));
    _mm256_storeu_ps(out + half, _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(scale)), _mm256_set1_ps(offset)));
  }
#else
  for (int i = 0; i < 16; i++) out[i] = (float)(codes[i] - zero) * scale + offset;
#endif
}

// Inputs k0 .. k0 + kn of one row in full precision, kn at most SLICE.
void unpack_row(const Weight &w, const Shape &s, int64_t row, int64_t k0, int kn, float *out) {
  const uint8_t *bytes = w.codes + row * row_bytes(w);
  float scales[SLICE / 16], offsets[SLICE / 16] = {};
  scales_of(w, s, bytes, w.group ? row * (w.in / w.group) : 0, k0 / s.group, kn / s.group, scales, offsets);
  for (int k = 0; k < kn; k += 32) {
    const int count = kn - k < 32 ? kn - k : 32;
    alignas(32) uint8_t codes[32];
    codes_of_32(w, bytes, k0 + k, count, codes);
    for (int i = 0; i < count; i += 16) {
      const int g = (k + i) / s.group;
      floats_of_16(codes + i, s.zero, scales[g], offsets[g], out + k + i);
    }
  }
}

constexpr int SOON = 12;     // tokens from now on, whose bytes are asked for: they lie a row apart
constexpr int BLOCKS = 64;   // of such tokens, whose shares are sought at a time

// What a row of the mean takes of a token, which is `at` of a block of NEAR.
struct Share {
  int32_t at;
  float share;
};

// The shares of a block that are kept, by row and of a row by token; how many each row has, and whose tokens they are.
struct Block {
  const Share *shares;
  const uint8_t *counts;
  int64_t rows;
  uint64_t tokens;
};

// The shares of at least `least`, which is above zero, among a row's of one block, written to `out` -> how many.
inline int kept_of(const float *shares, int count, float least, Share *out) {
  int found = 0, i = 0;
#ifdef __AVX2__
  const __m256 limit = _mm256_set1_ps(least);
  for (; i + 8 <= count; i += 8) {
    int mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(shares + i), limit, _CMP_GE_OQ));
    for (; mask; mask &= mask - 1) {
      const int at = i + __builtin_ctz(mask);
      out[found++] = {at, shares[at]};
    }
  }
#endif
  for (; i < count; i++)
    if (shares[i] >= least) out[found++] = {i, shares[i]};
  return found;
}

// Those of `count` tokens from `first` on in shares [rows, tokens].
Block kept_of_rows(const float *shares, const float *least, int64_t rows, int64_t tokens, int64_t first, int count,
                   Share *out, uint8_t *counts) {
  Block block = {out, counts, rows, 0};
  for (int64_t r = 0; r < rows; r++) {
    counts[r] = (uint8_t)kept_of(shares + r * tokens + first, count, least[r], out);
    for (int i = 0; i < counts[r]; i++) block.tokens |= (uint64_t)1 << out[i].at;
    out += counts[r];
  }
  return block;
}

#ifdef __AVX512F__
typedef __m512 Vector;
inline Vector vector_at(const float *x) { return _mm512_loadu_ps(x); }
inline void put_vector(float *x, Vector v) { _mm512_storeu_ps(x, v); }
inline Vector fused_all(Vector a, float b, Vector c) { return _mm512_fmadd_ps(a, _mm512_set1_ps(b), c); }
#else
typedef Eight Vector;
inline Vector vector_at(const float *x) { return *(const Eight *)x; }
inline void put_vector(float *x, Vector v) { *(Eight *)x = v; }
inline Vector fused_all(Vector a, float b, Vector c) { return fused(a, all(b), c); }
#endif
constexpr int LANES = sizeof(Vector) / sizeof(float);

// to += Σ share · token over `count` shares of one row, for `VECTORS` vectors of inputs.
template <int VECTORS>
inline void add_shares(const Share *shares, int64_t count, const float full[NEAR][SLICE], int k, float *to) {
  Vector sums[VECTORS];
  for (int v = 0; v < VECTORS; v++) sums[v] = vector_at(to + k + v * LANES);
  for (int64_t i = 0; i < count; i++) {
    const float *token = full[shares[i].at] + k;
    for (int v = 0; v < VECTORS; v++) sums[v] = fused_all(vector_at(token + v * LANES), shares[i].share, sums[v]);
  }
  for (int v = 0; v < VECTORS; v++) put_vector(to + k + v * LANES, sums[v]);
}

// Inputs k0 .. k0 + kn of a block whose first token is `first`, added to out [rows, in] in the order of the tokens.
void add_tokens(const Weight &w, const Shape &s, const Block &block, int64_t first, int64_t k0, int kn, float *out) {
  alignas(64) float full[NEAR][SLICE];
  const int64_t bytes = row_bytes(w);
  for (uint64_t left = block.tokens; left; left &= left - 1) {
    const int at = __builtin_ctzll(left);
    for (int64_t i = 0; i < bytes * kn / w.in; i += 64)
      __builtin_prefetch(w.codes + (first + at + SOON) * bytes + bytes * k0 / w.in + i);
    unpack_row(w, s, first + at, k0, kn, full[at]);
  }
  const Share *share = block.shares;
  for (int64_t r = 0; r < block.rows; share += block.counts[r++]) {
    const int count = block.counts[r];
    float *to = out + r * w.in + k0;
    for (int k = 0; count && k < kn;) {  // in whole sixteens, eight vectors in registers where there are as many
      if (k + 8 * LANES <= kn) add_shares<8>(share, count, full, k, to), k += 8 * LANES;
      else add_shares<16 / LANES>(share, count, full, k, to), k += 16;
    }
  }
}

// The least share that is kept, so that those left out sum to at most `left_out`; to an eighth of its binary order.
float least_kept(const float *shares, int64_t count, float left_out, double *bins) {
  memset(bins, 0, sizeof(double) << 12);
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, shares + i, 4);
    bins[bits >> 20 & 4095] += shares[i];
  }
  double sum = 0;
  uint32_t bin = 0;
  while (bin < 4095 && (sum += bins[bin]) <= left_out) bin++;
  return float_of_bits(bin ? bin << 20 : 1);
}
