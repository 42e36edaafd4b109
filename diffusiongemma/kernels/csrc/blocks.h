// What a row of scores says of each block of tokens, and of each class.
#pragma once

#include "readout.h"

constexpr int BLOCKS_OF_TILE = 32;
constexpr float NEGLIGIBLE = -80.0f;  // relative to the best of a block
constexpr float FLOOR = -1e6f;

// Tokens in blocks of one class each, [tiles, width, BLOCKS_OF_TILE]; class k owns blocks first_block[k] ..
// first_block[k + 1].
struct Blocks {
  int64_t tiles, width, classes;
  const int32_t *tokens;
  const float *padding;  // added to the scores
  const int64_t *first_block;
};

// One row of scores -> weights relative to the best of their block, and of each block the best, the sum of weights and
// the sum of weight times its logarithm.
inline void sum_blocks(const float *scores, const Blocks &b, float *weight, float *best, float *mass, float *tilt) {
  for (int64_t tile = 0; tile < b.tiles; tile++) {
    const int64_t at = tile * b.width * BLOCKS_OF_TILE;
    for (int lane = 0; lane < BLOCKS_OF_TILE; lane += 8) {
      Eight most = all(FLOOR), sum = all(0), leaning = all(0);
      for (int64_t w = 0; w < b.width; w++) {
        const int64_t i = at + w * BLOCKS_OF_TILE + lane;
        Eight score;
        for (int j = 0; j < 8; j++) score[j] = scores[b.tokens[i + j]];
        score += *(const Eight *)(b.padding + i);
        *(Eight *)(weight + i) = score;
        most = score > most ? score : most;
      }
      for (int64_t w = 0; w < b.width; w++) {
        Eight *place = (Eight *)(weight + at + w * BLOCKS_OF_TILE + lane), log_weight = *place - most;
        log_weight = log_weight > NEGLIGIBLE ? log_weight : all(NEGLIGIBLE);
        const Eight e = exponential(log_weight);
        sum += e;
        leaning += e * log_weight;
        *place = e;
      }
      *(Eight *)(best + tile * BLOCKS_OF_TILE + lane) = most;
      *(Eight *)(mass + tile * BLOCKS_OF_TILE + lane) = sum;
      *(Eight *)(tilt + tile * BLOCKS_OF_TILE + lane) = leaning;
    }
  }
}

// From those of blocks: `share` of each block's best in that of its class, and of each class the best and the mass.
inline void sum_classes(const Blocks &b, const float *best, const float *mass, float *share, double *class_best,
                        double *class_mass) {
  for (int64_t k = 0; k < b.classes; k++) {
    float most = FLOOR;
    for (int64_t i = b.first_block[k]; i < b.first_block[k + 1]; i++) most = best[i] > most ? best[i] : most;
    for (int64_t i = b.first_block[k]; i < b.first_block[k + 1]; i++)
      share[i] = best[i] - most > NEGLIGIBLE ? best[i] - most : NEGLIGIBLE;
    class_best[k] = most;
  }
  const int64_t blocks = b.first_block[b.classes];
  for (int64_t i = 0; i < b.tiles * BLOCKS_OF_TILE; i += 8) {
    Eight *at = (Eight *)(share + i);
    *at = exponential(i < blocks ? *at : all(0));
  }
  for (int64_t k = 0; k < b.classes; k++) {
    class_mass[k] = 0;
    for (int64_t i = b.first_block[k]; i < b.first_block[k + 1]; i++) class_mass[k] += (double)(share[i] * mass[i]);
  }
}
