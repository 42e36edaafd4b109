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
void tiles_of_rows(const Weight &w, const Shape &shape, int64_t row0, const Next &next, const Activations &a, int64_t first,
                   int n, Scratch &s) {
  const Tiles tiles(tile_rows(n), shape.group);
  const Ahead codes = codes_ahead(next, WIDTH), scales = scales_ahead(next, WIDTH);
  for (int64_t k0 = 0; k0 < w.in; k0 += K_BLOCK) {
    const int kn = (int)(w.in - k0 < K_BLOCK ? w.in - k0 : K_BLOCK);
    const Ahead ahead = codes.part(k0, k0 + kn, w.in), none = {nullptr, nullptr};
    const Slice slice = {a, first, k0, k0 / shape.group, kn / shape.group, ASKED_DECODING ? none : ahead};
    scales.part(k0, k0 + kn, w.in).fetch_all();
    for (int i = 0; i < TILES; i++) {
      const Place place = place_of(w, row0 + i * OUTS);
      decode_codes(w, shape, place, k0, kn, s.tiles[i], ASKED_DECODING ? ahead.part(i, TILES) : none);
      decode_scales(w, shape, place.row, place.rows, k0, kn, s.tiles[i].scales, s.tiles[i].offsets);
    }
    if (shape.offsets) multiply_rows<true>(shape, slice, n, s.tiles, s.acc);
    else multiply_rows<false>(shape, slice, n, s.tiles, s.acc);
  }
}

void tiles_of_few(const Weight &w, const Shape &shape, int64_t row0, const Next &next, const Activations &a, int64_t first,
                  int n, Scratch &s) {
  for (int i = 0; i < TILES && row0 + i * OUTS < w.out; i++) {
    const int64_t row = row0 + i * OUTS, behind = row + OUTS;
    const Place place = place_of(w, row);
    const Next then = i + 1 < TILES && behind < w.out ? Next{&w, behind} : next;
    for (int64_t k0 = 0; k0 < w.in; k0 += DIRECT_BLOCK) {
      const int kn = (int)(w.in - k0 < DIRECT_BLOCK ? w.in - k0 : DIRECT_BLOCK);
      rows_direct(w, shape, place, then, a, first, n, k0, kn, s.direct, s.acc + i * OUTS);
    }
  }
}

// Rows first .. first + rows of the activations times WIDTH outputs of a weight: `put(row, outputs)` takes each.
template <typename Put>
void tile_product(const Weight &w, int64_t row0, const Next &next, const Activations &a, int64_t first, int64_t rows,
                  Scratch &s, Put put) {
  const Shape shape = shape_of(w);
  const auto product = is_direct(w, shape, rows) ? tiles_of_few : tiles_of_rows;
  for (int64_t r0 = 0; r0 < rows; r0 += ROW_BLOCK) {
    const int n = (int)(rows - r0 < ROW_BLOCK ? rows - r0 : ROW_BLOCK);
    memset(s.acc, 0, sizeof(float) * n * WIDTH);
    product(w, shape, row0, next, a, first + r0, n, s);
    for (int r = 0; r < n; r++) put(r0 + r, s.acc + r * WIDTH);
  }
}

inline void put_outputs(const float *tile, int64_t outs, float *to) {
  if (outs == WIDTH) memcpy(to, tile, sizeof(float) * WIDTH);  // a size that the compiler knows
  else memcpy(to, tile, sizeof(float) * outs);
}

inline int64_t outs_of_tile(const Weight &w, int64_t row0) { return w.out - row0 < WIDTH ? w.out - row0 : WIDTH; }

// The parts of one buffer that hold activations in 8 bits. Of a group's numbers there are `rows`, those of spare rows too.
struct Owned {
  int8_t *codes;
  float *scales, *sums;
  int32_t *zeros;
  int64_t in, groups, rows;
  Activations view() const { return {codes, scales, zeros, sums, in, rows}; }

  // `count` rows of a buffer in which the rows from `first` on stand apart from others, groups beside each other.
  Owned part(int64_t first, int64_t count) const {
    const int64_t at = first * groups;
    return {codes + first * in, scales + at, sums + at, zeros + at, in, groups, count};
  }
};

// Groups an odd number of lines apart, so that they do not crowd the same places of the first cache.
inline int64_t padded(int64_t rows) { return rows > 16 ? (rows + 15) / 32 * 32 + 16 : rows; }

