// Shared by the CUDA kernels: bfloat16, 16-byte accesses, launches, sums over a block in a fixed order.
#pragma once

#include <cstdint>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "../common.h"

namespace ro_fast::cuda {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int64_t kMostBlocks = 0x7fffffff;  // per launch

using BFloat16 = __nv_bfloat16;

// In addition to those for every device, which they would hide.
using ro_fast::load;
using ro_fast::store;
__device__ inline float load(BFloat16 v) { return __bfloat162float(v); }
__device__ inline void store(BFloat16& to, float v) { to = __float2bfloat16_rn(v); }

// V values read or written at once.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};
template <class T>
constexpr int kWidest = 16 / int(sizeof(T));

inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Channels of consecutive values, incremented rather than divided for each.
struct Channel {
  int64_t c, rest, inner, count;

  __device__ Channel(int64_t i, int64_t inner, int64_t count) : inner(inner), count(count) {
    const int64_t outer = i / inner;
    rest = i - outer * inner;
    c = outer % count;
  }
  __device__ void next() {
    if (++rest < inner) return;
    rest = 0;
    c = c + 1 < count ? c + 1 : 0;
  }
};

// A new tensor on the device of `like`. (nvcc does not accept the braces of a shape within a generic lambda.)
template <class... Sizes>
Tensor new_tensor(const Tensor& like, ScalarType dtype, Sizes... sizes) {
  const std::vector<int64_t> shape{int64_t(sizes)...};
  return torch::stable::new_empty(like, shape, dtype);
}

// The device of a tensor and its current stream, for the launches of one operator.
class Launch {
 public:
  Launch(const char* op, const Tensor& on) : op_(op), guard_(on.get_device_index()) {
    void* stream = nullptr;
    check(aoti_torch_get_current_cuda_stream(on.get_device_index(), &stream) == AOTI_TORCH_SUCCESS, op, "no CUDA stream");
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <class... P, class... A>
  void operator()(void (*kernel)(P...), dim3 blocks, dim3 threads, const A&... arguments) const {
    if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
    check(
        blocks.x <= kMostBlocks && blocks.y <= 65535 && blocks.z <= 65535, op_, "a launch takes ", kMostBlocks,
        " by 65535 by 65535 blocks and this needs more; split the batch");
    kernel<<<blocks, threads, 0, stream_>>>(arguments...);
    const cudaError_t error = cudaGetLastError();
    check(error == cudaSuccess, op_, "the launch failed: ", cudaGetErrorString(error));
  }

 private:
  const char* op_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

// As many as are needed, or one more than a launch allows, which is then rejected.
inline unsigned blocks_for(int64_t work, int64_t per_block) {
  const int64_t blocks = (work + per_block - 1) / per_block;
  return blocks <= kMostBlocks ? unsigned(blocks) : unsigned(kMostBlocks) + 1;
}

// Σ over a warp, in every lane; in a fixed order, hence reproducible.
template <class C>
__device__ inline C warp_sum(C v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
template <class C>
__device__ inline C warp_max(C v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const C other = __shfl_xor_sync(0xffffffffu, v, offset);
    v = v < other ? other : v;
  }
  return v;
}

// Σ over a block of kThreads, in every thread.
__device__ inline double block_sum(double v) {
  __shared__ double of_warp[kThreads / kWarp];
  v = warp_sum(v);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = v;
  __syncthreads();
  double total = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) total += of_warp[w];
  __syncthreads();
  return total;
}

}  // namespace ro_fast::cuda
