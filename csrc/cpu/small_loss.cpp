// Which of N losses are small, and how all of them are spread over bins.
//
//   small_n = loss_n < threshold,  bin_n = clamp(⌊(loss_n − lo)·bins/(hi − lo)⌋, 0, bins − 1), the last for NaN
//
// In float64, so that a loss falls into the same bin on every backend. One thread: a batch is small, and its counts
// are shared.
// I/O: read loss; write small, counts.
#include "../ops.h"
#include "simd.h"

namespace ro_fast {

std::tuple<Tensor, Tensor> small_loss(
    Tensor loss, double threshold, std::optional<Tensor> threshold_t, int64_t bins, double lo, double hi) {
  const char* op = "small_loss";
  const int64_t rows = loss.numel();
  if (threshold_t) {
    check_tensor(op, "threshold", *threshold_t, ScalarType::Double, 1, loss);
    threshold = *data<double>(*threshold_t);
  }
  const Tensor small = torch::stable::new_empty(loss, {rows}, ScalarType::Bool);
  const Tensor counts = torch::stable::new_zeros(loss, {bins}, ScalarType::Long);
  bool* is_small = mutable_data<bool>(small);
  int64_t* count = mutable_data<int64_t>(counts);
  const double scale = double(bins) / (hi - lo), last = double(bins - 1);
  dispatch<BFloat16>(op, loss, [&](auto element) {
    using T = decltype(element);
    check_tensor(op, "loss", loss, kDtype<T>, rows, loss);
    const T* p_loss = data<T>(loss);
    for (int64_t n = 0; n < rows; ++n) {
      const double value = load(p_loss[n]);
      const double bin = (value - lo) * scale;
      is_small[n] = value < threshold;
      ++count[int64_t(bin < last ? std::max(bin, 0.0) : last)];
    }
  });
  return {small, counts};
}

}  // namespace ro_fast