Owned owned(int64_t rows, int64_t in, int group) {
  int64_t groups = in / group;
  rows = padded(rows + SPARE_ROWS);
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
#elif defined(NEON)
  float32x4_t most = vabsq_f32(vld1q_f32(x));
  for (int i = 4; i < group; i += 4) most = vmaxnmq_f32(most, vabsq_f32(vld1q_f32(x + i)));
  return vmaxnmvq_f32(most);
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
#elif defined(NEON)
  int32x4_t sum = vdupq_n_s32(0);
  for (int i = 0; i < group; i += 8) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
    sum = vaddq_s32(sum, vaddq_s32(low, high));
    const int8x8_t eight = vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high)));
    const int32x2_t even = vreinterpret_s32_s8(vuzp1_s8(eight, eight)), odd = vreinterpret_s32_s8(vuzp2_s8(eight, eight));
    vst1_s8(codes + i, even_odd ? vreinterpret_s8_s32(vzip1_s32(even, odd)) : eight);
  }
  return vaddvq_s32(sum);
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

#ifdef __AVX512VNNI__

// Sixteen groups of a row at once, the same numbers.
template <int GROUP>
inline void round_groups(const float *x, const Shape &s, const Owned &o, int64_t row, int64_t g0) {
  constexpr int PARTS = GROUP / 16;
  const auto most_of = [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); };  // bits of no sign are in order
  const auto sum_of = [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); };
  const int64_t eight = s.even_odd ? 0x0705030106040200 : 0x0706050403020100;
  const __m128i order = _mm_set_epi64x(eight + 0x0808080808080808, eight);
  const __m512 bound = _mm512_set1_ps(127.0f);
  __m512i v[16];
  for (int i = 0; i < 16; i++) {
    v[i] = _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + i * GROUP)));
    if (PARTS == 2) v[i] = most_of(v[i], _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + i * GROUP + 16))));
  }
  const __m512 most = _mm512_castsi512_ps(across(v, most_of)), scale = _mm512_div_ps(most, bound);
  const __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  alignas(64) float inverse[16], scales[16], sums[16];
  alignas(64) int32_t zeros[16];
  _mm512_store_ps(inverse, _mm512_maskz_div_ps(some, bound, most));
  int8_t *codes = o.codes + row * o.in + g0 * GROUP;
  for (int i = 0; i < 16; i++) {
    const __m512 factor = _mm512_set1_ps(inverse[i]);
    for (int j = 0; j < PARTS; j++) {
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * GROUP + 16 * j), factor));
      v[i] = j ? sum_of(v[i], whole) : whole;
      _mm_storeu_si128((__m128i *)(codes + i * GROUP + 16 * j), _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(whole), order));
    }
  }
  const __m512i sum = across(v, sum_of);
  _mm512_store_ps(scales, scale);
  _mm512_store_ps(sums, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale));
  _mm512_store_si512(zeros, _mm512_mullo_epi32(sum, _mm512_set1_epi32(s.left_of_zero())));
  for (int i = 0; i < 16; i++) {
    const int64_t at = (g0 + i) * o.rows + row;
    o.scales[at] = scales[i], o.sums[at] = sums[i], o.zeros[at] = zeros[i];
  }
}

inline void round_sixteens(const float *x, const Shape &s, const Owned &o, int64_t row) {
  for (int64_t g = 0; g < o.groups; g += 16) {
    const int64_t g0 = g + 16 <= o.groups ? g : o.groups - 16;  // some of the last ones twice
    if (s.group == 32) round_groups<32>(x + g0 * 32, s, o, row, g0);
    else round_groups<16>(x + g0 * 16, s, o, row, g0);
  }
}

#endif

