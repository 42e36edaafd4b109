// Sums and best paths over the lattice of a constraint.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

// Bundles of edges lead from state to state; each reads a class set. A move is a bundle taken at one position, where
// its ends are live before and after it: the same bundles at all positions, so no move is stored.
struct Lattice {
  int64_t positions, states, sets;
  const int64_t *first;             // [states + 1]: the bundles first[s] .. first[s + 1] leave state s
  const int32_t *target, *set;      // [bundles]
  const uint8_t *live;              // [positions + 1, states]
  const uint8_t *const *permitted;  // [positions] null, or [bundles]: which may be taken there

  template <class Work>
  void each_from(int64_t state, int64_t position, Work work) const {
    const uint8_t *allowed = permitted[position];
    for (int64_t m = first[state]; m < first[state + 1]; m++)
      if (!allowed || allowed[m]) work(m);
  }
};

struct Wide {  // m * 2^e, for what no double holds
  double m;
  int64_t e;
};

constexpr int64_t NOTHING_BESIDE = 200;  // doublings: far more than the digits of a double

inline double one(const double *) { return 1; }
inline Wide one(const Wide *) { return {1, 0}; }
inline bool above_zero(double a) { return a > 0; }
inline bool above_zero(Wide a) { return a.m > 0; }
inline double product(double a, double b) { return a * b; }
inline Wide product(Wide a, Wide b) { return {a.m * b.m, a.e + b.e}; }
inline void add(double &sum, double more) { sum += more; }
inline void add(Wide &sum, Wide more) {
  const int64_t apart = more.e - sum.e;
  if (!above_zero(more)) return;
  if (!above_zero(sum) || apart > NOTHING_BESIDE) sum = more;
  else if (apart > 0) sum = {ldexp(sum.m, (int)-apart) + more.m, more.e};
  else if (apart > -NOTHING_BESIDE) sum.m += ldexp(more.m, (int)apart);
}
inline double share(double part, double whole) { return part / whole; }
inline double share(Wide part, Wide whole) {
  const int64_t apart = part.e - whole.e;
  return apart < -2000 ? 0 : ldexp(part.m / whole.m, (int)apart);
}
inline double log_of(double a) { return log(a); }
inline double log_of(Wide a) { return log(a.m) + (double)a.e * M_LN2; }

// Divides by the largest and adds its logarithm to `log_scale` -> whether there is one above 0.
inline bool scaled(double *values, int64_t count, double &log_scale) {
  double most = 0;
  for (int64_t i = 0; i < count; i++) most = values[i] > most ? values[i] : most;
  if (!(most > 0)) return false;
  for (int64_t i = 0; i < count; i++) values[i] /= most;
  log_scale += log(most);
  return true;
}
inline bool scaled(Wide *values, int64_t count, double &) {
  for (int64_t i = 0; i < count; i++) {
    int more;
    values[i].m = frexp(values[i].m, &more);
    values[i].e += more;
  }
  return true;
}

// weights [C, sets] at most 1 -> ahead [C + 1, states]: the sums of all paths from the start to each live state, over
// the exponentials of `scales` [C + 1]. Whether any are left.
template <class Number>
inline bool sums_ahead(const Lattice &l, const Number *weights, Number *ahead, double *scales) {
  bool held = true;
  for (int64_t s = 0; s < l.states; s++)
    if (l.live[s]) ahead[s] = one(ahead);
  for (int64_t t = 0; t < l.positions && held; t++) {
    const Number *w = weights + t * l.sets, *now = ahead + t * l.states;
    const uint8_t *live = l.live + (t + 1) * l.states;
    Number *then = ahead + (t + 1) * l.states;
    for (int64_t s = 0; s < l.states; s++)
      if (above_zero(now[s]))
        l.each_from(s, t, [&](int64_t m) { add(then[l.target[m]], product(now[s], w[l.set[m]])); });
    for (int64_t s = 0; s < l.states; s++)
      if (!live[s]) then[s] = Number();
    scales[t + 1] = scales[t];
    held = scaled(then, l.states, scales[t + 1]);
  }
  return held;
}

constexpr double SAME_TOTAL = 1e-9;  // how far apart, as logs, sums of the same paths may be

