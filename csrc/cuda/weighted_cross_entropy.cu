// Weighted cross-entropy and its gradient; csrc/cpu/weighted_cross_entropy.cpp has the formulas.
//
// One warp per row. Sums over rows are computed by one block in a fixed order. A hard label outside [0, C) makes its loss and
// gradient NaN: an error would have to synchronise.
// I/O: forward read logits, target, weight; write loss. Backward read grad, logits, target, weight; write grad_logits.
#include "ops.cuh"
#include "rows.cuh"

namespace ro_fast::cuda {
namespace {

template <class T>
struct Rows {
  using C = Compute<T>;
  const T* logits;       // [N, C]
  const int64_t* hard;   // [N], else
  const C* soft;         // [N, C]
  const C* weights;      // [N] or null for ones
  int64_t count, classes;
  C smoothing;
};

// softmax of one row and Σt, in every lane of its warp.
template <class T>
struct Sums : Softmax<T> {
  Compute<T> mass = 0;

  __device__ Sums(const Rows<T>& rows, const Here& here) : Softmax<T>(rows.logits + here.n * rows.classes, rows.classes, here.lane) {
    using C = Compute<T>;
    if (rows.hard) {
      mass = rows.hard[here.n] >= 0 && rows.hard[here.n] < rows.classes ? C(1) : C(NAN);
    } else {
      for (int64_t c = here.lane; c < rows.classes; c += kWarp) mass += rows.soft[here.n * rows.classes + c];
      mass = warp_sum(mass);
    }
  }
};

// q_c = (1 − s)·t_c + s·Σt/C
template <class T>
__device__ inline Compute<T> target(const Rows<T>& rows, int64_t n, int64_t c, Compute<T> mass) {
  using C = Compute<T>;
  const C t = rows.soft ? rows.soft[n * rows.classes + c] : rows.hard[n] == c ? mass : C(0) * mass;
  return (C(1) - rows.smoothing) * t + rows.smoothing * mass / C(rows.classes);
}

template <class T>
__global__ void forward(Compute<T>* loss, Rows<T> rows) {
  using C = Compute<T>;
  const Here here;
  if (here.n >= rows.count) return;
  const Sums<T> sums(rows, here);
  C ce = 0;
  for (int64_t c = here.lane; c < rows.classes; c += kWarp) {
    const C q = target(rows, here.n, c, sums.mass);
    if (q != 0) ce -= q * sums.log_p(c);
  }
  ce = warp_sum(ce);
  if (here.lane > 0) return;
  const C w = weight_of(rows.weights, here.n);
  loss[here.n] = w == 0 ? C(0) : w * ce;
}

// scale = grad·w / denominator; 0 where the weight is 0, or all weights are.
template <class T>
__global__ void backward(
    T* out, const Compute<T>* grad, bool per_row, double denominator, const double* total, Rows<T> rows) {
  using C = Compute<T>;
  const Here here;
  if (here.n >= rows.count) return;
  const double whole = total ? *total : denominator;
  const C weighted = grad[per_row ? here.n : 0] * weight_of(rows.weights, here.n);
  T* row = out + here.n * rows.classes;
  if (weighted == 0 || whole == 0) {
    for (int64_t c = here.lane; c < rows.classes; c += kWarp) store(row[c], C(0));
    return;
  }
  const Sums<T> sums(rows, here);
  const C scale = C(weighted / whole), to_p = sums.mass / sums.sum;
  for (int64_t c = here.lane; c < rows.classes; c += kWarp) {
    store(row[c], scale * (exponential(sums.shifted(c)) * to_p - target(rows, here.n, c, sums.mass)));
  }
}

// Σ values, by one block in a fixed order.
template <class C>
__device__ inline double total_of(const C* values, int64_t count) {
  double sum = 0;
  for (int64_t n = threadIdx.x; n < count; n += kThreads) sum += values[n];
  return block_sum(sum);
}

template <class C>
__global__ void add_up(double* total, const C* values, int64_t count) {
  const double sum = total_of(values, count);
  if (threadIdx.x == 0) *total = sum;
}

// Σ loss / denominator; with weights, the denominator is their sum. 0 where that is 0.
template <class C>
__global__ void reduce(C* result, const C* loss, int64_t count, double denominator, const C* weights) {
  const double sum = total_of(loss, count);
  const double whole = weights ? total_of(weights, count) : denominator;
  if (threadIdx.x == 0) *result = C(weights && whole == 0 ? 0 : sum / whole);
}

// Arguments in the form the kernels take: the compute dtype throughout.
template <class T>
struct Batch {
  using C = Compute<T>;
  Tensor target;
  Weights<C> weights;
  Rows<T> rows;
  bool by_weight;
  double denominator;

