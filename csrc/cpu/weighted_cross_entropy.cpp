// Cross-entropy with one weight per sample, over N rows of C logits z.
//
//   p = softmax(z),  q = (1 − s)·t + s·Σt/C,  ce = −Σ_c q_c·log p_c  (0·log 0 = 0)
//   loss = Σ_n scale_n·ce_n,  scale = w | w/N | w/Σw;  a row of weight 0 gives 0 whatever its ce
//   ∂loss/∂z_c = g·scale·(p_c·Σq − q_c)
//
// The backward recomputes p, so that only the inputs are kept.
// I/O: forward read logits, target, weight; write loss. Backward read grad, logits, target, weight; write grad_logits.
#include <limits>
#include <string>
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kBlock = 1024;  // logits exponentiated at once: fills vectors even if C is 10, stays in L1

// For each row z − max z, its exponential e and Σ_c e_c. A NaN makes its whole row NaN through the sum.
template <class T, class C>
RO_FAST_CLONES void exponentiate(const T* logits, int64_t rows, int64_t classes, C* shifted, C* e, double* sums) {
  for (int64_t n = 0; n < rows; ++n) {
    const T* z = logits + n * classes;
    C top = load(z[0]);
#pragma omp simd reduction(max : top)
    for (int64_t c = 1; c < classes; ++c) top = top < C(load(z[c])) ? load(z[c]) : top;
#pragma omp simd
    for (int64_t c = 0; c < classes; ++c) shifted[n * classes + c] = load(z[c]) - top;
  }
#pragma omp simd
  for (int64_t i = 0; i < rows * classes; ++i) e[i] = exp_nonpositive(shifted[i]);
  for (int64_t n = 0; n < rows; ++n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < classes; ++c) sum += e[n * classes + c];
    sums[n] = sum;
  }
}

// The smoothed target of a row: q_c = keep·t_c + floor, keep = 1 − s, floor = s·Σt/C.
template <class C>
struct Target {
  const C* soft;  // t [C], or null if t is one at `hard` and zero elsewhere
  int64_t hard;
  C mass;  // Σt
  C keep, floor;

  C at(int64_t c) const { return soft ? keep * soft[c] + floor : floor; }  // without a hard label's own mass
};

// ce = −Σ_c q_c·log p_c with −log p_c = log Σe − (z_c − max z), in float64: for a confident row, log Σe is all there is.
template <class C>
RO_FAST_CLONES double cross_entropy(const C* shifted, int64_t classes, double log_sum, Target<C> t) {
  double ce = 0;
  if (t.soft || t.floor != 0) {
#pragma omp simd reduction(+ : ce)
    for (int64_t c = 0; c < classes; ++c) {
      const double q = t.at(c);
      ce += q == 0 ? 0 : q * (log_sum - shifted[c]);
    }
  }
  if (!t.soft && t.keep != 0) ce += t.keep * (log_sum - shifted[t.hard]);
  return ce;
}

// ∂(scale·ce)/∂z_c = scale·(e_c·Σt/Σe − q_c)
template <class T, class C>
RO_FAST_CLONES void gradient(T* out, const C* e, int64_t classes, double sum, C scale, Target<C> t) {
  const C to_p = C(t.mass / sum);
#pragma omp simd
  for (int64_t c = 0; c < classes; ++c) store(out[c], scale * (e[c] * to_p - t.at(c)));
  if (!t.soft) store(out[t.hard], scale * (e[t.hard] * to_p - (t.keep + t.floor)));
}

// Arguments in the form the kernels take: the compute dtype throughout, one scale per row.
template <class T>
struct Batch {
  using C = Compute<T>;
  int64_t rows, classes;
  const T* logits;                   // [N, C]
  Tensor target;                     // in the dtype pointed to below
  const int64_t* hard = nullptr;     // [N], else
  const C* soft = nullptr;           // [N, C]
  Weights<C> weights;                // [N] or null for ones
  double smoothing, denominator = 1;  // scale = weight / denominator

