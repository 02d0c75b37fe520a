// One step of projected gradient ascent on N samples of D values.
//
//   L∞:  out = clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi),  sign(0) = sign(NaN) = 0
//   L2:  out = clamp(x + δ·min(1, ε/‖δ‖₂), lo, hi),  δ = x_adv + α·g/‖g‖₂ − x,
//        where a sample whose ‖g‖₂ is zero or not finite moves by 0
//   pgd_step_input also writes what the next forward reads, input = (out − mean_c)/std_c, in a dtype and memory order of its own
//
// I/O: read x, x_adv, grad; write out (and input). The three passes of L2 over a sample find it in the cache, and so does the
// pass that makes the input of what a block of positions has just become.
#include <optional>
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

// The step's arguments as the kernels take them.
template <class T>
struct Step {
  using C = Compute<T>;
  T* out;                      // [N, D]
  const T *x_adv, *x, *grad;   // [N, D]
  int64_t size, rows, width;
  bool l2;
  Budget<C> same;
  const C *eps = nullptr, *alpha = nullptr;  // [N] or null
  const bool* active = nullptr;              // [N] or null

  Step(
      const char* op, const Tensor& to, const Tensor& from, const Tensor& centre, const Tensor& g, double eps_all, double alpha_all,
      const std::optional<Tensor>& eps_n, const std::optional<Tensor>& alpha_n, const std::string& norm, double lo, double hi,
      const std::optional<Tensor>& moving)
      : out(mutable_data<T>(to)), x_adv(data<T>(from)), x(data<T>(centre)), grad(data<T>(g)), size(centre.numel()),
        rows(centre.size(0)), width(rows ? size / rows : 0), l2(is_l2(op, norm)), same{C(eps_all), C(alpha_all), C(lo), C(hi)} {
    check_tensor(op, "out", to, kDtype<T>, size);
    check_tensor(op, "x_adv", from, kDtype<T>, size);
    check_tensor(op, "x", centre, kDtype<T>, size);
    check_tensor(op, "grad", g, kDtype<T>, size);
    if (eps_n) check_tensor(op, "eps", *eps_n, kDtype<C>, rows);
    if (alpha_n) check_tensor(op, "alpha", *alpha_n, kDtype<C>, rows);
    if (moving) check_tensor(op, "active", *moving, ScalarType::Bool, rows);
    if (eps_n) eps = data<C>(*eps_n);
    if (alpha_n) alpha = data<C>(*alpha_n);
    if (moving) active = data<bool>(*moving);
  }

  // Moves `count` values of sample n from its value `first` on; in L2 that has to be all of them.
  void move(int64_t n, int64_t first, int64_t count) const {
    const int64_t at = n * width + first;
    if (active && !active[n]) {
      if (out != x_adv) std::copy_n(x_adv + at, count, out + at);
      return;
    }
    const Budget<C> own{eps ? eps[n] : same.eps, alpha ? alpha[n] : same.alpha, same.lo, same.hi};
    const auto step = l2 ? step_l2<T, C> : step_linf<T, C>;
    step(out + at, x_adv + at, x + at, grad + at, count, own);
  }
};

// Positions [begin, end) of a sample normalised. Values of one position lie side by side in the order "last", those of one
// channel in the other; kC is the number of channels where it is known, so that they are gathered and scattered by shuffles.
template <int64_t kC, bool kFromLast, bool kToLast, class T, class U, class C>
RO_FAST_CLONES void normalise(
    U* to, const T* from, const C* mean, const C* std, int64_t channels, int64_t positions, int64_t begin, int64_t end) {
  if constexpr (!kFromLast && !kToLast) {
    for (int64_t c = 0; c < channels; ++c) {
      const C m = mean[c], s = std[c];
#pragma omp simd
      for (int64_t i = c * positions + begin; i < c * positions + end; ++i) store(to[i], (load(from[i]) - m) / s);
    }
  } else if constexpr (kC > 0) {
    C m[kC], s[kC];
    for (int64_t c = 0; c < kC; ++c) m[c] = mean[c], s[c] = std[c];
#pragma omp simd
    for (int64_t p = begin; p < end; ++p) {
#pragma GCC unroll 4
      for (int64_t c = 0; c < kC; ++c) {
        store(to[kToLast ? p * kC + c : c * positions + p], (load(from[kFromLast ? p * kC + c : c * positions + p]) - m[c]) / s[c]);
      }
    }
  } else {
    for (int64_t p = begin; p < end; ++p) {
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t last = p * channels + c, first = c * positions + p;
        store(to[kToLast ? last : first], (load(from[kFromLast ? last : first]) - mean[c]) / std[c]);
      }
    }
  }
}

