// y = max(0, scale_c·x + shift_c) with its mask as bits, and the input gradient from those bits alone.
//
//   bit k of byte j: value 8j + k of the memory order is not ≤ 0 (NaN passes, as in torch.relu)
//   grad_x = (bit ? scale_c·grad : 0) + add
//
// A value's channel is (i / inner) mod C: inner is 1 in channels-last order, otherwise H·W.
// I/O: forward read x; write y and a bit. Backward read grad, a bit, add; write grad_x.
#include <array>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kBlock = 2048;  // values per block: mask and bits stay in L1
using Flags = std::array<uint8_t, kBlock>;  // 0 or 1 per value

struct Channels {
  int64_t count, inner;
};

Channels channels_of(const Tensor& t) {
  const int64_t count = t.size(1);
  const bool last = t.stride(1) == 1;
  return {std::max<int64_t>(1, count), last || t.numel() == 0 ? 1 : t.numel() / (t.size(0) * count)};
}

uint8_t pack(const uint8_t* flags) {
  uint64_t eight;
  std::memcpy(&eight, flags, 8);
  return uint8_t((eight * 0x0102040810204080u) >> 56);  // byte k's lowest bit moves to bit 56 + k
}

void unpack(uint8_t bits, uint8_t* flags) {
  const uint64_t spread = (bits * 0x0101010101010101u) & 0x8040201008040201u;  // only bit k in byte k
  const uint64_t eight = ((spread + 0x7f7f7f7f7f7f7f7fu) >> 7) & 0x0101010101010101u;
  std::memcpy(flags, &eight, 8);
}

// Calls f(at, size, channel) for runs of values in `begin` … `end` − 1, each of a single channel or of rising channels.
template <class F>
void for_each_run(int64_t begin, int64_t end, Channels channels, const F& f) {
  const int64_t period = channels.inner == 1 ? channels.count : channels.inner;
  for (int64_t at = begin; at < end;) {
    const int64_t size = std::min(period - at % period, end - at);
    f(at, size, channels.inner == 1 ? at % period : at / channels.inner % channels.count);
    at += size;
  }
}

// kRising: channels rise with the values; otherwise all share one. Null scale and shift stand for 1 and 0.
template <bool kRising, class T, class C>
RO_FAST_CLONES void forward(T* out, uint8_t* flags, const T* x, int64_t size, const C* scale, const C* shift) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const int64_t c = kRising ? i : 0;
    const C y = (scale ? scale[c] : C(1)) * load(x[i]) + (shift ? shift[c] : C(0));
    const bool stays = y <= 0;
    flags[i] = !stays;
    store(out[i], stays ? C(0) : y);
  }
}

template <bool kRising, class T, class C>
RO_FAST_CLONES void backward(T* out, const uint8_t* flags, const T* grad, int64_t size, const C* scale, const T* add) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const C g = (scale ? scale[kRising ? i : 0] : C(1)) * load(grad[i]);
    store(out[i], (flags[i] ? g : C(0)) + (add ? load(add[i]) : C(0)));
  }
}

// Calls f(begin, end) for blocks of values that own whole bytes of the mask.
template <class F>
void for_each_block(int64_t size, const F& f) {
  const int64_t blocks = (size + kBlock - 1) / kBlock;
  torch::stable::parallel_for(0, blocks, kGrain / kBlock, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) f(b * kBlock, std::min((b + 1) * kBlock, size));
  });
}

template <class C>
const C* by_channel(const char* op, const char* name, const std::optional<Tensor>& t, const Tensor& like) {
  if (!t) return nullptr;
  check_tensor(op, name, *t, kDtype<C>, like.size(1), like);
  return data<C>(*t);
}

}  // namespace

void affine_relu(Tensor out, Tensor bits, Tensor x, std::optional<Tensor> scale, std::optional<Tensor> shift) {
  const char* op = "affine_relu";
  const int64_t size = x.numel();
  const Channels channels = channels_of(x);
  check_tensor(op, "bits", bits, ScalarType::Byte, (size + 7) / 8, x);
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "out", out, kDtype<T>, size, x);
    check_tensor(op, "x", x, kDtype<T>, size, x);
    T* p_out = mutable_data<T>(out);
    const T* p_x = data<T>(x);
    uint8_t* p_bits = mutable_data<uint8_t>(bits);
    const C *p_scale = by_channel<C>(op, "scale", scale, x), *p_shift = by_channel<C>(op, "shift", shift, x);
    for_each_block(size, [&](int64_t begin, int64_t end) {
      Flags flags{};
      for_each_run(begin, end, channels, [&](int64_t at, int64_t count, int64_t c) {
        const auto run = channels.inner == 1 ? forward<true, T, C> : forward<false, T, C>;
        run(p_out + at, flags.data() + (at - begin), p_x + at, count, p_scale ? p_scale + c : nullptr,
            p_shift ? p_shift + c : nullptr);
      });
      for (int64_t i = begin; i < end; i += 8) p_bits[i / 8] = pack(flags.data() + (i - begin));
    });
  });
}

void affine_relu_backward(
    Tensor out, Tensor grad, Tensor bits, std::optional<Tensor> scale, std::optional<Tensor> add) {
  const char* op = "affine_relu_backward";
  const int64_t size = grad.numel();
  const Channels channels = channels_of(grad);
  check_tensor(op, "bits", bits, ScalarType::Byte, (size + 7) / 8, grad);
  dispatch<BFloat16>(op, grad, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "out", out, kDtype<T>, size, grad);
    check_tensor(op, "grad", grad, kDtype<T>, size, grad);
    if (add) check_tensor(op, "add", *add, kDtype<T>, size, grad);
    T* p_out = mutable_data<T>(out);
    const T *p_grad = data<T>(grad), *p_add = add ? data<T>(*add) : nullptr;
    const uint8_t* p_bits = data<uint8_t>(bits);
    const C* p_scale = by_channel<C>(op, "scale", scale, grad);
    for_each_block(size, [&](int64_t begin, int64_t end) {
      Flags flags;
      for (int64_t i = begin; i < end; i += 8) unpack(p_bits[i / 8], flags.data() + (i - begin));
      for_each_run(begin, end, channels, [&](int64_t at, int64_t count, int64_t c) {
        const auto run = channels.inner == 1 ? backward<true, T, C> : backward<false, T, C>;
        run(p_out + at, flags.data() + (at - begin), p_grad + at, count, p_scale ? p_scale + c : nullptr,
            p_add ? p_add + at : nullptr);
      });
    });
  });
}

}  // namespace ro_fast
