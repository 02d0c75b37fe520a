// One step of projected gradient ascent on N samples of D values.
//
//   L∞:  out = clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi),  sign(0) = sign(NaN) = 0
//   L2:  out = clamp(x + δ·min(1, ε/‖δ‖₂), lo, hi),  δ = x_adv + α·g/‖g‖₂ − x,
//        where a sample whose ‖g‖₂ is zero or not finite moves by 0
//   pgd_step_input also writes the next forward's input, (out − mean_c)/std_c, in its own dtype and memory order
//
// I/O: read x, x_adv, grad; write out (and input). The three passes of L2 over a sample hit the cache, and so does the
// pass that computes the input from a block of positions just written.
#include "../ops.h"
#include "../pgd.h"
#include "simd.h"

namespace ro_fast {
namespace {

// out may be x_adv: each value is read before it is written, and no other value is touched.
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

// Moves `count` values of sample n from its value `first` on; in L2 that must be all of them.
template <class T>
void move(const Step<T>& step, int64_t n, int64_t first, int64_t count) {
  const int64_t at = n * step.width + first;
  Budget<Compute<T>> own = step.budget;
  if (own.active && !own.active[n]) {
    if (step.out != step.x_adv) std::copy_n(step.x_adv + at, count, step.out + at);
    return;
  }
  if (own.eps_n) own.eps = own.eps_n[n];
  if (own.alpha_n) own.alpha = own.alpha_n[n];
  const auto run = step.l2 ? step_l2<T, Compute<T>> : step_linf<T, Compute<T>>;
  run(step.out + at, step.x_adv + at, step.x + at, step.grad + at, count, own);
}

// Normalises positions [begin, end) of a sample. In the order "last" the values of one position are adjacent, in the other
// those of one channel; kC is the number of channels if it is known, so that they are gathered and scattered by shuffles.
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

constexpr int64_t kBlock = 2048;  // values moved and then normalised at once: they stay in L1

template <class T, class U>
void step_and_normalise(const char* op, const Step<T>& step, const Tensor& images, const Tensor& input, const Tensor& mean, const Tensor& std) {
  using C = Compute<T>;
  const NextInput<U, C> next(op, images, step.width, input, mean, std);
  const int64_t channels = next.channels, positions = next.positions;
  const auto between = channels == 3 ? normalise_between<3, T, U, C> : normalise_between<0, T, U, C>;
  const auto run = between(next.from_last, next.to_last);
  // In L2 a sample moves as a whole, so a block is the whole sample.
  const int64_t block = step.l2 ? positions : std::max<int64_t>(1, kBlock / std::max<int64_t>(1, channels));
  parallel_rows(step.rows, step.width, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t p = 0; p < positions; p += block) {
        const int64_t count = std::min(block, positions - p);
        if (next.from_last || count == positions) {
          move(step, n, p * channels, count * channels);
        } else {
          for (int64_t c = 0; c < channels; ++c) move(step, n, c * positions + p, count);
        }
        run(next.to + n * step.width, step.out + n * step.width, next.mean, next.std, channels, positions, p, p + count);
      }
    }
  });
}

}  // namespace

void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, std::optional<Tensor> eps_n,
    std::optional<Tensor> alpha_n, std::string norm, double lo, double hi, std::optional<Tensor> active) {
  const char* op = "pgd_step";
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    if (!step.l2 && !step.budget.by_sample()) {
      torch::stable::parallel_for(0, step.size, kGrain, [&](int64_t begin, int64_t end) {
        step_linf(step.out + begin, step.x_adv + begin, step.x + begin, step.grad + begin, end - begin, step.budget);
      });
      return;
    }
    parallel_rows(step.rows, step.width, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) move(step, n, 0, step.width);
    });
  });
}

void pgd_step_input(
    Tensor out, Tensor input, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, std::optional<Tensor> eps_n,
    std::optional<Tensor> alpha_n, std::string norm, double lo, double hi, std::optional<Tensor> active, Tensor mean, Tensor std) {
  const char* op = "pgd_step_input";
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    const Step<T> step(op, out, x_adv, x, grad, eps, alpha, eps_n, alpha_n, norm, lo, hi, active);
    const bool same = input.scalar_type() == kDtype<T>;
    (same ? step_and_normalise<T, T> : step_and_normalise<T, BFloat16>)(op, step, x, input, mean, std);
  });
}

}  // namespace ro_fast
