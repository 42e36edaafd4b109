// Rows of 8-bit activations times one tile by NEON, whose bytes all have signs: what decoding did not take off a weight's
// zero the sums begin with.
//
// With sums of four products (`sdot`) a vector of codes meets four activations of any row. Without, products go into 16
// bits, and a lane has two of an output's four inputs until the group's end.
#pragma once

// Whole sums of a group's sixteen outputs, four a vector, are scaled and added.
template <bool OFFSETS>
inline void add_group(const int32x4_t sums[4], const Slice &s, const Tile &t, int g, int64_t at, float *acc) {
  for (int i = 0; i < 4; i++) {
    const float32x4_t sum = vmulq_f32(vcvtq_f32_s32(sums[i]), vld1q_f32(t.scales + g * OUTS + 4 * i));
    float32x4_t v = vfmaq_n_f32(vld1q_f32(acc + 4 * i), sum, s.a.scales[at]);
    if (OFFSETS) v = vfmaq_n_f32(v, vld1q_f32(t.offsets + g * OUTS + 4 * i), s.a.sums[at]);
    vst1q_f32(acc + 4 * i, v);
  }
}

#ifdef __ARM_FEATURE_DOTPROD

constexpr int MOST_ROWS = 4;

// Chunk CHUNK of four that a vector of each row's activations meets.
template <int CHUNK, int ROWS>
__attribute__((always_inline)) inline void add_chunk(const int8x16_t x[ROWS], const uint8_t *codes, int32x4_t sums[ROWS][4]) {
  for (int i = 0; i < 4; i++) {
    const int8x16_t four = vld1q_s8((const int8_t *)codes + 64 * CHUNK + 16 * i);
    for (int r = 0; r < ROWS; r++) sums[r][i] = vdotq_laneq_s32(sums[r][i], four, x[r], CHUNK);
  }
}

template <int ROWS, int GROUP, bool NARROW, bool OFFSETS>
inline void rows_times_tile(const Slice &s, const Tile &t, float *acc) {
  const int8_t *a = s.a.codes + s.row * s.a.in + s.k0;
  const uint8_t *codes = t.codes;
  for (int g = 0; g < s.groups; g++) {
    const int64_t at = (s.g0 + g) * s.a.rows + s.row;
    int32x4_t sums[ROWS][4];
    for (int r = 0; r < ROWS; r++)
      for (int i = 0; i < 4; i++) sums[r][i] = vdupq_n_s32(-s.a.zeros[at + r]);
    for (int k = 0; k < GROUP; k += 16, a += 16, codes += 16 * OUTS) {
      int8x16_t x[ROWS];
      for (int r = 0; r < ROWS; r++) x[r] = vld1q_s8(a + r * s.a.in);
      add_chunk<0, ROWS>(x, codes, sums);
      add_chunk<1, ROWS>(x, codes, sums);
      add_chunk<2, ROWS>(x, codes, sums);
      add_chunk<3, ROWS>(x, codes, sums);
    }
    for (int r = 0; r < ROWS; r++) add_group<OFFSETS>(sums[r], s, t, g, at + r, acc + r * OUTS);
  }
}

#else

constexpr int MOST_ROWS = 2;

// CHUNKS chunks of ROWS rows, `in` bytes apart, times those of a tile -> their sums, in 16 bits.
template <int ROWS, int CHUNKS>
__attribute__((always_inline)) inline void sum_chunks(const int8_t *a, int64_t in, const uint8_t *codes,
                                                      int16x8_t sums[ROWS][8]) {
  for (int c = 0; c < CHUNKS; c++) {
    int8x16_t x[ROWS];
    for (int r = 0; r < ROWS; r++) {
      int32_t four;
      memcpy(&four, a + r * in + 4 * c, 4);
      x[r] = vreinterpretq_s8_s32(vdupq_n_s32(four));
    }
    for (int i = 0; i < 4; i++) {
      const int8x16_t w = vld1q_s8((const int8_t *)codes + 64 * c + 16 * i);
      for (int r = 0; r < ROWS; r++) {
        int16x8_t *low = &sums[r][2 * i], *high = low + 1;
        *low = c ? vmlal_s8(*low, vget_low_s8(w), vget_low_s8(x[r])) : vmull_s8(vget_low_s8(w), vget_low_s8(x[r]));
        *high = c ? vmlal_high_s8(*high, w, x[r]) : vmull_high_s8(w, x[r]);
      }
    }
  }
}

// Two products of 127 and codes of 8 bits, 32,512, fit 16 bits; of narrow ones, of up to 31, all eight of a group.
template <int ROWS, int GROUP, bool NARROW, bool OFFSETS>
inline void rows_times_tile(const Slice &s, const Tile &t, float *acc) {
  constexpr int CHUNKS = NARROW ? GROUP / 4 : 2;
  const int8_t *a = s.a.codes + s.row * s.a.in + s.k0;
  const uint8_t *codes = t.codes;
  for (int g = 0; g < s.groups; g++) {
    int32x4_t wide[ROWS][8];
    for (int k = 0; k < GROUP; k += 4 * CHUNKS, a += 4 * CHUNKS, codes += 4 * CHUNKS * OUTS) {
      int16x8_t sums[ROWS][8];
      sum_chunks<ROWS, CHUNKS>(a, s.a.in, codes, sums);
      for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < 8; i++) wide[r][i] = k ? vpadalq_s16(wide[r][i], sums[r][i]) : vpaddlq_s16(sums[r][i]);
    }
    const int64_t at = (s.g0 + g) * s.a.rows + s.row;
    for (int r = 0; r < ROWS; r++) {
      const int32x4_t zero = vdupq_n_s32(s.a.zeros[at + r]);
      int32x4_t whole[4];
      for (int i = 0; i < 4; i++) whole[i] = vsubq_s32(vpaddq_s32(wide[r][2 * i], wide[r][2 * i + 1]), zero);
      add_group<OFFSETS>(whole, s, t, g, at + r, acc + r * OUTS);
    }
  }
}

#endif

template <int ROWS, bool OFFSETS>
inline void rows_of_group(const Shape &shape, const Slice &s, const Tile *t, float *acc) {
  const bool narrow = shape.bits < 8;
  if (shape.group == 32 && narrow) rows_times_tile<ROWS, 32, true, OFFSETS>(s, *t, acc);
  else if (shape.group == 32) rows_times_tile<ROWS, 32, false, OFFSETS>(s, *t, acc);
  else if (narrow) rows_times_tile<ROWS, 16, true, OFFSETS>(s, *t, acc);
  else rows_times_tile<ROWS, 16, false, OFFSETS>(s, *t, acc);
}
