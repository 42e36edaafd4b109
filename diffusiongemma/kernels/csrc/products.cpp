// Products of 8-bit activations with packed weights, routed experts of them, and how logits are read: a plain C
// interface for ctypes.

#include <cmath>
#include <cstdlib>

#include "direct.h"
#include "readout.h"

#ifdef _OPENMP
extern "C" int omp_get_max_threads(void);
extern "C" int omp_get_thread_num(void);
#else
static int omp_get_max_threads() { return 1; }
static int omp_get_thread_num() { return 0; }
#endif

namespace {

struct Scratch {
  Tile tile;
  Sums sums;
  alignas(64) float acc[ROW_BLOCK * OUTS];
};

// Inputs in blocks of as many as fit, of `n` rows: acc [n][16].
void tile_of_rows(const Weight &w, const Shape &shape, int64_t row0, const Activations &a, int64_t first, int n,
                  Scratch &s) {
  for (int64_t k0 = 0; k0 < w.in; k0 += K_BLOCK) {
    const int kn = (int)(w.in - k0 < K_BLOCK ? w.in - k0 : K_BLOCK);
    const Place place = place_of(w, row0, k0);
    decode_codes(w, shape, place, k0, kn, s.tile);
    decode_scales(w, shape, place.row, place.rows, k0, kn, s.tile);
    Slice slice = {a, first, k0, k0 / shape.group, kn / shape.group};
    if (shape.offsets) multiply_rows<true>(shape, slice, n, s.tile, s.acc);
    else multiply_rows<false>(shape, slice, n, s.tile, s.acc);
  }
}

void tile_of_few(const Weight &w, const Shape &shape, int64_t row0, const Activations &a, int64_t first, int n,
                 Scratch &s) {
  const Place place = place_of(w, row0, 0);
  for (int64_t k0 = 0; k0 < w.in; k0 += DIRECT_BLOCK) {
    const int kn = (int)(w.in - k0 < DIRECT_BLOCK ? w.in - k0 : DIRECT_BLOCK);
    for (int r = 0; r < n; r++) row_direct(w, shape, place, a, first + r, k0, kn, s.sums, s.tile, s.acc + r * OUTS);
  }
}

// Rows first .. first + rows of the activations times one tile's outputs of a weight -> out[row * stride + output].
void tile_product(const Weight &w, int64_t row0, const Activations &a, int64_t first, int64_t rows, float *out,
                  int64_t stride, Scratch &s) {
  const Shape shape = shape_of(w);
  const int64_t outs = w.out - row0 < OUTS ? w.out - row0 : OUTS;
  const auto product = is_direct(w, shape, rows) ? tile_of_few : tile_of_rows;
  for (int64_t r0 = 0; r0 < rows; r0 += ROW_BLOCK) {
    const int n = (int)(rows - r0 < ROW_BLOCK ? rows - r0 : ROW_BLOCK);
    memset(s.acc, 0, sizeof(float) * n * OUTS);
    product(w, shape, row0, a, first + r0, n, s);
    for (int r = 0; r < n; r++) memcpy(out + (r0 + r) * stride + row0, s.acc + r * OUTS, sizeof(float) * outs);
  }
}

// The parts of one buffer that hold activations in 8 bits.
struct Owned {
  int8_t *codes;
  float *scales, *sums;
  int32_t *zeros;
  int64_t in, groups;
  Activations view() const { return {codes, scales, zeros, sums, in, groups}; }
};

Owned owned(int64_t rows, int64_t in, int group) {
  int64_t groups = in / group;
  char *memory = (char *)aligned_alloc(64, (rows * (in + 12 * groups) + 256) / 64 * 64 + 64);
  Owned o = {nullptr, (float *)memory, nullptr, nullptr, in, groups};
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
    const int64_t at = row * o.groups + g;
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

Scratch *scratches() { return (Scratch *)aligned_alloc(64, sizeof(Scratch) * omp_get_max_threads()); }

// Experts' weights stand in segments of equal number an expert: gate above up, or both in one.
int64_t rows_of(const Weight *segments, int count) {
  int64_t rows = 0;
  for (int i = 0; i < count; i++) rows += segments[i].out;
  return rows;
}

// Tiles that a thread takes at a time: of few rows many, as memory is fastest in long stretches.
int chunk_of(int64_t tiles, int64_t rows) {
  const int64_t few = tiles / (4 * omp_get_max_threads());
  return rows <= FEW && few > 4 ? (int)few : 4;
}

// Every expert's slots, which stand one behind the other, times its weights.
void grouped_product(const Weight *weights, int segments, const int64_t *starts, int experts, const Activations &a,
                     float *out, Scratch *scratch) {
  const int64_t width = rows_of(weights, segments);
  int64_t *begin = (int64_t *)malloc(sizeof(int64_t) * (segments + experts)), *used = begin + segments;
  int64_t units = 0, count = 0;
  for (int i = 0; i < segments; i++) begin[i] = units, units += (weights[i].out + OUTS - 1) / OUTS;
  for (int e = 0; e < experts; e++)
    if (starts[e + 1] > starts[e]) used[count++] = e;
#pragma omp parallel for schedule(dynamic, chunk_of(units, count ? starts[experts] / count : 0))
  for (int64_t task = 0; task < count * units; task++) {
    const int64_t expert = used[task / units], rows = starts[expert + 1] - starts[expert];
    int segment = segments - 1;
    while (begin[segment] > task % units) segment--;
    int64_t column = 0;
    for (int i = 0; i < segment; i++) column += weights[expert * segments + i].out;
    tile_product(weights[expert * segments + segment], (task % units - begin[segment]) * OUTS, a, starts[expert], rows,
                 out + starts[expert] * width + column, width, scratch[omp_get_thread_num()]);
  }
  free(begin);
}

constexpr int SLICE = 128;  // inputs of a mean that are summed at a time, in registers
constexpr int NEAR = 64;    // tokens that are unpacked together: 32 KiB of a slice

// (code - zero) · scale + offset of sixteen codes.
inline void floats_of_16(const uint8_t *codes, int zero, float scale, float offset, float *out) {
#ifdef __AVX2__
  for (int half = 0; half < 16; half += 8) {
    const __m256i whole = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(codes + half)));
    const __m256 x = _mm256_cvtepi32_ps(_mm256_sub_epi32(whole, _mm256_set1_epi32(zero)));
    _mm256_storeu_ps(out + half, _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(scale)), _mm256_set1_ps(offset)));
  }
