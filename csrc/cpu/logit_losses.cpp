// Losses that depend on a few classes per row of logits z, and their gradients; m is the rival argmax_{k≠y} z_k, first if tied.
//
//   boosted cross-entropy  −log p_y − log(1 − p_m)                      2·p − 1_y − softmax(z without m)
//   margin                 z_m − z_y                                    1_m − 1_y
//   difference of logits   (z_m − z_y) / (z_π1 − z_π3 + 1e-12)          (above − loss·below) / denominator
//   ratio, with a target t (z_t − z_y) / (z_π1 − (z_π3 + z_π4)/2 + 1e-12)
//
// where above and below are the gradients of numerator and denominator. loss_n = w_n·ℓ_n and grad_z = grad_n·w_n·∇ℓ_n,
// both 0 where that factor is 0. A row with NaN gives NaN.
// I/O: forward read logits, target, weight; write loss. Backward read grad too; write grad_logits.
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

enum class Kind { kBoosted, kMargin, kRatio };

// One row in the compute dtype, and what its losses depend on.
template <class C>
struct Row {
  const C* z;
  int64_t classes, y;
  bool broken = false;
  int64_t rival = -1;
  std::array<int64_t, 4> top{-1, -1, -1, -1};  // by decreasing logit, ties in class order

  Row(const C* z, int64_t classes, int64_t y) : z(z), classes(classes), y(y) {
    for (int64_t c = 0; c < classes; ++c) {
      broken |= z[c] != z[c];
      if (c != y && (rival < 0 || z[c] > z[rival])) rival = c;
      int64_t here = c;
      bool moved = false;  // a value moved down stays before its equals
      for (int64_t& place : top) {
        moved = moved || place < 0 || z[here] > z[place];
        if (moved) std::swap(here, place);
        if (here < 0) break;
      }
    }
  }

  // log Σ exp(z) over all classes except `without`; e, if given, receives their softmax.
  double log_sum(int64_t without, C* e) const {
    C most = -std::numeric_limits<C>::infinity();
    for (int64_t c = 0; c < classes; ++c) most = c != without && z[c] > most ? z[c] : most;
    double sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += c == without ? 0 : std::exp(double(z[c] - most));
    for (int64_t c = 0; e && c < classes; ++c) e[c] = c == without ? C(0) : C(std::exp(double(z[c] - most)) / sum);
    return double(most) + std::log(sum);
  }
};

// The gradient of a quotient of differences of logits, as pairs of class and factor.
template <class C>
struct Ratio {
  double above, below;
  int64_t upper;
  bool targeted;

  Ratio(const Row<C>& row, const int64_t* target_class) : upper(target_class ? *target_class : row.rival), targeted(target_class) {
    const double third = targeted ? (double(row.z[row.top[2]]) + row.z[row.top[3]]) / 2 : double(row.z[row.top[2]]);
    above = double(row.z[upper]) - row.z[row.y];
    below = double(row.z[row.top[0]]) - third + 1e-12;
  }
};

template <class C>
double loss_of(Kind kind, const Row<C>& row, const int64_t* target_class) {
  if (row.broken) return std::numeric_limits<double>::quiet_NaN();
  if (kind == Kind::kMargin) return double(row.z[row.rival]) - row.z[row.y];
  if (kind == Kind::kBoosted) {
    const double all = row.log_sum(-1, nullptr);
    return (all - row.z[row.y]) + (all - row.log_sum(row.rival, nullptr));
  }
  const Ratio<C> ratio(row, target_class);
  return ratio.above / ratio.below;
}

// Writes ∇ℓ [C].
template <class C>
void gradient_of(Kind kind, const Row<C>& row, const int64_t* target_class, C* grad) {
  std::fill_n(grad, row.classes, row.broken ? std::numeric_limits<C>::quiet_NaN() : C(0));
  if (row.broken) return;
  if (kind == Kind::kMargin) {
    grad[row.rival] += 1;
    grad[row.y] -= 1;
  } else if (kind == Kind::kBoosted) {
    std::vector<C> rest(row.classes);
    row.log_sum(-1, grad);
    row.log_sum(row.rival, rest.data());
    for (int64_t c = 0; c < row.classes; ++c) grad[c] = 2 * grad[c] - rest[c];
    grad[row.y] -= 1;
  } else {
    const Ratio<C> ratio(row, target_class);
    const double whole = 1 / ratio.below, part = -ratio.above / ratio.below / ratio.below;
    std::array<std::pair<int64_t, double>, 5> terms{
        {{ratio.upper, whole},
         {row.y, -whole},
         {row.top[0], part},
         {row.top[2], ratio.targeted ? -part / 2 : -part},
         {row.top[3], -part / 2}}};
    for (int k = 0; k < (ratio.targeted ? 5 : 4); ++k) grad[terms[k].first] += C(terms[k].second);
  }
}

