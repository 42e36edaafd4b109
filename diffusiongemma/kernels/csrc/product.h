// Packed weights times rows in full precision, which are rounded to 8 bits first; and routed experts of them.
#pragma once

#include <cmath>
#include <cstdlib>

#include "direct.h"

#ifdef _OPENMP
extern "C" int omp_get_max_threads(void);
extern "C" int omp_get_thread_num(void);
#else
static int omp_get_max_threads() { return 1; }
static int omp_get_thread_num() { return 0; }
#endif

struct Scratch {
  Tile tiles[TILES];
  Direct direct;
  alignas(64) float acc[(ROW_BLOCK + SPARE_ROWS) * WIDTH];
};

// Inputs in blocks of as many as fit, of `n` rows: acc [n][WIDTH].
void tiles_of_rows(const Weight &w, const Shape &shape, int64_t row0, const Activations &a, int64_t first, int n,
                   Scratch &s) {
  const Tiles tiles(tile_rows(n), shape.group);
  for (int64_t k0 = 0; k0 < w.in; k0 += K_BLOCK) {
    const int kn = (int)(w.in - k0 < K_BLOCK ? w.in - k0 : K_BLOCK);
    Slice slice = {a, first, k0, k0 / shape.group, kn / shape.group, {nullptr, nullptr}};
    for (int i = 0; i < TILES; i++) {
      const Place place = place_of(w, row0 + i * OUTS, k0, kn);
      decode_codes(w, shape, place, k0, kn, s.tiles[i]);
      decode_scales(w, shape, place.row, place.rows, k0, kn, s.tiles[i].scales, s.tiles[i].offsets);
      slice.ahead = place.ahead;
    }
    if (shape.offsets) multiply_rows<true>(shape, slice, n, s.tiles, s.acc);
    else multiply_rows<false>(shape, slice, n, s.tiles, s.acc);
  }
}

void tiles_of_few(const Weight &w, const Shape &shape, int64_t row0, const Activations &a, int64_t first, int n,
                  Scratch &s) {
  for (int i = 0; i < TILES && row0 + i * OUTS < w.out; i++) {
    const Place place = place_of(w, row0 + i * OUTS, 0, 0);
    for (int64_t k0 = 0; k0 < w.in; k0 += DIRECT_BLOCK) {
      const int kn = (int)(w.in - k0 < DIRECT_BLOCK ? w.in - k0 : DIRECT_BLOCK);
      rows_direct(w, shape, place, a, first, n, k0, kn, s.direct, s.acc + i * OUTS);
    }
  }
}

// Rows first .. first + rows of the activations times WIDTH outputs of a weight -> out[row * stride + output].
void tile_product(const Weight &w, int64_t row0, const Activations &a, int64_t first, int64_t rows, float *out,
                  int64_t stride, Scratch &s) {
  const Shape shape = shape_of(w);
  const int64_t outs = w.out - row0 < WIDTH ? w.out - row0 : WIDTH;
  const auto product = is_direct(w, shape, rows) ? tiles_of_few : tiles_of_rows;
  for (int64_t r0 = 0; r0 < rows; r0 += ROW_BLOCK) {
    const int n = (int)(rows - r0 < ROW_BLOCK ? rows - r0 : ROW_BLOCK);
    memset(s.acc, 0, sizeof(float) * n * WIDTH);
    product(w, shape, row0, a, first + r0, n, s);
    for (int r = 0; r < n; r++) memcpy(out + (r0 + r) * stride + row0, s.acc + r * WIDTH, sizeof(float) * outs);
  }
}

// The parts of one buffer that hold activations in 8 bits.
struct Owned {
  int8_t *codes;
  float *scales, *sums;
  int32_t *zeros;
  int64_t in, groups, rows;
  Activations view() const { return {codes, scales, zeros, sums, in, rows}; }
};

Owned owned(int64_t rows, int64_t in, int group) {
  int64_t groups = in / group;
  rows += SPARE_ROWS;
  char *memory = (char *)aligned_alloc(64, (rows * (in + 12 * groups) + 256) / 64 * 64 + 64);
  Owned o = {nullptr, (float *)memory, nullptr, nullptr, in, groups, rows};
  o.sums = o.scales + rows * groups;
  o.zeros = (int32_t *)(o.sums + rows * groups);
  o.codes = (int8_t *)(o.zeros + rows * groups);
  return o;
}

