// The subset construction over atoms, for automata without anchors.
#pragma once

#include <algorithm>
#include <unordered_map>

#include "nfa.h"

struct Table {  // a deterministic automaton: next[state * atoms + atom], -1 dead; state 0 is the start
  int64_t atoms = 0;
  std::vector<int32_t> next;
  std::vector<uint8_t> accepting;
  int64_t states() const { return (int64_t)accepting.size(); }
};

// Distinct lists of numbers, numbered as they come.
class Lists {
 public:
  int32_t add(const std::vector<int32_t> &list, bool &fresh) {
    if (2 * (count() + 1) > (int64_t)slots.size()) grow();
    const uint64_t hash = hash_of(list.data(), list.size());
    size_t at = hash & (slots.size() - 1);
    for (; slots[at] != NONE; at = (at + 1) & (slots.size() - 1))
      if (hashes[slots[at]] == hash && same(slots[at], list)) return fresh = false, slots[at];
    fresh = true;
    slots[at] = (int32_t)count();
    hashes.push_back(hash);
    pool.insert(pool.end(), list.begin(), list.end());
    first.push_back((int64_t)pool.size());
    return slots[at];
  }
  int64_t count() const { return (int64_t)hashes.size(); }
  int64_t entries() const { return (int64_t)pool.size(); }
  const int32_t *begin(int32_t i) const { return pool.data() + first[i]; }
  const int32_t *end(int32_t i) const { return pool.data() + first[i + 1]; }

 private:
  std::vector<int32_t> pool, slots = std::vector<int32_t>(1024, NONE);
  std::vector<int64_t> first = {0};
  std::vector<uint64_t> hashes;

  static uint64_t hash_of(const int32_t *list, size_t size) {
    uint64_t hash = size;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (uint32_t)list[i]) * 0x9E3779B97F4A7C15ull, hash ^= hash >> 32;
    return hash;
  }
  bool same(int32_t i, const std::vector<int32_t> &list) const {
    return end(i) - begin(i) == (int64_t)list.size() && std::equal(list.begin(), list.end(), begin(i));
  }
  void grow() {
    slots.assign(2 * slots.size(), NONE);
    for (int32_t i = 0; i < count(); i++) {
      size_t at = hashes[i] & (slots.size() - 1);
      while (slots[at] != NONE) at = (at + 1) & (slots.size() - 1);
      slots[at] = i;
    }
  }
};

class Subsets {
 public:
  Table table;
  Outcome outcome = DONE;

  Subsets(const Expression &e, const Nfa &nfa, int32_t accept, int64_t most_states, int64_t most_entries)
      : e(e), nfa(nfa), accept(accept), most_states(most_states), most_entries(most_entries),
        seen(nfa.head.size(), 0), closure_of(nfa.head.size(), NONE), buckets(e.atoms) {
    table.atoms = e.atoms;
  }

  void run(int32_t start) {
    numbered({start});
    for (int32_t state = 0; state < subsets.count() && outcome == DONE; state++) {
      table.next.resize((state + 1) * e.atoms, NONE);
      table.accepting.push_back(0);
      follow(state);
      const bool large = subsets.entries() > most_entries || (int64_t)table.next.size() > most_entries;
      if (subsets.count() > most_states || large) outcome = TOO_MANY_STATES;
    }
  }

 private:
  const Expression &e;
  const Nfa &nfa;
  const int32_t accept;
  const int64_t most_states, most_entries;
  Lists subsets, threads, closures;
  std::vector<int32_t> number_of_threads;  // by `threads`, the subset they lead to
  std::vector<int32_t> seen, closure_of;   // by states; `seen` in which round
  std::vector<std::vector<int32_t>> buckets;  // by atoms, the states that reading one leads to
  std::vector<int32_t> touched, pending, reached;
  int32_t round = 0;

  void follow(int32_t state) {
    touched.clear();
    for (const int32_t *s = subsets.begin(state); s != subsets.end(state); s++) {
      if (*s == accept) table.accepting[state] = 1;
      for (int32_t i = nfa.head[*s]; i != NONE; i = nfa.edges[i].next)
        if (nfa.edges[i].set != NONE) read(nfa.edges[i]);
    }
    const std::vector<int32_t> *before = nullptr;
    int32_t target = NONE;
    for (int32_t atom : touched) {
      if (!before || buckets[atom] != *before) target = numbered(buckets[atom]);
      before = &buckets[atom];
      table.next[state * e.atoms + atom] = target;
    }
    for (int32_t atom : touched) buckets[atom].clear();
  }

  void read(const Edge &edge) {
    for (int32_t i = e.first_atom[edge.set]; i < e.first_atom[edge.set + 1]; i++) {
      if (buckets[e.atom[i]].empty()) touched.push_back(e.atom[i]);
      buckets[e.atom[i]].push_back(edge.target);
    }
  }

  // The subset that these states reach without reading.
  int32_t numbered(const std::vector<int32_t> &from) {
    bool fresh;
    const int32_t key = threads.add(from, fresh);
    if (!fresh) return number_of_threads[key];
    round++;
    reached.clear();
    for (int32_t state : from) {
      const int32_t closure = closed(state);
      for (const int32_t *s = closures.begin(closure); s != closures.end(closure); s++)
        if (seen[*s] != round) seen[*s] = round, reached.push_back(*s);
    }
    std::sort(reached.begin(), reached.end());
    number_of_threads.push_back(subsets.add(reached, fresh));
    return number_of_threads.back();
  }

  // The states that one reaches without reading, those that read or accept.
  int32_t closed(int32_t state) {
    if (closure_of[state] != NONE) return closure_of[state];
    std::vector<int32_t> found;
    marks.resize(nfa.head.size(), NONE);
    pending.assign(1, state);
    marks[state] = state;
    while (!pending.empty()) {
      const int32_t s = pending.back();
      bool reads = s == accept;
      pending.pop_back();
      for (int32_t i = nfa.head[s]; i != NONE; i = nfa.edges[i].next) {
        const Edge &edge = nfa.edges[i];
        reads |= edge.set != NONE;
        if (edge.set == NONE && marks[edge.target] != state) marks[edge.target] = state, pending.push_back(edge.target);
      }
      if (reads) found.push_back(s);
    }
    bool fresh;
    return closure_of[state] = closures.add(found, fresh);
  }
  std::vector<int32_t> marks;  // by states, the one whose closure last reached it
};
