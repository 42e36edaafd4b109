// The minimal automaton: Valmari and Lehtinen 2008, "Efficient minimization of DFAs with partial transition functions",
// which takes time in proportion to the transitions there are, times the logarithm of the states.
#pragma once

#include "subsets.h"

// Blocks of 0 .. n - 1, refined by marking.
class Partition {
 public:
  std::vector<int32_t> element, place, block_of, first, past;
  int32_t blocks;

  explicit Partition(int32_t n) : element(n), place(n), block_of(n), first(n), past(n), blocks(n > 0), marked(n) {
    for (int32_t i = 0; i < n; i++) element[i] = place[i] = i;
    if (n) first[0] = 0, past[0] = n;
  }
  // Into blocks of equal labels.
  void part_by(const std::vector<int32_t> &label, int32_t labels) {
    std::vector<int32_t> begin(labels + 1, 0);
    for (int32_t l : label) begin[l + 1]++;
    blocks = 0;
    for (int32_t l = 0; l < labels; l++) {
      begin[l + 1] += begin[l];
      if (begin[l + 1] > begin[l]) first[blocks] = begin[l], past[blocks++] = begin[l + 1];
    }
    for (int32_t i = 0; i < (int32_t)label.size(); i++) element[begin[label[i]]++] = i;
    for (int32_t b = 0; b < blocks; b++)
      for (int32_t i = first[b]; i < past[b]; i++) block_of[element[i]] = b, place[element[i]] = i;
  }
  void mark(int32_t e) {
    const int32_t block = block_of[e], at = place[e], to = first[block] + marked[block];
    element[at] = element[to], place[element[at]] = at;
    element[to] = e, place[e] = to;
    if (!marked[block]++) waiting.push_back(block);
  }
  void split() {
    for (; !waiting.empty(); waiting.pop_back()) {
      const int32_t block = waiting.back(), middle = first[block] + marked[block];
      const bool marked_are_fewer = marked[block] <= past[block] - middle;
      marked[block] = 0;
      if (middle == past[block]) continue;
      first[blocks] = marked_are_fewer ? first[block] : middle;
      past[blocks] = marked_are_fewer ? middle : past[block];
      (marked_are_fewer ? first[block] : past[block]) = middle;
      for (int32_t i = first[blocks]; i < past[blocks]; i++) block_of[element[i]] = blocks;
      blocks++;
    }
  }

 private:
  std::vector<int32_t> marked, waiting;
};

struct Transitions {
  std::vector<int32_t> tail, label, target;
  std::vector<int32_t> first_into, into;  // by targets, the transitions that lead there

  explicit Transitions(const Table &t) {
    for (int64_t i = 0; i < (int64_t)t.next.size(); i++)
      if (t.next[i] != NONE) {
        tail.push_back((int32_t)(i / t.atoms)), label.push_back((int32_t)(i % t.atoms));
        target.push_back(t.next[i]);
      }
    first_into.assign(t.states() + 1, 0);
    for (int32_t to : target) first_into[to + 1]++;
    for (int64_t s = 0; s < t.states(); s++) first_into[s + 1] += first_into[s];
    std::vector<int32_t> free(first_into.begin(), first_into.end() - 1);
    into.resize(target.size());
    for (int32_t i = 0; i < (int32_t)target.size(); i++) into[free[target[i]]++] = i;
  }
};

// The states that keep: `chosen` [states] a number for each state, -1 for those that go; rows become those of the
// first state of each number. Numbered from the start, breadth first.
inline Table renumbered(const Table &t, const std::vector<int32_t> &chosen, int32_t numbers) {
  std::vector<int32_t> sample(numbers, NONE), fresh(numbers, NONE), order;
  for (int64_t s = t.states(); s-- > 0;)
    if (chosen[s] != NONE) sample[chosen[s]] = (int32_t)s;
  Table out;
  out.atoms = t.atoms;
  fresh[chosen[0]] = 0, order.push_back(chosen[0]);
  for (size_t i = 0; i < order.size(); i++) {
    const int32_t *row = t.next.data() + sample[order[i]] * t.atoms;
    out.accepting.push_back(t.accepting[sample[order[i]]]);
    for (int64_t a = 0; a < t.atoms; a++) {
      const int32_t to = row[a] == NONE ? NONE : chosen[row[a]];
      if (to != NONE && fresh[to] == NONE) fresh[to] = (int32_t)order.size(), order.push_back(to);
      out.next.push_back(to == NONE ? NONE : fresh[to]);
    }
  }
  return out;
}

// Without states from which nothing is accepted; the start stays.
inline Table trimmed(const Table &t) {
  const Transitions moves(t);
  std::vector<int32_t> kept(t.states(), NONE), pending;
  for (int32_t s = 0; s < t.states(); s++)
    if (t.accepting[s]) kept[s] = s, pending.push_back(s);
  while (!pending.empty()) {
    const int32_t s = pending.back();
    pending.pop_back();
    for (int32_t i = moves.first_into[s]; i < moves.first_into[s + 1]; i++) {
      const int32_t from = moves.tail[moves.into[i]];
      if (kept[from] == NONE) kept[from] = from, pending.push_back(from);
    }
  }
  if (kept[0] == NONE) {  // nothing is accepted
    Table nothing;
    nothing.atoms = t.atoms, nothing.next.assign(t.atoms, NONE), nothing.accepting.assign(1, 0);
    return nothing;
  }
  return renumbered(t, kept, (int32_t)t.states());
}

inline Table minimal(const Table &all) {
  const Table t = trimmed(all);
  const Transitions moves(t);
  Partition blocks((int32_t)t.states()), cords((int32_t)moves.tail.size());
  for (int32_t s = 0; s < t.states(); s++)
    if (t.accepting[s]) blocks.mark(s);
  blocks.split();
  cords.part_by(moves.label, (int32_t)t.atoms);
  for (int32_t b = 1, c = 0; c < cords.blocks;) {
    for (int32_t i = cords.first[c]; i < cords.past[c]; i++) blocks.mark(moves.tail[cords.element[i]]);
    blocks.split();
    for (c++; b < blocks.blocks; b++) {
      for (int32_t i = blocks.first[b]; i < blocks.past[b]; i++) {
        const int32_t s = blocks.element[i];
        for (int32_t j = moves.first_into[s]; j < moves.first_into[s + 1]; j++) cords.mark(moves.into[j]);
      }
      cords.split();
    }
  }
  return renumbered(t, blocks.block_of, blocks.blocks);
}
