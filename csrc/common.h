// Shared by the CPU and GPU kernels: the compute dtype, reading and writing a value, the L∞ step of one value, tensors as
// pointers. cpu/simd.h and cuda/common.cuh add what only one of them has, including a BFloat16 of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "check.h"

// A function with this mark can be called on both.
#ifdef __CUDACC__
#define RO_FAST_BOTH __host__ __device__
#else
#define RO_FAST_BOTH
#endif

namespace ro_fast {

template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;
template <class T>
constexpr ScalarType kDtype = std::is_same_v<T, double>  ? ScalarType::Double
                              : std::is_same_v<T, float> ? ScalarType::Float
                                                         : ScalarType::BFloat16;

RO_FAST_BOTH inline float load(float v) { return v; }
RO_FAST_BOTH inline double load(double v) { return v; }
RO_FAST_BOTH inline void store(float& to, float v) { to = v; }
RO_FAST_BOTH inline void store(double& to, double v) { to = v; }

// NaN passes through, as in torch.clamp.
template <class C>
RO_FAST_BOTH inline C clamp(C v, C lo, C hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}

// The L∞ step of one value: clamp(clamp(x_adv + α·sign(g), x − ε, x + ε), lo, hi), sign(0) = sign(NaN) = 0.
template <class C>
RO_FAST_BOTH inline C moved_linf(C x_adv, C x, C g, C eps, C alpha, C lo, C hi) {
  const C floor = x - eps, ceiling = x + eps;
  C v = x_adv + (g > 0 ? alpha : g < 0 ? -alpha : C(0));
  v = clamp(v, floor, ceiling);
  v = floor == floor ? v : floor;  // a NaN in x propagates, as does one in x_adv
  return clamp(v, lo, hi);
}

// Calls f with a value of the C++ type of t's elements.
template <class BFloat16, class F>
auto dispatch(const char* op, const Tensor& t, const F& f) {
  const auto dtype = t.scalar_type();
  if (dtype == ScalarType::Float) return f(float{});
  if (dtype == ScalarType::Double) return f(double{});
  check(dtype == ScalarType::BFloat16, op, "dtype ", int(dtype), " is not float32, bfloat16 or float64");
  return f(BFloat16{});
}

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// A tensor in the compute dtype.
template <class C>
Tensor in_compute(const Tensor& t) {
  return t.scalar_type() == kDtype<C> ? t : torch::stable::to(t, kDtype<C>);
}

// One weight per row, or none.
template <class C>
struct Weights {
  Tensor held;
  const C* at = nullptr;  // [N] or null for ones

  Weights(const char* op, const std::optional<Tensor>& given, int64_t rows, const Tensor& logits)
      : held(given ? in_compute<C>(*given) : logits) {
    if (!given) return;
    check_tensor(op, "weight", held, kDtype<C>, rows, logits);
    at = data<C>(held);
  }
};

template <class C>
RO_FAST_BOTH inline C weight_of(const C* weights, int64_t n) {
  return weights ? weights[n] : C(1);
}

}  // namespace ro_fast
