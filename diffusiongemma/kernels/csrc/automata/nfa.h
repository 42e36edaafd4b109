// Thompson's construction, as `NfaBuilder` of control/languages/nfa.py does it: fragments are built backwards, from the
// state they continue to, and remembered by (node, continuation), so shared subtrees become shared states.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

enum Kind : int32_t { CHARS, SEQUENCE, EITHER, REPEAT, EMBEDDED };
enum Outcome : int32_t { DONE, TOO_MANY_ALTERNATIVES, TOO_MANY_STATES, TOO_DEEP, NO_MEMORY };

constexpr int DEEPEST = 20000;  // calls of `build`, 200 bytes of the stack each
constexpr int32_t NONE = -1;

// `Expression` of kernels/automata.py: nodes, children before parents, and the automata embedded in them.
struct Expression {
  int64_t nodes;
  const int32_t *kind, *first_child, *children;
  const int32_t *value;          // of CHARS the set; of REPEAT the least; of EMBEDDED the block
  const int32_t *most;           // of REPEAT, -1: no end
  const int32_t *first_state;    // [blocks + 1] into `accepts`
  const uint8_t *accepts;        // of every state of every block
  const int32_t *first_move;     // [blocks + 1]
  const int32_t *move_state, *move_next, *first_spelt;  // of moves: states within the block; sets read one by one,
  const int32_t *spelt;          // spelt[first_spelt[m] .. first_spelt[m + 1]]
  int64_t sets, atoms;
  const int32_t *first_atom, *atom;  // of every set
};

struct Edge {
  int32_t set, target, next;  // set -1: read nothing; next: of the same state
};

// From pairs of numbers to numbers, by open addressing.
class PairMap {
 public:
  PairMap() : keys(1024, EMPTY), values(1024) {}
  int32_t find(uint64_t key) const {
    const size_t at = place(key);
    return keys[at] == key ? values[at] : NONE;
  }
  void put(uint64_t key, int32_t value) {
    if (2 * ++count > keys.size()) grow();
    const size_t at = place(key);
    keys[at] = key, values[at] = value;
  }

 private:
  static constexpr uint64_t EMPTY = ~0ull;
  std::vector<uint64_t> keys;
  std::vector<int32_t> values;
  size_t count = 0;

  size_t place(uint64_t key) const {
    uint64_t mixed = key * 0x9E3779B97F4A7C15ull;
    size_t at = (mixed ^ mixed >> 29) & (keys.size() - 1);
    while (keys[at] != EMPTY && keys[at] != key) at = (at + 1) & (keys.size() - 1);
    return at;
  }
  void grow() {
    std::vector<uint64_t> old(2 * keys.size(), EMPTY);
    std::vector<int32_t> before(old.size());
    old.swap(keys), before.swap(values);
    for (size_t i = 0; i < old.size(); i++)
      if (old[i] != EMPTY) {
        const size_t at = place(old[i]);
        keys[at] = old[i], values[at] = before[i];
      }
  }
};

class Nfa {
 public:
  std::vector<int32_t> head;  // of every state its latest edge
  std::vector<Edge> edges;
  Outcome outcome = DONE;

  Nfa(const Expression &e, int64_t most_states) : e(e), most_states(most_states) {}

  int32_t new_state() {
    if ((int64_t)head.size() >= most_states) outcome = TOO_MANY_ALTERNATIVES;
    head.push_back(NONE);
    return (int32_t)head.size() - 1;
  }

  // The state from which exactly `node` leads to `target`.
  int32_t build(int32_t node, int32_t target) {
    if (outcome != DONE) return target;
    const uint64_t key = (uint64_t)node << 32 | (uint32_t)target;
    int32_t found = built.find(key);
    if (found != NONE) return found;
    if (++depth > DEEPEST) outcome = TOO_DEEP;
    found = fragment(node, target);
    depth--;
    built.put(key, found);
    return found;
  }

 private:
  const Expression &e;
  const int64_t most_states;
  PairMap built;
  int depth = 0;

  void edge(int32_t state, int32_t set, int32_t target) {
    edges.push_back({set, target, head[state]});
    head[state] = (int32_t)edges.size() - 1;
  }

  int32_t char_state(int32_t set, int32_t target) {
    const int32_t state = new_state();
    edge(state, set, target);
    return state;
  }

  int32_t fragment(int32_t node, int32_t target) {
    const int32_t begin = e.first_child[node], end = e.first_child[node + 1];
    switch (e.kind[node]) {
      case CHARS:
        return char_state(e.value[node], target);
      case SEQUENCE:
        for (int32_t i = end; i-- > begin;) target = build(e.children[i], target);
        return target;
      case EITHER: {
        const int32_t state = new_state();
        for (int32_t i = begin; i < end; i++) edge(state, NONE, build(e.children[i], target));
        return state;
      }
      case REPEAT:
        return repeat(node, e.children[begin], target);
    }
    return embedded(e.value[node], target);
  }

  int32_t repeat(int32_t node, int32_t body, int32_t target) {
    const int32_t least = e.value[node], most = e.most[node];
    int32_t entry = target;
    if (most == NONE) {
      entry = new_state();
      edge(entry, NONE, target);
      edge(entry, NONE, build(body, entry));
    }
    for (int32_t i = least; i < most && outcome == DONE; i++) {
      const int32_t more = build(body, entry);
      entry = new_state();
      edge(entry, NONE, target), edge(entry, NONE, more);
    }
    for (int32_t i = 0; i < least && outcome == DONE; i++) entry = build(body, entry);
    return entry;
  }

  int32_t embedded(int32_t block, int32_t target) {
    const int32_t begin = (int32_t)head.size(), first = e.first_state[block];
    for (int32_t s = first; s < e.first_state[block + 1]; s++) {
      const int32_t state = new_state();
      if (e.accepts[s]) edge(state, NONE, target);
    }
    for (int32_t m = e.first_move[block]; m < e.first_move[block + 1] && outcome == DONE; m++) {
      int32_t end = begin + e.move_next[m];
      for (int32_t i = e.first_spelt[m + 1]; --i > e.first_spelt[m];) end = char_state(e.spelt[i], end);
      edge(begin + e.move_state[m], e.spelt[e.first_spelt[m]], end);
    }
    return begin;
  }
};
