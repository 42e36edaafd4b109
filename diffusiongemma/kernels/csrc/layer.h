// What a layer computes between one attention and the next, of rows of float32: few calls, and threads that meet seldom. A
// row's results depend on that row alone.
#pragma once

#include "elementwise.h"
#include "product.h"

// Norms' weights are float32 where `wide`, else bfloat16, or there are none. Field orders are `kernels/layer.py`'s.
struct Projections {
  const Weight *parts;  // of queries, keys and values, one behind the other
  const void *input, *query, *key;  // norms
  int64_t queries, keys, values, head;  // outputs; without any values they are the keys before their norm
  int32_t count, wide;
  float eps;
};

struct Middle {
  const Weight *out, *gate_up, *down;
  const void *post_attention, *pre_mlp, *post_mlp;
  int64_t width, inner;  // of the rows, and of the MLP
  int32_t out_count, gate_up_count, down_count, fine_out, wide;
  float eps;
};

struct Routed {
  const Weight *gate_up, *down;  // of all experts
  const void *pre, *post, *last;
  int64_t width;
  int32_t gate_up_segments, down_segments, experts, wide;
  float eps;
};

struct Router {
  const void *weight, *scale, *expert_scale;  // [experts, width], [width], [experts]
  int64_t width;
  int32_t experts, chosen, wide;
  float eps;
};

inline void norm_by(const float *x, int64_t width, const void *weight, bool wide, float eps, const float *sum, float *out) {
  if (wide) norm_row(x, width, (const float *)weight, eps, sum, out);
  else norm_row(x, width, (const uint16_t *)weight, eps, sum, out);
}

inline float *floats(int64_t count) { return (float *)aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64); }

// One projection's heads of a row: normed, and turned if there is an angle.
inline void heads_of(const float *x, int64_t width, const Projections &p, const void *weight, const float *cos,
                     const float *sin, float *out) {
  float *normed = cos ? floats(p.head) : nullptr;
  for (int64_t i = 0; i < width; i += p.head) {
    norm_by(x + i, p.head, weight, p.wide, p.eps, nullptr, cos ? normed : out + i);
    if (cos) rotate_head(normed, p.head, cos, sin, out + i);
  }
  free(normed);
}

// x [rows, width] -> what is attended with: q [rows, queries], k and v [rows, keys].
inline void project(const Projections &p, const float *x, int64_t rows, const float *cos, const float *sin, float *q,
                    float *k, float *v) {
  const int64_t width = p.parts->in, all = p.queries + p.keys + p.values;
  float *normed = floats(rows * width), *heads = floats(rows * all);
  Scratch *scratch = scratches();
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t r = 0; r < rows; r++)
    norm_by(x + r * width, width, p.input, p.wide, p.eps, nullptr, normed + r * width);
  products(p.parts, p.count, normed, rows, heads, all, scratch);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t r = 0; r < rows; r++) {
    const float *row = heads + r * all, *keys = row + p.queries, *turn = cos + r * p.head, *side = sin + r * p.head;
    heads_of(row, p.queries, p, p.query, turn, side, q + r * p.queries);
    heads_of(keys, p.keys, p, p.key, turn, side, k + r * p.keys);
    heads_of(p.values ? keys + p.keys : keys, p.keys, p, nullptr, nullptr, nullptr, v + r * p.keys);
  }
  free(normed), free(heads), free(scratch);
}

// attended [rows, in] and x [rows, width] -> x behind the attention, and the dense MLP of it, [rows, width] each.
inline void after_attention(const Middle &m, const float *attended, const float *x, int64_t rows, float *out, float *dense) {
  float *normed = floats(rows * m.width), *hidden = floats(rows * 2 * m.inner), *gated = floats(rows * m.inner);
  Scratch *scratch = scratches();
  (m.fine_out ? fine_products : products)(m.out, m.out_count, attended, rows, dense, m.width, scratch);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t at = 0; at < rows * m.width; at += m.width) {
    norm_by(dense + at, m.width, m.post_attention, m.wide, m.eps, x + at, out + at);
    norm_by(out + at, m.width, m.pre_mlp, m.wide, m.eps, nullptr, normed + at);
  }
  products(m.gate_up, m.gate_up_count, normed, rows, hidden, 2 * m.inner, scratch);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t r = 0; r < rows; r++) gate(hidden + r * 2 * m.inner, m.inner, gated + r * m.inner);
  products(m.down, m.down_count, gated, rows, dense, m.width, scratch);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t at = 0; at < rows * m.width; at += m.width)
    norm_by(dense + at, m.width, m.post_mlp, m.wide, m.eps, nullptr, dense + at);
  free(normed), free(hidden), free(gated), free(scratch);
}

// x and dense [rows, width] and the experts chosen -> what leaves the layer.
inline void add_experts(const Routed &e, const float *x, const float *dense, const int64_t *chosen, const float *shares,
                        int64_t rows, int k, float scalar, float *out) {
  float *normed = floats(rows * e.width), *routed = floats(rows * e.width);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t at = 0; at < rows * e.width; at += e.width)
    norm_by(x + at, e.width, e.pre, e.wide, e.eps, nullptr, normed + at);
  routed_sum(e.gate_up, e.gate_up_segments, e.down, e.down_segments, e.experts, normed, chosen, shares, rows, k, routed);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t at = 0; at < rows * e.width; at += e.width) {
    norm_by(routed + at, e.width, e.post, e.wide, e.eps, dense + at, normed + at);
    norm_by(normed + at, e.width, e.last, e.wide, e.eps, x + at, out + at);
    for (int64_t i = 0; i < e.width; i++) out[at + i] *= scalar;
  }
  free(normed), free(routed);
}

// --- the router -------------------------------------------------------------------------------------------------------

