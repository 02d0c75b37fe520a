// Shared by the CPU kernels: bfloat16, loops over rows, and one binary for every x86-64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <torch/csrc/stable/ops.h>

#include "../common.h"

// A function with this mark is compiled for AVX-512, for AVX2 with FMA, and for any x86-64; the loader picks one.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define RO_FAST_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RO_FAST_CLONES
#endif

namespace ro_fast {

// Whether the loader picks the AVX-512 clone, which has twice as many registers as the others.
inline bool has_avx512() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

// Minimum number of values per thread, so that small inputs stay on one (as in torch's own kernels).
constexpr int64_t kGrain = 32768;

struct BFloat16 {
  uint16_t bits;
};

inline float load(BFloat16 v) {
  const uint32_t bits = uint32_t(v.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To nearest, ties to even; NaN stays NaN. Branch-free, so that it vectorises.
inline void store(BFloat16& to, float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = uint16_t(v == v ? rounded : 0x7fc0);
}

// e^x for x ≤ 0 to 1 ulp; results below the normal range are 0. Range reduction and polynomial of Cephes' expf.
inline float exp_nonpositive(float x) {
  const float k = std::nearbyint((x > -88.f ? x : -88.f) * 1.44269504f);  // a number that fits an int, even for NaN
  const float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  const uint32_t bits = uint32_t(int32_t(k) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return x < -87.3f ? 0 : p * power;
}
inline double exp_nonpositive(double x) { return std::exp(x); }

// Calls f(begin, end) for ranges of rows of `width` values each; a row's result must not depend on its range.
template <class F>
void parallel_rows(int64_t rows, int64_t width, const F& f) {
  torch::stable::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)), f);
}

// ‖v‖₂ of n values, summed in float64: squares of saturated gradients underflow in float32.
template <class T>
inline Compute<T> row_norm(const T* v, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const double value = load(v[i]);
    sum += value * value;
  }
  return Compute<T>(std::sqrt(sum));
}

}  // namespace ro_fast
