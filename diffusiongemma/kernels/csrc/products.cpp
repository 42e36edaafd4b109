// Products of activations, rounded to 8 bits or for AMX to bfloat16, with packed weights, routed experts of them, and how
// logits are read: a plain C interface for ctypes.

#include "attention.h"
#include "blocks.h"
#include "gated.h"
#include "mean.h"
#include "paths.h"

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT int packed_version() { return 12; }

// Bytes of `Weight`, to be compared with the caller's.
EXPORT int packed_weight_size() { return (int)sizeof(Weight); }

// Ask the system for what the instructions need -> whether it was granted.
EXPORT int packed_allowed() { return allowed(); }

// x [rows, in] float32 · weight.T -> out [rows, stride], the outputs of `count` weights side by side; `fine` rounds x less.
EXPORT void packed_product(const Weight *weights, int count, const float *x, int64_t rows, float *out, int64_t stride,
                           int fine) {
  Scratch *scratch = scratches();
  (fine ? fine_products : products)(weights, count, x, rows, out, stride, scratch);
  free(scratch);
}

// `routed_sum`
EXPORT void packed_experts(const Weight *gate_up, int gate_up_segments, const Weight *down, int down_segments, int experts,
                           const float *x, const int64_t *chosen, const float *shares, int64_t tokens, int k, float *out) {
  routed_sum(gate_up, gate_up_segments, down, down_segments, experts, x, chosen, shares, tokens, k, out);
}

// `project`
EXPORT void packed_project(const Projections *p, const float *x, int64_t rows, const float *cos, const float *sin, float *q,
                           float *k, float *v) {
  project(*p, x, rows, cos, sin, q, k, v);
}

// `after_attention`
EXPORT void packed_middle(const Middle *m, const float *attended, const float *x, int64_t rows, float *out, float *dense) {
  after_attention(*m, attended, x, rows, out, dense);
}

// `route`
EXPORT void packed_route(const Router *r, const float *x, int64_t rows, float *shares, int64_t *chosen) {
  if (r->wide) route<float>(*r, x, rows, shares, chosen);
  else route<uint16_t>(*r, x, rows, shares, chosen);
}

// `attend_one`, of float32, bfloat16 or codes of 8 bits (`kind` 0 to 2) from the first token that is seen.
EXPORT void packed_attend(int kind, const float *q, const void *keys, const void *values, int64_t heads, int64_t stride,
                          int64_t tokens, int64_t group, int64_t width, float *out) {
  const auto attend = [&](auto number) {
    typedef decltype(number) Number;
    attend_one(q, (const Number *)keys, (const Number *)values, heads, stride, tokens, group, width, out);
  };
  if (kind == 0) attend(float());
  else if (kind == 1) attend(uint16_t());
  else attend(Signed());
}

// `add_experts`
EXPORT void packed_routed(const Routed *e, const float *x, const float *dense, const int64_t *chosen, const float *shares,
                          int64_t rows, int k, float scalar, float *out) {
  add_experts(*e, x, dense, chosen, shares, rows, k, scalar, out);
}

// shares [rows, tokens] · weight [tokens, in] -> out [rows, in], without the smallest shares of a row, `left_out` in sum.
EXPORT void packed_mean(const Weight *w, const float *shares, int64_t rows, float left_out, float *out) {
  const int64_t tokens = w->out, slices = (w->in + SLICE - 1) / SLICE;
  const Shape shape = shape_of(*w);
  float *least = (float *)malloc(sizeof(float) * rows);
#pragma omp parallel
  {
    double *bins = (double *)malloc(sizeof(double) << 12);
    float *room = (float *)malloc(sizeof(float) * (tokens + SPARE));
#pragma omp for schedule(dynamic)
    for (int64_t r = 0; r < rows; r++) least[r] = least_kept(shares + r * tokens, tokens, left_out, bins, room);
    free(bins), free(room);
  }
  memset(out, 0, sizeof(float) * rows * w->in);
  const int64_t most = rows * NEAR + SPARE;  // of a block
  float *kept = (float *)malloc(sizeof(float) * most * BLOCKS);
  int32_t *places = (int32_t *)malloc(sizeof(int32_t) * most * BLOCKS);
  uint8_t *counts = (uint8_t *)malloc(rows * BLOCKS);
  Block found[BLOCKS];
  for (int64_t token0 = 0; token0 < tokens; token0 += NEAR * BLOCKS) {
    const int blocks = (int)((tokens - token0 < NEAR * BLOCKS ? tokens - token0 : NEAR * BLOCKS) + NEAR - 1) / NEAR;
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < blocks; i++) {
      const int64_t first = token0 + i * NEAR;
      const int count = (int)(tokens - first < NEAR ? tokens - first : NEAR);
      kept_of_rows(shares, least, rows, tokens, first, count, kept + most * i, places + most * i, counts + rows * i, found[i]);
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t slice = 0; slice < slices; slice++) {
      const int64_t k0 = slice * SLICE;
      const int kn = (int)(w->in - k0 < SLICE ? w->in - k0 : SLICE);
      for (int i = 0; i < blocks; i++) add_tokens(*w, shape, found[i], token0 + i * NEAR, k0, kn, out);
    }
  }
  free(counts), free(kept), free(places), free(least);
}

