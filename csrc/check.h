// Checks of what the public Python functions guarantee, with messages of one form: "op: what is wrong".
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>

#include <torch/csrc/stable/tensor.h>

namespace ro_fast {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class... Parts>
void check(bool holds, const char* op, const Parts&... parts) {
  if (holds) return;
  std::ostringstream message;
  message << op << ": ";
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

// A tensor of `count` values on the device of `like`.
inline void check_tensor(
    const char* op, const char* name, const Tensor& t, ScalarType dtype, int64_t count, const Tensor& like) {
  const bool together = t.is_cpu() == like.is_cpu() && t.get_device_index() == like.get_device_index();
  check(together, op, name, " is on another device");
  check(t.scalar_type() == dtype, op, name, " has dtype ", int(t.scalar_type()), "; ", int(dtype), " is needed");
  check(t.numel() == count, op, name, " holds ", t.numel(), " values; ", count, " are needed");
}

// Classes in [0, C); the error names the first row with any other.
inline void check_labels(const char* op, const int64_t* labels, int64_t rows, int64_t classes) {
  for (int64_t n = 0; n < rows; ++n) {
    check(labels[n] >= 0 && labels[n] < classes, op, "label ", labels[n], " in row ", n, " is not in [0, ", classes, ")");
  }
}

// True for L2, false for L∞.
inline bool is_l2(const char* op, const std::string& norm) {
  check(norm == "linf" || norm == "l2", op, "norm '", norm, "' is unknown");
  return norm == "l2";
}

}  // namespace ro_fast
