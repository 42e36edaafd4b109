// Which moves there are on a canvas.
#pragma once

#include "lattice.h"

// The paths of exactly so many moves from `start` to one of `ends`. `done` is reached from itself alone before position
// `not_before`.
struct Paths {
  int64_t start, done, not_before;
  const uint8_t *ends;  // [states]
  uint8_t *live;        // [positions + 1, states] to be filled: the states on some path
  uint8_t *read;        // [positions, sets] to be filled: whether a move reads the set

  bool takes(const Lattice &l, int64_t state, int64_t t, int64_t move) const {
    return t >= not_before || l.target[move] != done || state == done;
  }
  // Whether the same may be done at a position as at any other plain one.
  bool is_plain(const Lattice &l, int64_t t) const { return t >= not_before && !l.permitted[t]; }
};

// Where plain positions follow one another and a set of states leads to itself, it stays; it mostly does soon.
inline void states_ahead(const Lattice &l, const Paths &p) {
  memset(p.live, 0, (l.positions + 1) * l.states);
  p.live[p.start] = 1;
  bool steady = false;
  for (int64_t t = 0; t < l.positions; t++) {
    uint8_t *now = p.live + t * l.states, *then = now + l.states;
    steady = steady && p.is_plain(l, t);
    if (steady) memcpy(then, now, l.states);
    for (int64_t s = 0; s < l.states && !steady; s++)
      if (now[s]) l.each_from(s, t, [&](int64_t m) { then[l.target[m]] |= p.takes(l, s, t, m); });
    steady = p.is_plain(l, t) && !memcmp(now, then, l.states);
  }
}

// Leaves those of them that lead to an end.
inline void states_that_end(const Lattice &l, const Paths &p) {
  uint8_t *leads = (uint8_t *)malloc(2 * l.states), *before = leads + l.states;
  memcpy(leads, p.ends, l.states);
  bool steady = false;
  for (int64_t t = l.positions; t >= 0; t--) {
    for (int64_t s = 0; s < l.states; s++) p.live[t * l.states + s] &= leads[s];
    steady = steady && t && p.is_plain(l, t - 1);
    if (!t || steady) continue;
    memset(before, 0, l.states);
    for (int64_t s = 0; s < l.states; s++)
      l.each_from(s, t - 1, [&](int64_t m) { before[s] |= leads[l.target[m]] && p.takes(l, s, t - 1, m); });
    steady = p.is_plain(l, t - 1) && !memcmp(before, leads, l.states);
    memcpy(leads, before, l.states);
  }
  free(leads);
}

// Fills `live` and `read` -> the number of moves.
inline int64_t find_paths(const Lattice &l, const Paths &p) {
  states_ahead(l, p);
  states_that_end(l, p);
  memset(p.read, 0, l.positions * l.sets);
  int64_t moves = 0, here = 0;
  for (int64_t t = 0; t < l.positions; t++, moves += here) {
    const uint8_t *now = p.live + t * l.states, *then = now + l.states;
    uint8_t *read = p.read + t * l.sets;
    const bool plain = t && !l.permitted[t] && !l.permitted[t - 1];
    if (plain && !memcmp(now, now - l.states, 2 * l.states)) {  // these states and the next are those of before
      memcpy(read, read - l.sets, l.sets);
      continue;
    }
    here = 0;
    for (int64_t s = 0; s < l.states; s++)
      if (now[s]) l.each_from(s, t, [&](int64_t m) { here += then[l.target[m]], read[l.set[m]] |= then[l.target[m]]; });
  }
  return moves;
}
