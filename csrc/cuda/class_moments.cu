// Adds samples to count, mean and scatter by class in float64; csrc/cpu/class_moments.cpp has the formulas.
//
// One block per class counts its rows, then lists them in order, so that each class is contiguous in `order`. Means: one block
// per class and 32 columns, with 32 lines of threads that each take every 32nd row. Scatter: one block per class and 32×32 tile
// on or above the diagonal, mirrored. No atomics: the order of every sum is fixed. A label outside [0, C) is left out: an error
// would have to synchronise.
// I/O: read features, labels; write count, mean, scatter; the scatter reads features D/32 times, mostly from the L2 cache.
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

constexpr int kTile = 32;
constexpr int kSide = 16;  // threads along a side of a tile, each with 2×2 values

__global__ void count_rows(int64_t* count, const int64_t* labels, int64_t rows) {
  double own = 0;  // integers, exact up to 2^53
  for (int64_t n = threadIdx.x; n < rows; n += kThreads) own += labels[n] == int64_t(blockIdx.x);
  const double total = block_sum(own);
  if (threadIdx.x == 0) count[blockIdx.x] = int64_t(total);
}

__device__ inline int64_t first_of(const int64_t* count, int64_t c) {
  int64_t first = 0;
  for (int64_t k = 0; k < c; ++k) first += count[k];
  return first;
}

// Rows of one class, in order, from `order[first]` on.
__global__ void list_rows(int64_t* order, const int64_t* count, const int64_t* labels, int64_t rows) {
  __shared__ int of_warp[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int64_t at = first_of(count, blockIdx.x);
  for (int64_t begin = 0; begin < rows; begin += kThreads) {
    const int64_t n = begin + threadIdx.x;
    const bool member = n < rows && labels[n] == int64_t(blockIdx.x);
    const unsigned members = __ballot_sync(0xffffffffu, member);
    if (lane == 0) of_warp[warp] = __popc(members);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < kThreads / kWarp; ++w) {
      before += w < warp ? of_warp[w] : 0;
      all += of_warp[w];
    }
    if (member) order[at + before + __popc(members & ((1u << lane) - 1))] = n;
    at += all;
    __syncthreads();
  }
}

template <class T>
__global__ void class_mean(double* mean, const T* features, const int64_t* order, const int64_t* count, int64_t width) {
  __shared__ double sums[kTile][kTile + 1];
  const int64_t c = blockIdx.x, d = int64_t(blockIdx.y) * kTile + threadIdx.x;
  const int64_t first = first_of(count, c), last = first + count[c];
  double sum = 0;
  if (d < width) {
    for (int64_t r = first + threadIdx.y; r < last; r += kTile) sum += load(features[order[r] * width + d]);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || d >= width) return;
  sum = 0;
  for (int line = 0; line < kTile; ++line) sum += sums[line][threadIdx.x];
  mean[c * width + d] = sum / double(last > first ? last - first : 1);
}

template <class T>
__global__ void class_scatter(
    double* scatter, const double* mean, const T* features, const int64_t* order, const int64_t* count, int64_t width,
    const int64_t* count_before, const double* mean_before) {
  if (blockIdx.z < blockIdx.y) return;
  __shared__ double left[kTile][kTile], right[kTile][kTile];  // rows × columns, centred
  const int64_t c = blockIdx.x, i0 = int64_t(blockIdx.y) * kTile, j0 = int64_t(blockIdx.z) * kTile;
  const int64_t first = first_of(count, c), last = first + count[c];
  const int tx = threadIdx.x, ty = threadIdx.y;
  double sum[2][2] = {};
  for (int64_t begin = first; begin < last; begin += kTile) {
    for (int r = ty; r < kTile; r += kSide) {
      const bool there = begin + r < last;
      const int64_t n = there ? order[begin + r] : 0;
      for (int k = tx; k < kTile; k += kSide) {
        const int64_t i = i0 + k, j = j0 + k;
        left[r][k] = there && i < width ? double(load(features[n * width + i])) - mean[c * width + i] : 0;
        right[r][k] = there && j < width ? double(load(features[n * width + j])) - mean[c * width + j] : 0;
      }
    }
    __syncthreads();
#pragma unroll 8
    for (int r = 0; r < kTile; ++r) {
      const double a0 = left[r][ty], a1 = left[r][ty + kSide], b0 = right[r][tx], b1 = right[r][tx + kSide];
      sum[0][0] += a0 * b0;
      sum[0][1] += a0 * b1;
      sum[1][0] += a1 * b0;
      sum[1][1] += a1 * b1;
    }
    __syncthreads();
  }
  // scatter += that of the batch + (n_a·n_b/n)·d·dᵀ, where d is the batch's mean minus the previous mean
  double* out = scatter + c * width * width;
  const double n_a = double(count_before[c]), n_b = double(last - first), factor = n_b > 0 ? n_a * n_b / (n_a + n_b) : 0;
  const auto apart = [&](int64_t d) { return mean[c * width + d] - mean_before[c * width + d]; };
  for (int a = 0; a < 2; ++a) {
    for (int b = 0; b < 2; ++b) {
      const int64_t i = i0 + ty + a * kSide, j = j0 + tx + b * kSide;
      if (i >= width || j >= width || j < i) continue;  // in the diagonal tile, too, the upper half is mirrored
      out[i * width + j] = out[j * width + i] = out[i * width + j] + sum[a][b] + factor * apart(i) * apart(j);
    }
  }
}

