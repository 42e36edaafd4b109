// Edges of automata over classes of tokens, and which texts are accepted from one state and not from another.
#pragma once

#include "subsets.h"

struct Rows {  // of control/tokens/moves.py: where each move leads from those origins from which it leads anywhere
  const int64_t *first;
  const int32_t *origin, *target;
};

// The entries of all rows, ordered by their origin, then their row.
inline void by_origin(const Rows &rows, int64_t count, int64_t origins, int32_t *origin, int32_t *row, int32_t *target) {
  std::vector<int64_t> place(origins + 1, 0);
  for (int64_t e = 0; e < rows.first[count]; e++) place[rows.origin[e] + 1]++;
  for (int64_t o = 0; o < origins; o++) place[o + 1] += place[o];
  for (int64_t r = 0; r < count; r++)
    for (int64_t e = rows.first[r]; e < rows.first[r + 1]; e++) {
      const int64_t at = place[rows.origin[e]]++;
      origin[at] = rows.origin[e], row[at] = (int32_t)r, target[at] = rows.target[e];
    }
}

// The fewest edges from those states whose distance is 0; that of all others is more than `states` at first.
inline void walk(const int32_t *source, const int32_t *target, int64_t edges, int64_t states, int64_t *distance) {
  std::vector<int64_t> first(states + 1, 0);
  std::vector<int32_t> order(edges), reached;
  for (int64_t e = 0; e < edges; e++) first[source[e]]++;
  for (int64_t s = 0; s < states; s++) first[s + 1] += first[s];
  for (int64_t e = edges; e-- > 0;) order[--first[source[e]]] = target[e];
  for (int64_t s = 0; s < states; s++)
    if (!distance[s]) reached.push_back((int32_t)s);
  for (size_t i = 0; i < reached.size(); i++)
    for (int64_t e = first[reached[i]]; e < first[reached[i] + 1]; e++)
      if (distance[order[e]] > states) distance[order[e]] = distance[reached[i]] + 1, reached.push_back(order[e]);
}

struct Bundled {  // edges with the same two ends, and the distinct lists of labels that they have, as they come
  std::vector<int32_t> source, target, labels_of;
  Lists labels;
};

// From edges ordered by source, then label.
inline void bundle(const int32_t *source, const int32_t *label, const int32_t *target, int64_t edges, Bundled &out) {
  std::vector<int32_t> order, labels;
  for (int64_t begin = 0, end = 0; begin < edges; begin = end) {
    order.clear();
    for (; end < edges && source[end] == source[begin]; end++) order.push_back((int32_t)end);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return target[a] < target[b]; });
    for (size_t i = 0; i < order.size();) {
      const int32_t to = target[order[i]];
      labels.clear();
      for (; i < order.size() && target[order[i]] == to; i++) labels.push_back(label[order[i]]);
      bool fresh;
      out.source.push_back(source[begin]), out.target.push_back(to);
      out.labels_of.push_back(out.labels.add(labels, fresh));
    }
  }
}

// Of pairs (a, b) of states [count, 2] -> whether every text accepted from a is accepted from b. Pairs that must hold
// for others are followed, and what is wrong leads back along them.
inline void included(const int32_t *next, const uint8_t *accepting, int64_t atoms, const int32_t *pairs, int64_t count,
                     uint8_t *holds) {
  struct Cause { int32_t pair, other; };
  PairMap number;
  std::vector<int32_t> states, head, wrong;  // of every pair: its states; its latest cause
  std::vector<Cause> causes;
  const auto numbered = [&](int32_t a, int32_t b) {
    const uint64_t key = (uint64_t)a << 32 | (uint32_t)b;
    int32_t found = number.find(key);
    if (found == NONE) {
      number.put(key, found = (int32_t)head.size());
      states.push_back(a), states.push_back(b), head.push_back(NONE);
    }
    return found;
  };
  for (int64_t i = 0; i < count; i++) numbered(pairs[2 * i], pairs[2 * i + 1]);
  std::vector<uint8_t> refuted;
  for (int32_t p = 0; p < (int32_t)head.size(); p++) {  // grows while it is walked
    const int64_t a = states[2 * p], b = states[2 * p + 1];
    bool bad = accepting[a] && !accepting[b];
    for (int64_t i = 0; i < atoms && !bad; i++) {
      const int32_t x = next[a * atoms + i], y = next[b * atoms + i];
      if (x == NONE || x == y) continue;
      bad = y == NONE;
      if (bad) break;
      const int32_t needed = numbered(x, y);
      causes.push_back({p, head[needed]}), head[needed] = (int32_t)causes.size() - 1;
    }
    refuted.push_back(bad);
    if (bad) wrong.push_back(p);
  }
  for (size_t i = 0; i < wrong.size(); i++)
    for (int32_t c = head[wrong[i]]; c != NONE; c = causes[c].other)
      if (!refuted[causes[c].pair]) refuted[causes[c].pair] = 1, wrong.push_back(causes[c].pair);
  for (int64_t i = 0; i < count; i++) holds[i] = !refuted[numbered(pairs[2 * i], pairs[2 * i + 1])];
}
