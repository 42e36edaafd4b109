// Sums and best paths over the lattice of a constraint, and what a row of scores says of each block of tokens.
#pragma once

#include <cmath>
#include <cstdlib>

#include "readout.h"

// Every node of positions 0 .. C - 1, one position after the other, and its moves: `first_move[n] .. first_move[n + 1]`.
// A move reads one class set and leads to a node of the next position.
struct Lattice {
  int64_t positions, sets;
  const int64_t *first_node;  // [C + 2]: position t has nodes first_node[t] .. first_node[t + 1]; C too, without moves
  const int64_t *first_move;  // [nodes with moves + 1]
  const int32_t *after, *set;  // [M] the node it leads to, within its position; the class set
};

constexpr double SAME_TOTAL = 1e-9;  // how far apart, as logs, sums of the same paths may be

// Divides by the largest and adds its logarithm to `log_scale` -> whether there is one above 0.
inline bool scaled(double *values, int64_t count, double &log_scale) {
  double most = 0;
  for (int64_t i = 0; i < count; i++) most = values[i] > most ? values[i] : most;
  if (!(most > 0)) return false;
  for (int64_t i = 0; i < count; i++) values[i] /= most;
  log_scale += log(most);
  return true;
}

// weights [C, sets] at most 1 -> out [C, sets]: the sum of all paths that read the set at the position, up to a factor
// for each position. Whether doubles held all that counts: the sum of all paths is found at every position, from what
// leads there and what follows; what became 0 on one side makes some of these differ.
inline bool joint_sums(const Lattice &l, const double *weights, double *out) {
  const int64_t nodes = l.first_node[l.positions + 1];
  double *ahead = (double *)calloc(nodes, sizeof(double)), *scales = (double *)calloc(l.positions + 1, sizeof(double));
  bool held = true;
  ahead[0] = 1;
  for (int64_t t = 0; t < l.positions && held; t++) {
    const double *w = weights + t * l.sets;
    double *next = ahead + l.first_node[t + 1];
    for (int64_t n = l.first_node[t]; n < l.first_node[t + 1]; n++) {
      const double value = ahead[n];
      for (int64_t m = l.first_move[n]; m < l.first_move[n + 1]; m++) next[l.after[m]] += value * w[l.set[m]];
    }
    scales[t + 1] = scales[t];
    held = scaled(next, l.first_node[t + 2] - l.first_node[t + 1], scales[t + 1]);
  }
  double *behind = (double *)malloc(sizeof(double) * nodes), behind_scale = 0, least = INFINITY, most = -INFINITY;
  for (int64_t n = l.first_node[l.positions]; n < nodes; n++) behind[n] = 1;
  for (int64_t t = l.positions - 1; t >= 0 && held; t--) {
    const double *w = weights + t * l.sets, *next = behind + l.first_node[t + 1];
    double *into = out + t * l.sets, total = 0;
    memset(into, 0, sizeof(double) * l.sets);
    for (int64_t n = l.first_node[t]; n < l.first_node[t + 1]; n++) {
      double sum = 0;
      for (int64_t m = l.first_move[n]; m < l.first_move[n + 1]; m++) {
        const double follows = w[l.set[m]] * next[l.after[m]];
        sum += follows;
        into[l.set[m]] += ahead[n] * follows;
      }
      behind[n] = sum;
      total += ahead[n] * sum;
    }
    const double log_total = log(total) + scales[t] + behind_scale;
    least = log_total < least ? log_total : least, most = log_total > most ? log_total : most;
    held = most - least < SAME_TOTAL &&
           scaled(behind + l.first_node[t], l.first_node[t + 1] - l.first_node[t], behind_scale);
  }
  free(behind);
  free(scales);
  free(ahead);
  return held;
}

// scores [C, sets] -> best [C]: the class sets along the path with the highest total, the first of equals.
inline void best_path(const Lattice &l, const double *scores, int64_t *best) {
  const int64_t nodes = l.first_node[l.positions + 1];
  double *values = (double *)calloc(nodes, sizeof(double));
  int64_t *chosen = (int64_t *)malloc(sizeof(int64_t) * nodes);
  for (int64_t t = l.positions - 1; t >= 0; t--) {
    const double *of_set = scores + t * l.sets, *next = values + l.first_node[t + 1];
    for (int64_t n = l.first_node[t]; n < l.first_node[t + 1]; n++) {
      double most = -INFINITY;
      chosen[n] = l.first_move[n];
      for (int64_t m = l.first_move[n]; m < l.first_move[n + 1]; m++) {
        const double value = of_set[l.set[m]] + next[l.after[m]];
        if (value > most) most = value, chosen[n] = m;
      }
      values[n] = most;
    }
  }
  for (int64_t t = 0, node = 0; t < l.positions; t++) {
    const int64_t move = chosen[l.first_node[t] + node];
    best[t] = l.set[move];
    node = l.after[move];
  }
  free(chosen);
  free(values);
}

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
