// Packed weights times rows in full precision, which are rounded first, to 8 bits or for AMX to bfloat16; and routed
// experts of them.
#pragma once

#include <cmath>
#include <cstdlib>

#ifdef __AMX_BF16__
#include "tiles.h"
#else
#include "narrow.h"
#endif

#ifdef _OPENMP
extern "C" int omp_get_max_threads(void);
extern "C" int omp_get_thread_num(void);
#else
static int omp_get_max_threads() { return 1; }
static int omp_get_thread_num() { return 0; }
#endif

inline void put_outputs(const float *tile, int64_t outs, float *to) {
  if (outs == WIDTH) memcpy(to, tile, sizeof(float) * WIDTH);  // a size that the compiler knows
  else memcpy(to, tile, sizeof(float) * outs);
}

inline int64_t outs_of_tile(const Weight &w, int64_t row0) { return w.out - row0 < WIDTH ? w.out - row0 : WIDTH; }

// tanh from one exponential, within 2e-7 of the true one; every element rounds alike wherever it stands.
inline float tanh_of(float x) {
  float twice = 2.0f * x, y = (twice > 20.0f ? 20.0f : twice < -20.0f ? -20.0f : twice) * 1.44269504f;  // e^2x = 2^y
  float whole = nearbyintf(y), f = y - whole;
  float p = 1.8775767e-3f;
  p = __builtin_fmaf(p, f, 8.9893397e-3f);
  p = __builtin_fmaf(p, f, 5.5826318e-2f);
  p = __builtin_fmaf(p, f, 2.4015361e-1f);
  p = __builtin_fmaf(p, f, 6.9315308e-1f);
  p = __builtin_fmaf(p, f, 9.9999994e-1f);
  int32_t bits = ((int32_t)whole + 127) << 23;
  float power;
  memcpy(&power, &bits, 4);
  float e = p * power;
  return (e - 1.0f) / (e + 1.0f);
}

inline float gelu(float x) {
  return 0.5f * x * (1.0f + tanh_of(0.79788456f * (x + 0.044715f * x * x * x)));
}

// gelu(x) · y of x and y [width] that stand one behind the other.
inline void gate(const float *x, int64_t width, float *out) {
  for (int64_t i = 0; i < width; i++) out[i] = gelu(x[i]) * x[width + i];
}

constexpr int64_t ALONE = 3;  // rows, at most, that are not worth sharing out where no weights are read

Scratch *scratches() { return (Scratch *)aligned_alloc(alignof(Scratch), sizeof(Scratch) * omp_get_max_threads()); }

// Experts' weights stand in segments of equal number an expert: gate above up, or both in one.
int64_t rows_of(const Weight *segments, int count) {
  int64_t rows = 0;
  for (int i = 0; i < count; i++) rows += segments[i].out;
  return rows;
}

// Tasks that a thread takes at a time: long stretches, as memory is fastest so, of few rows the longest.
int chunk_of(int64_t tasks, int64_t rows) {
  const int64_t share = tasks / ((rows <= FEW ? 4 : 8) * omp_get_max_threads()), most = rows <= FEW ? tasks : 32 / TILES;
  return (int)(share < 4 / TILES ? 4 / TILES : share < most ? share : most);
}

// The task that a thread has after this one; behind the last of a chunk the one it has if all threads are as fast.
inline int64_t after(int64_t task, int chunk) {
  return ++task % chunk ? task : task + (int64_t)chunk * (omp_get_max_threads() - 1);
}

// Tiles of an expert that a thread takes of one after the other expert.
int columns_of(int64_t tiles, int64_t rows) {
  const int64_t threads = omp_get_max_threads(), share = (tiles + threads - 1) / threads, most = 8 / TILES;
  if (rows <= FEW) return (int)share;
  return (int)(share / 4 < 1 ? 1 : share / 4 < most ? share / 4 : most);
}

inline int64_t tiles_of(const Weight &w) { return (w.out + WIDTH - 1) / WIDTH; }

int64_t units_of(const Weight *segments, int count) {
  int64_t tiles = 0;
  for (int i = 0; i < count; i++) tiles += tiles_of(segments[i]);
  return tiles;
}

// The tile of this number among those of several weights, of which there are `count`; `column` becomes that of its weight.
inline Next tile_at(const Weight *parts, int64_t tile, int64_t *column, int64_t count = INT64_MAX) {
  if (tile >= count) return {nullptr, 0};
  for (; tile >= tiles_of(*parts); parts++) {
    tile -= tiles_of(*parts);
    if (column) *column += parts->out;
  }
  return {parts, tile * WIDTH};
}

