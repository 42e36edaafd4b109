// One position's attention to what a cache holds. Keys are taken in stretches, each with a softmax of its own, which are put
// together in their order: how many threads share them makes no difference.
#pragma once

#include "layer.h"

// Keys or values of one head: numbers [tokens, width], or codes with a float32 scale behind each token's.
struct Signed {
  int8_t code;
};
// By hand: compilers widen vectors of bytes one by one.
inline Eight eight_of(const Signed *x) {
#if defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)x)));
#else
  Eight out;
#if defined(NEON)
  const int16x8_t codes = vmovl_s8(vld1_s8(&x->code));
  const float32x4_t halves[2] = {vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(codes)))};
  memcpy(&out, halves, sizeof out);
#else
  for (int i = 0; i < 8; i++) out[i] = x[i].code;
#endif
  return out;
#endif
}

#ifdef __AVX512F__
inline Sixteen sixteen_of(const Signed *x) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)x))); }
#endif

template <typename Number>
inline int64_t token_numbers(int64_t width) { return width; }
template <>
inline int64_t token_numbers<Signed>(int64_t width) { return width + 4; }

template <typename Number>
inline float scale_behind(const Number *, int64_t) { return 1.0f; }
template <>
inline float scale_behind(const Signed *x, int64_t width) {
  float scale;
  memcpy(&scale, x + width, 4);
  return scale;
}

constexpr int64_t STRETCH = 256;    // tokens
constexpr int64_t SUBSTRETCH = 16;  // tokens whose values stay in the first cache
constexpr float LEAST = 1e-37f;     // of a share: less is not normal, takes a hundred cycles and is lost beside the best
constexpr int64_t LATER = 6;        // tokens from now on, whose keys are asked for

// Of one query and one stretch: the greatest score, the sum of e^(score - it), and the values under these.
struct Partial {
  float *best, *total, *values;
};

// q [count, width] times the keys of `tokens` -> scores [count][STRETCH].
template <typename Number, int COUNT>
inline void scores_of_keys(const float *q, const Number *keys, int64_t tokens, int64_t width, float scores[][STRETCH]) {
  for (int64_t t = 0; t < tokens; t++) {
    const int64_t step = token_numbers<Number>(width);
    const Number *key = keys + t * step;
    float found[COUNT];
    for (int64_t i = 0; i < step; i += 64 / (int64_t)sizeof(Number)) __builtin_prefetch(key + LATER * step + i);
    scores_of<1, COUNT>(key, q, width, found, COUNT);
    const float scale = scale_behind(key, width);
    for (int i = 0; i < COUNT; i++) scores[i][t] = found[i] * scale;
  }
}

// values [count][width] += shares [count][STRETCH] of the tokens first .. end.
template <typename Number, int COUNT>
inline void add_values(const float shares[][STRETCH], const Number *tokens, int64_t first, int64_t end, int64_t width,
                       float *values) {
  const int64_t step = token_numbers<Number>(width);
  for (int64_t d = 0; d < width; d += 16) {
    Eight low[COUNT], high[COUNT];
    for (int i = 0; i < COUNT; i++) low[i] = eight_of(values + i * width + d), high[i] = eight_of(values + i * width + d + 8);
    for (int64_t t = first; t < end; t++) {
      const Number *token = tokens + t * step;
      const Eight a = eight_of(token + d), b = eight_of(token + d + 8);
      __builtin_prefetch(token + SUBSTRETCH * step + d);
      for (int i = 0; i < COUNT; i++) {
        const Eight share = all(shares[i][t]);
        low[i] = fused(share, a, low[i]), high[i] = fused(share, b, high[i]);
      }
    }
    for (int i = 0; i < COUNT; i++) put_eight(low[i], values + i * width + d), put_eight(high[i], values + i * width + d + 8);
  }
}

