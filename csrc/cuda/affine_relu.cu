// ReLU of a per-channel affine map with its mask as bits, and the input gradient; csrc/cpu/affine_relu.cpp has the formulas.
//
// A thread owns one byte of the mask, thus 8 values. A value's channel is (i / inner) mod C.
// I/O: forward read x; write y and a bit. Backward read grad, a bit, add; write grad_x.
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

template <class T, bool kWide>
__device__ inline Pack<T, 8> read(const T* p, int64_t i, int64_t size) {
  Pack<T, 8> v;
  if (kWide) {
    constexpr int V = kWidest<T>;
#pragma unroll
    for (int k = 0; k < 8; k += V) {
      const auto part = *reinterpret_cast<const Pack<T, V>*>(p + i + k);
#pragma unroll
      for (int j = 0; j < V; ++j) v.at[k + j] = part.at[j];
    }
  } else {
    for (int k = 0; k < 8 && i + k < size; ++k) v.at[k] = p[i + k];
  }
  return v;
}

template <class T, bool kWide>
__device__ inline void write(T* p, int64_t i, int64_t size, const Pack<T, 8>& v) {
  if (kWide) {
    constexpr int V = kWidest<T>;
#pragma unroll
    for (int k = 0; k < 8; k += V) {
      Pack<T, V> part;
#pragma unroll
      for (int j = 0; j < V; ++j) part.at[j] = v.at[k + j];
      *reinterpret_cast<Pack<T, V>*>(p + i + k) = part;
    }
  } else {
    for (int k = 0; k < 8 && i + k < size; ++k) p[i + k] = v.at[k];
  }
}

template <class T, bool kWide>
__global__ void forward(
    T* out, uint8_t* bits, const T* x, const Compute<T>* scale, const Compute<T>* shift, int64_t size, int64_t inner,
    int64_t count) {
  using C = Compute<T>;
  const int64_t byte = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, i = byte * 8;
  if (i >= size) return;
  Pack<T, 8> v = read<T, kWide>(x, i, size);
  Channel channel(i, inner, count);
  unsigned passed = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    if (!kWide && i + k >= size) break;
    const C y = (scale ? scale[channel.c] : C(1)) * load(v.at[k]) + (shift ? shift[channel.c] : C(0));
    const bool stays = y <= 0;  // false for NaN, which passes as in torch.relu
    passed |= unsigned(!stays) << k;
    store(v.at[k], stays ? C(0) : y);
    channel.next();
  }
  bits[byte] = uint8_t(passed);
  write<T, kWide>(out, i, size, v);
}

template <class T, bool kWide>
__global__ void backward(
    T* out, const T* grad, const uint8_t* bits, const Compute<T>* scale, const T* add, int64_t size, int64_t inner,
    int64_t count) {
  using C = Compute<T>;
  const int64_t byte = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, i = byte * 8;
  if (i >= size) return;
  Pack<T, 8> v = read<T, kWide>(grad, i, size), more;
  if (add) more = read<T, kWide>(add, i, size);
  const unsigned passed = bits[byte];
  Channel channel(i, inner, count);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    if (!kWide && i + k >= size) break;
    const C g = (passed >> k & 1) ? (scale ? scale[channel.c] : C(1)) * load(v.at[k]) : C(0);
    store(v.at[k], g + (add ? load(more.at[k]) : C(0)));
    channel.next();
  }
  write<T, kWide>(out, i, size, v);
}

int64_t inner_of(const Tensor& t) {
  return t.stride(1) == 1 || t.numel() == 0 ? 1 : t.numel() / (t.size(0) * t.size(1));
}

template <class C>
const C* by_channel(const char* op, const char* name, const Optional& t, const Tensor& like) {
  if (!t) return nullptr;
  check_tensor(op, name, *t, kDtype<C>, like.size(1), like);
  return data<C>(*t);
}

}  // namespace

void affine_relu(Tensor out, Tensor bits, Tensor x, Optional scale, Optional shift) {
  const char* op = "affine_relu";
  const int64_t size = x.numel(), bytes = (size + 7) / 8;
  if (size == 0) return;
  const Launch launch(op, x);
  check_tensor(op, "bits", bits, ScalarType::Byte, bytes, x);
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "out", out, kDtype<T>, size, x);
    T* p_out = mutable_data<T>(out);
    const T* p_x = data<T>(x);
    const auto kernel = size % 8 == 0 && aligned(p_out) && aligned(p_x) ? forward<T, true> : forward<T, false>;
    launch(
        kernel, blocks_for(bytes, kThreads), kThreads, p_out, mutable_data<uint8_t>(bits), p_x,
        by_channel<C>(op, "scale", scale, x), by_channel<C>(op, "shift", shift, x), size, inner_of(x), x.size(1));
  });
}

void affine_relu_backward(Tensor out, Tensor grad, Tensor bits, Optional scale, Optional add) {
  const char* op = "affine_relu_backward";
  const int64_t size = grad.numel(), bytes = (size + 7) / 8;
  if (size == 0) return;
  const Launch launch(op, grad);
  check_tensor(op, "bits", bits, ScalarType::Byte, bytes, grad);
  dispatch<BFloat16>(op, grad, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "out", out, kDtype<T>, size, grad);
    if (add) check_tensor(op, "add", *add, kDtype<T>, size, grad);
    T* p_out = mutable_data<T>(out);
    const T *p_grad = data<T>(grad), *p_add = add ? data<T>(*add) : nullptr;
    const bool wide = size % 8 == 0 && aligned(p_out) && aligned(p_grad) && aligned(p_add);
    launch(
        wide ? backward<T, true> : backward<T, false>, blocks_for(bytes, kThreads), kThreads, p_out, p_grad,
        data<uint8_t>(bits), by_channel<C>(op, "scale", scale, grad), p_add, size, inner_of(grad), grad.size(1));
  });
}

}  // namespace ro_fast::cuda
