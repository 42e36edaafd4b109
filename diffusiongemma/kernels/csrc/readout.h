// From soft-capped logits to probabilities, and what a step needs of them, a row at a time.
#pragma once

#include <cmath>

#include "packed.h"

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t EightWhole __attribute__((vector_size(32), aligned(4), may_alias));

inline Eight fused(Eight a, Eight b, Eight c) {
#ifdef __AVX2__
  return (Eight)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  for (int i = 0; i < 8; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

inline Eight all(float x) { return Eight{x, x, x, x, x, x, x, x}; }

// e^x for x <= 0, within 2e-7 of it; 0 below -87.
inline Eight exponential(Eight x) {
  x = x < -87.0f ? all(-200.0f) : x;
  const Eight magic = all(12582912.0f);  // 1.5 · 2^23: adding it rounds to whole numbers
  const Eight clamped = x < -87.0f ? all(-87.0f) : x;
  const Eight shifted = fused(clamped, all(1.44269504f), magic), whole = shifted - magic;
  Eight f = fused(whole, all(-0.693359375f), clamped);
  f = fused(whole, all(2.12194440e-4f), f);
  Eight p = all(1.9875691500e-4f);
  p = fused(p, f, all(1.3981999507e-3f));
  p = fused(p, f, all(8.3334519073e-3f));
  p = fused(p, f, all(4.1665795894e-2f));
  p = fused(p, f, all(1.6666665459e-1f));
  p = fused(p, f, all(5.0000001201e-1f));
  p = fused(p, f * f, f + 1.0f);
  const EightWhole bits = ((EightWhole)shifted - 0x4B400000 + 127) << 23;
  const Eight power = (Eight)bits;
  return x < -87.0f ? all(0.0f) : p * power;
}

// cap · tanh(x / cap), within 2e-7 of the cap.
inline Eight capped(Eight x, float cap) {
  const Eight size = x < 0.0f ? -x : x, e = exponential(size * (-2.0f / cap)), y = cap * (1.0f - e) / (1.0f + e);
  return x < 0.0f ? -y : y;
}

struct Reading {
  int64_t argmax, drawn;
  float entropy, logprob, drawn_logprob;
};

constexpr int64_t READ_BLOCK = 2048;

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
    for (; i + 8 <= end; i += 8) {
      Eight *at = (Eight *)(scores + i);
      const Eight shifted = *at - best, e = exponential(shifted);
      sum += e;
      product = fused(e, shifted < -87.0f ? all(0.0f) : shifted, product);
      *at = e;
    }
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