// weights [C, sets] at most 1 -> shares [C, sets]: how much of the sum of all paths reads the set at the position.
// Whether doubles held all that counts: that sum is found at every position, from what leads there and what follows;
// what became 0 on one side makes some of these differ.
template <class Number>
inline bool joint_shares(const Lattice &l, const Number *weights, double *shares) {
  const int64_t nodes = (l.positions + 1) * l.states;
  Number *ahead = (Number *)calloc(nodes + 2 * l.states + l.sets, sizeof(Number));
  Number *now = ahead + nodes, *then = now + l.states, *of_set = then + l.states;
  double *scales = (double *)calloc(l.positions + 1, sizeof(double));
  double behind_scale = 0, least = INFINITY, most = -INFINITY;
  bool held = sums_ahead(l, weights, ahead, scales);
  for (int64_t s = 0; s < l.states; s++)
    if (l.live[l.positions * l.states + s]) then[s] = one(then);
  for (int64_t t = l.positions - 1; t >= 0 && held; t--) {
    const Number *w = weights + t * l.sets, *before = ahead + t * l.states;
    Number total = Number();
    memset(of_set, 0, sizeof(Number) * l.sets);
    for (int64_t s = 0; s < l.states; s++) {
      Number sum = Number();
      if (l.live[t * l.states + s])
        l.each_from(s, t, [&](int64_t m) {
          const Number follows = product(w[l.set[m]], then[l.target[m]]);
          add(sum, follows);
          add(of_set[l.set[m]], product(before[s], follows));
        });
      now[s] = sum;
      add(total, product(before[s], sum));
    }
    for (int64_t i = 0; i < l.sets; i++) shares[t * l.sets + i] = share(of_set[i], total);
    const double log_total = log_of(total) + scales[t] + behind_scale;
    least = log_total < least ? log_total : least, most = log_total > most ? log_total : most;
    const bool same = sizeof(Number) > sizeof(double) || most - least < SAME_TOTAL;
    held = same && scaled(now, l.states, behind_scale);
    Number *free_now = then;
    then = now, now = free_now;
  }
  free(scales);
  free(ahead);
  return held;
}

// The same of the logarithms of weights, for any that double's range does not hold.
inline void wide_joint_shares(const Lattice &l, const double *log_weights, double *shares) {
  const int64_t count = l.positions * l.sets;
  Wide *weights = (Wide *)malloc(sizeof(Wide) * count);
  for (int64_t i = 0; i < count; i++) {
    const double doublings = floor(log_weights[i] * M_LOG2E);
    weights[i] = {exp(log_weights[i] - doublings * M_LN2), (int64_t)doublings};
  }
  joint_shares(l, weights, shares);
  free(weights);
}

// scores [C, sets] -> best [C]: the class sets along the path with the highest total, the first of equals.
inline void best_path(const Lattice &l, const double *scores, int64_t *best) {
  double *now = (double *)malloc(2 * sizeof(double) * l.states), *then = now + l.states, *rows = now;
  int32_t *chosen = (int32_t *)malloc(sizeof(int32_t) * l.positions * l.states);
  for (int64_t s = 0; s < l.states; s++) then[s] = 0;
  for (int64_t t = l.positions - 1; t >= 0; t--) {
    const double *of_set = scores + t * l.sets;
    const uint8_t *live = l.live + t * l.states;
    for (int64_t s = 0; s < l.states; s++) {
      if (!live[s]) continue;
      int64_t picked = -1;
      double most = -INFINITY;
      l.each_from(s, t, [&](int64_t m) {
        if (!live[l.states + l.target[m]]) return;
        const double value = of_set[l.set[m]] + then[l.target[m]];
        if (value > most || picked < 0) most = value, picked = m;
      });
      now[s] = most, chosen[t * l.states + s] = (int32_t)picked;
    }
    double *free_now = then;
    then = now, now = free_now;
  }
  int64_t s = 0;
  while (!l.live[s]) s++;
  for (int64_t t = 0; t < l.positions; t++) {
    const int32_t move = chosen[t * l.states + s];
    best[t] = l.set[move];
    s = l.target[move];
  }
  free(chosen);
  free(rows);
}