template <class T>
struct Rows {
  using C = Compute<T>;
  const char* op;
  const T* logits;
  int64_t count, classes;
  const int64_t *target, *target_class = nullptr;
  Weights<C> weights;

  Rows(const char* op, const Tensor& z, const Tensor& y, const std::optional<Tensor>& t, const std::optional<Tensor>& w)
      : op(op), logits(data<T>(z)), count(z.size(0)), classes(z.size(1)), target(labels(op, y, z)),
        weights(op, w, count, z) {
    check_tensor(op, "logits", z, kDtype<T>, count * classes, z);
    if (t) target_class = labels(op, *t, z);
  }

  const int64_t* labels(const char* name, const Tensor& y, const Tensor& z) const {
    check_tensor(name, "target", y, ScalarType::Long, count, z);
    check_labels(name, data<int64_t>(y), count, classes);
    return data<int64_t>(y);
  }
  // Calls f(n, row, target class or null, weight) for each row.
  template <class F>
  void for_each(const F& f) const {
    parallel_rows(count, 16 * classes, [&](int64_t begin, int64_t end) {
      std::vector<C> z(classes);
      for (int64_t n = begin; n < end; ++n) {
        for (int64_t c = 0; c < classes; ++c) z[c] = load(logits[n * classes + c]);
        f(n, Row<C>(z.data(), classes, target[n]), target_class ? target_class + n : nullptr, weight_of(weights.at, n));
      }
    });
  }
};

Tensor losses(const char* op, Kind kind, const Tensor& logits, const Tensor& target, const std::optional<Tensor>& target_class,
              const std::optional<Tensor>& weight) {
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Rows<T> rows(op, logits, target, target_class, weight);
    const Tensor result = torch::stable::new_empty(logits, {rows.count}, kDtype<C>);
    C* out = mutable_data<C>(result);
    rows.for_each([&](int64_t n, const Row<C>& row, const int64_t* t, C w) {
      out[n] = w == 0 ? C(0) : C(w * loss_of(kind, row, t));
    });
    return result;
  });
}

Tensor gradients(const char* op, Kind kind, const Tensor& grad, const Tensor& logits, const Tensor& target,
                 const std::optional<Tensor>& target_class, const std::optional<Tensor>& weight) {
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Rows<T> rows(op, logits, target, target_class, weight);
    check_tensor(op, "grad", grad, kDtype<C>, rows.count, logits);
    const Tensor result = torch::stable::new_empty(logits, {rows.count, rows.classes}, kDtype<T>);
    T* out = mutable_data<T>(result);
    const C* g = data<C>(grad);
    rows.for_each([&](int64_t n, const Row<C>& row, const int64_t* t, C w) {
      std::vector<C> of_row(rows.classes);
      const C scale = g[n] * w;
      if (scale != 0) gradient_of(kind, row, t, of_row.data());
      for (int64_t c = 0; c < rows.classes; ++c) store(out[n * rows.classes + c], scale == 0 ? C(0) : scale * of_row[c]);
    });
    return result;
  });
}

}  // namespace

Tensor boosted_cross_entropy(Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight) {
  return losses("boosted_cross_entropy", Kind::kBoosted, logits, target, target_class, weight);
}
Tensor boosted_cross_entropy_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight) {
  return gradients("boosted_cross_entropy_backward", Kind::kBoosted, grad, logits, target, target_class, weight);
}
Tensor margin_loss(Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight) {
  return losses("margin_loss", Kind::kMargin, logits, target, target_class, weight);
}
Tensor margin_loss_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight) {
  return gradients("margin_loss_backward", Kind::kMargin, grad, logits, target, target_class, weight);
}
Tensor dlr_loss(Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight) {
  return losses("dlr_loss", Kind::kRatio, logits, target, target_class, weight);
}
Tensor dlr_loss_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight) {
  return gradients("dlr_loss_backward", Kind::kRatio, grad, logits, target, target_class, weight);
}

}  // namespace ro_fast