// One row in 8 bits, a scale a group, in the order that the weight's tiles have.
void round_row(const float *x, const Shape &s, const Owned &o, int64_t row) {
#ifdef __AVX512VNNI__
  if (o.groups >= 16) return round_sixteens(x, s, o, row);
#endif
  for (int64_t g = 0; g < o.groups; g++) {
    const float *part = x + g * s.group;
    int8_t *codes = o.codes + row * o.in + g * s.group;
    const float most = largest_of(part, s.group);
    const int32_t sum = round_group(part, s.group, most > 0 ? 127.0f / most : 0.0f, s.even_odd, codes);
    const int64_t at = g * o.rows + row;
    o.scales[at] = most / 127.0f;
    o.sums[at] = (float)sum * o.scales[at];
    o.zeros[at] = s.left_of_zero() * sum;
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

inline bool rounded_alike(const Shape &a, const Shape &b) {
  return a.group == b.group && a.zero == b.zero && a.even_odd == b.even_odd;
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
    Owned o = owned(rows, parts[first].in, shape.group);
#pragma omp parallel for schedule(static) if (rows > ALONE)
    for (int64_t r = 0; r < rows; r++) round_row(x + r * parts[first].in, shape, o, r);
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
    free(o.scales);
  }
}

// What rounding to 8 bits leaves of a row.
void rest_of_row(const float *x, int64_t in, int group, float *rest) {
  for (int64_t g = 0; g < in; g += group) {
    const float most = largest_of(x + g, group), scale = most / 127.0f, inverse = most > 0 ? 127.0f / most : 0.0f;
    for (int64_t i = g; i < g + group; i++) rest[i] = x[i] - nearbyintf(x[i] * inverse) * scale;
  }
}

// The same with activations of twice 8 bits: what rounding leaves of them is multiplied too.
void fine_products(const Weight *parts, int count, const float *x, int64_t rows, float *out, int64_t stride,
                   Scratch *scratch) {
  for (int first = 0, last = 0; first < count; first = last) {
    const Shape shape = shape_of(parts[first]);
    const int64_t in = parts[first].in;
    while (last < count && rounded_alike(shape_of(parts[last]), shape)) last++;
    const int64_t width = rows_of(parts + first, last - first);
    float *rests = (float *)malloc(sizeof(float) * rows * in), *more = (float *)malloc(sizeof(float) * rows * width);
    for (int64_t r = 0; r < rows; r++) rest_of_row(x + r * in, in, shape.group, rests + r * in);
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
  int64_t slots, count;

  Routing(const int64_t *chosen, int64_t slots, int experts) : slots(slots), count(0) {
    starts = (int64_t *)calloc(experts + 2, sizeof(int64_t));
    order = (int64_t *)malloc(slots * sizeof(int64_t));
    used = (int64_t *)malloc(experts * sizeof(int64_t));
    for (int64_t i = 0; i < slots; i++) starts[chosen[i] + 2]++;
    for (int e = 0; e < experts; e++) starts[e + 2] += starts[e + 1];
    for (int64_t i = 0; i < slots; i++) order[starts[chosen[i] + 1]++] = i;
    for (int e = 0; e < experts; e++)
      if (starts[e + 1] > starts[e]) used[count++] = e;
  }
  ~Routing() { free(starts), free(order), free(used); }
  int64_t rows(int64_t expert) const { return starts[expert + 1] - starts[expert]; }
  int64_t usual() const { return count ? slots / count : 0; }
};

// The rows of one expert among those that are rounded.
inline Owned rows_of_expert(const Owned &all, const Routing &r, int64_t expert) {
  return all.part(r.starts[expert], r.rows(expert));
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
  Owned a = owned(r.slots, in, first.group), b = owned(r.slots, width, second.group);
  float *hidden = (float *)malloc(sizeof(float) * r.slots * 2 * width);
#pragma omp parallel for schedule(static) if (tokens > ALONE)
  for (int64_t slot = 0; slot < r.slots; slot++) {
    const int64_t expert = chosen[r.order[slot]];
    round_row(x + r.order[slot] / k * in, first, rows_of_expert(a, r, expert), slot - r.starts[expert]);
  }
  expert_products(gate_up, gate_up_segments, r, a, hidden, scratch);
#pragma omp parallel for schedule(static)
  for (int64_t slot = 0; slot < r.slots; slot++) {
    float *row = hidden + slot * 2 * width;
    const int64_t expert = chosen[r.order[slot]];
    gate(row, width, row);
    round_row(row, second, rows_of_expert(b, r, expert), slot - r.starts[expert]);
  }
  memset(out, 0, sizeof(float) * tokens * rows_of(down, down_segments));
  expert_sums(down, down_segments, r, b, shares, k, out, scratch);
  free(scratch), free(a.scales), free(b.scales), free(hidden);
}