inline float largest_of(const float *x, int group) {
#ifdef __AVX2__
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 most = _mm256_and_ps(_mm256_loadu_ps(x), magnitude);
  for (int i = 8; i < group; i += 8) most = _mm256_max_ps(most, _mm256_and_ps(_mm256_loadu_ps(x + i), magnitude));
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
#else
  float most = 0;
  for (int i = 0; i < group; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  return most;
#endif
}

// The codes of a group, of each eight inputs the even ones first if asked for, and their sum.
inline int32_t round_group(const float *x, int group, float inverse, bool even_odd, int8_t *codes) {
#ifdef __AVX2__
  const __m256 factor = _mm256_set1_ps(inverse);
  const __m128i order = _mm_set1_epi64x(even_odd ? 0x0705030106040200 : 0x0706050403020100);
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < group; i += 8) {
    const __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
    sum = _mm256_add_epi32(sum, whole);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)(codes + i), _mm_shuffle_epi8(_mm_packs_epi16(words, words), order));
  }
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(four) + _mm_extract_epi32(four, 1);
#else
  int32_t sum = 0;
  for (int i = 0; i < group; i++) {
    const int place = even_odd ? (i & ~7) + (i & 7) / 2 + (i & 1) * 4 : i;
    codes[place] = (int8_t)lrintf(x[i] * inverse);
    sum += codes[place];
  }
  return sum;
#endif
}

// One row in 8 bits, a scale a group, in the order that the weight's tiles have.
void round_row(const float *x, const Shape &s, Owned &o, int64_t row) {
  for (int64_t g = 0; g < o.groups; g++) {
    const float *part = x + g * s.group;
    int8_t *codes = o.codes + row * o.in + g * s.group;
    const float most = largest_of(part, s.group);
    const int32_t sum = round_group(part, s.group, most > 0 ? 127.0f / most : 0.0f, s.even_odd, codes);
    const int64_t at = g * o.rows + row;
    o.scales[at] = most / 127.0f;
    o.sums[at] = (float)sum * o.scales[at];
    o.zeros[at] = s.zero * sum;
  }
}

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

// Tiles that a thread takes at a time: long stretches, as the bytes asked for at the end of one are another thread's, and
// of few rows the longest, as memory is fastest so.
int chunk_of(int64_t tiles, int64_t rows) {
  const int64_t share = tiles / ((rows <= FEW ? 4 : 8) * omp_get_max_threads()), most = rows <= FEW ? tiles : 16 / TILES;
  return (int)(share < 4 / TILES ? 4 / TILES : share < most ? share : most);
}

inline int64_t tiles_of(const Weight &w) { return (w.out + WIDTH - 1) / WIDTH; }

inline bool rounded_alike(const Shape &a, const Shape &b) {
  return a.group == b.group && a.zero == b.zero && a.even_odd == b.even_odd;
}

// x [rows, in] times `count` matrices -> their outputs side by side, out [rows, stride].
void products(const Weight *parts, int count, const float *x, int64_t rows, float *out, int64_t stride,
              Scratch *scratch) {
  int64_t column = 0;
  for (int first = 0, last = 0; first < count; first = last) {
    const Shape shape = shape_of(parts[first]);
    int64_t tiles = 0;
    while (last < count && rounded_alike(shape_of(parts[last]), shape)) tiles += tiles_of(parts[last++]);
    Owned o = owned(rows, parts[first].in, shape.group);
#pragma omp parallel for schedule(static) if (rows > ALONE)
    for (int64_t r = 0; r < rows; r++) round_row(x + r * parts[first].in, shape, o, r);
#pragma omp parallel for schedule(dynamic, chunk_of(tiles, rows))
    for (int64_t task = 0; task < tiles; task++) {
      const Weight *part = parts + first;
      int64_t tile = task, at = column;
      for (; tile >= tiles_of(*part); part++) tile -= tiles_of(*part), at += part->out;
      tile_product(*part, tile * WIDTH, o.view(), 0, rows, out + at, stride, scratch[omp_get_thread_num()]);
    }
    for (int i = first; i < last; i++) column += parts[i].out;
    free(o.scales);
  }
}

