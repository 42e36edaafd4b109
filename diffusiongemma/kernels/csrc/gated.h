// The gate of an MLP in training, float32: gelu(gate) · up · share in one pass, and its gradients in another. torch takes
// a pass for each of a dozen operations, over numbers that do not fit a cache.
#pragma once

#include "elementwise.h"

// Rows of [rows, width] where each begins so far behind the last one.
struct Strided {
  float *data;
  int64_t stride;
  Eight *at(int64_t row, int64_t i) const { return (Eight *)(data + row * stride + i); }
};

struct Gelu {
  Eight value, slope;
};

// x / 2 · (1 + tanh(s (x + 0.044715 x³))), s = sqrt(2 / π), which is x · 1 / (1 + e^-y) with y twice the argument of tanh.
inline Gelu gelu_of(Eight x) {
  const Eight square = x * x, y = 1.59576912f * x * (1.0f + 0.044715f * square);
  const Eight e = exponential(y < 0.0f ? y : -y), low = e / (1.0f + e), on = y < 0.0f ? low : 1.0f - low;
  return {x * on, on + x * on * (1.0f - on) * 1.59576912f * (1.0f + 0.134145f * square)};
}

// out [rows, width] = gelu(gate) · up, times share [rows] if there is one; width is a multiple of 8.
inline void gated_rows(Strided gate, Strided up, const float *share, int64_t rows, int64_t width, float *out) {
#pragma omp parallel for schedule(static) if (rows * width > 32768)
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < width; i += 8)
      *(Eight *)(out + r * width + i) = gelu_of(*gate.at(r, i)).value * *up.at(r, i) * (share ? share[r] : 1.0f);
}

// What a gradient of out [rows, width] is of gate, up and, where there are any, of the shares.
inline void gated_gradients(Strided gate, Strided up, const float *share, const float *of_out, int64_t rows,
                            int64_t width, Strided of_gate, Strided of_up, float *of_share) {
#pragma omp parallel for schedule(static) if (rows * width > 32768)
  for (int64_t r = 0; r < rows; r++) {
    Eight sum = all(0);
    for (int64_t i = 0; i < width; i += 8) {
      const Gelu g = gelu_of(*gate.at(r, i));
      const Eight u = *up.at(r, i), given = *(const Eight *)(of_out + r * width + i);
      const Eight shared = share ? given * share[r] : given;
      *of_gate.at(r, i) = shared * u * g.slope;
      *of_up.at(r, i) = shared * g.value;
      sum += given * g.value * u;
    }
    if (!share) continue;
    of_share[r] = 0;
    for (int i = 0; i < 8; i++) of_share[r] += sum[i];
  }
}
