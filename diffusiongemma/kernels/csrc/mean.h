// The mean row of a weight under shares of its rows, without the smallest of them.
#pragma once

#include <cstdlib>

#include "decode.h"
#include "readout.h"

constexpr int SLICE = 8 * MANY;  // inputs of a mean that are summed at a time, in eight registers
constexpr int NEAR = 128;        // tokens that are unpacked together: 32 KiB of a slice, or 64

// (code - zero) · scale + offset of sixteen codes, whose first bit is turned where `sign` has it.
inline void floats_of_16(const uint8_t *codes, uint8_t sign, int zero, float scale, float offset, float *out) {
#if defined(__AVX512BW__)
  const __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const __m128i *)codes), _mm_set1_epi8((char)sign));
  const __m512 x = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(zero)));
  _mm512_storeu_ps(out, _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(scale)), _mm512_set1_ps(offset)));
#elif defined(__AVX2__)
  const __m128i bytes = _mm_xor_si128(_mm_loadu_si128((const __m128i *)codes), _mm_set1_epi8((char)sign));
  const __m128i parts[2] = {bytes, _mm_unpackhi_epi64(bytes, bytes)};
  for (int i = 0; i < 2; i++) {
    const __m256i whole = _mm256_cvtepu8_epi32(parts[i]);
    const __m256 x = _mm256_cvtepi32_ps(_mm256_sub_epi32(whole, _mm256_set1_epi32(zero)));
    _mm256_storeu_ps(out + 8 * i, _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(scale)), _mm256_set1_ps(offset)));
  }
#else
  for (int i = 0; i < 16; i++) out[i] = (float)((codes[i] ^ sign) - zero) * scale + offset;
#endif
}

// Inputs k0 .. k0 + kn of one row in full precision, kn at most SLICE.
void unpack_row(const Weight &w, const Shape &s, int64_t row, int64_t k0, int kn, float *out) {
  const uint8_t *bytes = w.codes + row * row_bytes(w);
  const int order = s.group == 32 ? 5 : 4;  // of two, the groups'
  float scales[SLICE / 16], offsets[SLICE / 16] = {};
  scales_of(w, s, bytes, w.group ? row * (w.in / w.group) : 0, k0 >> order, kn >> order, scales, offsets);
  if (w.kind == INT8 || w.kind == UINT8) {  // read as they lie
    const uint8_t sign = w.kind == INT8 ? 0x80 : 0;
    for (int k = 0; k < kn; k += 16)
      floats_of_16(bytes + k0 + k, sign, s.zero, scales[k >> order], offsets[k >> order], out + k);
    return;
  }
  for (int k = 0; k < kn; k += 32) {
    const int count = kn - k < 32 ? kn - k : 32;
    alignas(32) uint8_t codes[32];
    codes_of_32(w, bytes, k0 + k, count, codes);
    for (int i = 0; i < count; i += 16) {
      const int g = (k + i) >> order;
      floats_of_16(codes + i, 0, s.zero, scales[g], offsets[g], out + k + i);
    }
  }
}

constexpr int SOON = 12;     // tokens from now on, whose bytes are asked for: they lie a row apart
constexpr int BLOCKS = 32;   // of such tokens, whose shares are sought at a time

// The shares of a block of NEAR tokens that are kept, by row and of a row by token, and the places of their tokens in it;
// how many each row has, and whose tokens they are.
struct Block {
  const float *shares;
  const int32_t *places;
  const uint8_t *counts;
  int64_t rows;
  bool wanted[NEAR];
};

// Of numbers [count] those of at least `least`, above zero, and if asked for their places -> how many. There is room for
// SPARE more.
constexpr int SPARE = 16;
inline int64_t kept_of(const float *x, int64_t count, float least, float *kept, int32_t *places) {
  int64_t found = 0, i = 0;
#ifdef __AVX512F__
  const __m512i counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; i + 16 <= count; i += 16) {
    const __m512 v = _mm512_loadu_ps(x + i);
    const __mmask16 mask = _mm512_cmp_ps_mask(v, _mm512_set1_ps(least), _CMP_GE_OQ);
    _mm512_storeu_ps(kept + found, _mm512_maskz_compress_ps(mask, v));
    const __m512i at = _mm512_add_epi32(counted, _mm512_set1_epi32((int)i));
    if (places) _mm512_storeu_si512(places + found, _mm512_maskz_compress_epi32(mask, at));
    found += __builtin_popcount(mask);
  }