constexpr int TOGETHER = 4;  // rows and experts that are multiplied at a time

// Sixteen numbers, to be summed by eights.
#ifdef __AVX512F__
typedef __m512 Sixteen;
template <typename Number>
inline Sixteen sixteen_of(const Number *x) {
  const __m512d even = _mm512_castps_pd(_mm512_castps256_ps512((__m256)eight_of(x)));
  return _mm512_castpd_ps(_mm512_insertf64x4(even, _mm256_castps_pd((__m256)eight_of(x + 8)), 1));
}
inline Sixteen sixteen_of(const float *x) { return _mm512_loadu_ps(x); }
inline Sixteen sixteen_of(const uint16_t *x) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Eight halves_of(Sixteen x) { return eight_of((Many)x, 0) + eight_of((Many)x, 1); }
#else
struct Sixteen {
  Eight even, odd;
};
template <typename Number>
inline Sixteen sixteen_of(const Number *x) {
  return {eight_of(x), eight_of(x + 8)};
}
inline Sixteen fused(const Sixteen &a, const Sixteen &b, const Sixteen &c) {
  return {fused(a.even, b.even, c.even), fused(a.odd, b.odd, c.odd)};
}
inline Eight halves_of(const Sixteen &x) { return x.even + x.odd; }
#endif

// So many rows of x [rows, width], a multiple of 16, times so many rows of weights -> scores, `stride` a row of x.
template <int ROWS, int COUNT, typename Row, typename Number>
inline void scores_of(const Row *x, const Number *weight, int64_t width, float *scores, int64_t stride) {
  const float none[16] = {};
  Sixteen sums[ROWS][COUNT];
  for (int r = 0; r < ROWS; r++)
    for (int e = 0; e < COUNT; e++) sums[r][e] = sixteen_of(none);
  for (int64_t i = 0; i < width; i += 16) {
    Sixteen w[COUNT];
    for (int e = 0; e < COUNT; e++) w[e] = sixteen_of(weight + e * width + i);
    for (int r = 0; r < ROWS; r++) {
      const Sixteen one = sixteen_of(x + r * width + i);
      for (int e = 0; e < COUNT; e++) sums[r][e] = fused(one, w[e], sums[r][e]);
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int e = 0; e < COUNT; e++) {
      const Eight both = halves_of(sums[r][e]);
      float sum = 0;
      for (int i = 0; i < 8; i++) sum += both[i];
      scores[r * stride + e] = sum;
    }
}

template <int ROWS, typename Number>
inline void scores_of_rows(const float *x, const Number *weight, int64_t width, int count, float *scores, int64_t stride) {
  if (count == TOGETHER) scores_of<ROWS, TOGETHER>(x, weight, width, scores, stride);
  else for (int e = 0; e < count; e++) scores_of<ROWS, 1>(x, weight + e * width, width, scores + e, stride);
}

// The best of a row's scores, the first of equals, and their shares of one, times what stands with each.
template <typename Number>
inline void choose(const float *scores, const Router &r, float *shares, int64_t *chosen) {
  uint8_t *taken = (uint8_t *)calloc(r.experts, 1);
  float total = 0;
  for (int j = 0; j < r.chosen; j++) {
    int best = -1;
    for (int e = 0; e < r.experts; e++)
      if (!taken[e] && (best < 0 || scores[e] > scores[best])) best = e;
    taken[best] = 1, chosen[j] = best;
    shares[j] = exponential(all(scores[best] - scores[chosen[0]]))[0];
    total += shares[j];
  }
  for (int j = 0; j < r.chosen; j++)
    shares[j] = shares[j] / total * one_of(((const Number *)r.expert_scale)[chosen[j]]);
  free(taken);
}

constexpr int64_t ROWS_SCORED = 8;  // that are multiplied with the same experts, before others are

// x [rows, width] -> the shares and the numbers of each row's experts, [rows, chosen].
template <typename Number>
void route(const Router &r, const float *x, int64_t rows, float *shares, int64_t *chosen) {
  const float root = (float)pow((double)r.width, -0.5);
  const Number *weight = (const Number *)r.weight, *scale = (const Number *)r.scale;
  float *normed = floats(rows * r.width), *scores = floats(rows * r.experts);
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t at = 0; at < rows * r.width; at += r.width) {
    norm_by(x + at, r.width, nullptr, true, r.eps, nullptr, normed + at);
    for (int64_t i = 0; i < r.width; i += 8)
      put_eight(eight_of(normed + at + i) * eight_of(scale + i) * root, normed + at + i);
  }
  const int64_t blocks = (rows + ROWS_SCORED - 1) / ROWS_SCORED, parts = (r.experts + TOGETHER - 1) / TOGETHER;
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < blocks * parts; task++) {
    const int64_t first = task / parts * ROWS_SCORED, end = first + ROWS_SCORED < rows ? first + ROWS_SCORED : rows;
    const int64_t e = task % parts * TOGETHER;
    const int count = (int)(r.experts - e < TOGETHER ? r.experts - e : TOGETHER);
    for (int64_t row = first; row < end;) {
      const float *x = normed + row * r.width;
      float *to = scores + row * r.experts + e;
      if (row + TOGETHER <= end) scores_of_rows<TOGETHER>(x, weight + e * r.width, r.width, count, to, r.experts), row += TOGETHER;
      else scores_of_rows<1>(x, weight + e * r.width, r.width, count, to, r.experts), row++;
    }
  }
#pragma omp parallel for schedule(static) if (rows > ALONE)
  for (int64_t row = 0; row < rows; row++)
    choose<Number>(scores + row * r.experts, r, shares + row * r.chosen, chosen + row * r.chosen);
  free(normed), free(scores);
}