#else
  for (int i = 0; i < 16; i++) out[i] = (float)(codes[i] - zero) * scale + offset;
#endif
}

// Inputs k0 .. k0 + kn of one row in full precision, kn at most SLICE.
void unpack_row(const Weight &w, const Shape &s, int64_t row, int64_t k0, int kn, float *out) {
  const uint8_t *bytes = w.codes + row * row_bytes(w);
  float scales[SLICE / 16], offsets[SLICE / 16] = {};
  scales_of(w, s, bytes, w.group ? row * (w.in / w.group) : 0, k0 / s.group, kn / s.group, scales, offsets);
  for (int k = 0; k < kn; k += 32) {
    const int count = kn - k < 32 ? kn - k : 32;
    alignas(32) uint8_t codes[32];
    codes_of_32(w, bytes, k0 + k, count, codes);
    for (int i = 0; i < count; i += 16) {
      const int g = (k + i) / s.group;
      floats_of_16(codes + i, s.zero, scales[g], offsets[g], out + k + i);
    }
  }
}

constexpr int SOON = 12;     // tokens from now on, whose bytes are asked for: they lie a row apart
constexpr int BLOCKS = 64;   // of such tokens, whose shares are sought at a time

// What a row of the mean takes of a token, which is `at` of a block of NEAR.
struct Share {
  int32_t row, at;
  float share;
};

// The shares of a block that are kept, by row and of a row by token, and the tokens that they are of.
struct Block {
  const Share *shares;
  int64_t count;
  uint64_t tokens;
};

