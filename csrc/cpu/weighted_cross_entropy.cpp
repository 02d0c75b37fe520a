// Cross-entropy with a weight a sample, over N rows of C logits z.
//
//   p = softmax(z),  q = (1 − s)·t + s·Σt/C,  ce = −Σ_c q_c·log p_c  (0·log 0 = 0)
//   loss = Σ_n scale_n·ce_n,  scale = w | w/N | w/Σw;  a row of weight 0 gives 0 whatever its ce
//   ∂loss/∂z_c = g·scale·(p_c·Σq − q_c)
//
// The backward recomputes p, so that nothing but the inputs is kept.
// I/O: forward read logits, target, weight; write loss. Backward read grad, logits, target, weight; write grad_logits.
#include <limits>
#include <string>
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kBlock = 1024;  // logits exponentiated at once: fills vectors also where C is 10, stays in L1

// e^x for x ≤ 0 to 1 ulp; results below the normal range are 0. The range reduction and polynomial of Cephes' expf.
inline float exp_nonpositive(float x) {
  const float k = std::nearbyint(std::max(x, -88.f) * 1.44269504f);
  const float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  const int32_t bits = (int32_t(k) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return x < -87.3f ? 0 : p * power;
}
inline double exp_nonpositive(double x) { return std::exp(x); }

// For each row z − max z and its exponential; a NaN stays in its row.
template <class T, class C>
RO_FAST_CLONES void exponentiate(const T* logits, int64_t rows, int64_t classes, C* shifted, C* e) {
  for (int64_t n = 0; n < rows; ++n) {
    const T* z = logits + n * classes;
    C top = load(z[0]);
    for (int64_t c = 1; c < classes; ++c) top = std::max(top, C(load(z[c])));
    for (int64_t c = 0; c < classes; ++c) shifted[n * classes + c] = load(z[c]) - top;
  }
#pragma omp simd
  for (int64_t i = 0; i < rows * classes; ++i) e[i] = exp_nonpositive(shifted[i]);
}

// The targets of a batch: hard labels or soft rows, smoothed.
template <class C>
struct Targets {
  const int64_t* hard;  // [N] or null
  const C* soft;        // [N, C] or null
  int64_t classes;
  C keep, spread;  // 1 − s, s/C

  // Σ_c t_nc
  C mass(int64_t n) const {
    if (hard) return 1;
    C sum = 0;
    for (int64_t c = 0; c < classes; ++c) sum += soft[n * classes + c];
    return sum;
  }
  // q_nc
  C at(int64_t n, int64_t c, C mass) const {
    return keep * (hard ? C(hard[n] == c) : soft[n * classes + c]) + spread * mass;
  }
};

template <class C>
C cross_entropy(const Targets<C>& targets, int64_t n, const C* shifted, C log_sum) {
  if (targets.hard && targets.spread == 0) return log_sum - shifted[targets.hard[n]];
  const C mass = targets.mass(n);
  C ce = 0;
  for (int64_t c = 0; c < targets.classes; ++c) {
    const C q = targets.at(n, c, mass);
    if (q != 0) ce += q * (log_sum - shifted[c]);
  }
  return ce;
}

// Arguments as the kernels take them: the compute dtype throughout, one scale a row.
template <class T>
struct Batch {
  using C = Compute<T>;
  Tensor target_, weight_;  // hold what the pointers below point to
  int64_t rows, classes;
  const T* logits;
  const C* weight;  // [N] or null for ones
  Targets<C> targets;
  double denominator;  // scale = weight / denominator

  Batch(
      const char* op, const Tensor& z, const Tensor& target, const std::optional<Tensor>& w, double label_smoothing,
      const std::string& reduction)
      : rows(z.size(0)), classes(z.size(1)), logits(data<T>(z)), weight(nullptr), denominator(1) {
    check_tensor(op, "logits", z, kDtype<T>, rows * classes);
    const bool soft = target.dim() == 2;
    target_ = soft ? cast(target) : target;
    check_tensor(op, "target", target_, soft ? kDtype<C> : ScalarType::Long, soft ? rows * classes : rows);
    targets = {
        soft ? nullptr : data<int64_t>(target_), soft ? data<C>(target_) : nullptr, classes, C(1 - label_smoothing),
        C(label_smoothing / double(classes))};
    if (targets.hard) check_labels(op, targets.hard, rows, classes);
    if (w) {
      weight_ = cast(*w);
      check_tensor(op, "weight", weight_, kDtype<C>, rows);
      weight = data<C>(weight_);
    }
    if (reduction == "mean" || (reduction == "weighted_mean" && !weight)) {
      denominator = double(rows);
    } else if (reduction == "weighted_mean") {
      denominator = 0;
      for (int64_t n = 0; n < rows; ++n) denominator += weight[n];
    } else {
      check(reduction == "sum" || reduction == "none", op, "reduction '", reduction, "' is unknown");
    }
  }

  static Tensor cast(const Tensor& t) { return t.scalar_type() == kDtype<C> ? t : torch::stable::to(t, kDtype<C>); }

  C weight_of(int64_t n) const { return weight ? weight[n] : C(1); }

  // Calls f(n, shifted, e, sum) for each row: z − max z [C], its exponential [C] and Σ_c of that.
  template <class F>
  void for_each_row(const F& f) const {
    parallel_rows(rows, 8 * classes, [&](int64_t begin, int64_t end) {
      const int64_t block = std::max<int64_t>(1, kBlock / classes);
      std::vector<C> buffer(2 * block * classes);
      C *shifted = buffer.data(), *e = shifted + block * classes;
      for (int64_t from = begin; from < end; from += block) {
        const int64_t count = std::min(block, end - from);
        exponentiate(logits + from * classes, count, classes, shifted, e);
        for (int64_t n = 0; n < count; ++n) {
          const C* row = e + n * classes;
          C sum = 0;
          for (int64_t c = 0; c < classes; ++c) sum += row[c];
          f(from + n, shifted + n * classes, row, sum);
        }
      }
    });
  }
};

}  // namespace