#elif defined(__AVX2__)
  for (; i + 8 <= count; i += 8) {
    int mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(least), _CMP_GE_OQ));
    for (; mask; mask &= mask - 1, found++) {
      kept[found] = x[i + __builtin_ctz(mask)];
      if (places) places[found] = (int32_t)i + __builtin_ctz(mask);
    }
  }
#endif
  for (; i < count; i++) {
    if (!(x[i] >= least)) continue;
    kept[found] = x[i];
    if (places) places[found] = (int32_t)i;
    found++;
  }
  return found;
}

// Those of `count` tokens from `first` on in shares [rows, tokens].
void kept_of_rows(const float *shares, const float *least, int64_t rows, int64_t tokens, int64_t first, int count,
                  float *kept, int32_t *places, uint8_t *counts, Block &block) {
  block = {kept, places, counts, rows, {}};
  for (int64_t r = 0; r < rows; r++) {
    counts[r] = (uint8_t)kept_of(shares + r * tokens + first, count, least[r], kept, places);
    for (int i = 0; i < counts[r]; i++) block.wanted[places[i]] = true;
    kept += counts[r], places += counts[r];
  }
}

// to += Σ share · token over `count` shares of one row, for `VECTORS` vectors of inputs.
template <int VECTORS>
inline void add_shares(const float *shares, const int32_t *places, int count, const float full[NEAR][SLICE], int k, float *to) {
  Many sums[VECTORS];
  for (int v = 0; v < VECTORS; v++) sums[v] = *(Many *)(to + k + v * MANY);
  for (int i = 0; i < count; i++) {
    const float *token = full[places[i]] + k;
    const Many share = Many{} + shares[i];
    for (int v = 0; v < VECTORS; v++) sums[v] = fused(*(const Many *)(token + v * MANY), share, sums[v]);
  }
  for (int v = 0; v < VECTORS; v++) *(Many *)(to + k + v * MANY) = sums[v];
}

// Inputs k0 .. k0 + kn of a block whose first token is `first`, added to out [rows, in] in the order of the tokens.
void add_tokens(const Weight &w, const Shape &s, const Block &block, int64_t first, int64_t k0, int kn, float *out) {
  alignas(64) float full[NEAR][SLICE];
  const int64_t bytes = row_bytes(w);
  for (int at = 0; at < NEAR; at++) {
    if (!block.wanted[at]) continue;
    for (int64_t i = 0; i < bytes * kn / w.in; i += 64)
      __builtin_prefetch(w.codes + (first + at + SOON) * bytes + bytes * k0 / w.in + i);
    unpack_row(w, s, first + at, k0, kn, full[at]);
  }
  const float *shares = block.shares;
  const int32_t *places = block.places;
  for (int64_t r = 0; r < block.rows; r++) {
    const int count = block.counts[r];
    float *to = out + r * w.in + k0;
    for (int k = 0; count && k < kn;) {  // in whole sixteens, eight vectors in registers where there are as many
      if (k + 8 * MANY <= kn) add_shares<8>(shares, places, count, full, k, to), k += 8 * MANY;
      else add_shares<16 / MANY>(shares, places, count, full, k, to), k += 16;
    }
    shares += count, places += count;
  }
}

// The least share that is kept, so that those left out sum to at most `left_out`; to an eighth of its binary order.
// `kept` has room for all of them.
float least_kept(const float *shares, int64_t count, float left_out, double *bins, float *kept) {
  memset(bins, 0, sizeof(double) << 12);
  const float reserve = left_out / 16, floor = reserve / (float)count;  // of what may be left out, if all were as small
  const int64_t found = kept_of(shares, count, floor, kept, nullptr);
  for (int64_t i = 0; i < found; i++) {
    uint32_t bits;
    memcpy(&bits, kept + i, 4);
    bins[bits >> 20 & 4095] += kept[i];
  }
  double sum = reserve;
  uint32_t bin = 0;
  while (bin < 4095 && (sum += bins[bin]) <= left_out) bin++;
  return float_of_bits(bin ? bin << 20 : 1);
}
