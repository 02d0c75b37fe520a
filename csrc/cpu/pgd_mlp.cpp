// All K steps of L∞ PGD on an MLP with ReLU between its L layers, for N samples of D values.
//
//   x₀ = clamp(x + ε·u, lo, hi), or x;  h₀ = x_k, h_l = relu(W_l·h_{l−1} + b_l), z = W_L·h_{L−1} + b_L
//   g_L = softmax(z) − onehot(y), g_{l−1} = W_lᵀ·g_l where h_{l−1} > 0;  x_{k+1} = step(x_k, x, g_0), see simd.h
//
// A block of samples goes through all steps before the next one starts, so its activations stay in the cache. Within a
// block samples are adjacent: every product is a tile of rows × samples held in registers, whatever the widths, and
// softmax, mask and step run along the samples. A sample's sums have a fixed order, wherever it is: the result depends
// neither on the batch nor on the number of threads.
// I/O: read x, y, noise, parameters once; write out. 4·N·K·Σ in·out flops; per step and block all parameters from the cache.
#include <array>
#include <utility>
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kRows = 12;  // per tile: with two AVX-512 registers of samples, 24 sums
template <class C>
constexpr int64_t kSamples = 128 / sizeof(C);  // per block

// One value for each sample of a block.
template <class C>
struct alignas(64) Lane {
  C at[kSamples<C>];
};

// A layer's weight as panels of at most kRows rows, each read sequentially: panel[k][r] = W[top + r][k] or, backward,
// W[k][top + r].
template <class C>
struct Layer {
  int64_t in, out;
  std::vector<C> forward;   // rows out, depth in
  std::vector<C> backward;  // rows in, depth out
  std::vector<C> bias;      // [out]
};

// Packs weight[row·row_stride + k·depth_stride] into the panels of rows [begin, end); a panel's top row is `begin`.
template <class T, class C>
RO_FAST_CLONES void pack(
    const T* weight, int64_t begin, int64_t end, int64_t depth, int64_t row_stride, int64_t depth_stride, C* packed) {
  for (int64_t top = begin; top < end; top += kRows) {
    const int64_t rows = std::min(kRows, end - top);
    C* panel = packed + top * depth;
    for (int64_t k = 0; k < depth; ++k) {
      const T* w = weight + top * row_stride + k * depth_stride;
      for (int64_t r = 0; r < rows; ++r) panel[k * rows + r] = load(w[r * row_stride]);
    }
  }
}

template <class T, class C>
void pack_panels(const T* weight, int64_t rows, int64_t depth, int64_t row_stride, int64_t depth_stride, C* packed) {
  parallel_rows((rows + kRows - 1) / kRows, kRows * depth, [&](int64_t begin, int64_t end) {
    pack(weight, begin * kRows, std::min(end * kRows, rows), depth, row_stride, depth_stride, packed);
  });
}

// out[r] = bias[r] + Σ_k panel[k][r]·in[k] for R rows, at most kRows.
template <class C, int64_t R>
RO_FAST_CLONES void tile(const C* panel, const C* bias, const Lane<C>* in, int64_t depth, Lane<C>* out) {
  C sums[R][kSamples<C>];
  for (int64_t r = 0; r < R; ++r) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) sums[r][n] = bias ? bias[r] : C(0);
  }
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 12
    for (int64_t r = 0; r < R; ++r) {
      const C w = panel[k * R + r];
#pragma omp simd
      for (int64_t n = 0; n < kSamples<C>; ++n) sums[r][n] += w * in[k].at[n];
    }
  }
  for (int64_t r = 0; r < R; ++r) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) out[r].at[n] = sums[r][n];
  }
}

// The tile function for `rows` rows, 1 to kRows.
template <class C, size_t... R>
auto tile_of(int64_t rows, std::index_sequence<R...>) {
  static constexpr std::array tiles{tile<C, int64_t(R) + 1>...};
  return tiles[rows - 1];
}

// Calls finish(top, rows) after rows [top, top + rows) of panels·in + bias have been written to place(top).
template <class C, class Place, class Finish>
void multiply(
    const std::vector<C>& panels, const C* bias, int64_t rows, int64_t depth, const Lane<C>* in, const Place& place,
    const Finish& finish) {
  for (int64_t top = 0; top < rows; top += kRows) {
    const int64_t count = std::min(kRows, rows - top);
    const auto run = tile_of<C>(count, std::make_index_sequence<kRows>{});
    run(panels.data() + top * depth, bias ? bias + top : nullptr, in, depth, place(top));
    finish(top, count);
  }
}

// NaN passes through, as in torch.relu.
template <class C>
RO_FAST_CLONES void relu(Lane<C>* h, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) h[r].at[n] = h[r].at[n] < 0 ? C(0) : h[r].at[n];
  }
}

