// Rows of activations in bfloat16 times some outputs of a weight by AMX: an instruction multiplies sixteen outputs with
// sixteen rows, 32 inputs deep, and adds to sums that stay in its tiles. Weights are decoded into bfloat16, as rows lie;
// activations are turned once for all of them. The sums of a row are those of the row alone, in the order of its inputs.
#pragma once

#include <cstdlib>
#include <type_traits>
#include <sys/syscall.h>
#include <unistd.h>

#include "pairs.h"

// Linux lets a process use tiles once it has asked (arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
inline bool allowed() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

constexpr int FEW = 16;                  // rows, at most, that cost what reading the weights does
constexpr int64_t ROUNDED = 16;          // rows that are turned together, and multiplied by one instruction
constexpr int TILE = 16 * STEP;          // numbers of a tile of bfloat16
constexpr int ROW_BLOCKS = ROW_BLOCK / 16;

// While it lives, this thread's tiles are all of sixteen lines of 64 bytes: 0 to 3 sums, 4 and 5 weights, 6 and 7 rows.
struct Tiles {
  Tiles() {
    alignas(64) uint8_t shape[64] = {1};
    for (int i = 0; i < 8; i++) shape[16 + 2 * i] = 64, shape[48 + i] = 16;
    asm volatile("" ::"r"(shape) : "memory");  // the compiler believes that eight of the bytes are read
    _tile_loadconfig(shape);
  }
  ~Tiles() { _tile_release(); }
};

// Sixteen rows of sixteen words become columns.
ALWAYS void turn(__m512i v[16]) {
  __m512i a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const __m512i first = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88), second = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
    const __m512i third = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
    const __m512i fourth = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
    v[i] = _mm512_shuffle_i32x4(first, third, 0x88), v[i + 8] = _mm512_shuffle_i32x4(first, third, 0xdd);
    v[i + 4] = _mm512_shuffle_i32x4(second, fourth, 0x88), v[i + 12] = _mm512_shuffle_i32x4(second, fourth, 0xdd);
  }
}

// Activations in bfloat16: blocks of sixteen rows, of each [steps][16 pairs of inputs][16 rows][2].
struct Activations {
  const uint16_t *pairs;
  int64_t steps;
  const uint16_t *block(int64_t i) const { return pairs + i * steps * TILE; }
};

struct Owned {
  uint16_t *pairs;
  int64_t steps;
  Activations view() const { return {pairs, steps}; }
  // Of a buffer the rows from `first` on, which begin a block.
  Owned part(int64_t first, int64_t) const { return {pairs + first * steps * STEP, steps}; }
  void release() { free(pairs); }
};

inline bool rounded_alike(const Shape &a, const Shape &b) { return a.even_odd == b.even_odd; }

Owned owned(int64_t rows, int64_t in, const Shape &) {
  const int64_t steps = (in + STEP - 1) / STEP, blocks = (rows + 15) / 16;
  return {(uint16_t *)aligned_alloc(64, sizeof(uint16_t) * blocks * steps * TILE), steps};
}

// 32 inputs of a row in bfloat16, noughts behind its `left` last ones.
ALWAYS __m512i rounded_32(const float *x, int64_t left, bool as_halves) {
  const __m512i pairs = two_halves(_mm512_loadu_ps(x), left < STEP ? _mm512_setzero_ps() : _mm512_loadu_ps(x + 16));
  return as_halves ? _mm512_permutexvar_epi16(_mm512_load_si512(ORDER.input), pairs) : pairs;
}

// Rows first .. first + count, at `row(i)` each; `first` begins a block. What is missing of a block repeats the last row.
template <typename Source>
void round_rows(Source row, int64_t in, const Shape &shape, const Owned &o, int64_t first, int64_t count) {
  for (int64_t r0 = first; r0 < first + count; r0 += 16) {
    const float *rows[16];
    for (int i = 0; i < 16; i++) rows[i] = row(r0 + i < first + count ? r0 + i : first + count - 1);
    uint16_t *to = o.part(r0, 16).pairs;
    for (int64_t k = 0; k < in; k += STEP, to += TILE) {
      __m512i v[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) v[i] = rounded_32(rows[i] + k, in - k, shape.even_odd);
      turn(v);
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * STEP, v[i]);
    }
  }
}

// What rounding to bfloat16 leaves of a row.
void rest_of_row(const float *x, int64_t in, const Shape &, float *rest) {
  for (int64_t k = 0; k < in; k += 16) {
    const __m512 full = _mm512_loadu_ps(x + k);
    const __m512i halves = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(full));
    _mm512_storeu_ps(rest + k, _mm512_sub_ps(full, _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16))));
  }
}

struct Scratch {
  alignas(4096) uint16_t weights[K_BLOCK / STEP * TILES * TILE];
  alignas(64) float sums[ROW_BLOCKS][TILES][16 * 16];  // outputs by rows
  alignas(64) float turned[16][WIDTH];
  Sides sides;
};

