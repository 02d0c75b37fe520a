// CUDA C++ executed on a CPU, so that kernels can be tested without a GPU; translate.py rewrites the syntax that C++ lacks.
//
// A thread is a fiber (ucontext). Blocks run one after another in random order. Within a block a warp runs until all its lanes
// wait at __syncthreads or are done, then the next one; the order of warps is redrawn after each barrier, that of the lanes
// after each operation of the warp. So some thread is always as far ahead as it can get, and if a barrier is missing, another
// reads a wrong value. Shared memory is new in each block, a separate allocation for each array, with all bytes 0xff
// (NaN, −1): AddressSanitizer detects writes beyond it, and results reveal reads before writes.
//
// A launch fails with a message if a barrier or an operation of a warp is not reached by all threads, or at different lines,
// if a mask leaves lanes out, or if it is too large. What is not here (other intrinsics, textures, cooperative groups)
// does not compile. Not detected: an update of one value by several threads that should be atomic, since no thread is
// interrupted between barriers. A thread that spins until another one acts never ends.
//
// RO_FAST_SEED is the seed of all orders; 0 if it is unset.
#pragma once

#include <math.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the running fiber

using cudaStream_t = struct Stream*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration };

namespace cuda_on_cpu {

constexpr unsigned kWarp = 32, kMostThreads = 1024;
constexpr size_t kStack = 64 << 10, kMostShared = 48 << 10;  // bytes

inline cudaError_t last_error = cudaSuccess;

// The i-th place of a grid or a block.
inline dim3 place(uint64_t i, dim3 size) {
  return {unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y)};
}

enum class State { kRuns, kInWarp, kAtBarrier, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  State state;
  int line;                          // where it waits
  uint64_t gives;                    // to its warp
  std::array<uint64_t, kWarp> gets;  // what all lanes of its warp gave
};

class Machine {
 public:
  uint64_t block = 0;  // counted over all launches

  static Machine& get() {
    static Machine machine;
    return machine;
  }

  void launch(const std::function<void()>& kernel, dim3 blocks, dim3 threads, size_t dynamic_shared) {
    kernel_ = kernel;
    gridDim = blocks, blockDim = threads;
    threads_ = threads.x * threads.y * threads.z;
    while (fibers_.size() < threads_) fibers_.emplace_back();
    for (const uint64_t i : shuffled(uint64_t(blocks.x) * blocks.y * blocks.z)) {
      ++block;
      blockIdx = place(i, blocks);
      shared_.clear();
      shared_bytes_ = 0;
      dynamic_ = allocate(dynamic_shared);
      run_block();
    }
  }

  // Bytes of shared memory of the running block.
  char* allocate(size_t bytes) {
    shared_bytes_ += bytes;
    if (shared_bytes_ > kMostShared) fail("more shared memory than a block has");
    shared_.emplace_back(new char[bytes]);
    return static_cast<char*>(std::memset(shared_.back().get(), 0xff, bytes));
  }
  char* dynamic() const { return dynamic_; }

  void barrier(int line) { wait(State::kAtBarrier, line); }

  // Every lane of the warp contributes a value and receives those of all.
  const std::array<uint64_t, kWarp>& exchange(unsigned mask, uint64_t value, int line) {
    if (mask != 0xffffffffu) fail("an operation of a warp leaves lanes out, which is not emulated");
    fibers_[running_].gives = value;
    wait(State::kInWarp, line);
    return fibers_[running_].gets;
  }
  unsigned lane() const { return running_ % kWarp; }

 private:
  std::mt19937_64 random_{std::strtoull(std::getenv("RO_FAST_SEED") ? std::getenv("RO_FAST_SEED") : "0", nullptr, 10)};
  std::function<void()> kernel_;
  std::vector<Fiber> fibers_;
  std::vector<std::unique_ptr<char[]>> shared_;
  size_t shared_bytes_ = 0;
  char* dynamic_ = nullptr;
  ucontext_t scheduler_;
  unsigned threads_ = 0, running_ = 0;
  std::string failure_;

  std::vector<uint64_t> shuffled(uint64_t count) {
    std::vector<uint64_t> order(count);
    std::iota(order.begin(), order.end(), uint64_t(0));
    std::shuffle(order.begin(), order.end(), random_);
    return order;
  }

  // Ends the launch from within a fiber, which is left where it is.
  void fail(const std::string& what) {
    failure_ = what;
    swapcontext(&fibers_[running_].context, &scheduler_);
  }

  void wait(State state, int line) {
    fibers_[running_].state = state;
    fibers_[running_].line = line;
    swapcontext(&fibers_[running_].context, &scheduler_);
  }

  static void thread() {
    get().kernel_();
    get().fibers_[get().running_].state = State::kDone;
  }

  void run(unsigned thread) {
    running_ = thread;
    threadIdx = place(thread, blockDim);
    swapcontext(&scheduler_, &fibers_[thread].context);
    if (!failure_.empty()) stop(std::exchange(failure_, ""));
  }

