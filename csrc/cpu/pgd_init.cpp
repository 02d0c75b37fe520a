// The random start of PGD on N samples of D values.
//
//   out = clamp(x + ε·u, lo, hi),  L∞: u = noise,  L2: u = noise/‖noise‖₂ (0 where the noise is 0)
//
// I/O: read x, noise; write out.
#include <string>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

template <class T, class C>
RO_FAST_CLONES void start(T* out, const T* x, const T* noise, int64_t n, bool l2, C eps, C lo, C hi) {
  const C length = l2 ? row_norm(noise, n) : C(1);
  const bool moves = length > 0;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const C u = moves ? load(noise[i]) / length : C(0);
    store(out[i], clamp(load(x[i]) + eps * u, lo, hi));
  }
}

}  // namespace

void pgd_init(
    Tensor out, Tensor x, Tensor noise, double eps, std::optional<Tensor> eps_n, std::string norm, double lo,
    double hi) {
  const char* op = "pgd_init";
  const bool l2 = is_l2(op, norm);
  const int64_t size = x.numel(), rows = x.size(0), width = rows ? size / rows : 0;
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "out", out, kDtype<T>, size);
    check_tensor(op, "x", x, kDtype<T>, size);
    check_tensor(op, "noise", noise, kDtype<T>, size);
    if (eps_n) check_tensor(op, "eps", *eps_n, kDtype<C>, rows);
    T* p_out = mutable_data<T>(out);
    const T *p_x = data<T>(x), *p_noise = data<T>(noise);
    const C* p_eps = eps_n ? data<C>(*eps_n) : nullptr;
    parallel_rows(rows, width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t at = n * width;
        start(p_out + at, p_x + at, p_noise + at, width, l2, p_eps ? p_eps[n] : C(eps), C(lo), C(hi));
      }
    });
  });
}

}  // namespace ro_fast