// x [rows, in] times `count` matrices -> their outputs side by side, out [rows, stride].
void products(const Weight *parts, int count, const float *x, int64_t rows, float *out, int64_t stride,
              Scratch *scratch) {
  int64_t column = 0;
  for (int first = 0, last = 0; first < count; first = last) {
    const Shape shape = shape_of(parts[first]);
    int64_t tiles = 0;
    while (last < count && rounded_alike(shape_of(parts[last]), shape)) tiles += tiles_of(parts[last++]);
    const int64_t in = parts[first].in;
    Owned o = owned(rows, in, shape);
#pragma omp parallel for schedule(static) if (rows > ALONE)
    for (int64_t r = 0; r < rows; r += ROUNDED)
      round_rows([&](int64_t row) { return x + row * in; }, in, shape, o, r, rows - r < ROUNDED ? rows - r : ROUNDED);
    const int chunk = chunk_of(tiles, rows);
#pragma omp parallel for schedule(dynamic, chunk)
    for (int64_t task = 0; task < tiles; task++) {
      int64_t at = column;
      const Next here = tile_at(parts + first, task, &at), next = tile_at(parts + first, after(task, chunk), nullptr, tiles);
      const int64_t outs = outs_of_tile(*here.w, here.row0);
      float *to = out + at + here.row0;
      tile_product(*here.w, here.row0, next, o.view(), 0, rows, scratch[omp_get_thread_num()],
                   [&](int64_t row, const float *tile) { put_outputs(tile, outs, to + row * stride); });
    }
    for (int i = first; i < last; i++) column += parts[i].out;
    o.release();
  }
}

// The same with activations of twice the bits: what rounding leaves of them is multiplied too.
void fine_products(const Weight *parts, int count, const float *x, int64_t rows, float *out, int64_t stride,
                   Scratch *scratch) {
  for (int first = 0, last = 0; first < count; first = last) {
    const Shape shape = shape_of(parts[first]);
    const int64_t in = parts[first].in;
    while (last < count && rounded_alike(shape_of(parts[last]), shape)) last++;
    const int64_t width = rows_of(parts + first, last - first);
    float *rests = (float *)malloc(sizeof(float) * rows * in), *more = (float *)malloc(sizeof(float) * rows * width);
    for (int64_t r = 0; r < rows; r++) rest_of_row(x + r * in, in, shape, rests + r * in);
    products(parts + first, last - first, x, rows, out, stride, scratch);
    products(parts + first, last - first, rests, rows, more, width, scratch);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < width; i++) out[r * stride + i] += more[r * width + i];
    out += width;
    free(rests), free(more);
  }
}

// Who is at work on which tokens: slots, sorted by expert, hold the numbers of their places in [tokens, k].
struct Routing {
  int64_t *starts, *order, *used;  // the first slot of each expert; places; experts that have any slots
  int64_t *rounded;                // the first row of each expert where rows are rounded together
  int64_t slots, count, all_rounded;

  Routing(const int64_t *chosen, int64_t slots, int experts) : slots(slots), count(0) {
    starts = (int64_t *)calloc(experts + 2, sizeof(int64_t));
    order = (int64_t *)malloc(slots * sizeof(int64_t));
    used = (int64_t *)malloc(experts * sizeof(int64_t));
    rounded = (int64_t *)calloc(experts + 1, sizeof(int64_t));
    for (int64_t i = 0; i < slots; i++) starts[chosen[i] + 2]++;
    for (int e = 0; e < experts; e++) starts[e + 2] += starts[e + 1];
    for (int64_t i = 0; i < slots; i++) order[starts[chosen[i] + 1]++] = i;
    for (int e = 0; e < experts; e++) {
      if (rows(e)) used[count++] = e;
      rounded[e + 1] = rounded[e] + (rows(e) + ROUNDED - 1) / ROUNDED * ROUNDED;
    }
    all_rounded = rounded[experts];
  }
  ~Routing() { free(starts), free(order), free(used), free(rounded); }
  int64_t rows(int64_t expert) const { return starts[expert + 1] - starts[expert]; }
  int64_t usual() const { return count ? slots / count : 0; }
};

// The rows of one expert among those that are rounded.
inline Owned rows_of_expert(const Owned &all, const Routing &r, int64_t expert) {
  return all.part(r.rounded[expert], r.rows(expert));
}