// The shares of at least `least`, which is above zero, among a row's of one block, written to `out` -> how many.
inline int kept_of(const float *shares, int32_t row, int count, float least, Share *out) {
  int found = 0, i = 0;
#ifdef __AVX2__
  const __m256 limit = _mm256_set1_ps(least);
  for (; i + 8 <= count; i += 8) {
    int mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(shares + i), limit, _CMP_GE_OQ));
    for (; mask; mask &= mask - 1) {
      const int at = i + __builtin_ctz(mask);
      out[found++] = {row, at, shares[at]};
    }
  }
#endif
  for (; i < count; i++)
    if (shares[i] >= least) out[found++] = {row, i, shares[i]};
  return found;
}

// Those of `count` tokens from `first` on in shares [rows, tokens].
Block kept_of_rows(const float *shares, const float *least, int64_t rows, int64_t tokens, int64_t first, int count,
                   Share *out) {
  Block block = {out, 0, 0};
  for (int64_t r = 0; r < rows; r++)
    block.count += kept_of(shares + r * tokens + first, (int32_t)r, count, least[r], out + block.count);
  for (int64_t i = 0; i < block.count; i++) block.tokens |= (uint64_t)1 << out[i].at;
  return block;
}

#ifdef __AVX512F__
typedef __m512 Vector;
inline Vector vector_at(const float *x) { return _mm512_loadu_ps(x); }
inline void put_vector(float *x, Vector v) { _mm512_storeu_ps(x, v); }
inline Vector fused_all(Vector a, float b, Vector c) { return _mm512_fmadd_ps(a, _mm512_set1_ps(b), c); }
#else
typedef Eight Vector;
inline Vector vector_at(const float *x) { return *(const Eight *)x; }
inline void put_vector(float *x, Vector v) { *(Eight *)x = v; }
inline Vector fused_all(Vector a, float b, Vector c) { return fused(a, all(b), c); }
#endif
constexpr int LANES = sizeof(Vector) / sizeof(float);

// to += Σ share · token over `count` shares of one row, for `VECTORS` vectors of inputs.
template <int VECTORS>
inline void add_shares(const Share *shares, int64_t count, const float full[NEAR][SLICE], int k, float *to) {
  Vector sums[VECTORS];
  for (int v = 0; v < VECTORS; v++) sums[v] = vector_at(to + k + v * LANES);
  for (int64_t i = 0; i < count; i++) {
    const float *token = full[shares[i].at] + k;
    for (int v = 0; v < VECTORS; v++) sums[v] = fused_all(vector_at(token + v * LANES), shares[i].share, sums[v]);
  }
  for (int v = 0; v < VECTORS; v++) put_vector(to + k + v * LANES, sums[v]);
}

// Inputs k0 .. k0 + kn of a block whose first token is `first`, added to out [rows, in] in the order of the tokens.
void add_tokens(const Weight &w, const Shape &s, const Block &block, int64_t first, int64_t k0, int kn, float *out) {
  alignas(64) float full[NEAR][SLICE];
  const int64_t bytes = row_bytes(w);
  for (uint64_t left = block.tokens; left; left &= left - 1) {
    const int at = __builtin_ctzll(left);
    for (int64_t i = 0; i < bytes * kn / w.in; i += 64)
      __builtin_prefetch(w.codes + (first + at + SOON) * bytes + bytes * k0 / w.in + i);
    unpack_row(w, s, first + at, k0, kn, full[at]);
  }
  for (const Share *share = block.shares, *last = share + block.count, *end; share < last; share = end) {
    for (end = share; end < last && end->row == share->row;) end++;
    float *to = out + share->row * w.in + k0;
    for (int k = 0; k < kn;) {  // in whole sixteens, eight vectors in registers where there are as many
      if (k + 8 * LANES <= kn) add_shares<8>(share, end - share, full, k, to), k += 8 * LANES;
      else add_shares<16 / LANES>(share, end - share, full, k, to), k += 16;
    }
  }
}

// The least share that is kept, so that those left out sum to at most `left_out`; to an eighth of its binary order.
float least_kept(const float *shares, int64_t count, float left_out, double *bins) {
  memset(bins, 0, sizeof(double) << 12);
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, shares + i, 4);
    bins[bits >> 20 & 4095] += shares[i];
  }
  double sum = 0;
  uint32_t bin = 0;
  while (bin < 4095 && (sum += bins[bin]) <= left_out) bin++;
  return float_of_bits(bin ? bin << 20 : 1);
}

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT int packed_version() { return 2; }

