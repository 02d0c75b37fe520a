// KL divergence of p = softmax(z) from t = softmax(z') over N rows of C logits, with one weight per sample.
//
//   kl = Σ_c t_c·(log t_c − log p_c)  (0 where t_c is 0),  loss_n = w_n·kl_n
//   ∂kl/∂z_c = p_c − t_c,   ∂kl/∂z'_c = t_c·(log t_c − log p_c − kl),   times grad_n·w_n; 0 where that factor is 0
//
// I/O: forward read both logits, weight; write loss. Backward read grad too; write both gradients.
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

// log softmax of a row, in float64: if t and p agree, only the roundings of both remain in kl.
template <class T>
void log_softmax(const T* z, int64_t classes, double* log_p) {
  double top = load(z[0]), sum = 0;
  for (int64_t c = 1; c < classes; ++c) top = top < load(z[c]) ? double(load(z[c])) : top;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(log_p[c] = load(z[c]) - top);
  const double log_sum = std::log(sum);
  for (int64_t c = 0; c < classes; ++c) log_p[c] -= log_sum;
}

// Calls f(n, log p, log t, terms of kl, kl, weight) for each row.
template <class T, class F>
void for_each_row(
    const char* op, const Tensor& logits, const Tensor& target_logits, const std::optional<Tensor>& weight, const F& f) {
  using C = Compute<T>;
  const int64_t rows = logits.size(0), classes = logits.size(1);
  check_tensor(op, "logits", logits, kDtype<T>, rows * classes, logits);
  check_tensor(op, "target_logits", target_logits, kDtype<T>, rows * classes, logits);
  const Weights<C> weights(op, weight, rows, logits);
  const T *z = data<T>(logits), *target = data<T>(target_logits);
  parallel_rows(rows, 16 * classes, [&](int64_t begin, int64_t end) {
    std::vector<double> buffer(3 * classes);
    double *log_p = buffer.data(), *log_t = log_p + classes, *terms = log_t + classes;
    for (int64_t n = begin; n < end; ++n) {
      log_softmax(z + n * classes, classes, log_p);
      log_softmax(target + n * classes, classes, log_t);
      double kl = 0;
      for (int64_t c = 0; c < classes; ++c) {
        const double t = std::exp(log_t[c]);
        kl += terms[c] = t == 0 ? 0 : t * (log_t[c] - log_p[c]);
      }
      f(n, log_p, log_t, terms, kl, weight_of(weights.at, n));
    }
  });
}

}  // namespace

Tensor weighted_kl(Tensor logits, Tensor target_logits, std::optional<Tensor> weight) {
  const char* op = "weighted_kl";
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Tensor result = torch::stable::new_empty(logits, {logits.size(0)}, kDtype<C>);
    C* loss = mutable_data<C>(result);
    for_each_row<T>(op, logits, target_logits, weight, [&](int64_t n, const double*, const double*, const double*, double kl, C w) {
      loss[n] = w == 0 ? C(0) : C(w * kl);
    });
    return result;
  });
}

std::tuple<Tensor, Tensor> weighted_kl_backward(Tensor grad, Tensor logits, Tensor target_logits, std::optional<Tensor> weight) {
  const char* op = "weighted_kl_backward";
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const int64_t rows = logits.size(0), classes = logits.size(1);
    check_tensor(op, "grad", grad, kDtype<C>, rows, logits);
    const Tensor d_logits = torch::stable::new_empty(logits, {rows, classes}, kDtype<T>);
    const Tensor d_target = torch::stable::new_empty(logits, {rows, classes}, kDtype<T>);
    T *out = mutable_data<T>(d_logits), *out_target = mutable_data<T>(d_target);
    const C* g = data<C>(grad);
    for_each_row<T>(
        op, logits, target_logits, weight,
        [&](int64_t n, const double* log_p, const double* log_t, const double* terms, double kl, C w) {
          const double scale = g[n] * w;
          for (int64_t c = 0; c < classes; ++c) {
            const double t = std::exp(log_t[c]);
            store(out[n * classes + c], C(scale == 0 ? 0 : scale * (std::exp(log_p[c]) - t)));
            store(out_target[n * classes + c], C(scale == 0 ? 0 : scale * (terms[c] - t * kl)));
          }
        });
    return std::make_tuple(d_logits, d_target);
  });
}

}  // namespace ro_fast