// Every expert's slots times its weights -> out [slots, width].
void expert_products(const Weight *weights, int segments, const Routing &r, const Owned &a, float *out, Scratch *scratch) {
  const int64_t width = rows_of(weights, segments), tasks = r.count * units_of(weights, segments);
  const int chunk = chunk_of(tasks, r.usual());
  const auto tile = [&](int64_t task, int64_t *column) {
    const int64_t units = units_of(weights, segments);
    return task < tasks ? tile_at(weights + r.used[task / units] * segments, task % units, column) : Next{nullptr, 0};
  };
#pragma omp parallel for schedule(dynamic, chunk)
  for (int64_t task = 0; task < tasks; task++) {
    int64_t column = 0;
    const Next here = tile(task, &column), next = tile(after(task, chunk), nullptr);
    const int64_t expert = (here.w - weights) / segments, outs = outs_of_tile(*here.w, here.row0);
    float *to = out + r.starts[expert] * width + column + here.row0;
    tile_product(*here.w, here.row0, next, rows_of_expert(a, r, expert).view(), 0, r.rows(expert), scratch[omp_get_thread_num()],
                 [&](int64_t row, const float *tile) { put_outputs(tile, outs, to + row * width); });
  }
}

// Every expert's slots times its weights, times their shares, are added to their tokens' rows of out [tokens, width]:
// a thread takes some columns of all experts, so that each token's experts are added in the order of their numbers.
void expert_sums(const Weight *weights, int segments, const Routing &r, const Owned &a, const float *shares, int k,
                 float *out, Scratch *scratch) {
  const int64_t width = rows_of(weights, segments), units = units_of(weights, segments);
  const int chunk = columns_of(units, r.usual());
#pragma omp parallel for schedule(dynamic)
  for (int64_t first = 0; first < units; first += chunk) {
    const int64_t some = units - first < chunk ? units - first : chunk;
    const auto tile = [&](int64_t task, int64_t *column) {
      return task < r.count * some ? tile_at(weights + r.used[task / some] * segments, first + task % some, column)
                                   : Next{nullptr, 0};
    };
    for (int64_t task = 0; task < r.count * some; task++) {
      int64_t column = 0;
      const Next here = tile(task, &column), next = tile(task + 1, nullptr);
      const int64_t expert = r.used[task / some], outs = outs_of_tile(*here.w, here.row0);
      const int64_t *places = r.order + r.starts[expert];
      tile_product(*here.w, here.row0, next, rows_of_expert(a, r, expert).view(), 0, r.rows(expert),
                   scratch[omp_get_thread_num()], [&](int64_t row, const float *tile) {
                     float *to = out + places[row] / k * width + column + here.row0;
                     const float share = shares[places[row]];
                     for (int64_t i = 0; i < outs; i++) to[i] = __builtin_fmaf(share, tile[i], to[i]);
                   });
    }
  }
}

// Routed experts: x [tokens, in], chosen and shares [tokens, k] -> out [tokens, in] = Σ share · down(gelu(gate) · up).
// The experts of a token are added in the order of their numbers.
void routed_sum(const Weight *gate_up, int gate_up_segments, const Weight *down, int down_segments, int experts,
                const float *x, const int64_t *chosen, const float *shares, int64_t tokens, int k, float *out) {
  const int64_t in = gate_up->in, width = down->in;
  const Shape first = shape_of(*gate_up), second = shape_of(*down);
  const Routing r(chosen, tokens * k, experts);
  Scratch *scratch = scratches();
  Owned a = owned(r.all_rounded, in, first), b = owned(r.all_rounded, width, second);
  float *hidden = (float *)malloc(sizeof(float) * r.slots * 2 * width);
#pragma omp parallel for schedule(dynamic) if (tokens > ALONE)
  for (int64_t i = 0; i < r.count; i++) {
    const int64_t expert = r.used[i], *places = r.order + r.starts[expert];
    const auto row = [&](int64_t slot) { return x + places[slot] / k * in; };
    round_rows(row, in, first, rows_of_expert(a, r, expert), 0, r.rows(expert));
  }
  expert_products(gate_up, gate_up_segments, r, a, hidden, scratch);
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < r.count; i++) {
    const int64_t expert = r.used[i], rows = r.rows(expert);
    float *own = hidden + r.starts[expert] * 2 * width;
    for (int64_t slot = 0; slot < rows; slot++) gate(own + slot * 2 * width, width, own + slot * 2 * width);
    round_rows([&](int64_t slot) { return own + slot * 2 * width; }, width, second, rows_of_expert(b, r, expert), 0, rows);
  }
  memset(out, 0, sizeof(float) * tokens * rows_of(down, down_segments));
  expert_sums(down, down_segments, r, b, shares, k, out, scratch);
  a.release(), b.release(), free(scratch), free(hidden);
}
