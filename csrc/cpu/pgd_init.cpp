// The random start of PGD on N samples of D values.
//
//   out = clamp(x + ε·u, lo, hi),  L∞: u = noise,  L2: u = noise/‖noise‖₂ (0 if the noise is 0)
//
// I/O: read x, noise; write out.
#include <string>

#include "../ops.h"
#include "../pgd.h"
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
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Start<T> s(op, out, x, noise, eps, eps_n, norm, lo, hi);
    parallel_rows(s.rows, s.width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t at = n * s.width;
        start(s.out + at, s.x + at, s.noise + at, s.width, s.l2, s.eps_n ? s.eps_n[n] : s.eps, s.lo, s.hi);
      }
    });
  });
}

}  // namespace ro_fast
