// From soft-capped logits to probabilities, and what a step needs of them, a row at a time.
#pragma once

#include <cmath>

#include "packed.h"

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t EightWhole __attribute__((vector_size(32), aligned(4), may_alias));

inline Eight fused(Eight a, Eight b, Eight c) {
#ifdef __AVX2__
  return (Eight)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(NEON)
  float32x4_t x[2], y[2], z[2];
  memcpy(x, &a, 32), memcpy(y, &b, 32), memcpy(z, &c, 32);
  for (int i = 0; i < 2; i++) z[i] = vfmaq_f32(z[i], x[i], y[i]);
  memcpy(&c, z, 32);
  return c;
#else
  for (int i = 0; i < 8; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

inline Eight all(float x) { return Eight{x, x, x, x, x, x, x, x}; }

// As many numbers as a vector holds, and their eights in order: sums go by eights with all sets of instructions.
inline Eight eight_of(Eight x, int) { return x; }
#ifdef __AVX512F__
typedef float Many __attribute__((vector_size(64), aligned(4), may_alias));
inline Many fused(Many a, Many b, Many c) { return (Many)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline Eight eight_of(Many x, int i) {
  const __m512d both = _mm512_castps_pd((__m512)x);
  return (Eight)_mm256_castpd_ps(i ? _mm512_extractf64x4_pd(both, 1) : _mm512_castpd512_pd256(both));
}
#else
typedef Eight Many;
#endif
constexpr int64_t MANY = sizeof(Many) / sizeof(float);

// e^x for x <= 0, within 2e-7 of it; 0 below -87. Of each number alone, however many there are.
template <typename V>
inline V exponential(V x) {
  typedef decltype(x < x) Whole;
  const V none = {}, least = none - 87.0f, magic = none + 12582912.0f;  // 1.5 · 2^23: adding it rounds to whole numbers
  const V clamped = x < least ? least : x;
  const V shifted = fused(clamped, none + 1.44269504f, magic), whole = shifted - magic;
  V f = fused(whole, none - 0.693359375f, clamped);
  f = fused(whole, none + 2.12194440e-4f, f);
  V p = none + 1.9875691500e-4f;
  p = fused(p, f, none + 1.3981999507e-3f);
  p = fused(p, f, none + 8.3334519073e-3f);
  p = fused(p, f, none + 4.1665795894e-2f);
  p = fused(p, f, none + 1.6666665459e-1f);
  p = fused(p, f, none + 5.0000001201e-1f);
  p = fused(p, f * f, f + 1.0f);
  const Whole bits = ((Whole)shifted - 0x4B400000 + 127) << 23;
  const V power = (V)bits;
  return x < least ? none : p * power;
}

// cap · tanh(x / cap), within 2e-7 of the cap.
template <typename V>
inline V capped(V x, float cap) {
  const V size = x < 0.0f ? -x : x, e = exponential(size * (-2.0f / cap)), y = cap * (1.0f - e) / (1.0f + e);
  return x < 0.0f ? -y : y;
}

struct Reading {
  int64_t argmax, drawn;
  float entropy, logprob, drawn_logprob;
};

constexpr int64_t READ_BLOCK = 2048;

// Scores become exponentials of what they are above the best, and are added up, also times that.
template <typename V>
inline void add_exponentials(float *at, float best, Eight &sum, Eight &product) {
  V x;
  memcpy(&x, at, sizeof x);  // a template's argument does not say that it is not aligned
  const V shifted = x - best, e = exponential(shifted), kept = shifted < -87.0f ? V{} : shifted;
  for (size_t i = 0; i < sizeof(V) / sizeof(Eight); i++) {
    sum += eight_of(e, i);
    product = fused(eight_of(e, i), eight_of(kept, i), product);
  }
  memcpy(at, &e, sizeof e);
}

// scores [count] are divided by the temperature and become probabilities. `sums` has room for the blocks' sums.
inline Reading read_row(float *scores, int64_t count, float temperature, float uniform, bool greedy, double *sums) {
  const int64_t even = count / 8 * 8;
  Eight most = all(-3.4e38f);
  for (int64_t i = 0; i < even; i += 8) {
    Eight *at = (Eight *)(scores + i);
    *at = *at / temperature;
    most = *at > most ? *at : most;
  }
  float best = -3.4e38f;
  for (int i = 0; i < 8; i++) best = most[i] > best ? most[i] : best;
  for (int64_t i = even; i < count; i++) {
    scores[i] /= temperature;
    best = scores[i] > best ? scores[i] : best;
  }
  Reading r = {-1, 0, 0, 0, 0};
  double total = 0, weighted = 0;
  for (int64_t begin = 0; begin < count; begin += READ_BLOCK) {
    const int64_t end = begin + READ_BLOCK < count ? begin + READ_BLOCK : count;
    Eight sum = all(0), product = all(0);
    int64_t i = begin;
    for (; i + MANY <= end; i += MANY) add_exponentials<Many>(scores + i, best, sum, product);
    for (; i + 8 <= end; i += 8) add_exponentials<Eight>(scores + i, best, sum, product);
    double block = 0, block_weighted = 0;
    for (int j = 0; j < 8; j++) block += sum[j], block_weighted += product[j];
    for (; i < end; i++) {
      const float shifted = scores[i] - best, e = exponential(all(shifted))[0];
      block += e, block_weighted += e * (shifted < -87.0f ? 0.0f : shifted);
      scores[i] = e;
    }
    sums[begin / READ_BLOCK] = block;
    total += block, weighted += block_weighted;
  }
  for (int64_t i = 0; r.argmax < 0 && i < count; i++)
    if (scores[i] == 1.0f) r.argmax = i;  // e^0: the first of the best
  if (r.argmax < 0) r.argmax = 0;         // no numbers
  r.logprob = (float)-log(total);
  r.entropy = (float)(log(total) - weighted / total);
  r.drawn = r.argmax;
  if (!greedy) {
    double target = (double)uniform * total, before = 0;
    int64_t block = 0, last = (count - 1) / READ_BLOCK;
    while (block < last && before + sums[block] <= target) before += sums[block++];
    const int64_t end = (block + 1) * READ_BLOCK < count ? (block + 1) * READ_BLOCK : count;
    for (int64_t i = block * READ_BLOCK; i < end; i++) {
      if (scores[i] == 0) continue;
      r.drawn = i;  // rounding may leave the target beyond the sum: then the last one that can be
      if ((before += scores[i]) > target) break;
    }
  }
  r.drawn_logprob = (float)(log((double)scores[r.drawn]) - log(total));
  const float inverse = (float)(1.0 / total);
  for (int64_t i = 0; i < even; i += 8) *(Eight *)(scores + i) = *(Eight *)(scores + i) * inverse;
  for (int64_t i = even; i < count; i++) scores[i] *= inverse;
  return r;
}