// COUNT queries of one head's group over one stretch.
template <typename Number, int COUNT>
void attend_stretch(const float *q, const Number *keys, const Number *values, int64_t tokens, int64_t width, Partial to) {
  float shares[COUNT][STRETCH];
  scores_of_keys<Number, COUNT>(q, keys, tokens, width, shares);
  const int64_t soon = SUBSTRETCH * token_numbers<Number>(width);
  for (int64_t i = 0; i < soon; i += 64 / (int64_t)sizeof(Number)) __builtin_prefetch(values + i);
  for (int i = 0; i < COUNT; i++) {
    float best = shares[i][0], total = 0;
    for (int64_t t = 1; t < tokens; t++) best = shares[i][t] > best ? shares[i][t] : best;
    for (int64_t t = tokens; t % 8; t++) shares[i][t] = -3.4e38f;
    for (int64_t t = 0; t < tokens; t += 8) put_eight(exponential(eight_of(shares[i] + t) - best), shares[i] + t);
    for (int64_t t = 0; t < tokens; t++) total += shares[i][t];
    to.best[i] = best, to.total[i] = total;
    for (int64_t t = 0; t < tokens; t++) {
      const float share = shares[i][t] * scale_behind(values + t * token_numbers<Number>(width), width);
      shares[i][t] = share < LEAST ? 0.0f : share;
    }
  }
  memset(to.values, 0, sizeof(float) * COUNT * width);
  for (int64_t t = 0; t < tokens; t += SUBSTRETCH) {
    const int64_t end = t + SUBSTRETCH < tokens ? t + SUBSTRETCH : tokens;
    add_values<Number, COUNT>(shares, values, t, end, width, to.values);
  }
}

// The stretches of a head's group of queries -> what it attends to, out [width].
inline void put_together(const float *best, const float *total, const float *values, int64_t stretches, int64_t queries,
                         int64_t width, float *out) {
  float most = best[0], sum = 0;
  for (int64_t s = 1; s < stretches; s++) most = best[s * queries] > most ? best[s * queries] : most;
  memset(out, 0, sizeof(float) * width);
  for (int64_t s = 0; s < stretches; s++) {
    const float factor = exponential(all(best[s * queries] - most))[0];
    sum = __builtin_fmaf(total[s * queries], factor, sum);
    for (int64_t i = 0; i < width; i += 8)
      put_eight(fused(all(factor), eight_of(values + s * queries * width + i), eight_of(out + i)), out + i);
  }
  for (int64_t i = 0; i < width; i += 8) put_eight(eight_of(out + i) / sum, out + i);
}

// q [heads · group, width] over `tokens` keys and values of `heads` heads, `stride` numbers from one to the next -> out.
template <typename Number>
void attend_one(const float *q, const Number *keys, const Number *values, int64_t heads, int64_t stride, int64_t tokens,
                int64_t group, int64_t width, float *out) {
  const int64_t stretches = (tokens + STRETCH - 1) / STRETCH, length = (tokens + stretches - 1) / stretches;
  const int64_t queries = heads * group;
  float *best = floats(stretches * queries * (width + 2)), *total = best + stretches * queries;
  float *sums = total + stretches * queries;
#pragma omp parallel for schedule(dynamic)
  for (int64_t task = 0; task < heads * stretches; task++) {
    const int64_t head = task / stretches, stretch = task % stretches, first = stretch * length;
    const int64_t count = first + length < tokens ? length : tokens - first;
    const int64_t at = head * stride + first * token_numbers<Number>(width);
    for (int64_t query = head * group; query < (head + 1) * group;) {
      const int64_t left = (head + 1) * group - query, place = stretch * queries + query;
      const Partial to = {best + place, total + place, sums + place * width};
      const float *from = q + query * width;
      if (left >= 4) attend_stretch<Number, 4>(from, keys + at, values + at, count, width, to), query += 4;
      else if (left >= 2) attend_stretch<Number, 2>(from, keys + at, values + at, count, width, to), query += 2;
      else attend_stretch<Number, 1>(from, keys + at, values + at, count, width, to), query += 1;
    }
  }
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < queries; i++)
    put_together(best + i, total + i, sums + i * width, stretches, queries, width, out + i * width);
  free(best);
}