Tensor weighted_cross_entropy(
    Tensor logits, Tensor target, std::optional<Tensor> weight, double label_smoothing, std::string reduction) {
  const char* op = "weighted_cross_entropy";
  return dispatch(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, weight, label_smoothing, reduction);
    const Tensor losses = torch::stable::new_empty(logits, {batch.rows}, kDtype<C>);
    C* loss = mutable_data<C>(losses);
    batch.for_each_row([&](int64_t n, const C* shifted, const C*, C sum) {
      const C w = batch.weight_of(n);
      loss[n] = w == 0 ? 0 : w * cross_entropy(batch.targets, n, shifted, std::log(sum));
    });
    if (reduction == "none") return losses;
    // One after another, so that the sum does not depend on the number of threads.
    double total = 0;
    for (int64_t n = 0; n < batch.rows; ++n) total += loss[n];
    const bool weightless = reduction == "weighted_mean" && batch.denominator == 0;
    const Tensor result = torch::stable::new_empty(logits, {}, kDtype<C>);
    *mutable_data<C>(result) = C(weightless ? 0 : total / batch.denominator);
    return result;
  });
}

Tensor weighted_cross_entropy_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> weight, double label_smoothing,
    std::string reduction) {
  const char* op = "weighted_cross_entropy_backward";
  return dispatch(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, weight, label_smoothing, reduction);
    const bool per_row = reduction == "none";
    check_tensor(op, "grad", grad, kDtype<C>, per_row ? batch.rows : 1);
    const C* g = data<C>(grad);
    const Tensor result = torch::stable::new_empty(logits, {batch.rows, batch.classes}, kDtype<T>);
    T* out = mutable_data<T>(result);
    batch.for_each_row([&](int64_t n, const C*, const C* e, C sum) {
      T* row = out + n * batch.classes;
      const C weighted = g[per_row ? n : 0] * batch.weight_of(n);
      const C scale = weighted == 0 || batch.denominator == 0 ? 0 : C(weighted / batch.denominator);
      const C mass = batch.targets.mass(n), scale_p = mass / sum;
      for (int64_t c = 0; c < batch.classes; ++c) {
        store(row[c], scale == 0 ? 0 : scale * (e[c] * scale_p - batch.targets.at(n, c, mass)));
      }
    });
    return result;
  });
}

}  // namespace ro_fast
