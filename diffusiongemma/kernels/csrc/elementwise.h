// Norms and rotations of bfloat16 and float32, softmax of bfloat16: one pass in place of a dozen. All sets of instructions
// add and round alike.
#pragma once

#include "readout.h"

typedef uint32_t EightBits __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint16_t EightHalves __attribute__((vector_size(16), aligned(2), may_alias));

inline Eight eight_of(const uint16_t *x) {
  return (Eight)(__builtin_convertvector(*(const EightHalves *)x, EightBits) << 16);
}

inline Eight eight_of(const float *x) { return *(const Eight *)x; }
inline void put_eight(Eight x, float *to) { *(Eight *)to = x; }

inline float one_of(uint16_t half) { return float_of_bits((uint32_t)half << 16); }
inline float one_of(float x) { return x; }

// To the nearest, ties to even; what is no number stays none.
inline void put_eight(Eight x, uint16_t *to) {
  const EightBits bits = (EightBits)x, nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  *(EightHalves *)to = __builtin_convertvector(x == x ? nearest : bits >> 16 | 64, EightHalves);
}

// As a number of this type holds it.
inline Eight rounded(Eight x, uint16_t) {
  uint16_t halves[8];
  put_eight(x, halves);
  return eight_of(halves);
}
inline Eight rounded(Eight x, float) { return x; }

// x [width], a multiple of 16 -> x / sqrt(mean of its squares + eps), times `weight` and behind `sum` if there are any.
template <typename Number, typename Scale>
void norm_row(const Number *x, int64_t width, const Scale *weight, float eps, const Number *sum, Number *out) {
  Eight even = all(0), odd = all(0);
  for (int64_t i = 0; i < width; i += 16) {
    const Eight a = eight_of(x + i), b = eight_of(x + i + 8);
    even += a * a, odd += b * b;
  }
  even += odd;
  float squares = 0;
  for (int i = 0; i < 8; i++) squares += even[i];
  const float inverse = 1.0f / sqrtf(squares / (float)width + eps);
  for (int64_t i = 0; i < width; i += 8) {
    Eight normed = eight_of(x + i) * inverse;
    if (weight) normed = normed * eight_of(weight + i);
    if (sum) normed = eight_of(sum + i) + rounded(normed, Number());
    put_eight(normed, out + i);
  }
}

// One head [width], a multiple of 16, at one position: x · cos + turned · sin, where the halves of x are turned to
// (-second, first). Rounded where torch rounds it.
template <typename Number>
void rotate_head(const Number *x, int64_t width, const Number *cos, const Number *sin, Number *out) {
  const int64_t half = width / 2;
  const auto times = [](Eight a, const Number *b) { return rounded(a * eight_of(b), Number()); };
  for (int64_t i = 0; i < half; i += 8) {
    const Eight a = eight_of(x + i), b = eight_of(x + half + i);
    put_eight(times(a, cos + i) - times(b, sin + i), out + i);
    put_eight(times(b, cos + half + i) + times(a, sin + half + i), out + half + i);
  }
}

#ifdef __AVX512F__
inline Many many_of(const uint16_t *x) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
  return (Many)_mm512_slli_epi32(wide, 16);
}
#else
inline Many many_of(const uint16_t *x) { return eight_of(x); }
#endif

// x [width] -> its softmax, in place. `weights` has room for as many numbers; -infinity has no share.
inline void softmax_row(uint16_t *x, int64_t width, float *weights) {
  const int64_t even = width / MANY * MANY;
  Many most = Many{} - 3.4e38f;
  for (int64_t i = 0; i < even; i += MANY) {
    const Many v = many_of(x + i);
    most = v > most ? v : most;
  }
  float best = -3.4e38f, total = 0;
  for (int i = 0; i < MANY; i++) best = most[i] > best ? most[i] : best;
  for (int64_t i = even; i < width; i++) best = one_of(x[i]) > best ? one_of(x[i]) : best;
  Eight sum = all(0);
  for (int64_t i = 0; i < even; i += MANY) {
    const Many e = exponential(many_of(x + i) - best);
    for (int half = 0; half < MANY / 8; half++) sum += eight_of(e, half);
    *(Many *)(weights + i) = e;
  }
  const int64_t eights = width / 8 * 8;
  for (int64_t i = even; i < eights; i += 8) sum += *(Eight *)(weights + i) = exponential(eight_of(x + i) - best);
  for (int i = 0; i < 8; i++) total += sum[i];
  for (int64_t i = eights; i < width; i++) total += weights[i] = exponential(all(one_of(x[i]) - best))[0];
  const float inverse = 1.0f / total;
  for (int64_t i = 0; i < eights; i += 8) put_eight(*(Eight *)(weights + i) * inverse, x + i);
  for (int64_t i = eights; i < width; i++) {
    uint16_t halves[8];
    put_eight(all(weights[i] * inverse), halves);
    x[i] = halves[0];
  }
}

template <typename Number>
void norm_rows(const void *x, int64_t rows, int64_t width, const void *weight, float eps, const void *sum, void *out) {
  const Number *from = (const Number *)x, *added = (const Number *)sum;
#pragma omp parallel for schedule(static) if (rows * width > 32768)
  for (int64_t r = 0; r < rows; r++)
    norm_row(from + r * width, width, (const Number *)weight, eps, added ? added + r * width : nullptr,
             (Number *)out + r * width);
}

template <typename Number>
void rotate_rows(const void *x, int64_t rows, int64_t heads, int64_t width, const void *cos, const void *sin, void *out) {
#pragma omp parallel for schedule(static) if (rows * heads * width > 32768)
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = r * heads; i < (r + 1) * heads; i++)
      rotate_head((const Number *)x + i * width, width, (const Number *)cos + r * width, (const Number *)sin + r * width,
                  (Number *)out + i * width);
}
