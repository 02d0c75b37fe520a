// One step of projected gradient ascent; csrc/cpu/pgd_step.cpp has the formulas.
//
// L∞ acts on each value alone: a thread handles V of them, 16 bytes per tensor. L2 has one block per sample, which reads its row
// three times, first from memory and then from the caches.
// I/O: read x, x_adv, grad; write out.
#include "../pgd.h"
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

// V values of one sample, or of any samples if nothing is given per sample.
template <class T, int V>
__global__ void step_linf(
    T* out, const T* x_adv, const T* x, const T* grad, int64_t packs, int64_t width, Budget<Compute<T>> b) {
  using C = Compute<T>;
  const int64_t p = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (p >= packs) return;
  C eps = b.eps, alpha = b.alpha;
  bool moves = true;
  if (b.eps_n || b.alpha_n || b.active) {
    const int64_t n = p * V / width;
    if (b.eps_n) eps = b.eps_n[n];
    if (b.alpha_n) alpha = b.alpha_n[n];
    if (b.active) moves = b.active[n];
  }
  using P = Pack<T, V>;
  P v = reinterpret_cast<const P*>(x_adv)[p];
  if (moves) {
    const P centre = reinterpret_cast<const P*>(x)[p], g = reinterpret_cast<const P*>(grad)[p];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      store(v.at[i], moved_linf<C>(load(v.at[i]), load(centre.at[i]), load(g.at[i]), eps, alpha, b.lo, b.hi));
    }
  }
  reinterpret_cast<P*>(out)[p] = v;
}

template <class T>
__global__ void step_l2(T* out, const T* x_adv, const T* x, const T* grad, int64_t width, Budget<Compute<T>> b) {
  using C = Compute<T>;
  const int64_t n = blockIdx.x, at = n * width;
  if (b.active && !b.active[n]) {
    for (int64_t i = threadIdx.x; i < width; i += kThreads) out[at + i] = x_adv[at + i];
    return;
  }
  const C eps = b.eps_n ? b.eps_n[n] : b.eps, alpha = b.alpha_n ? b.alpha_n[n] : b.alpha;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const double g = load(grad[at + i]);
    sum += g * g;
  }
  const C g_norm = C(sqrt(block_sum(sum)));
  const bool moves = g_norm > 0 && isfinite(g_norm);
  const auto delta = [&](int64_t i) {
    const C move = moves ? alpha * (load(grad[i]) / g_norm) : C(0);
    return load(x_adv[i]) + move - load(x[i]);
  };
  sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const double d = delta(at + i);
    sum += d * d;
  }
  const C d_norm = C(sqrt(block_sum(sum)));
  const C shrink = d_norm > eps ? eps / d_norm : C(1);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    store(out[at + i], clamp(load(x[at + i]) + delta(at + i) * shrink, b.lo, b.hi));
  }
}

template <class T>
void run(const Launch& launch, const Step<T>& s) {
  if (s.size == 0) return;
  if (s.l2) {
    launch(step_l2<T>, blocks_for(s.rows, 1), kThreads, s.out, s.x_adv, s.x, s.grad, s.width, s.budget);
    return;
  }
  constexpr int V = kWidest<T>;
  const bool one_sample = !s.budget.by_sample() || s.width % V == 0;  // whose values are read together
  const bool wide =
      s.size % V == 0 && one_sample && aligned(s.out) && aligned(s.x_adv) && aligned(s.x) && aligned(s.grad);
  const int64_t count = wide ? s.size / V : s.size;
  const auto kernel = wide ? step_linf<T, V> : step_linf<T, 1>;
  launch(kernel, blocks_for(count, kThreads), kThreads, s.out, s.x_adv, s.x, s.grad, count, s.width, s.budget);
}

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, Optional eps_n, Optional alpha_n,
    std::string norm, double lo, double hi, Optional active) {
  const char* op = "pgd_step";
  const Launch launch(op, x);
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    run(launch, step);
  });
}

}  // namespace ro_fast::cuda