  Batch(
      const char* op, const Tensor& z, const Tensor& given, const std::optional<Tensor>& w, double label_smoothing,
      const std::string& reduction)
      : rows(z.size(0)), classes(z.size(1)), logits(data<T>(z)), weights(op, w, rows, z), smoothing(label_smoothing) {
    check_tensor(op, "logits", z, kDtype<T>, rows * classes, z);
    if (given.dim() == 2) {
      target = in_compute<C>(given);
      check_tensor(op, "target", target, kDtype<C>, rows * classes, z);
      soft = data<C>(target);
    } else {
      target = given;
      check_tensor(op, "target", target, ScalarType::Long, rows, z);
      hard = data<int64_t>(target);
      check_labels(op, hard, rows, classes);
    }
    if (reduction == "mean" || (reduction == "weighted_mean" && !weights.at)) {
      denominator = double(rows);
    } else if (reduction == "weighted_mean") {
      denominator = 0;
      for (int64_t n = 0; n < rows; ++n) denominator += weights.at[n];
    } else {
      check(reduction == "sum" || reduction == "none", op, "reduction '", reduction, "' is unknown");
    }
  }

  Target<C> target_of(int64_t n) const {
    const C keep = C(1 - smoothing);
    if (hard) return {nullptr, hard[n], 1, keep, C(smoothing / double(classes))};
    const C* t = soft + n * classes;
    double mass = 0;
    for (int64_t c = 0; c < classes; ++c) mass += t[c];
    return {t, 0, C(mass), keep, C(smoothing * mass / double(classes))};
  }

  // Calls f(n, shifted, e, sum) for each row: z − max z [C], its exponential [C] and the sum Σ_c of that.
  template <class F>
  void for_each_row(const F& f) const {
    parallel_rows(rows, 8 * classes, [&](int64_t begin, int64_t end) {
      const int64_t block = std::max<int64_t>(1, kBlock / classes);
      std::vector<C> buffer(2 * block * classes);
      std::vector<double> sums(block);
      C *shifted = buffer.data(), *e = shifted + block * classes;
      for (int64_t from = begin; from < end; from += block) {
        const int64_t count = std::min(block, end - from);
        exponentiate(logits + from * classes, count, classes, shifted, e, sums.data());
        for (int64_t n = 0; n < count; ++n) f(from + n, shifted + n * classes, e + n * classes, sums[n]);
      }
    });
  }
};

}  // namespace

Tensor weighted_cross_entropy(
    Tensor logits, Tensor target, std::optional<Tensor> weight, double label_smoothing, std::string reduction) {
  const char* op = "weighted_cross_entropy";
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, weight, label_smoothing, reduction);
    const Tensor losses = torch::stable::new_empty(logits, {batch.rows}, kDtype<C>);
    C* loss = mutable_data<C>(losses);
    batch.for_each_row([&](int64_t n, const C* shifted, const C*, double sum) {
      const C w = weight_of(batch.weights.at, n);
      loss[n] = w == 0 ? 0 : C(w * cross_entropy(shifted, batch.classes, std::log(sum), batch.target_of(n)));
    });
    if (reduction == "none") return losses;
    // Sequentially, so that the sum does not depend on the number of threads.
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
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, weight, label_smoothing, reduction);
    const bool per_row = reduction == "none";
    check_tensor(op, "grad", grad, kDtype<C>, per_row ? batch.rows : 1, logits);
    const C* g = data<C>(grad);
    const Tensor result = torch::stable::new_empty(logits, {batch.rows, batch.classes}, kDtype<T>);
    T* out = mutable_data<T>(result);
    batch.for_each_row([&](int64_t n, const C*, const C* e, double sum) {
      T* row = out + n * batch.classes;
      const C weighted = g[per_row ? n : 0] * weight_of(batch.weights.at, n);
      if (weighted == 0 || batch.denominator == 0) {
        std::fill_n(row, batch.classes, T{});
      } else {
        gradient(row, e, batch.classes, sum, C(weighted / batch.denominator), batch.target_of(n));
      }
    });
    return result;
  });
}

}  // namespace ro_fast
