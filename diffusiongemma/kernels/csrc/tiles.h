// Rows of 8-bit activations times one tile of weights by AMX: an instruction multiplies up to sixteen rows with a group's
// inputs and sixteen outputs. A group's sums leave through memory to be scaled.
//
// The same whole numbers as elsewhere, added in the same order; codes below their zero are held with a sign, so that
// nothing is to be subtracted from sums.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

// Linux lets a process use tiles once it has asked (arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
inline bool allowed() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

constexpr int MOST_ROWS = 16;

// Rows that the tiles are laid out for: of a number of blocks as few as can be, all alike, and even.
inline int tile_rows(int rows) {
  const int blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
  return ((rows + blocks - 1) / blocks + 1) / 2 * 2;
}

// While it lives, this thread's tiles are of that shape: 0 and 1 sums, 2 and 3 activations, 4 and 5 weights.
struct Tiles {
  Tiles(int rows, int group) {
    alignas(64) uint8_t shape[64] = {1};
    const int bytes[6] = {64, 64, group, group, 64, 64}, counts[6] = {rows, rows, rows, rows, group / 4, group / 4};
    for (int i = 0; i < 6; i++) shape[16 + 2 * i] = (uint8_t)bytes[i], shape[48 + i] = (uint8_t)counts[i];
    asm volatile("" ::"r"(shape) : "memory");  // the compiler believes that eight of the bytes are read
    _tile_loadconfig(shape);
  }
  ~Tiles() { _tile_release(); }
};

#define ALWAYS __attribute__((always_inline)) inline

template <int GROUP, bool SIGNED, int NUMBER>
ALWAYS void start_group(const Tile &t, const int8_t *a, int64_t in, int g) {
  // The numbers of tiles are part of the instructions.
  if (NUMBER == 0) {
    _tile_zero(0);
    _tile_loadd(2, a + g * GROUP, in);
    _tile_loadd(4, t.codes + g * GROUP * OUTS, 64);
    if (SIGNED) _tile_dpbssd(0, 2, 4);
    else _tile_dpbsud(0, 2, 4);
  } else {
    _tile_zero(1);
    _tile_loadd(3, a + g * GROUP, in);
    _tile_loadd(5, t.codes + g * GROUP * OUTS, 64);
    if (SIGNED) _tile_dpbssd(1, 3, 5);
    else _tile_dpbsud(1, 3, 5);
  }
}

// What scaling a group's sums takes, for all rows: one behind the other.
struct RowSide {
  const float *scales, *sums;
  const int32_t *zeros;
};

// Totals are written one by one, R = 0, 1, …, so that the compiler keeps them in registers.
template <bool SIGNED, bool OFFSETS, size_t... R>
ALWAYS void add_group(__m512 *totals, const int32_t (*sums)[OUTS], RowSide side, const float *scales, const float *offsets,
                      std::index_sequence<R...>) {
  const __m512 scale = _mm512_load_ps(scales);
  const auto number = [&](int r) __attribute__((always_inline)) {
    const __m512i whole = _mm512_load_si512(sums[r]);
    return _mm512_cvtepi32_ps(SIGNED ? whole : _mm512_sub_epi32(whole, _mm512_set1_epi32(side.zeros[r])));
  };
  ((totals[R] = _mm512_fmadd_ps(_mm512_mul_ps(number(R), scale), _mm512_set1_ps(side.scales[R]), totals[R])), ...);
  if (OFFSETS) {
    const __m512 offset = _mm512_load_ps(offsets);
    ((totals[R] = _mm512_fmadd_ps(offset, _mm512_set1_ps(side.sums[R]), totals[R])), ...);
  }
}

template <size_t... R>
ALWAYS void load_totals(__m512 *totals, const float *acc, std::index_sequence<R...>) {
  ((totals[R] = _mm512_loadu_ps(acc + R * OUTS)), ...);
}

