// Rows of logits on a GPU: one warp per row, whose lanes process the classes side by side. Shared by the losses.
#pragma once

#include "common.cuh"

namespace ro_fast::cuda {

constexpr int kRows = kThreads / kWarp;  // per block

__device__ inline float exponential(float v) { return expf(v); }
__device__ inline double exponential(double v) { return exp(v); }
__device__ inline float logarithm(float v) { return logf(v); }
__device__ inline double logarithm(double v) { return log(v); }

// The row of this thread's warp, and its lane.
struct Here {
  int64_t n;
  int lane;

  __device__ Here() : n(int64_t(blockIdx.x) * kRows + threadIdx.x / kWarp), lane(int(threadIdx.x % kWarp)) {}
};

// softmax of a row of logits, over all its classes, or all but one if that is given; identical in every lane. A NaN among the
// logits propagates to the sum.
template <class T>
struct Softmax {
  using C = Compute<T>;
  const T* z;
  C top, sum, log_sum;  // max z, Σ exp(z − max) and its logarithm

  __device__ Softmax(const T* z, int64_t classes, int lane, int64_t without = -1) : z(z), top(C(-INFINITY)), sum(0) {
    for (int64_t c = lane; c < classes; c += kWarp) {
      const C v = load(z[c]);
      top = c != without && top < v ? v : top;
    }
    top = warp_max(top);
    for (int64_t c = lane; c < classes; c += kWarp) sum += c == without ? C(0) : exponential(shifted(c));
    sum = warp_sum(sum);
    log_sum = logarithm(sum);
  }

  __device__ C shifted(int64_t c) const { return C(load(z[c])) - top; }
  __device__ C p(int64_t c) const { return exponential(shifted(c)) / sum; }
  __device__ C log_p(int64_t c) const { return shifted(c) - log_sum; }
};

}  // namespace ro_fast::cuda
