// The random start of PGD; csrc/cpu/pgd_init.cpp has the formulas.
//
// L∞: a thread takes V values, 16 bytes a tensor. L2: a block a sample, whose noise is read twice.
// I/O: read x, noise; write out.
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
  const bool l2 = is_l2(op, norm);
  const int64_t size = x.numel(), rows = x.size(0), width = rows ? size / rows : 0;
  if (size == 0) return;
  const Launch launch(op, x);
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_on(op, "out", out, kDtype<T>, size, x);
    check_on(op, "x", x, kDtype<T>, size, x);
    check_on(op, "noise", noise, kDtype<T>, size, x);
    if (eps_n) check_on(op, "eps", *eps_n, kDtype<C>, rows, x);
    T* p_out = mutable_data<T>(out);
    const T *p_x = data<T>(x), *p_noise = data<T>(noise);
    const C* p_eps = eps_n ? data<C>(*eps_n) : nullptr;
    if (l2) {
      launch(start_l2<T>, blocks_for(rows, 1), kThreads, p_out, p_x, p_noise, width, C(eps), p_eps, C(lo), C(hi));
      return;
    }
    constexpr int V = kWidest<T>;
    const bool wide = size % V == 0 && (!eps_n || width % V == 0) && aligned(p_out) && aligned(p_x) && aligned(p_noise);
    const int64_t packs = wide ? size / V : size;
    const auto kernel = wide ? start_linf<T, V> : start_linf<T, 1>;
    launch(kernel, blocks_for(packs, kThreads), kThreads, p_out, p_x, p_noise, packs, width, C(eps), p_eps, C(lo), C(hi));
  });
}

}  // namespace ro_fast::cuda