template <class C>
RO_FAST_CLONES void relu_backward(Lane<C>* grad, const Lane<C>* h, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) grad[r].at[n] = h[r].at[n] <= 0 ? C(0) : grad[r].at[n];
  }
}

// logits ← softmax(logits) − onehot(label)
template <class C>
RO_FAST_CLONES void cross_entropy_backward(Lane<C>* logits, const int64_t* labels, int64_t classes) {
  Lane<C> top = logits[0], sum{};
  for (int64_t c = 1; c < classes; ++c) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) top.at[n] = top.at[n] < logits[c].at[n] ? logits[c].at[n] : top.at[n];
  }
  for (int64_t c = 0; c < classes; ++c) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) {
      const C e = exp_nonpositive(logits[c].at[n] - top.at[n]);
      logits[c].at[n] = e;
      sum.at[n] += e;
    }
  }
  for (int64_t c = 0; c < classes; ++c) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) logits[c].at[n] /= sum.at[n];
  }
  for (int64_t n = 0; n < kSamples<C>; ++n) logits[labels[n]].at[n] -= 1;
}

template <class C>
struct Budget {
  Lane<C> eps, alpha;
  C lo, hi;
};

// x_adv holds the noise and receives the start.
template <class C>
RO_FAST_CLONES void start(Lane<C>* x_adv, const Lane<C>* x, int64_t rows, const Budget<C>& b) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) {
      x_adv[r].at[n] = clamp(x[r].at[n] + b.eps.at[n] * x_adv[r].at[n], b.lo, b.hi);
    }
  }
}

template <class C>
RO_FAST_CLONES void step(Lane<C>* x_adv, const Lane<C>* x, const Lane<C>* grad, int64_t rows, const Budget<C>& b) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t n = 0; n < kSamples<C>; ++n) {
      x_adv[r].at[n] =
          moved_linf(x_adv[r].at[n], x[r].at[n], grad[r].at[n], b.eps.at[n], b.alpha.at[n], b.lo, b.hi);
    }
  }
}

constexpr int64_t kStrip = 16;  // values of each sample transposed together, so that their cache lines stay in L1

// Interleaves `count` samples of D values; lanes beyond the last are zero.
template <class T, class C>
RO_FAST_CLONES void gather(const T* samples, int64_t count, int64_t width, Lane<C>* to) {
  for (int64_t first = 0; first < width; first += kStrip) {
    const int64_t end = std::min(first + kStrip, width);
    for (int64_t n = 0; n < kSamples<C>; ++n) {
      for (int64_t d = first; d < end; ++d) to[d].at[n] = n < count ? load(samples[n * width + d]) : C(0);
    }
  }
}

template <class T, class C>
RO_FAST_CLONES void scatter(const Lane<C>* from, int64_t count, int64_t width, T* samples) {
  for (int64_t first = 0; first < width; first += kStrip) {
    const int64_t end = std::min(first + kStrip, width);
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t d = first; d < end; ++d) store(samples[n * width + d], from[d].at[n]);
    }
  }
}

// The state of one block of samples during the steps.
template <class C>
struct Block {
  const std::vector<Layer<C>>& layers;
  std::vector<Lane<C>> x, x_adv;                  // [D]
  std::vector<std::vector<Lane<C>>> outputs;      // of each layer
  std::vector<std::vector<Lane<C>>> hidden_grads;  // of each layer's input except the first's
  std::array<int64_t, kSamples<C>> labels{};
  Budget<C> budget{};

  explicit Block(const std::vector<Layer<C>>& of) : layers(of), x(of[0].in), x_adv(of[0].in) {
    for (const Layer<C>& layer : layers) {
      outputs.emplace_back(layer.out);
      hidden_grads.emplace_back(&layer == &layers[0] ? 0 : layer.in);
    }
  }

  void climb(int64_t steps) {
    for (int64_t k = 0; k < steps; ++k) {
      forward();
      cross_entropy_backward(outputs.back().data(), labels.data(), layers.back().out);
      backward();
    }
  }

  void forward() {
    const Lane<C>* in = x_adv.data();
    for (size_t l = 0; l < layers.size(); ++l) {
      const Layer<C>& layer = layers[l];
      Lane<C>* out = outputs[l].data();
      const bool hidden = l + 1 < layers.size();
      multiply(
          layer.forward, layer.bias.data(), layer.out, layer.in, in, [=](int64_t top) { return out + top; },
          [=](int64_t top, int64_t rows) {
            if (hidden) relu(out + top, rows);
          });
      in = out;
    }
  }

