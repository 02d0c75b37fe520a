// One step of projected gradient ascent; csrc/cpu/pgd_step.cpp has the formulas.
//
// L∞ acts on each value alone: a thread takes V of them, 16 bytes a tensor. L2 takes a block a sample and reads its row three
// times, once from memory and then from the caches. What the next forward reads is written by the thread that moved the value;
// where it lies in another memory order a thread takes one value, so that neighbours write near each other.
// I/O: read x, x_adv, grad; write out (and input).
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

// What becomes of the V values of memory order from i on, once they were moved: nothing more, or the next forward's input.
struct Nothing {
  template <class T, int V>
  __device__ void operator()(int64_t, const Pack<T, V>&) const {}
};
template <class U, class C>
struct Normalised {
  U* to;
  const C *mean, *std;  // [channels]
  int64_t channels, positions;
  bool from_last, to_last;  // whether the values of one position lie side by side

  template <class T, int V>
  __device__ void operator()(int64_t i, const Pack<T, V>& v) const {
    Channel channel(i, from_last ? 1 : positions, channels);
    if (from_last != to_last) {  // V is 1 then
      const int64_t p = from_last ? i / channels % positions : channel.rest, first = i / (channels * positions) * channels * positions;
      i = first + (to_last ? p * channels + channel.c : channel.c * positions + p);
    }
    Pack<U, V> input;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      store(input.at[k], (load(v.at[k]) - mean[channel.c]) / std[channel.c]);
      channel.next();
    }
    *reinterpret_cast<Pack<U, V>*>(to + i) = input;
  }
};

// V values of one sample, or where nothing is given by sample of any.
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
      const C gi = load(g.at[i]), c = load(centre.at[i]);
      const C floor = c - eps, ceiling = c + eps;
      C moved = load(v.at[i]) + (gi > 0 ? alpha : gi < 0 ? -alpha : C(0));
      moved = clamp(moved, floor, ceiling);
      moved = floor == floor ? moved : floor;  // a NaN in x shows, as one in x_adv does
      store(v.at[i], clamp(moved, b.lo, b.hi));
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

// The step's arguments as the kernels take them.
template <class T>
struct Step {
  using C = Compute<T>;
  T* out;                     // [N, D]
  const T *x_adv, *x, *grad;  // [N, D]
  int64_t size, rows, width;
  bool l2, by_sample;
  Budget<C> budget;

  Step(
      const char* op, const Tensor& to, const Tensor& from, const Tensor& centre, const Tensor& g, double eps, double alpha,
      const Optional& eps_n, const Optional& alpha_n, const std::string& norm, double lo, double hi, const Optional& active)
      : out(mutable_data<T>(to)), x_adv(data<T>(from)), x(data<T>(centre)), grad(data<T>(g)), size(centre.numel()),
        rows(centre.size(0)), width(rows ? size / rows : 0), l2(is_l2(op, norm)), by_sample(eps_n || alpha_n || active),
        budget{C(eps), C(alpha), nullptr, nullptr, nullptr, C(lo), C(hi)} {
    check_on(op, "out", to, kDtype<T>, size, centre);
    check_on(op, "x_adv", from, kDtype<T>, size, centre);
    check_on(op, "x", centre, kDtype<T>, size, centre);
    check_on(op, "grad", g, kDtype<T>, size, centre);
    if (eps_n) check_on(op, "eps", *eps_n, kDtype<C>, rows, centre);
    if (alpha_n) check_on(op, "alpha", *alpha_n, kDtype<C>, rows, centre);
    if (active) check_on(op, "active", *active, ScalarType::Bool, rows, centre);
    if (eps_n) budget.eps_n = data<C>(*eps_n);
    if (alpha_n) budget.alpha_n = data<C>(*alpha_n);
    if (active) budget.active = data<bool>(*active);
  }

  // `packs` says whether `then` takes several values at once.
  template <class Then>
  void run(const Launch& launch, const Then& then, bool packs) const {
    if (size == 0) return;
    if (l2) {
      launch(step_l2<T, Then>, blocks_for(rows, 1), kThreads, out, x_adv, x, grad, width, budget, then);
      return;
    }
    constexpr int V = kWidest<T>;
    const bool wide = packs && size % V == 0 && (!by_sample || width % V == 0) && aligned(out) && aligned(x_adv) && aligned(x) &&
                      aligned(grad);
    const int64_t count = wide ? size / V : size;
    const auto kernel = wide ? step_linf<T, V, Then> : step_linf<T, 1, Then>;
    launch(kernel, blocks_for(count, kThreads), kThreads, out, x_adv, x, grad, count, width, budget, then);
  }
};

template <class U, class T>
void step_and_normalise(
    const char* op, const Launch& launch, const Step<T>& step, const Tensor& x, const Tensor& input, const Tensor& mean,
    const Tensor& std) {
  using C = Compute<T>;
  const int64_t channels = mean.numel(), positions = channels ? step.width / channels : 0;
  check_on(op, "input", input, kDtype<U>, step.size, x);
  check_on(op, "mean", mean, kDtype<C>, channels, x);
  check_on(op, "std", std, kDtype<C>, channels, x);
  check(channels * positions == step.width, op, channels, " means for samples of ", step.width, " values");
  const bool from_last = x.stride(1) == 1, to_last = input.stride(1) == 1;
  U* to = mutable_data<U>(input);
  const Normalised<U, C> then{to, data<C>(mean), data<C>(std), channels, positions, from_last, to_last};
  step.run(launch, then, from_last == to_last && aligned(to));
}

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, Optional eps_n, Optional alpha_n,
    std::string norm, double lo, double hi, Optional active) {
  const char* op = "pgd_step";
  const Launch launch(op, x);
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    Step<T>(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active).run(launch, Nothing{}, true);
  });
}

void pgd_step_input(
    Tensor out, Tensor input, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, Optional eps_n, Optional alpha_n,
    std::string norm, double lo, double hi, Optional active, Tensor mean, Tensor std) {
  const char* op = "pgd_step_input";
  const Launch launch(op, x);
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    if (input.scalar_type() == kDtype<T>) {
      step_and_normalise<T>(op, launch, step, x, input, mean, std);
    } else {
      step_and_normalise<__nv_bfloat16>(op, launch, step, x, input, mean, std);
    }
  });
}

}  // namespace ro_fast::cuda
