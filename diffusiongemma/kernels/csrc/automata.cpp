// From expressions to minimal automata, for kernels/automata.py. Numbers and limits are those of its plain twin,
// `_by_twin` of control/languages/compiler.py, and so is the outcome, state for state.
#include <memory>
#include <new>

#include "automata/edges.h"
#include "automata/minimal.h"
#include "automata/moves.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int automata_version() { return 5; }

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

template <class Work>
static int outcome_of(Work work) {
  try {
    work();
    return DONE;
  } catch (const std::bad_alloc &) {
    return NO_MEMORY;
  }
}

EXPORTED int automata_by_origin(const Rows *rows, int64_t count, int64_t origins, int32_t *origin, int32_t *row,
                                int32_t *target) {
  return outcome_of([&] { by_origin(*rows, count, origins, origin, row, target); });
}

EXPORTED int automata_distances(const int32_t *source, const int32_t *target, int64_t edges, int64_t states,
                                int64_t *distance) {
  return outcome_of([&] { walk(source, target, edges, states, distance); });
}

EXPORTED int automata_included(const int32_t *next, const uint8_t *accepting, int64_t atoms, const int32_t *pairs,
                               int64_t count, uint8_t *holds) {
  return outcome_of([&] { included(next, accepting, atoms, pairs, count, holds); });
}

// Bundles of edges ordered by source, then label; `sizes` of bundles, lists of labels and labels in all of these.
EXPORTED int automata_bundled(const int32_t *source, const int32_t *label, const int32_t *target, int64_t edges,
                              Bundled **out, int64_t *sizes) {
  return outcome_of([&] {
    auto made = std::make_unique<Bundled>();
    bundle(source, label, target, edges, *made);
    sizes[0] = (int64_t)made->source.size(), sizes[1] = made->labels.count(), sizes[2] = made->labels.entries();
    *out = made.release();
  });
}

EXPORTED void automata_bundled_copy(Bundled *b, int32_t *source, int32_t *target, int32_t *labels_of, int64_t *first,
                                    int64_t *labels) {
  std::copy(b->source.begin(), b->source.end(), source);
  std::copy(b->target.begin(), b->target.end(), target);
  std::copy(b->labels_of.begin(), b->labels_of.end(), labels_of);
  first[0] = 0;
  for (int32_t i = 0; i < b->labels.count(); i++) {
    std::copy(b->labels.begin(i), b->labels.end(i), labels + first[i]);
    first[i + 1] = first[i] + (b->labels.end(i) - b->labels.begin(i));
  }
  delete b;
}

// The distinct moves of the strings of a trie; `sizes` of moves, their entries and stretches.
EXPORTED int automata_moves(const Trie *trie, const Columns *columns, const int32_t *table, int64_t width,
                            const uint64_t *idle, const int32_t *origins, int64_t count, int64_t most, Moves **out,
                            int64_t *sizes) {
  Outcome outcome = DONE;
  const int failed = outcome_of([&] {
    auto made = std::make_unique<Moves>();
    outcome = MoveWalk(*trie, *columns, table, width, idle, most, *made).run(origins, count);
    if (outcome != DONE) return;
    sizes[0] = made->count(), sizes[1] = (int64_t)made->origin.size(), sizes[2] = (int64_t)made->low.size();
    *out = made.release();
  });
  return failed ? failed : outcome;
}

EXPORTED void automata_moves_copy(Moves *m, int64_t *first, int32_t *origin, int32_t *target, int64_t *low,
                                  int64_t *high, int64_t *move) {
  std::copy(m->first.begin(), m->first.end(), first);
  std::copy(m->origin.begin(), m->origin.end(), origin);
  std::copy(m->target.begin(), m->target.end(), target);
  std::copy(m->low.begin(), m->low.end(), low);
  std::copy(m->high.begin(), m->high.end(), high);
  std::copy(m->move.begin(), m->move.end(), move);
  delete m;
}

EXPORTED int64_t automata_states(const Table *t) { return t->states(); }

// Its table [states, atoms] and acceptance [states].
EXPORTED void automata_copy(const Table *t, int32_t *next, uint8_t *accepting) {
  if (t->next.size()) memcpy(next, t->next.data(), sizeof(int32_t) * t->next.size());
  if (t->accepting.size()) memcpy(accepting, t->accepting.data(), t->accepting.size());
}

EXPORTED void automata_free(Table *t) { delete t; }