  void backward() {
    const C* no_bias = nullptr;
    const Lane<C>* grad = outputs.back().data();
    for (size_t l = layers.size() - 1; l > 0; --l) {
      const Layer<C>& layer = layers[l];
      const Lane<C>* h = outputs[l - 1].data();
      Lane<C>* to = hidden_grads[l].data();
      multiply(
          layer.backward, no_bias, layer.in, layer.out, grad, [=](int64_t top) { return to + top; },
          [=](int64_t top, int64_t rows) { relu_backward(to + top, h + top, rows); });
      grad = to;
    }
    Lane<C> tile[kRows];  // the gradient of x_adv is used where it is computed
    multiply(
        layers[0].backward, no_bias, layers[0].in, layers[0].out, grad, [&](int64_t) { return tile; },
        [&](int64_t top, int64_t rows) { step(x_adv.data() + top, x.data() + top, tile, rows, budget); });
  }
};

template <class T, class C = Compute<T>>
std::vector<Layer<C>> pack_layers(
    const char* op, const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases) {
  check(!weights.empty() && weights.size() == biases.size(), op, weights.size(), " weights, ", biases.size(), " biases");
  std::vector<Layer<C>> layers;
  int64_t width = x.size(1);
  for (size_t l = 0; l < weights.size(); ++l) {
    const int64_t in = width, out = weights[l].size(0);
    check_tensor(op, "a weight", weights[l], kDtype<T>, out * in, x);
    check_tensor(op, "a bias", biases[l], kDtype<T>, out, x);
    const T *w = data<T>(weights[l]), *b = data<T>(biases[l]);
    Layer<C> layer{in, out, std::vector<C>(out * in), std::vector<C>(out * in), std::vector<C>(out)};
    pack_panels(w, out, in, in, 1, layer.forward.data());
    pack_panels(w, in, out, 1, in, layer.backward.data());
    for (int64_t o = 0; o < out; ++o) layer.bias[o] = load(b[o]);
    layers.push_back(std::move(layer));
    width = out;
  }
  return layers;
}

}  // namespace

Tensor pgd_mlp(
    Tensor x, Tensor y, std::vector<Tensor> weights, std::vector<Tensor> biases, std::optional<Tensor> noise, double eps,
    double alpha, std::optional<Tensor> eps_n, std::optional<Tensor> alpha_n, int64_t steps, double lo, double hi) {
  const char* op = "pgd_mlp";
  const int64_t rows = x.size(0), width = x.size(1);
  return dispatch<BFloat16>(op, x, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    check_tensor(op, "x", x, kDtype<T>, rows * width, x);
    check_tensor(op, "y", y, ScalarType::Long, rows, x);
    if (noise) check_tensor(op, "noise", *noise, kDtype<T>, rows * width, x);
    if (eps_n) check_tensor(op, "eps", *eps_n, kDtype<C>, rows, x);
    if (alpha_n) check_tensor(op, "alpha", *alpha_n, kDtype<C>, rows, x);
    const std::vector<Layer<C>> layers = pack_layers<T>(op, x, weights, biases);
    const int64_t* labels = data<int64_t>(y);
    check_labels(op, labels, rows, layers.back().out);

    const Tensor result = torch::stable::new_empty(x, {rows, width});
    T* out = mutable_data<T>(result);
    const T *p_x = data<T>(x), *p_noise = noise ? data<T>(*noise) : nullptr;
    const C *p_eps = eps_n ? data<C>(*eps_n) : nullptr, *p_alpha = alpha_n ? data<C>(*alpha_n) : nullptr;
    constexpr int64_t size = kSamples<C>;
    torch::stable::parallel_for(0, (rows + size - 1) / size, 1, [&](int64_t begin, int64_t end) {
      Block<C> block(layers);
      block.budget.lo = C(lo);
      block.budget.hi = C(hi);
      for (int64_t first = begin * size; first < std::min(end * size, rows); first += size) {
        const int64_t count = std::min(size, rows - first);
        for (int64_t n = 0; n < size; ++n) {
          const bool there = n < count;
          block.labels[n] = there ? labels[first + n] : 0;
          block.budget.eps.at[n] = p_eps && there ? p_eps[first + n] : C(eps);
          block.budget.alpha.at[n] = p_alpha && there ? p_alpha[first + n] : C(alpha);
        }
        gather(p_x + first * width, count, width, block.x.data());
        block.x_adv = block.x;
        if (p_noise) {
          gather(p_noise + first * width, count, width, block.x_adv.data());
          start(block.x_adv.data(), block.x.data(), width, block.budget);
        }
        block.climb(steps);
        scatter(block.x_adv.data(), count, width, out + first * width);
      }
    });
    return result;
  });
}

}  // namespace ro_fast
