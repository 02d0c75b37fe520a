// Which losses are small, and a histogram of all; csrc/cpu/small_loss.cpp has the formulas.
//
// A thread a loss. Counts are whole numbers, so that the order in which they are added changes nothing.
// I/O: read loss; write small, counts.
#include "common.cuh"
#include "ops.cuh"

namespace ro_fast::cuda {
namespace {

template <class T>
__global__ void count_losses(
    bool* small, int64_t* counts, const T* loss, int64_t rows, double threshold, const double* threshold_t, int64_t bins,
    double lo, double scale) {
  const int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (n >= rows) return;
  const double value = load(loss[n]), bin = (value - lo) * scale, last = double(bins - 1);
  small[n] = value < (threshold_t ? *threshold_t : threshold);
  const int64_t b = int64_t(bin < last ? (bin > 0 ? bin : 0) : last);  // the last for NaN
  atomicAdd(reinterpret_cast<unsigned long long*>(counts + b), 1ull);
}

}  // namespace

std::tuple<Tensor, Tensor> small_loss(
    Tensor loss, double threshold, Optional threshold_t, int64_t bins, double lo, double hi) {
  const char* op = "small_loss";
  const int64_t rows = loss.numel();
  const Launch launch(op, loss);
  if (threshold_t) check_tensor(op, "threshold", *threshold_t, ScalarType::Double, 1, loss);
  const double* device_threshold = threshold_t ? data<double>(*threshold_t) : nullptr;
  const Tensor small = new_tensor(loss, ScalarType::Bool, rows);
  Tensor counts = new_tensor(loss, ScalarType::Long, bins);
  torch::stable::zero_(counts);
  dispatch<BFloat16>(op, loss, [&](auto element) {
    using T = decltype(element);
    check_tensor(op, "loss", loss, kDtype<T>, rows, loss);
    launch(
        count_losses<T>, blocks_for(rows, kThreads), kThreads, mutable_data<bool>(small), mutable_data<int64_t>(counts),
        data<T>(loss), rows, threshold, device_threshold, bins, lo, double(bins) / (hi - lo));
  });
  return {small, counts};
}

}  // namespace ro_fast::cuda
