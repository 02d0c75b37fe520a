// One step of projected gradient ascent on N samples of D values.
//
//   L∞:  out = clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi),  sign(0) = sign(NaN) = 0
//   L2:  out = clamp(x + δ·min(1, ε/‖δ‖₂), lo, hi),  δ = x_adv + α·g/‖g‖₂ − x,
//        where a sample whose ‖g‖₂ is zero or not finite moves by 0
//
// I/O: read x, x_adv, grad; write out. The three passes of L2 over a sample find it in the cache.
#include <string>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

template <class C>
struct Budget {
  C eps, alpha, lo, hi;
};

// out may be x_adv: each value is read before it is written, and no other is touched.
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

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, std::optional<Tensor> eps_n,
    std::optional<Tensor> alpha_n, std::string norm, double lo, double hi, std::optional<Tensor> active) {
  const char* op = "pgd_step";
  const bool l2 = is_l2(op, norm);
  const int64_t size = x.numel(), rows = x.size(0), width = rows ? size / rows : 0;
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "out", out, kDtype<T>, size);
    check_tensor(op, "x_adv", x_adv, kDtype<T>, size);
    check_tensor(op, "x", x, kDtype<T>, size);
    check_tensor(op, "grad", grad, kDtype<T>, size);
    if (eps_n) check_tensor(op, "eps", *eps_n, kDtype<C>, rows);
    if (alpha_n) check_tensor(op, "alpha", *alpha_n, kDtype<C>, rows);
    if (active) check_tensor(op, "active", *active, ScalarType::Bool, rows);
    T* p_out = mutable_data<T>(out);
    const T *p_adv = data<T>(x_adv), *p_x = data<T>(x), *p_grad = data<T>(grad);
    const Budget<C> same{C(eps), C(alpha), C(lo), C(hi)};

    if (!l2 && !eps_n && !alpha_n && !active) {
      torch::stable::parallel_for(0, size, kGrain, [&](int64_t begin, int64_t end) {
        step_linf(p_out + begin, p_adv + begin, p_x + begin, p_grad + begin, end - begin, same);
      });
      return;
    }
    const C* p_eps = eps_n ? data<C>(*eps_n) : nullptr;
    const C* p_alpha = alpha_n ? data<C>(*alpha_n) : nullptr;
    const bool* p_active = active ? data<bool>(*active) : nullptr;
    parallel_rows(rows, width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t at = n * width;
        if (p_active && !p_active[n]) {
          if (p_out != p_adv) std::copy_n(p_adv + at, width, p_out + at);
          continue;
        }
        const Budget<C> own{p_eps ? p_eps[n] : same.eps, p_alpha ? p_alpha[n] : same.alpha, same.lo, same.hi};
        const auto step = l2 ? step_l2<T, C> : step_linf<T, C>;
        step(p_out + at, p_adv + at, p_x + at, p_grad + at, width, own);
      }
    });
  });
}

}  // namespace ro_fast