// Every expert's slots, which stand one behind the other, times its weights.
void grouped_product(const Weight *weights, int segments, const int64_t *starts, int experts, const Activations &a,
                     float *out, Scratch *scratch) {
  const int64_t width = rows_of(weights, segments);
  int64_t *begin = (int64_t *)malloc(sizeof(int64_t) * (segments + experts)), *used = begin + segments;
  int64_t units = 0, count = 0;
  for (int i = 0; i < segments; i++) begin[i] = units, units += (weights[i].out + WIDTH - 1) / WIDTH;
  for (int e = 0; e < experts; e++)
    if (starts[e + 1] > starts[e]) used[count++] = e;
#pragma omp parallel for schedule(dynamic, chunk_of(count * units, count ? starts[experts] / count : 0))
  for (int64_t task = 0; task < count * units; task++) {
    const int64_t expert = used[task / units], rows = starts[expert + 1] - starts[expert];
    int segment = segments - 1;
    while (begin[segment] > task % units) segment--;
    int64_t column = 0;
    for (int i = 0; i < segment; i++) column += weights[expert * segments + i].out;
    tile_product(weights[expert * segments + segment], (task % units - begin[segment]) * WIDTH, a, starts[expert], rows,
                 out + starts[expert] * width + column, width, scratch[omp_get_thread_num()]);
  }
  free(begin);
}

// Routed experts: x [tokens, in], chosen and shares [tokens, k] -> out [tokens, in] = Σ share · down(gelu(gate) · up).
// The experts of a token are added in the order of their numbers.
void routed_sum(const Weight *gate_up, int gate_up_segments, const Weight *down, int down_segments, int experts,
                const float *x, const int64_t *chosen, const float *shares, int64_t tokens, int k, float *out) {
  const int64_t in = gate_up->in, width = down->in, slots = tokens * k, outs = rows_of(down, down_segments);
  const Shape first = shape_of(*gate_up), second = shape_of(*down);
  int64_t *starts = (int64_t *)calloc(experts + 2, sizeof(int64_t)), *order = (int64_t *)malloc(slots * sizeof(int64_t));
  int64_t *places = (int64_t *)malloc(slots * sizeof(int64_t));
  for (int64_t i = 0; i < slots; i++) starts[chosen[i] + 2]++;
  for (int e = 0; e < experts; e++) starts[e + 2] += starts[e + 1];
  for (int64_t i = 0; i < slots; i++) places[i] = starts[chosen[i] + 1]++, order[places[i]] = i;

  Scratch *scratch = scratches();
  Owned a = owned(slots, in, first.group), b = owned(slots, width, second.group);
  float *hidden = (float *)malloc(sizeof(float) * slots * 2 * width);
  float *parts = (float *)malloc(sizeof(float) * slots * outs);
#pragma omp parallel for schedule(static) if (tokens > ALONE)
  for (int64_t slot = 0; slot < slots; slot++) round_row(x + order[slot] / k * in, first, a, slot);
  grouped_product(gate_up, gate_up_segments, starts, experts, a.view(), hidden, scratch);
#pragma omp parallel for schedule(static)
  for (int64_t slot = 0; slot < slots; slot++) {
    float *row = hidden + slot * 2 * width;
    gate(row, width, row);
    round_row(row, second, b, slot);
  }
  grouped_product(down, down_segments, starts, experts, b.view(), parts, scratch);
#pragma omp parallel for schedule(static) if (tokens > ALONE)
  for (int64_t token = 0; token < tokens; token++) {
    float *row = out + token * outs;
    memset(row, 0, sizeof(float) * outs);
    bool done[256] = {};
    for (int step = 0; step < k; step++) {
      int best = -1;
      for (int j = 0; j < k; j++)
        if (!done[j] && (best < 0 || chosen[token * k + j] < chosen[token * k + best])) best = j;
      done[best] = true;
      const float share = shares[token * k + best], *part = parts + places[token * k + best] * outs;
      for (int64_t i = 0; i < outs; i++) row[i] = __builtin_fmaf(share, part[i], row[i]);
    }
  }
  free(starts), free(order), free(places), free(scratch), free(a.scales), free(b.scales), free(hidden), free(parts);
}
