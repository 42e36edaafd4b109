// Calls of the kernels for packed weights, read from standard input, and what they come to: for processors that are only
// emulated, where no Python runs (`test_arm.py` writes them).

#include <cstdio>
#include <cstdlib>

#include "packed.h"
#include "readout.h"

extern "C" {
void packed_product(const Weight *, int, const float *, int64_t, float *, int64_t, int);
void packed_experts(const Weight *, int, const Weight *, int, int, const float *, const int64_t *, const float *, int64_t,
                    int, float *);
void packed_mean(const Weight *, const float *, int64_t, float, float *);
void packed_read(float *, int64_t, int64_t, const float *, const float *, const uint8_t *, Reading *);
void packed_attend(int, const float *, const void *, const void *, int64_t, int64_t, int64_t, int64_t, int64_t, float *);
int packed_allowed();
}

// Nothing is freed: the process ends soon.
static void read_bytes(void *to, size_t count) {
  if (fread(to, 1, count, stdin) != count) exit(3);
}

static int64_t number() {
  int64_t value;
  read_bytes(&value, 8);
  return value;
}

template <typename T>
T *room(int64_t count) { return (T *)aligned_alloc(64, (count * sizeof(T) + 127) / 64 * 64); }

template <typename T>
T *array() {
  const int64_t bytes = number();
  T *values = bytes ? room<T>(bytes / sizeof(T) + 1) : nullptr;
  read_bytes(values, bytes);
  return values;
}

template <typename T>
void write(const T *values, int64_t count) { fwrite(values, sizeof(T), count, stdout); }

static Weight *weights(int64_t count) {
  Weight *all = room<Weight>(count);
  for (int64_t i = 0; i < count; i++) {
    Weight &w = all[i];
    int32_t *whole[4] = {&w.kind, &w.scale_type, &w.offset_type, &w.zero};
    for (int32_t *at : whole) *at = (int32_t)number();
    w.out = number(), w.in = number(), w.group = number();
    w.factor = *array<float>();
    w.codes = array<uint8_t>(), w.scales = array<uint8_t>(), w.offsets = array<uint8_t>();
  }
  return all;
}

static void product() {
  const int64_t count = number(), rows = number(), fine = number(), out = number();
  const Weight *parts = weights(count);
  const float *x = array<float>();
  float *found = room<float>(rows * out);
  packed_product(parts, (int)count, x, rows, found, out, (int)fine);
  write(found, rows * out);
}

static void experts() {
  const int64_t count = number(), tokens = number(), k = number();
  const Weight *gate_up = weights(count), *down = weights(count);
  const float *x = array<float>();
  const int64_t *chosen = array<int64_t>();
  const float *shares = array<float>();
  float *found = room<float>(tokens * gate_up->in);
  packed_experts(gate_up, 1, down, 1, (int)count, x, chosen, shares, tokens, (int)k, found);
  write(found, tokens * gate_up->in);
}

static void mean() {
  const int64_t rows = number();
  const Weight *w = weights(1);
  const float *shares = array<float>();
  float *found = room<float>(rows * w->in);
  packed_mean(w, shares, rows, 1e-6f, found);
  write(found, rows * w->in);
}

static void read() {
  const int64_t rows = number(), tokens = number();
  float *logits = array<float>();
  const float *temperature = array<float>(), *uniforms = array<float>();
  const uint8_t *greedy = array<uint8_t>();
  Reading *readings = room<Reading>(rows);
  packed_read(logits, rows, tokens, temperature, uniforms, greedy, readings);
  for (int64_t r = 0; r < rows; r++) {
    const float whole[2] = {(float)readings[r].argmax, (float)readings[r].drawn};
    write(whole, 2), write(&readings[r].entropy, 3);
  }
  write(logits, rows * tokens);
}

static void attend() {
  const int64_t kind = number(), heads = number(), tokens = number(), group = number(), width = number();
  const int64_t stride = tokens * (kind == 2 ? width + 4 : width);
  const float *q = array<float>();
  const uint8_t *keys = array<uint8_t>(), *values = array<uint8_t>();
  float *found = room<float>(heads * group * width);
  packed_attend((int)kind, q, keys, values, heads, stride, tokens, group, width, found);
  write(found, heads * group * width);
}

int main() {
  if (!packed_allowed()) return 2;
  void (*const calls[])() = {product, experts, mean, read, attend};
  for (int64_t call = number(); call >= 0; call = number()) calls[call]();
  return 0;
}