template <size_t... R>
ALWAYS void store_totals(const __m512 *totals, float *acc, std::index_sequence<R...>) {
  (_mm512_storeu_ps(acc + R * OUTS, totals[R]), ...);
}

template <int ROWS, int GROUP, bool SIGNED, bool OFFSETS>
inline void rows_by_tiles(const Slice &s, Tile &t, float *acc) {
  const auto all = std::make_index_sequence<ROWS>();
  const int8_t *a = s.a.codes + s.row * s.a.in + s.k0;
  const int64_t in = s.a.in, rows = s.a.rows, at = s.g0 * rows + s.row;
  const int groups = s.groups;
  Ahead ahead = s.ahead;
  const int64_t share = (ahead.end - ahead.at + 64 * groups - 1) / (64 * groups) * 64;  // of a group
  RowSide side = {s.a.scales + at, s.a.sums + at, s.a.zeros + at};
  __m512 totals[ROWS];
  load_totals(totals, acc, all);
  start_group<GROUP, SIGNED, 0>(t, a, in, 0);
  for (int g = 0; g < groups; g++) {  // a group is multiplied while the one before it is scaled
    ahead.fetch(share);
    _tile_stored(0, t.sums[0], 64);
    if (g + 1 < groups) start_group<GROUP, SIGNED, 1>(t, a, in, g + 1);
    add_group<SIGNED, OFFSETS>(totals, t.sums[0], side, t.scales + g * OUTS, t.offsets + g * OUTS, all);
    side = {side.scales + rows, side.sums + rows, side.zeros + rows};
    if (++g == groups) break;
    ahead.fetch(share);
    _tile_stored(1, t.sums[1], 64);
    if (g + 1 < groups) start_group<GROUP, SIGNED, 0>(t, a, in, g + 1);
    add_group<SIGNED, OFFSETS>(totals, t.sums[1], side, t.scales + g * OUTS, t.offsets + g * OUTS, all);
    side = {side.scales + rows, side.sums + rows, side.zeros + rows};
  }
  store_totals(totals, acc, all);
}

template <int ROWS, bool OFFSETS>
inline void rows_of_shape(const Shape &shape, const Slice &s, Tile &t, float *acc) {
  if (shape.group == 16) {
    if (shape.is_signed()) rows_by_tiles<ROWS, 16, true, OFFSETS>(s, t, acc);
    else rows_by_tiles<ROWS, 16, false, OFFSETS>(s, t, acc);
  } else if (shape.is_signed()) rows_by_tiles<ROWS, 32, true, OFFSETS>(s, t, acc);
  else rows_by_tiles<ROWS, 32, false, OFFSETS>(s, t, acc);
}

// Some rows behind the last may be computed too: there is room for them.
template <bool OFFSETS>
inline void multiply_rows(const Shape &shape, Slice s, int rows, Tile *t, float *acc) {
  const int at_once = tile_rows(rows), blocks = (rows + at_once - 1) / at_once;
  for (int r = 0; r < rows; r += at_once) {
    const Slice here = {s.a, s.row + r, s.k0, s.g0, s.groups, s.ahead.part(r / at_once, blocks)};
    float *at = acc + r * OUTS;
    switch (at_once) {
      case 2: rows_of_shape<2, OFFSETS>(shape, here, *t, at); break;
      case 4: rows_of_shape<4, OFFSETS>(shape, here, *t, at); break;
      case 6: rows_of_shape<6, OFFSETS>(shape, here, *t, at); break;
      case 8: rows_of_shape<8, OFFSETS>(shape, here, *t, at); break;
      case 10: rows_of_shape<10, OFFSETS>(shape, here, *t, at); break;
      case 12: rows_of_shape<12, OFFSETS>(shape, here, *t, at); break;
      case 14: rows_of_shape<14, OFFSETS>(shape, here, *t, at); break;
      default: rows_of_shape<16, OFFSETS>(shape, here, *t, at);
    }
  }
}