template <int COUNT>
ALWAYS void start_sums() {
  _tile_zero(0);
  _tile_zero(1);
  if (COUNT == 1) return;
  _tile_zero(2);
  _tile_zero(3);
}

template <int COUNT>
ALWAYS void load_sums(const float *sums) {
  _tile_loadd(0, sums, 64);
  _tile_loadd(1, sums + 256, 64);
  if (COUNT == 1) return;
  _tile_loadd(2, sums + 512, 64);
  _tile_loadd(3, sums + 768, 64);
}

template <int COUNT>
ALWAYS void store_sums(float *sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  if (COUNT == 1) return;
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
}

// 32 inputs of two tiles of weights times those of one or two blocks of rows, which lie `apart`.
template <int COUNT>
ALWAYS void multiply_step(const uint16_t *weights, const uint16_t *rows, int64_t apart) {
  _tile_loadd(6, rows, 64);
  _tile_loadd(4, weights, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(5, weights + TILE, 64);
  _tile_dpbf16ps(1, 5, 6);
  if (COUNT == 1) return;
  _tile_loadd(7, rows + apart, 64);
  _tile_dpbf16ps(2, 4, 7);
  _tile_dpbf16ps(3, 5, 7);
}

// Where a tile's rows of a weight are, and what is asked for meanwhile.
struct Source {
  const Weight &w;
  const Shape &shape;
  int64_t row[WIDTH];
  const uint8_t *rows[WIDTH];
  Ahead codes, scales;
  __m512 levels;

  Source(const Weight &w, const Shape &shape, int64_t row0, const Next &next)
      : w(w), shape(shape), codes(codes_ahead(next, WIDTH)), scales(scales_ahead(next, WIDTH)), levels(levels_of(w, shape)) {
    for (int o = 0; o < WIDTH; o++) {
      row[o] = row0 + o < w.out ? row0 + o : w.out - 1;
      rows[o] = w.codes + row[o] * row_bytes(w);
    }
  }

  // Scales of inputs k0 .. k0 + kn.
  void fill(int64_t k0, int64_t kn, bool looked_up, Sides &sides) {
    const int64_t first = k0 / shape.group, a_row = w.group ? w.in / w.group : 0;
    const int count = (int)(kn / shape.group);
    for (int o = 0; o < WIDTH; o++) {
      const int64_t at = row[o] * a_row;
      if (looked_up) look_up_scales(w.scales + 2 * (at + first), count, sides.products[o], sides.exponents[o]);
      else scales_of(w, shape, rows[o], at, first, count, sides.scales[o], sides.offsets[o]);
    }
    scales.part(k0, k0 + kn, w.in).fetch_all();
  }
};

// Codes of 4 bits whose products are looked up, beside the kinds.
constexpr int LOOKED_UP = -1;

// Inputs in blocks, `s.sides` of which are filled: `work(k0, kn, decode)`, where decode(k, to) decodes 32 of them.
template <int KIND, int GROUP, bool OFFSETS, typename Work>
ALWAYS void each_block(Source &from, Scratch &s, Work work) {
  const int64_t in = from.w.in, steps = (in + STEP - 1) / STEP;
  const int64_t share = ((from.codes.end - from.codes.at) / steps + 63) / 64 * 64;
  for (int64_t k0 = 0; k0 < in; k0 += K_BLOCK) {
    const int64_t kn = in - k0 < K_BLOCK ? in - k0 : K_BLOCK;
    from.fill(k0, kn, KIND == LOOKED_UP, s.sides);
    work(k0, kn, [&](int64_t k, uint16_t *to) __attribute__((always_inline)) {
      from.codes.fetch(share);
      const int64_t g = (k - k0) / GROUP;
      const auto compute = [&](auto whole) __attribute__((always_inline)) {
        compute_step<KIND, GROUP, OFFSETS, decltype(whole)::value>(from.w, from.shape, from.rows, k, g, from.levels, s.sides, to);
      };
      if (KIND == LOOKED_UP) look_up_step(from.rows, k, g, s.sides, to);
      else if (GROUP == 32 || in - k >= STEP) compute(std::true_type());
      else compute(std::false_type());
    });
  }
}

// Up to two blocks of rows: 32 inputs are decoded while those before them are multiplied.
template <int COUNT, int KIND, int GROUP, bool OFFSETS>
void one_pass(Source &from, const Activations &a, int64_t block, Scratch &s) {
  constexpr int HELD = 4;
  const uint16_t *rows = a.block(block);
  const int64_t apart = a.steps * TILE;
  int64_t step = 0;
  start_sums<COUNT>();
  each_block<KIND, GROUP, OFFSETS>(from, s, [&](int64_t k0, int64_t kn, auto decode) __attribute__((always_inline)) {
    for (int64_t k = k0; k < k0 + kn; k += STEP, step++) {
      decode(k, s.weights + step % HELD * TILES * TILE);
      if (step) multiply_step<COUNT>(s.weights + (step - 1) % HELD * TILES * TILE, rows + (step - 1) * TILE, apart);
    }
  });
  multiply_step<COUNT>(s.weights + (step - 1) % HELD * TILES * TILE, rows + (step - 1) * TILE, apart);
  store_sums<COUNT>(s.sums[0][0]);
}

template <int COUNT>
ALWAYS void block_of_rows(const Activations &a, int64_t block, int64_t first, int64_t steps, const uint16_t *weights,
                          float *sums) {
  const uint16_t *rows = a.block(block) + first * TILE;
  if (first) load_sums<COUNT>(sums);
  else start_sums<COUNT>();
  for (int64_t i = 0; i < steps; i++) multiply_step<COUNT>(weights + i * TILES * TILE, rows + i * TILE, a.steps * TILE);
  store_sums<COUNT>(sums);
}

// More of them: some inputs are decoded for all rows.
template <int KIND, int GROUP, bool OFFSETS>
void passes(Source &from, const Activations &a, int64_t block, int64_t blocks, Scratch &s) {
  each_block<KIND, GROUP, OFFSETS>(from, s, [&](int64_t k0, int64_t kn, auto decode) __attribute__((always_inline)) {
    const int64_t steps = (kn + STEP - 1) / STEP;
    for (int64_t i = 0; i < steps; i++) decode(k0 + i * STEP, s.weights + i * TILES * TILE);
    int64_t b = 0;
    for (; b + 2 <= blocks; b += 2) block_of_rows<2>(a, block + b, k0 / STEP, steps, s.weights, s.sums[b][0]);
    if (b < blocks) block_of_rows<1>(a, block + b, k0 / STEP, steps, s.weights, s.sums[b][0]);
  });
}

template <int KIND, int GROUP, bool OFFSETS>
void sums_of(Source &from, const Activations &a, int64_t block, int64_t blocks, Scratch &s) {
  if (blocks == 1) one_pass<1, KIND, GROUP, OFFSETS>(from, a, block, s);
  else if (blocks == 2) one_pass<2, KIND, GROUP, OFFSETS>(from, a, block, s);
  else passes<KIND, GROUP, OFFSETS>(from, a, block, blocks, s);
}

template <int KIND>
void sums_of_kind(Source &from, const Activations &a, int64_t block, int64_t blocks, Scratch &s) {
  if (from.shape.group == 16) {
    if (from.shape.offsets) sums_of<KIND, 16, true>(from, a, block, blocks, s);
    else sums_of<KIND, 16, false>(from, a, block, blocks, s);
  } else if (from.shape.offsets) sums_of<KIND, 32, true>(from, a, block, blocks, s);
  else sums_of<KIND, 32, false>(from, a, block, blocks, s);
}

inline auto sums_for(const Weight &w, const Shape &shape) {
  if (is_looked_up(w, shape)) return sums_of<LOOKED_UP, 32, false>;
  switch (w.kind) {
    case INT4: return sums_of_kind<INT4>;
    case UINT8: return sums_of_kind<UINT8>;
    case INT8: return sums_of_kind<INT8>;
    case FP4: return sums_of_kind<FP4>;
    case Q4_K: return sums_of_kind<Q4_K>;
    case Q5_0: return sums_of_kind<Q5_0>;
    case Q6_K: return sums_of_kind<Q6_K>;
    case Q8_0: return sums_of_kind<Q8_0>;
    default: return sums_of_kind<Q5_K>;
  }
}

// Rows first .. first + rows of the activations times WIDTH outputs of a weight: `put(row, outputs)` takes each.
template <typename Put>
void tile_product(const Weight &w, int64_t row0, const Next &next, const Activations &a, int64_t first, int64_t rows,
                  Scratch &s, Put put) {
  const Shape shape = shape_of(w);
  const Tiles tiles;
  for (int64_t r0 = 0; r0 < rows; r0 += ROW_BLOCK) {
    const int64_t here = rows - r0 < ROW_BLOCK ? rows - r0 : ROW_BLOCK, blocks = (here + 15) / 16;
    Source from(w, shape, row0, r0 + ROW_BLOCK < rows ? Next{nullptr, 0} : next);
    sums_for(w, shape)(from, a, (first + r0) / 16, blocks, s);
    for (int64_t b = 0; b < blocks; b++) {
      for (int i = 0; i < TILES; i++) {
        __m512i v[16];
        for (int o = 0; o < 16; o++) v[o] = _mm512_load_si512(s.sums[b][i] + 16 * o);
        turn(v);
        for (int r = 0; r < 16; r++) _mm512_store_si512(s.turned[r] + OUTS * i, v[r]);
      }
      for (int64_t r = 16 * b; r < here && r < 16 * (b + 1); r++) put(r0 + r, s.turned[r - 16 * b]);
    }
  }
}