  Batch(const char* op, const Tensor& z, const Tensor& given, const Optional& w, double smoothing, const std::string& reduction)
      : target(given.dim() == 2 ? in_compute<C>(given) : given), weights(op, w, z.size(0), z) {
    const int64_t count = z.size(0), classes = z.size(1);
    check_tensor(op, "logits", z, kDtype<T>, count * classes, z);
    const bool soft = given.dim() == 2;
    check_tensor(op, "target", target, soft ? kDtype<C> : ScalarType::Long, soft ? count * classes : count, z);
    rows = {data<T>(z), soft ? nullptr : data<int64_t>(target), soft ? data<C>(target) : nullptr, weights.at, count, classes,
            C(smoothing)};
    by_weight = reduction == "weighted_mean" && w;
    denominator = reduction == "mean" || (reduction == "weighted_mean" && !w) ? double(count) : 1;
    check(
        reduction == "mean" || reduction == "weighted_mean" || reduction == "sum" || reduction == "none", op, "reduction '",
        reduction, "' is unknown");
  }
};

}  // namespace

Tensor weighted_cross_entropy(Tensor logits, Tensor target, Optional weight, double label_smoothing, std::string reduction) {
  const char* op = "weighted_cross_entropy";
  const Launch launch(op, logits);
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, weight, label_smoothing, reduction);
    const Rows<T>& rows = batch.rows;
    const Tensor losses = new_tensor(logits, kDtype<C>, rows.count);
    C* loss = mutable_data<C>(losses);
    launch(forward<T>, blocks_for(rows.count, kRows), kThreads, loss, rows);
    if (reduction == "none") return losses;
    const Tensor result = new_tensor(logits, kDtype<C>);
    const C* by = batch.by_weight ? rows.weights : nullptr;
    // Without rows, the mean is 0/0, NaN as in torch, and the others are 0.
    const double denominator = rows.count == 0 && reduction == "weighted_mean" ? 1 : batch.denominator;
    launch(reduce<C>, 1, kThreads, mutable_data<C>(result), static_cast<const C*>(loss), rows.count, denominator, by);
    return result;
  });
}

Tensor weighted_cross_entropy_backward(
    Tensor grad, Tensor logits, Tensor target, Optional weight, double label_smoothing, std::string reduction) {
  const char* op = "weighted_cross_entropy_backward";
  const Launch launch(op, logits);
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, weight, label_smoothing, reduction);
    const Rows<T>& rows = batch.rows;
    const bool per_row = reduction == "none";
    check_tensor(op, "grad", grad, kDtype<C>, per_row ? rows.count : 1, logits);
    const Tensor result = new_tensor(logits, kDtype<T>, rows.count, rows.classes);
    const Tensor total = new_tensor(logits, ScalarType::Double, 1);
    double* whole = batch.by_weight ? mutable_data<double>(total) : nullptr;
    if (whole) launch(add_up<C>, 1, kThreads, whole, rows.weights, rows.count);
    launch(
        backward<T>, blocks_for(rows.count, kRows), kThreads, mutable_data<T>(result), data<C>(grad), per_row,
        batch.denominator, static_cast<const double*>(whole), rows);
    return result;
  });
}

}  // namespace ro_fast::cuda