// Bytes of `Weight`, to be compared with the caller's.
EXPORT int packed_weight_size() { return (int)sizeof(Weight); }

// x [rows, in] float32 · weight.T -> out [rows, stride], the first w.out of each row.
EXPORT void packed_product(const Weight *w, const float *x, int64_t rows, float *out, int64_t stride) {
  const Shape shape = shape_of(*w);
  Owned o = owned(rows, w->in, shape.group);
  Scratch *scratch = scratches();
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++) round_row(x + r * w->in, shape, o, r);
  const int64_t tiles = (w->out + OUTS - 1) / OUTS;
#pragma omp parallel for schedule(dynamic, chunk_of(tiles, rows))
  for (int64_t tile = 0; tile < tiles; tile++)
    tile_product(*w, tile * OUTS, o.view(), 0, rows, out, stride, scratch[omp_get_thread_num()]);
  free(scratch);
  free(o.scales);
}

// Routed experts: x [tokens, in], chosen and shares [tokens, k] -> out [tokens, in] = Σ share · down(gelu(gate) · up).
// The experts of a token are added in the order of their numbers.
EXPORT void packed_experts(const Weight *gate_up, int gate_up_segments, const Weight *down, int down_segments, int experts,
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
#pragma omp parallel for schedule(static)
  for (int64_t slot = 0; slot < slots; slot++) round_row(x + order[slot] / k * in, first, a, slot);
  grouped_product(gate_up, gate_up_segments, starts, experts, a.view(), hidden, scratch);
#pragma omp parallel for schedule(static)
  for (int64_t slot = 0; slot < slots; slot++) {
    float *gate = hidden + slot * 2 * width;
    const float *up = gate + width;
    for (int64_t i = 0; i < width; i++) gate[i] = gelu(gate[i]) * up[i];
    round_row(gate, second, b, slot);
  }
  grouped_product(down, down_segments, starts, experts, b.view(), parts, scratch);
#pragma omp parallel for schedule(static)
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

// shares [rows, tokens] · weight [tokens, in] -> out [rows, in], without the smallest shares of a row, `left_out` in sum.
EXPORT void packed_mean(const Weight *w, const float *shares, int64_t rows, float left_out, float *out) {
  const int64_t tokens = w->out, slices = (w->in + SLICE - 1) / SLICE;
  const Shape shape = shape_of(*w);
  float *least = (float *)malloc(sizeof(float) * rows);
#pragma omp parallel for schedule(dynamic)
  for (int64_t r = 0; r < rows; r++) {
    double *bins = (double *)malloc(sizeof(double) << 12);
    least[r] = least_kept(shares + r * tokens, tokens, left_out, bins);
    free(bins);
  }
  memset(out, 0, sizeof(float) * rows * w->in);
  Share *kept = (Share *)malloc(sizeof(Share) * rows * NEAR * BLOCKS);
  Block found[BLOCKS];
  for (int64_t token0 = 0; token0 < tokens; token0 += NEAR * BLOCKS) {
    const int blocks = (int)((tokens - token0 < NEAR * BLOCKS ? tokens - token0 : NEAR * BLOCKS) + NEAR - 1) / NEAR;
#pragma omp parallel for schedule(dynamic, 4)
    for (int i = 0; i < blocks; i++) {
      const int64_t first = token0 + i * NEAR;
      const int count = (int)(tokens - first < NEAR ? tokens - first : NEAR);
      found[i] = kept_of_rows(shares, least, rows, tokens, first, count, kept + rows * NEAR * i);
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t slice = 0; slice < slices; slice++) {
      const int64_t k0 = slice * SLICE;
      const int kn = (int)(w->in - k0 < SLICE ? w->in - k0 : SLICE);
      for (int i = 0; i < blocks; i++) add_tokens(*w, shape, found[i], token0 + i * NEAR, k0, kn, out);
    }
  }
  free(kept);
  free(least);
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
}
