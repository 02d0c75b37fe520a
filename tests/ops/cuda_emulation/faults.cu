// Small kernels that are right, or wrong in one way each, for the tests of cuda_runtime.h: the program's argument names one.
// It prints "right" or "wrong" for the kernel's result, or why a launch failed.
#include <cstdio>
#include <cstring>
#include <memory>

#include <cuda_runtime.h>

constexpr unsigned kThreads = 64;

enum Fault { kNone, kNoBarrier, kNoSecondBarrier, kReturn, kBarriersOfTwoLines, kLaneMissing, kUnwritten, kFarShared };

// out[i] = in[i] + 3·Σ in: a sum over the block by warps, as in the operators, done three times in the same shared memory.
template <Fault kFault>
__global__ void add_sum(int* out, const int* in) {
  __shared__ int of_warp[kThreads / 32], unwritten;
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  int total = kFault == kUnwritten ? unwritten : 0;
  for (int round = 0; round < 3; ++round) {
    int v = in[i] * (round + 1);
    if (kFault == kLaneMissing && threadIdx.x == 40) return;
    for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    int* own = of_warp + threadIdx.x / 32 + (kFault == kFarShared ? kThreads / 32 : 0);
    if (threadIdx.x % 32 == 0) *own = v;
    if (kFault == kReturn && threadIdx.x >= 40) return;
    if (kFault == kBarriersOfTwoLines && threadIdx.x < 40) {
      __syncthreads();
    } else if (kFault != kNoBarrier) {
      __syncthreads();
    }
    total += (of_warp[0] + of_warp[1]) / (round + 1);
    if (kFault != kNoSecondBarrier) __syncthreads();
  }
  out[i] = in[i] + total;
}

__global__ void reverse(int* out, const int* in) {
  extern __shared__ int all[];
  all[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = all[kThreads - 1 - threadIdx.x];
}

__global__ void write_at(int* out, int i) { out[i] = 1; }

struct alignas(16) Four {
  int at[4];
};
__global__ void copy_four(int* out, const int* in, int from) {
  *reinterpret_cast<Four*>(out) = *reinterpret_cast<const Four*>(in + from);
}

__global__ void vote(int* out, const int* in) {
  out[threadIdx.x] = __popc(__ballot_sync(0xffffffffu, in[threadIdx.x] % 2 == 0)) + __any_sync(0xffffffffu, threadIdx.x == 40);
}

__global__ void count(int* out) { atomicAdd(out, 1); }

int main(int, char** arguments) {
  const auto is = [&](const char* name) { return std::strcmp(arguments[1], name) == 0; };
  constexpr unsigned kBlocks = 3, kSize = kBlocks * kThreads;
  const std::unique_ptr<int[]> in(new int[kSize]), out(new int[kSize]());
  for (unsigned i = 0; i < kSize; ++i) in[i] = int(i);
  const auto summed = [&](auto kernel) {
    kernel<<<kBlocks, kThreads>>>(out.get(), in.get());
    bool right = true;
    for (int i = 0; i < int(kSize); ++i) right = right && out[i] == i + 3 * (i / 64 * 64 * 64 + 63 * 32);
    return right;
  };
  bool right = false;
  try {
    if (is("sum")) right = summed(add_sum<kNone>);
    if (is("no barrier")) right = summed(add_sum<kNoBarrier>);
    if (is("no second barrier")) right = summed(add_sum<kNoSecondBarrier>);
    if (is("return before a barrier")) right = summed(add_sum<kReturn>);
    if (is("barriers of two lines")) right = summed(add_sum<kBarriersOfTwoLines>);
    if (is("lane missing")) right = summed(add_sum<kLaneMissing>);
    if (is("unwritten shared")) right = summed(add_sum<kUnwritten>);
    if (is("far shared")) right = summed(add_sum<kFarShared>);
    if (is("dynamic shared") || is("too little dynamic shared")) {
      const size_t bytes = (is("dynamic shared") ? kThreads : kThreads - 1) * sizeof(int);
      reverse<<<1, kThreads, bytes>>>(out.get(), in.get());
      right = out[0] == 63 && out[63] == 0;
    }
    if (is("far write")) write_at<<<1, 1>>>(out.get(), int(kSize));
    if (is("odd address")) copy_four<<<1, 1>>>(out.get(), in.get(), 1);
    if (is("even address")) {
      copy_four<<<1, 1>>>(out.get(), in.get(), 4);
      right = out[3] == 7;
    }
    if (is("votes")) {
      vote<<<1, kThreads>>>(out.get(), in.get());
      right = out[0] == 16 && out[40] == 17;
    }
    if (is("atomics")) {
      count<<<dim3(2, 3, 4), dim3(5, 6)>>>(out.get());
      right = out[0] == 720;
    }
    if (is("too many threads")) {
      count<<<1, 1025>>>(out.get());
      right = cudaGetLastError() == cudaErrorInvalidConfiguration && cudaGetLastError() == cudaSuccess && out[0] == 0;
    }
  } catch (const std::exception& error) {
    std::puts(error.what());
    return 1;
  }
  std::puts(right ? "right" : "wrong");
}
