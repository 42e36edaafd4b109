// From expressions to minimal automata, for kernels/automata.py. Numbers and limits are those of its plain twin,
// control/languages/nfa.py, and so is the outcome, state for state.
#include <memory>
#include <new>

#include "automata/minimal.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int automata_version() { return 3; }

template <class Work>
static int guarded(Table **out, Work work) {
  try {
    auto made = std::make_unique<Table>();
    const Outcome outcome = work(*made);
    *out = made.release();
    return outcome;
  } catch (const std::bad_alloc &) {
    return NO_MEMORY;
  }
}

// The minimal automaton of the last node.
EXPORTED int automata_of(const Expression *e, int64_t most_nfa, int64_t most_states, int64_t most_entries, Table **out) {
  return guarded(out, [&](Table &made) {
    Nfa nfa(*e, most_nfa);
    const int32_t accept = nfa.new_state(), start = nfa.build((int32_t)e->nodes - 1, accept);
    if (nfa.outcome != DONE) return nfa.outcome;
    Subsets subsets(*e, nfa, accept, most_states, most_entries);
    subsets.run(start);
    if (subsets.outcome == DONE) made = minimal(subsets.table);
    return subsets.outcome;
  });
}

// The minimal automaton of one given by its table [states, atoms].
EXPORTED int automata_minimal(const int32_t *next, const uint8_t *accepting, int64_t states, int64_t atoms, Table **out) {
  return guarded(out, [&](Table &made) {
    Table given;
    given.atoms = atoms;
    given.next.assign(next, next + states * atoms);
    given.accepting.assign(accepting, accepting + states);
    made = minimal(given);
    return DONE;
  });
}

struct Rows {  // of control/tokens/moves.py: where each move leads from those origins from which it leads anywhere
  const int64_t *first;
  const int32_t *origin, *target;
};

// Some of the moves, each followed by a symbol of a column of the table [states, width] -> where they begin [count + 1],
// their entries, and the sum of (target + 2) * key[origin] of each. There is room for as many entries as they had.
EXPORTED void automata_following(const Rows *rows, const int64_t *moves, const int64_t *columns, int64_t count,
                                 const int32_t *table, int64_t width, const uint64_t *key, int64_t *first,
                                 int32_t *origin, int32_t *target, uint64_t *sums) {
  int64_t entries = 0;
  first[0] = 0;
  for (int64_t i = 0; i < count; i++) {
    uint64_t sum = 0;
    for (int64_t e = rows->first[moves[i]]; e < rows->first[moves[i] + 1]; e++) {
      const int32_t to = table[rows->target[e] * width + columns[i]], from = rows->origin[e];
      origin[entries] = from, target[entries] = to;
      entries += to >= 0;
      sum += to >= 0 ? (uint64_t)(to + 2) * key[from] : 0;
    }
    first[i + 1] = entries, sums[i] = sum;
  }
}

// Whether row chosen[i] is `others` row i, for all that chosen[i] is not -1 of.
EXPORTED int automata_same_rows(const Rows *rows, const int64_t *chosen, int64_t count, const Rows *others) {
  for (int64_t i = 0; i < count; i++) {
    if (chosen[i] < 0) continue;
    const int64_t a = rows->first[chosen[i]], b = others->first[i], size = others->first[i + 1] - b;
    if (rows->first[chosen[i] + 1] - a != size) return 0;
    if (memcmp(rows->origin + a, others->origin + b, sizeof(int32_t) * size)) return 0;
    if (memcmp(rows->target + a, others->target + b, sizeof(int32_t) * size)) return 0;
  }
  return 1;
}

// distance [states], 0 where one begins and more than `states` elsewhere -> the fewest edges to each within reach.
EXPORTED void automata_distances(const int64_t *source, const int64_t *target, int64_t edges, int64_t states,
                                 int64_t *distance) {
  std::vector<int64_t> first(states + 1, 0), order(edges), reached;
  for (int64_t e = 0; e < edges; e++) first[source[e]]++;
  for (int64_t s = 0; s < states; s++) first[s + 1] += first[s];
  for (int64_t e = edges; e-- > 0;) order[--first[source[e]]] = target[e];
  for (int64_t s = 0; s < states; s++)
    if (!distance[s]) reached.push_back(s);
  for (size_t i = 0; i < reached.size(); i++) {
    const int64_t s = reached[i];
    for (int64_t e = first[s]; e < first[s + 1]; e++)
      if (distance[order[e]] > states) distance[order[e]] = distance[s] + 1, reached.push_back(order[e]);
  }
}

EXPORTED int64_t automata_states(const Table *t) { return t->states(); }

// Its table [states, atoms] and acceptance [states].
EXPORTED void automata_copy(const Table *t, int32_t *next, uint8_t *accepting) {
  if (t->next.size()) memcpy(next, t->next.data(), sizeof(int32_t) * t->next.size());
  if (t->accepting.size()) memcpy(accepting, t->accepting.data(), t->accepting.size());
}

EXPORTED void automata_free(Table *t) { delete t; }
