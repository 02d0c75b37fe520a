// One step of projected gradient ascent; csrc/cpu/pgd_step.cpp has the formulas.
//
// L∞ acts on each value alone: a thread takes V of them, 16 bytes a tensor. L2 takes a block a sample and reads its row three
// times, once from memory and then from the caches.
// I/O: read x, x_adv, grad; write out.
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

template <class C>
struct Budget {
  C eps, alpha;
  const C *eps_n, *alpha_n;  // [N] or null
  const bool* active;        // [N] or null
  C lo, hi;
};

// V values of one sample, or where nothing is given by sample of any.
template <class T, int V>
__global__ void step_linf(T* out, const T* x_adv, const T* x, const T* grad, int64_t packs, int64_t width, Budget<Compute<T>> b) {
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
      const C gi = load(g.at[i]), c = load(centre.at[i]);
      const C floor = c - eps, ceiling = c + eps;
      C moved = load(v.at[i]) + (gi > 0 ? alpha : gi < 0 ? -alpha : C(0));
      moved = clamp(moved, floor, ceiling);
      moved = floor == floor ? moved : floor;  // a NaN in x shows, as one in x_adv does
      store(v.at[i], clamp(moved, b.lo, b.hi));
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

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, Optional eps_n, Optional alpha_n,
    std::string norm, double lo, double hi, Optional active) {
  const char* op = "pgd_step";
  const bool l2 = is_l2(op, norm);
  const int64_t size = x.numel(), rows = x.size(0), width = rows ? size / rows : 0;
  if (size == 0) return;
  const Launch launch(op, x);
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_on(op, "out", out, kDtype<T>, size, x);
    check_on(op, "x_adv", x_adv, kDtype<T>, size, x);
    check_on(op, "x", x, kDtype<T>, size, x);
    check_on(op, "grad", grad, kDtype<T>, size, x);
    if (eps_n) check_on(op, "eps", *eps_n, kDtype<C>, rows, x);
    if (alpha_n) check_on(op, "alpha", *alpha_n, kDtype<C>, rows, x);
    if (active) check_on(op, "active", *active, ScalarType::Bool, rows, x);
    T* p_out = mutable_data<T>(out);
    const T *p_adv = data<T>(x_adv), *p_x = data<T>(x), *p_grad = data<T>(grad);
    const Budget<C> budget{
        C(eps), C(alpha), eps_n ? data<C>(*eps_n) : nullptr, alpha_n ? data<C>(*alpha_n) : nullptr,
        active ? data<bool>(*active) : nullptr, C(lo), C(hi)};
    if (l2) {
      launch(step_l2<T>, unsigned(rows), kThreads, p_out, p_adv, p_x, p_grad, width, budget);
      return;
    }
    constexpr int V = kWidest<T>;
    const bool by_sample = eps_n || alpha_n || active;
    const bool wide = size % V == 0 && (!by_sample || width % V == 0) && aligned(p_out) && aligned(p_adv) && aligned(p_x) &&
                      aligned(p_grad);
    const int64_t packs = wide ? size / V : size;
    const auto kernel = wide ? step_linf<T, V> : step_linf<T, 1>;
    launch(kernel, blocks_for(packs, kThreads), kThreads, p_out, p_adv, p_x, p_grad, packs, width, budget);
  });
}

}  // namespace ro_fast::cuda
