// 3×3 convolution of stride 1 with one pixel of zero padding, by Winograd's F(2×2, 3×3), channels last.
//
//   Y = Aᵀ [Σ_c U_c ⊙ (Bᵀ d_c B)] A  for each 2×2 block of outputs, d its 4×4 block of inputs, U = G g Gᵀ
//
//   Bᵀ = | 1  0 -1  0 |    Aᵀ = | 1  1  1  0 |
//        | 0  1  1  0 |         | 0  1 -1 -1 |
//        | 0 -1  1  0 |
//        | 0  1  0 -1 |
//
// 16 products instead of the definition's 36. Summed over channels they are 16 matrix products [tiles, C]·[C, O], computed by
// torch; tiles are processed in blocks, so that intermediate values between the transforms stay in the cache.
//
// The transposed convolution, which is the input gradient, is that of mirrored kernels with C and O exchanged: the same tiles,
// read and written from their last pixel to their first.
// I/O: read x, weights, bias; write out.
#include <array>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/stableivalue_conversions.h>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kSide = 4, kPlanes = kSide * kSide;
constexpr int64_t kCached = 1 << 18;  // values per block between the transforms
constexpr int64_t kLeast = 64;        // tiles per block, so that matrix products are not too thin

// Bᵀ times four values, in place.
template <class C>
void mix_in(C& v0, C& v1, C& v2, C& v3) {
  const C first = v0 - v2, second = v1 + v2, third = v2 - v1, fourth = v1 - v3;
  v0 = first, v1 = second, v2 = third, v3 = fourth;
}

// The 16 planes of Bᵀ d B for one tile; d holds a pointer to the channels of each of its 16 pixels. Unrolled by hand, since GCC
// unrolls inner loops only after it has given up vectorising.
template <class T, class C>
RO_FAST_CLONES void transform_in(C* v, int64_t plane, const std::array<const T*, kPlanes>& d, int64_t channels) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    C a0 = load(d[0][c]), a1 = load(d[1][c]), a2 = load(d[2][c]), a3 = load(d[3][c]);
    C b0 = load(d[4][c]), b1 = load(d[5][c]), b2 = load(d[6][c]), b3 = load(d[7][c]);
    C c0 = load(d[8][c]), c1 = load(d[9][c]), c2 = load(d[10][c]), c3 = load(d[11][c]);
    C d0 = load(d[12][c]), d1 = load(d[13][c]), d2 = load(d[14][c]), d3 = load(d[15][c]);
    mix_in(a0, b0, c0, d0), mix_in(a1, b1, c1, d1), mix_in(a2, b2, c2, d2), mix_in(a3, b3, c3, d3);
    mix_in(a0, a1, a2, a3), mix_in(b0, b1, b2, b3), mix_in(c0, c1, c2, c3), mix_in(d0, d1, d2, d3);
    C* to = v + c;
    to[0] = a0, to[plane] = a1, to[2 * plane] = a2, to[3 * plane] = a3;
    to[4 * plane] = b0, to[5 * plane] = b1, to[6 * plane] = b2, to[7 * plane] = b3;
    to[8 * plane] = c0, to[9 * plane] = c1, to[10 * plane] = c2, to[11 * plane] = c3;
    to[12 * plane] = d0, to[13 * plane] = d1, to[14 * plane] = d2, to[15 * plane] = d3;
  }
}

// The 2×2 outputs Aᵀ m A + bias of one tile; y holds a pointer to the channels of each of its 4 pixels.
template <bool kReLU, class T, class C>
RO_FAST_CLONES void transform_out(
    const std::array<T*, 4>& y, const C* m, int64_t plane, int64_t channels, const C* bias) {
  T *y0 = y[0], *y1 = y[1], *y2 = y[2], *y3 = y[3];
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    const C* from = m + c;
    const C a0 = from[0], a1 = from[plane], a2 = from[2 * plane], a3 = from[3 * plane];
    const C b0 = from[4 * plane], b1 = from[5 * plane], b2 = from[6 * plane], b3 = from[7 * plane];
    const C c0 = from[8 * plane], c1 = from[9 * plane], c2 = from[10 * plane], c3 = from[11 * plane];
    const C d0 = from[12 * plane], d1 = from[13 * plane], d2 = from[14 * plane], d3 = from[15 * plane];
    const C upper0 = a0 + b0 + c0, upper1 = a1 + b1 + c1, upper2 = a2 + b2 + c2, upper3 = a3 + b3 + c3;
    const C lower0 = b0 - c0 - d0, lower1 = b1 - c1 - d1, lower2 = b2 - c2 - d2, lower3 = b3 - c3 - d3;
    const C shift = bias ? bias[c] : C(0);
    const C first = upper0 + upper1 + upper2 + shift, second = upper1 - upper2 - upper3 + shift;
    const C third = lower0 + lower1 + lower2 + shift, fourth = lower1 - lower2 - lower3 + shift;
    store(y0[c], kReLU && first <= 0 ? C(0) : first);  // NaN passes
    store(y1[c], kReLU && second <= 0 ? C(0) : second);
    store(y2[c], kReLU && third <= 0 ? C(0) : third);
    store(y3[c], kReLU && fourth <= 0 ? C(0) : fourth);
  }
}

