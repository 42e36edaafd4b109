// Rows of activations in 8 bits times some outputs of a weight, group by group in whole numbers.
#pragma once

#include "rounding.h"

struct Scratch {
  Tile tiles[TILES];
  Direct direct;
  alignas(64) float acc[ROW_BLOCK * WIDTH];
};

// Inputs in blocks of as many as fit, of `n` rows: acc [n][WIDTH].
void tiles_of_rows(const Weight &w, const Shape &shape, int64_t row0, const Next &next, const Activations &a, int64_t first,
                   int n, Scratch &s) {
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