// Soft-capped logits [rows, tokens] become probabilities under temperature [rows]; readings [rows] say what of them
// counts. `drawn` is the argmax where `greedy`.
EXPORT void packed_read(float *logits, int64_t rows, int64_t tokens, const float *temperature, const float *uniforms,
                        const uint8_t *greedy, Reading *readings) {
#pragma omp parallel for schedule(dynamic)
  for (int64_t r = 0; r < rows; r++) {
    double *sums = (double *)malloc(sizeof(double) * (tokens / READ_BLOCK + 1));
    readings[r] = read_row(logits + r * tokens, tokens, temperature[r], uniforms[r], greedy[r], sums);
    free(sums);
  }
}

// Rows [rows, width] of bfloat16, or `wide` float32, over their root mean square, times `weight` [width] or as they are,
// added to `sum` [rows, width] if there is one -> out.
EXPORT void packed_norm(const void *x, int64_t rows, int64_t width, const void *weight, float eps, const void *sum,
                        void *out, int wide) {
  if (wide) norm_rows<float>(x, rows, width, weight, eps, sum, out);
  else norm_rows<uint16_t>(x, rows, width, weight, eps, sum, out);
}

// x [rows, heads, width] of bfloat16 or float32, each row rotated by its cos and sin [rows, width] -> out.
EXPORT void packed_rotate(const void *x, int64_t rows, int64_t heads, int64_t width, const void *cos, const void *sin,
                          void *out, int wide) {
  if (wide) rotate_rows<float>(x, rows, heads, width, cos, sin, out);
  else rotate_rows<uint16_t>(x, rows, heads, width, cos, sin, out);
}

// Rows of bfloat16 [rows, width] become their softmax.
EXPORT void packed_softmax(uint16_t *x, int64_t rows, int64_t width) {
#pragma omp parallel if (rows * width > 32768)
  {
    float *weights = (float *)malloc(sizeof(float) * width);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) softmax_row(x + r * width, width, weights);
    free(weights);
  }
}

// x [count] becomes cap · tanh(x / cap).
EXPORT void packed_cap(float *x, int64_t count, float cap) {
  const int64_t even = count / MANY * MANY;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < even; i += MANY) *(Many *)(x + i) = capped(*(Many *)(x + i), cap);
  for (int64_t i = even; i < count; i++) x[i] = capped(all(x[i]), cap)[0];
}

// `gated_rows`
EXPORT void packed_gated(Strided gate, Strided up, const float *share, int64_t rows, int64_t width, float *out) {
  gated_rows(gate, up, share, rows, width, out);
}

// `gated_gradients`
EXPORT void packed_gated_gradients(Strided gate, Strided up, const float *share, const float *of_out, int64_t rows,
                                   int64_t width, Strided of_gate, Strided of_up, float *of_share) {
  gated_gradients(gate, up, share, of_out, rows, width, of_gate, of_up, of_share);
}

// What the scores [rows, tokens] say of blocks and classes: `sum_blocks` and `sum_classes`, row by row.
EXPORT void packed_class_sums(const float *scores, int64_t rows, int64_t tokens, const Blocks *blocks, float *weight,
                              float *best, float *mass, float *tilt, float *share, double *class_best,
                              double *class_mass) {
  const int64_t count = blocks->tiles * BLOCKS_OF_TILE, classes = blocks->classes;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const int64_t i = r * count;
    sum_blocks(scores + r * tokens, *blocks, weight + i * blocks->width, best + i, mass + i, tilt + i);
    sum_classes(*blocks, best + i, mass + i, share + i, class_best + r * classes, class_mass + r * classes);
  }
}

// `find_paths`
EXPORT int64_t packed_paths(const Lattice *lattice, const Paths *paths) { return find_paths(*lattice, *paths); }

// `joint_shares`
EXPORT int packed_joint_shares(const Lattice *lattice, const double *weights, double *shares) {
  return joint_shares(*lattice, weights, shares);
}

// `wide_joint_shares`
EXPORT void packed_wide_joint_shares(const Lattice *lattice, const double *log_weights, double *shares) {
  wide_joint_shares(*lattice, log_weights, shares);
}

// `best_path`
EXPORT void packed_best_path(const Lattice *lattice, const double *scores, int64_t *best) {
  best_path(*lattice, scores, best);
}
}