__global__ void join_means(double* mean, const double* batch_mean, const int64_t* count, const int64_t* batch_count, int64_t width) {
  const int64_t c = blockIdx.x, n_b = batch_count[c];
  const double share = double(n_b) / double(n_b > 0 ? count[c] + n_b : 1);
  for (int64_t d = threadIdx.x; d < width; d += kThreads) {
    mean[c * width + d] += share * (batch_mean[c * width + d] - mean[c * width + d]);
  }
}

__global__ void join_counts(int64_t* count, const int64_t* batch_count, int64_t classes) {
  for (int64_t c = threadIdx.x; c < classes; c += kThreads) count[c] += batch_count[c];
}

}  // namespace

void class_moments(Tensor count, Tensor mean, Optional scatter, Tensor features, Tensor labels) {
  const char* op = "class_moments";
  const int64_t rows = features.size(0), width = features.size(1), num_classes = count.size(0);
  const Launch launch(op, features);
  check_tensor(op, "labels", labels, ScalarType::Long, rows, features);
  check_tensor(op, "count", count, ScalarType::Long, num_classes, features);
  check_tensor(op, "mean", mean, ScalarType::Double, num_classes * width, features);
  if (scatter) check_tensor(op, "scatter", *scatter, ScalarType::Double, num_classes * width * width, features);
  const int64_t* y = data<int64_t>(labels);
  const Tensor of_batch = new_tensor(labels, ScalarType::Long, num_classes), order = new_tensor(labels, ScalarType::Long, rows);
  const Tensor batch_mean = new_tensor(features, ScalarType::Double, num_classes, width);
  int64_t *counts = mutable_data<int64_t>(of_batch), *listed = mutable_data<int64_t>(order);
  const int64_t* before = data<int64_t>(count);
  const auto classes = blocks_for(num_classes, 1), tiles = blocks_for(width, kTile);
  launch(count_rows, classes, kThreads, counts, y, rows);
  launch(list_rows, classes, kThreads, listed, static_cast<const int64_t*>(counts), y, rows);
  dispatch<BFloat16>(op, features, [&](auto element) {
    using T = decltype(element);
    check_tensor(op, "features", features, kDtype<T>, rows * width, features);
    const T* f = data<T>(features);
    const int64_t *c_order = listed, *c_count = counts;
    double *means = mutable_data<double>(batch_mean), *all_means = mutable_data<double>(mean);
    const double *c_means = means, *c_all_means = all_means;
    launch(class_mean<T>, dim3(classes, tiles), dim3(kTile, kTile), means, f, c_order, c_count, width);
    if (scatter) {
      launch(
          class_scatter<T>, dim3(classes, tiles, tiles), dim3(kSide, kSide), mutable_data<double>(*scatter), c_means, f, c_order,
          c_count, width, before, c_all_means);
    }
    launch(join_means, classes, kThreads, all_means, c_means, before, c_count, width);
    launch(join_counts, 1, kThreads, mutable_data<int64_t>(count), c_count, num_classes);
  });
}

}  // namespace ro_fast::cuda
