// A few rows times a tile, from the weights as they lie: what a token costs is reading them, and memory is fastest when
// it is read in its order.
//
// Sums of a group are the same whole numbers that `multiply.h` has, and are added and rounded in its order.
#pragma once

#include "multiply.h"

constexpr int DIRECT_BLOCK = 8192;  // inputs whose sums or scales are held

#if defined(__AVX512VNNI__)
#include "direct_avx512.h"
#elif defined(__AVX2__)
#include "direct_avx2.h"
#else

struct Direct {};
constexpr int FEW = 0;
inline bool is_direct(const Weight &, const Shape &, int64_t) { return false; }
inline void rows_direct(const Weight &, const Shape &, const Place &, const Next &, const Activations &, int64_t, int,
                        int64_t, int, Direct &, float *) {}

#endif
