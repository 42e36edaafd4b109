// Where every token leads from every state, for control/tokens/moves.py; numbers are those of its plain twin.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "nfa.h"

struct Trie {  // of control/tokens/trie.py
  const int64_t *first_child, *symbol, *low, *middle, *high;
  const uint64_t *below;
};

struct Columns {  // of the table, that symbols stand for: from each start on another one
  int64_t count;
  const int64_t *start, *column;

  int64_t of(int64_t symbol) const { return column[std::upper_bound(start, start + count, symbol) - start - 1]; }
};

struct Moves {  // rows as in `Rows`, and stretches in order: tokens low .. high - 1 of the trie have a move
  std::vector<int64_t> first{0};
  std::vector<int32_t> origin, target;
  std::vector<int64_t> low, high, move;

  int64_t count() const { return (int64_t)first.size() - 1; }
};

inline uint64_t mixed(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Numbers {  // of keys
 public:
  Numbers() { clear(); }

  void clear() {
    slots.assign(64, Slot{0, -1});
    used = 0;
  }

  // The number of a key, -1 if it is a new one: to be set then.
  int64_t &of(uint64_t key) {
    if (2 * used >= slots.size()) grow();
    Slot &slot = find(key);
    if (slot.number < 0) slot.key = key, used++;
    return slot.number;
  }

 private:
  struct Slot {
    uint64_t key;
    int64_t number;
  };
  std::vector<Slot> slots;
  size_t used;

  Slot &find(uint64_t key) {
    size_t at = mixed(key) & (slots.size() - 1);
    while (slots[at].number >= 0 && slots[at].key != key) at = (at + 1) & (slots.size() - 1);
    return slots[at];
  }

  void grow() {
    std::vector<Slot> before(2 * slots.size(), Slot{0, -1});
    before.swap(slots);
    for (const Slot &slot : before)
      if (slot.number >= 0) find(slot.key) = slot;
  }
};

class MoveWalk {
 public:
  // idle [states]: the kinds of characters that change nothing in a state. `most` entries of all moves together.
  MoveWalk(const Trie &trie, const Columns &columns, const int32_t *table, int64_t width, const uint64_t *idle,
           int64_t most, Moves &out)
      : trie(trie), columns(columns), table(table), width(width), idle(idle), most(most), out(out) {
    for (int64_t symbol = 0; symbol < 256; symbol++) column_of_small[symbol] = columns.of(symbol);
  }

  // Level by level; nodes below which nothing changes a move are passed over with all their tokens.
  Outcome run(const int32_t *origins, int64_t count) {
    for (int64_t i = 0; i < count; i++) out.origin.push_back((int32_t)i), out.target.push_back(origins[i]);
    if (kept() < 0) return DONE;  // there is nothing to go on from
    std::vector<int64_t> nodes{0}, numbers{0};
    while (nodes.size() && (int64_t)out.origin.size() <= most) {
      std::vector<int64_t> children;
      std::vector<uint64_t> keys;
      for (size_t i = 0; i < nodes.size(); i++) {
        const int64_t node = nodes[i];
        const bool same = !(trie.below[node] & ~idle_after[numbers[i]]);
        own(trie.low[node], (same ? trie.high : trie.middle)[node], numbers[i]);
        for (int64_t c = trie.first_child[node]; !same && c < trie.first_child[node + 1]; c++)
          children.push_back(c), keys.push_back((uint64_t)(numbers[i] * width + column(trie.symbol[c])));
      }
      followed(keys);
      nodes.clear(), numbers.clear();
      for (size_t i = 0; i < children.size(); i++)
        if (const int64_t number = moves_of[place.of(keys[i])]; number >= 0)
          nodes.push_back(children[i]), numbers.push_back(number);
    }
    if ((int64_t)out.origin.size() > most) return TOO_MANY_STATES;
    order_stretches();
    return DONE;
  }

 private:
  const Trie &trie;
  const Columns &columns;
  const int32_t *table;
  const int64_t width;
  const uint64_t *idle;
  const int64_t most;
  Moves &out;
  int64_t column_of_small[256];
  Numbers known, place;               // moves by what they are found by; distinct keys of a level
  std::vector<uint64_t> idle_after;   // of each move
  std::vector<int64_t> moves_of;      // of each distinct key of a level, -1 where it leads nowhere

  void own(int64_t low, int64_t high, int64_t move) {
    if (high > low) out.low.push_back(low), out.high.push_back(high), out.move.push_back(move);
  }

  void order_stretches() {
    std::vector<int32_t> at(trie.high[0], -1);  // which one begins with a token
    for (size_t i = 0; i < out.low.size(); i++) at[out.low[i]] = (int32_t)i;
    Moves ordered;
    for (const int32_t i : at)
      if (i >= 0)
        ordered.low.push_back(out.low[i]), ordered.high.push_back(out.high[i]), ordered.move.push_back(out.move[i]);
    out.low.swap(ordered.low), out.high.swap(ordered.high), out.move.swap(ordered.move);
  }

  int64_t column(int64_t symbol) const { return symbol < 256 ? column_of_small[symbol] : columns.of(symbol); }

  // The moves of keys (move * width + column), new ones numbered in the order of the keys.
  void followed(const std::vector<uint64_t> &keys) {
    std::vector<uint64_t> distinct;
    place.clear();
    for (const uint64_t key : keys)
      if (int64_t &number = place.of(key); number < 0) number = (int64_t)distinct.size(), distinct.push_back(key);
    std::vector<uint64_t> order(distinct);
    std::sort(order.begin(), order.end());
    moves_of.assign(distinct.size(), -1);
    for (const uint64_t key : order) {
      if ((int64_t)out.origin.size() > most) return;
      const int64_t move = (int64_t)(key / width), column = (int64_t)(key % width);
      for (int64_t e = out.first[move]; e < out.first[move + 1]; e++) {
        const int32_t from = out.origin[e], to = table[out.target[e] * width + column];
        if (to >= 0) out.origin.push_back(from), out.target.push_back(to);
      }
      moves_of[place.of(key)] = kept();
    }
  }

  // The number of the move whose entries come behind all others', which are dropped if it is known; -1 without entries.
  int64_t kept() {
    const int64_t begin = out.first.back(), size = (int64_t)out.origin.size() - begin;
    if (!size) return -1;
    uint64_t sum = 0, both = ~(uint64_t)0;
    for (int64_t e = begin; e < begin + size; e++) {
      sum += (uint64_t)(out.target[e] + 2) * (mixed((uint64_t)out.origin[e]) | 1);
      both &= idle[out.target[e]];
    }
    for (;; sum = mixed(sum)) {  // on to the next key where two moves have the same
      int64_t &number = known.of(sum);
      if (number < 0) {
        number = out.count();
        out.first.push_back(begin + size), idle_after.push_back(both);
        return number;
      }
      if (!is(number, begin, size)) continue;
      out.origin.resize(begin), out.target.resize(begin);
      return number;
    }
  }

  bool is(int64_t number, int64_t begin, int64_t size) const {
    const int64_t first = out.first[number];
    return out.first[number + 1] - first == size &&
           std::equal(out.origin.begin() + begin, out.origin.end(), out.origin.begin() + first) &&
           std::equal(out.target.begin() + begin, out.target.end(), out.target.begin() + first);
  }
};
