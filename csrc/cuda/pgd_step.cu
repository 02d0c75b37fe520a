// One step of projected gradient ascent; csrc/cpu/pgd_step.cpp has the formulas.
//
// L∞ acts on each value alone: a thread handles V of them, 16 bytes per tensor. L2 has one block per sample, which reads its row
// three times, first from memory and then from the caches. The next forward's input is written by the thread that moved the
// value; if it is in another memory order, a thread handles one value, so that neighbours write close to each other.
// I/O: read x, x_adv, grad; write out (and input).
#include "../pgd.h"
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

// What to do with V values from i on in memory order after they have moved: nothing, or write the next forward's input.
struct Nothing {
  template <class T, int V>
  __device__ void operator()(int64_t, const Pack<T, V>&) const {}
};
template <class U, class C>
struct Normalised : NextInput<U, C> {
  template <class T, int V>
  __device__ void operator()(int64_t i, const Pack<T, V>& v) const {
    const int64_t channels = this->channels, positions = this->positions;
    Channel channel(i, this->from_last ? 1 : positions, channels);
    if (this->from_last != this->to_last) {  // V is then 1
      const int64_t p = this->from_last ? i / channels % positions : channel.rest, first = i / (channels * positions) * channels * positions;
      i = first + (this->to_last ? p * channels + channel.c : channel.c * positions + p);
    }
    Pack<U, V> input;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      store(input.at[k], (load(v.at[k]) - this->mean[channel.c]) / this->std[channel.c]);
      channel.next();
    }
    *reinterpret_cast<Pack<U, V>*>(this->to + i) = input;
  }
};

// V values of one sample, or of any samples if nothing is given per sample.
template <class T, int V, class Then>
__global__ void step_linf(
    T* out, const T* x_adv, const T* x, const T* grad, int64_t packs, int64_t width, Budget<Compute<T>> b, Then then) {
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
  then(p * V, v);
}

template <class T, class Then>
__global__ void step_l2(T* out, const T* x_adv, const T* x, const T* grad, int64_t width, Budget<Compute<T>> b, Then then) {
  using C = Compute<T>;
  const int64_t n = blockIdx.x, at = n * width;
  if (b.active && !b.active[n]) {
    for (int64_t i = threadIdx.x; i < width; i += kThreads) {
      const Pack<T, 1> v{x_adv[at + i]};
      out[at + i] = v.at[0];
      then(at + i, v);
    }
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
    Pack<T, 1> v;
    store(v.at[0], clamp(load(x[at + i]) + delta(at + i) * shrink, b.lo, b.hi));
    out[at + i] = v.at[0];
    then(at + i, v);
  }
}

// Takes the step; `packs` says whether `then` handles several values at once.
template <class T, class Then>
void run(const Launch& launch, const Step<T>& s, const Then& then, bool packs) {
  if (s.size == 0) return;
  if (s.l2) {
    launch(step_l2<T, Then>, blocks_for(s.rows, 1), kThreads, s.out, s.x_adv, s.x, s.grad, s.width, s.budget, then);
    return;
  }
  constexpr int V = kWidest<T>;
  const bool one_sample = !s.budget.by_sample() || s.width % V == 0;  // whose values are read together
  const bool wide =
      packs && s.size % V == 0 && one_sample && aligned(s.out) && aligned(s.x_adv) && aligned(s.x) && aligned(s.grad);
  const int64_t count = wide ? s.size / V : s.size;
  const auto kernel = wide ? step_linf<T, V, Then> : step_linf<T, 1, Then>;
  launch(kernel, blocks_for(count, kThreads), kThreads, s.out, s.x_adv, s.x, s.grad, count, s.width, s.budget, then);
}

template <class U, class T>
void step_and_normalise(
    const char* op, const Launch& launch, const Step<T>& step, const Tensor& x, const Tensor& input, const Tensor& mean,
    const Tensor& std) {
  using C = Compute<T>;
  const Normalised<U, C> then{{op, x, step.width, input, mean, std}};
  run(launch, step, then, then.from_last == then.to_last && aligned(then.to));
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
    run(launch, step, Nothing{}, true);
  });
}

void pgd_step_input(
    Tensor out, Tensor input, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, Optional eps_n, Optional alpha_n,
    std::string norm, double lo, double hi, Optional active, Tensor mean, Tensor std) {
  const char* op = "pgd_step_input";
  const Launch launch(op, x);
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    if (input.scalar_type() == kDtype<T>) {
      step_and_normalise<T>(op, launch, step, x, input, mean, std);
    } else {
      step_and_normalise<BFloat16>(op, launch, step, x, input, mean, std);
    }
  });
}

}  // namespace ro_fast::cuda