  [[noreturn]] void stop(const std::string& what) const {
    const auto words = [](dim3 p) { return std::to_string(p.x) + ", " + std::to_string(p.y) + ", " + std::to_string(p.z); };
    throw std::runtime_error("block (" + words(blockIdx) + "), thread (" + words(threadIdx) + "): " + what);
  }

  // Whether threads among the `count` from `first` on wait in this state: `needed` of them, at one line, or none.
  bool all_wait(unsigned first, unsigned count, unsigned needed, State state, const std::string& what) const {
    unsigned waiting = 0;
    int line = 0;
    for (unsigned t = first; t < first + count; ++t) {
      if (fibers_[t].state != state) continue;
      if (waiting++ > 0 && fibers_[t].line != line) stop(what + " is reached at different lines");
      line = fibers_[t].line;
    }
    if (waiting > 0 && waiting < needed) {
      stop(what + " is reached by " + std::to_string(waiting) + " of " + std::to_string(needed) + " threads");
    }
    return waiting > 0;
  }

  void run_warp(unsigned first) {
    const unsigned lanes = std::min(kWarp, threads_ - first);
    do {
      for (const uint64_t lane : shuffled(lanes)) {
        if (fibers_[first + lane].state == State::kRuns) run(first + unsigned(lane));
      }
      if (!all_wait(first, lanes, kWarp, State::kInWarp, "an operation of a warp")) return;
      std::array<uint64_t, kWarp> given;
      for (unsigned lane = 0; lane < kWarp; ++lane) given[lane] = fibers_[first + lane].gives;
      for (unsigned lane = 0; lane < kWarp; ++lane) {
        fibers_[first + lane].gets = given;
        fibers_[first + lane].state = State::kRuns;
      }
    } while (true);
  }

  void run_block() {
    for (unsigned t = 0; t < threads_; ++t) {
      Fiber& fiber = fibers_[t];
      fiber.state = State::kRuns;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, thread, 0);
    }
    do {
      for (const uint64_t warp : shuffled((threads_ + kWarp - 1) / kWarp)) run_warp(unsigned(warp) * kWarp);
      if (!all_wait(0, threads_, threads_, State::kAtBarrier, "__syncthreads")) return;
      for (unsigned t = 0; t < threads_; ++t) fibers_[t].state = State::kRuns;
    } while (true);
  }
};

// What translate.py writes for kernel<<<blocks, threads, shared, stream>>>(arguments).
template <class... P>
auto launcher(void (*kernel)(P...), dim3 blocks, dim3 threads, size_t shared = 0, cudaStream_t = nullptr) {
  return [=](const auto&... given) {
    const uint64_t count = uint64_t(threads.x) * threads.y * threads.z;
    const bool fits = count > 0 && count <= kMostThreads && shared <= kMostShared && blocks.x > 0 && blocks.y > 0 &&
                      blocks.z > 0 && blocks.x <= 0x7fffffffu && blocks.y <= 65535 && blocks.z <= 65535;
    last_error = fits ? cudaSuccess : cudaErrorInvalidConfiguration;
    if (!fits) return;
    const std::tuple<P...> arguments(given...);
    Machine::get().launch([&] { std::apply(kernel, arguments); }, blocks, threads, shared);
  };
}

// What it writes for __shared__ A name, and for extern __shared__ T name[]. A tag is a distinct type for each place.
template <class A, class Tag>
A& shared(Tag) {
  static A* array;
  static uint64_t block = 0;
  if (std::exchange(block, Machine::get().block) != Machine::get().block) {
    array = reinterpret_cast<A*>(Machine::get().allocate(sizeof(A)));
  }
  return *array;
}
template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(Machine::get().dynamic());
}

// What it writes for torch's device guard and current stream.
struct DeviceGuard {
  explicit DeviceGuard(int) {}
};
inline int current_stream(int, void**) { return 0; }

template <class T>
uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

}  // namespace cuda_on_cpu

inline cudaError_t cudaGetLastError() { return std::exchange(cuda_on_cpu::last_error, cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "invalid configuration"; }

inline void __syncthreads(int line = __builtin_LINE()) { cuda_on_cpu::Machine::get().barrier(line); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int line = __builtin_LINE()) {
  auto& machine = cuda_on_cpu::Machine::get();
  const auto& all = machine.exchange(mask, cuda_on_cpu::bits_of(value), line);
  std::memcpy(&value, &all[machine.lane() ^ unsigned(lanes)], sizeof value);
  return value;
}
inline unsigned __ballot_sync(unsigned mask, bool value, int line = __builtin_LINE()) {
  unsigned votes = 0, lane = 0;
  for (const uint64_t vote : cuda_on_cpu::Machine::get().exchange(mask, value, line)) votes |= unsigned(vote) << lane++;
  return votes;
}
inline bool __any_sync(unsigned mask, bool value, int line = __builtin_LINE()) { return __ballot_sync(mask, value, line) != 0; }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
