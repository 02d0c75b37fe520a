// The random start of PGD; csrc/cpu/pgd_init.cpp has the formulas.
//
// L∞: a thread handles V values, 16 bytes per tensor. L2: one block per sample, whose noise is read twice.
// I/O: read x, noise; write out.
#include "../pgd.h"
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

template <class T, int V>
__global__ void start_linf(
    T* out, const T* x, const T* noise, int64_t packs, int64_t width, Compute<T> eps, const Compute<T>* eps_n, Compute<T> lo,
    Compute<T> hi) {
  const int64_t p = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (p >= packs) return;
  if (eps_n) eps = eps_n[p * V / width];
  using P = Pack<T, V>;
  P v = reinterpret_cast<const P*>(x)[p];
  const P u = reinterpret_cast<const P*>(noise)[p];
#pragma unroll
  for (int i = 0; i < V; ++i) store(v.at[i], clamp(load(v.at[i]) + eps * load(u.at[i]), lo, hi));
  reinterpret_cast<P*>(out)[p] = v;
}

template <class T>
__global__ void start_l2(
    T* out, const T* x, const T* noise, int64_t width, Compute<T> eps, const Compute<T>* eps_n, Compute<T> lo, Compute<T> hi) {
  using C = Compute<T>;
  const int64_t n = blockIdx.x, at = n * width;
  if (eps_n) eps = eps_n[n];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const double u = load(noise[at + i]);
    sum += u * u;
  }
  const C norm = C(sqrt(block_sum(sum)));
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const C u = norm > 0 ? load(noise[at + i]) / norm : C(0);
    store(out[at + i], clamp(load(x[at + i]) + eps * u, lo, hi));
  }
}

}  // namespace

void pgd_init(Tensor out, Tensor x, Tensor noise, double eps, Optional eps_n, std::string norm, double lo, double hi) {
  const char* op = "pgd_init";
  const Launch launch(op, x);
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Start<T> s(op, out, x, noise, eps, eps_n, norm, lo, hi);
    if (s.size == 0) return;
    if (s.l2) {
      launch(start_l2<T>, blocks_for(s.rows, 1), kThreads, s.out, s.x, s.noise, s.width, s.eps, s.eps_n, s.lo, s.hi);
      return;
    }
    constexpr int V = kWidest<T>;
    const bool wide =
        s.size % V == 0 && (!s.eps_n || s.width % V == 0) && aligned(s.out) && aligned(s.x) && aligned(s.noise);
    const int64_t packs = wide ? s.size / V : s.size;
    const auto kernel = wide ? start_linf<T, V> : start_linf<T, 1>;
    launch(kernel, blocks_for(packs, kThreads), kThreads, s.out, s.x, s.noise, packs, s.width, s.eps, s.eps_n, s.lo, s.hi);
  });
}

}  // namespace ro_fast::cuda
