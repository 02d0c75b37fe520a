// One step of projected gradient ascent on N samples of D values.
//
//   L∞:  out = clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi),  sign(0) = sign(NaN) = 0
//   L2:  out = clamp(x + δ·min(1, ε/‖δ‖₂), lo, hi),  δ = x_adv + α·g/‖g‖₂ − x,
//        where a sample whose ‖g‖₂ is zero or not finite moves by 0
//
// I/O: read x, x_adv, grad; write out. The three passes of L2 over a sample hit the cache.
#include "../ops.h"
#include "../pgd.h"
#include "simd.h"

namespace ro_fast {
namespace {

// out may be x_adv: each value is read before it is written, and no other value is touched.
template <class T, class C>
RO_FAST_CLONES void step_linf(T* out, const T* x_adv, const T* x, const T* grad, int64_t n, Budget<C> b) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    store(out[i], moved_linf<C>(load(x_adv[i]), load(x[i]), load(grad[i]), b.eps, b.alpha, b.lo, b.hi));
  }
}

template <class T, class C>
RO_FAST_CLONES void step_l2(T* out, const T* x_adv, const T* x, const T* grad, int64_t n, Budget<C> b) {
  const C g_norm = row_norm(grad, n);
  const bool moves = g_norm > 0 && std::isfinite(g_norm);
  const auto delta = [=](int64_t i) {
    const C move = moves ? b.alpha * (load(grad[i]) / g_norm) : C(0);
    return load(x_adv[i]) + move - load(x[i]);
  };
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const double d = delta(i);
    sum += d * d;
  }
  const C d_norm = C(std::sqrt(sum));
  const C shrink = d_norm > b.eps ? b.eps / d_norm : C(1);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    store(out[i], clamp(load(x[i]) + delta(i) * shrink, b.lo, b.hi));
  }
}

// Moves sample n.
template <class T>
void move(const Step<T>& step, int64_t n) {
  const int64_t at = n * step.width;
  Budget<Compute<T>> own = step.budget;
  if (own.active && !own.active[n]) {
    if (step.out != step.x_adv) std::copy_n(step.x_adv + at, step.width, step.out + at);
    return;
  }
  if (own.eps_n) own.eps = own.eps_n[n];
  if (own.alpha_n) own.alpha = own.alpha_n[n];
  const auto run = step.l2 ? step_l2<T, Compute<T>> : step_linf<T, Compute<T>>;
  run(step.out + at, step.x_adv + at, step.x + at, step.grad + at, step.width, own);
}

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, std::optional<Tensor> eps_n,
    std::optional<Tensor> alpha_n, std::string norm, double lo, double hi, std::optional<Tensor> active) {
  const char* op = "pgd_step";
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    if (!step.l2 && !step.budget.by_sample()) {
      torch::stable::parallel_for(0, step.size, kGrain, [&](int64_t begin, int64_t end) {
        step_linf(step.out + begin, step.x_adv + begin, step.x + begin, step.grad + begin, end - begin, step.budget);
      });
      return;
    }
    parallel_rows(step.rows, step.width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) move(step, n);
    });
  });
}

}  // namespace ro_fast