// out = a·b, [B, M, K]·[B, K, N], computed by torch.
void multiply(const char* op, const Tensor& out, const Tensor& a, const Tensor& b) {
  using torch::stable::detail::from;
  std::array<StableIValue, 3> stack{from(a), from(b), from(out)};
  check(torch_call_dispatcher("aten::bmm", "out", stack.data(), TORCH_ABI_VERSION) == 0, op, "torch's matrix product failed");
  torch::stable::detail::to<Tensor>(stack[0]);  // takes ownership of the handle
}

// An image as tiles two pixels apart.
struct Tiles {
  int64_t height, width;  // of the image

  int64_t down() const { return (height + 1) / 2; }
  int64_t across() const { return (width + 1) / 2; }
  int64_t of_image() const { return down() * across(); }

  // Calls f(k, pixel) for each of `side`² pixels of tile t from (2i − before, 2j − before) on; pixel is its index among those
  // of all images, −1 if it lies outside.
  template <class F>
  void for_each_pixel(int64_t t, int64_t side, int64_t before, const F& f) const {
    const int64_t n = t / of_image(), i = t % of_image() / across(), j = t % across();
    for (int64_t k = 0; k < side * side; ++k) {
      const int64_t y = 2 * i - before + k / side, x = 2 * j - before + k % side;
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      f(k, inside ? (n * height + y) * width + x : -1);
    }
  }
};

}  // namespace

void winograd_conv(Tensor out, Tensor x, Tensor weights, std::optional<Tensor> bias, bool relu, bool transposed) {
  const char* op = "winograd_conv";
  const int64_t images = x.size(0), channels = x.size(1), outputs = weights.size(transposed ? 1 : 2);
  const Tiles tiles{x.size(2), x.size(3)};
  const int64_t total = images * tiles.of_image();
  if (total == 0 || outputs == 0) return;
  dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "x", x, kDtype<T>, images * channels * tiles.height * tiles.width, x);
    check_tensor(op, "weights", weights, kDtype<C>, kPlanes * channels * outputs, x);
    check_tensor(op, "out", out, kDtype<T>, images * outputs * tiles.height * tiles.width, x);
    if (bias) check_tensor(op, "bias", *bias, kDtype<C>, outputs, x);
    const T* p_x = data<T>(x);
    T* p_out = mutable_data<T>(out);
    const C* p_bias = bias ? data<C>(*bias) : nullptr;
    const Tensor factors = transposed ? torch::stable::transpose(weights, 1, 2) : weights;  // [16, channels, outputs]
    const int64_t block = std::max<int64_t>(kLeast, kCached / (kPlanes * (channels + outputs)));
    torch::stable::parallel_for(0, (total + block - 1) / block, 1, [&](int64_t from, int64_t to) {
      const std::vector<T> zeros(channels);
      std::vector<T> beyond(outputs);  // pixels outside the image are written here
      for (int64_t at = from * block; at < std::min(to * block, total); at += block) {
        const int64_t count = std::min(block, total - at);
        const Tensor v = torch::stable::new_empty(x, {kPlanes, count, channels}, kDtype<C>);
        const Tensor m = torch::stable::new_empty(x, {kPlanes, count, outputs}, kDtype<C>);
        C* p_v = mutable_data<C>(v);
        for (int64_t t = 0; t < count; ++t) {
          std::array<const T*, kPlanes> d;
          tiles.for_each_pixel(at + t, kSide, 1, [&](int64_t k, int64_t pixel) {
            d[transposed ? kPlanes - 1 - k : k] = pixel < 0 ? zeros.data() : p_x + pixel * channels;
          });
          transform_in(p_v + t * channels, count * channels, d, channels);
        }
        multiply(op, m, v, factors);
        const C* p_m = data<C>(m);
        for (int64_t t = 0; t < count; ++t) {
          std::array<T*, 4> y;
          tiles.for_each_pixel(at + t, 2, 0, [&](int64_t k, int64_t pixel) {
            y[transposed ? 3 - k : k] = pixel < 0 ? beyond.data() : p_out + pixel * outputs;
          });
          const auto run = relu ? transform_out<true, T, C> : transform_out<false, T, C>;
          run(y, p_m + t * outputs, count * outputs, outputs, p_bias);
        }
      }
    });
  });
}

}  // namespace ro_fast
