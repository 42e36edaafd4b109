// Scales and offsets of tiles.
#pragma once

#include "packed.h"

// Scale and minimum of a group of 32 in Q4_K and Q5_K, 6 bits each (the layout of ggml's block_q4_K).
inline void scale_and_minimum(const uint8_t *packed, int group, int *scale, int *minimum) {
  if (group < 4) {
    *scale = packed[group] & 63;
    *minimum = packed[group + 4] & 63;
  } else {
    *scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
    *minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
  }
}

// Of all scales that stand apart.
inline float scale_factor(const Weight &w) { return w.kind == FP4 ? w.factor * 0.5f : w.factor; }

// Scales, and offsets where there are any, of groups first .. first + count of a row. `at` is the place of the row's
// first scale, where scales stand apart.
inline void scales_of(const Weight &w, const Shape &s, const uint8_t *row, int64_t at, int64_t first, int count,
                      float *scales, float *offsets) {
  if (w.kind == Q4_K || w.kind == Q5_K) {
    for (int g = 0; g < count; g++) {
      const uint8_t *block = row + (first + g) / 8 * (w.kind == Q4_K ? 144 : 176);
      int scale, minimum;
      scale_and_minimum(block + 4, (first + g) % 8, &scale, &minimum);
      scales[g] = half_to_float(block) * (float)scale;
      offsets[g] = -(half_to_float(block + 2) * (float)minimum);
    }
  } else if (w.kind == Q6_K) {
    for (int g = 0; g < count; g++) {
      const uint8_t *block = row + (first + g) / 16 * 210;
      scales[g] = half_to_float(block + 208) * (float)(int8_t)block[192 + (first + g) % 16];
    }
  } else if (w.kind > Q4_K) {
    const int64_t bytes = w.kind == Q5_0 ? 22 : 34;
    for (int g = 0; g < count; g++) scales[g] = half_to_float(row + (first + g) * bytes);
  } else {
    const float factor = scale_factor(w);
    if (w.group == s.group) {
      numbers(w.scales, w.scale_type, at + first, count, factor, scales);
      if (s.offsets) numbers(w.offsets, w.offset_type, at + first, count, 1.0f, offsets);
    } else {
      const int64_t shared = w.group / s.group;  // groups of the products that share one scale of the file
      for (int g = 0, n; g < count; g += n) {
        const int64_t group = at + (first + g) / shared, left = shared - (first + g) % shared;
        n = left < count - g ? (int)left : count - g;
        const float scale = number(w.scales, w.scale_type, group) * factor;
        const float offset = s.offsets ? number(w.offsets, w.offset_type, group) : 0.0f;
        for (int i = g; i < g + n; i++) scales[i] = scale, offsets[i] = offset;
      }
    }
  }
}

constexpr int MOST_GROUPS = K_BLOCK / 16;

#ifdef COLUMNS
// Numbers of bfloat16, a row of them for each output, times a factor -> out [groups][16]; eight groups at a time, for
// which the last ones are read with those before them. A row has eight or more.
inline void put_bfloat16(const uint8_t *array, const int64_t *row, int64_t a_row, int64_t first, int groups, float factor,
                         float *out) {
  const uint8_t *rows[OUTS];
  for (int o = 0; o < OUTS; o++) rows[o] = array + 2 * row[o] * a_row;
  alignas(64) float eight[8 * OUTS];
  for (int g = 0; g < groups; g += 8) {
    const int count = groups - g < 8 ? groups - g : 8;
    const int64_t from = first + g + 8 <= a_row ? first + g : a_row - 8;
    float *to = count == 8 ? out + g * OUTS : eight;
    for (int part = 0; part < PARTS; part++) {
      Columns pairs[4];
      columns_of_16(rows + part * ROWS_HELD, 2 * from, 16, pairs);
      for (int i = 0; i < 4; i++) put_pair(pairs[i], factor, to + 2 * i * OUTS + part * ROWS_HELD);
    }
    if (count < 8) memcpy(out + g * OUTS, eight + (first + g - from) * OUTS, sizeof(float) * count * OUTS);
  }
}
#endif

// One number a row, which all of its groups have.
inline void put_alike(const uint8_t *array, int type, const int64_t *row, int groups, float factor, float *out) {
  for (int o = 0; o < OUTS; o++) out[o] = number(array, type, row[o]) * factor;
  for (int g = 1; g < groups; g++) memcpy(out + g * OUTS, out, sizeof(float) * OUTS);
}

inline void decode_scales(const Weight &w, const Shape &s, const int64_t *row, const uint8_t *const rows[OUTS],
                          int64_t k0, int kn, float *to, float *offsets_to) {
  const int64_t first = k0 / s.group, a_row = w.group ? w.in / w.group : 0;
  const int groups = kn / s.group;
  if (a_row == 1 && !s.offsets && w.kind < Q4_K)
    return put_alike(w.scales, w.scale_type, row, groups, scale_factor(w), to);
#ifdef COLUMNS
  if (w.group == s.group && !s.offsets && w.scale_type == BFLOAT16 && a_row >= 8)
    return put_bfloat16(w.scales, row, a_row, first, groups, scale_factor(w), to);
#endif
  alignas(32) float scales[OUTS][MOST_GROUPS], offsets[OUTS][MOST_GROUPS];
  for (int o = 0; o < OUTS; o++) scales_of(w, s, rows[o], row[o] * a_row, first, groups, scales[o], offsets[o]);
  put_floats(scales[0], MOST_GROUPS, groups, to);
  if (s.offsets) put_floats(offsets[0], MOST_GROUPS, groups, offsets_to);
}