template <int64_t kC, class T, class U, class C>
auto normalise_between(bool from_last, bool to_last) {
  if (from_last) return to_last ? normalise<kC, true, true, T, U, C> : normalise<kC, true, false, T, U, C>;
  return to_last ? normalise<kC, false, true, T, U, C> : normalise<kC, false, false, T, U, C>;
}

constexpr int64_t kBlock = 2048;  // values that are moved and then normalised at once: they stay in L1

template <class T, class U>
void step_and_normalise(const char* op, const Step<T>& step, const Tensor& images, const Tensor& input, const Tensor& mean, const Tensor& std) {
  using C = Compute<T>;
  const int64_t channels = mean.numel(), positions = channels ? step.width / channels : 0;
  check_tensor(op, "input", input, kDtype<U>, step.size);
  check_tensor(op, "mean", mean, kDtype<C>, channels);
  check_tensor(op, "std", std, kDtype<C>, channels);
  check(channels * positions == step.width, op, channels, " means for samples of ", step.width, " values");
  U* p_input = mutable_data<U>(input);
  const C *p_mean = data<C>(mean), *p_std = data<C>(std);
  const bool from_last = images.stride(1) == 1, to_last = input.stride(1) == 1;
  const auto run = channels == 3 ? normalise_between<3, T, U, C>(from_last, to_last) : normalise_between<0, T, U, C>(from_last, to_last);
  // In L2 a sample moves as a whole, and then a block is all of it.
  const int64_t block = step.l2 ? positions : std::max<int64_t>(1, kBlock / std::max<int64_t>(1, channels));
  parallel_rows(step.rows, step.width, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t p = 0; p < positions; p += block) {
        const int64_t count = std::min(block, positions - p);
        if (from_last || count == positions) {
          step.move(n, p * channels, count * channels);
        } else {
          for (int64_t c = 0; c < channels; ++c) step.move(n, c * positions + p, count);
        }
        run(p_input + n * step.width, step.out + n * step.width, p_mean, p_std, channels, positions, p, p + count);
      }
    }
  });
}

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, std::optional<Tensor> eps_n,
    std::optional<Tensor> alpha_n, std::string norm, double lo, double hi, std::optional<Tensor> active) {
  const char* op = "pgd_step";
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    if (!step.l2 && !eps_n && !alpha_n && !active) {
      torch::stable::parallel_for(0, step.size, kGrain, [&](int64_t begin, int64_t end) {
        step_linf(step.out + begin, step.x_adv + begin, step.x + begin, step.grad + begin, end - begin, step.same);
      });
      return;
    }
    parallel_rows(step.rows, step.width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) step.move(n, 0, step.width);
    });
  });
}

void pgd_step_input(
    Tensor out, Tensor input, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, std::optional<Tensor> eps_n,
    std::optional<Tensor> alpha_n, std::string norm, double lo, double hi, std::optional<Tensor> active, Tensor mean, Tensor std) {
  const char* op = "pgd_step_input";
  dispatch(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    const bool same = input.scalar_type() == kDtype<T>;
    (same ? step_and_normalise<T, T> : step_and_normalise<T, BFloat16>)(op, step, x, input, mean, std);
  });
}

}  // namespace ro_fast
