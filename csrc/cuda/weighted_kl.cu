// KL divergence between two rows of logits and its gradients; csrc/cpu/weighted_kl.cpp has the formulas.
//
// One warp per pair of rows. A row is read once from memory, and again from the cache for each sum and for the output.
// I/O: forward read both logits, weight; write loss. Backward read grad too; write both gradients.
#include "ops.cuh"
#include "rows.cuh"

namespace ro_fast::cuda {
namespace {

template <class T>
struct Rows {
  const T *logits, *target;     // [N, C]
  const Compute<T>* weights;    // [N] or null for ones
  int64_t count, classes;
};

// Both outputs for one sample.
template <class T>
struct Answers {
  using C = Compute<T>;
  int64_t classes;
  int lane;
  Softmax<T> p, t;

  __device__ Answers(const Rows<T>& rows, const Here& here)
      : classes(rows.classes), lane(here.lane), p(rows.logits + here.n * classes, classes, lane),
        t(rows.target + here.n * classes, classes, lane) {}

  // t·(log t − log p), 0 where t is 0.
  __device__ C term(int64_t c) const {
    const C log_t = t.log_p(c), share = exponential(log_t);
    return share == 0 ? C(0) : share * (log_t - p.log_p(c));
  }
  __device__ C kl() const {
    C sum = 0;
    for (int64_t c = lane; c < classes; c += kWarp) sum += term(c);
    return warp_sum(sum);
  }
};

template <class T>
__global__ void forward(Compute<T>* loss, Rows<T> rows) {
  using C = Compute<T>;
  const Here here;
  if (here.n >= rows.count) return;
  const C kl = Answers<T>(rows, here).kl(), w = weight_of(rows.weights, here.n);
  if (here.lane == 0) loss[here.n] = w == 0 ? C(0) : w * kl;
}

template <class T>
__global__ void backward(T* d_logits, T* d_target, const Compute<T>* grad, Rows<T> rows) {
  using C = Compute<T>;
  const Here here;
  if (here.n >= rows.count) return;
  const C scale = grad[here.n] * weight_of(rows.weights, here.n);
  const Answers<T> answers(rows, here);
  const C kl = answers.kl();
  const int64_t at = here.n * rows.classes;
  for (int64_t c = here.lane; c < rows.classes; c += kWarp) {
    const C share = exponential(answers.t.log_p(c));
    store(d_logits[at + c], scale == 0 ? C(0) : scale * (exponential(answers.p.log_p(c)) - share));
    store(d_target[at + c], scale == 0 ? C(0) : scale * (answers.term(c) - share * kl));
  }
}

// Arguments in the form the kernels take.
template <class T>
struct Batch {
  Weights<Compute<T>> weights;
  Rows<T> rows;

  Batch(const char* op, const Tensor& logits, const Tensor& target, const Optional& weight)
      : weights(op, weight, logits.size(0), logits),
        rows{data<T>(logits), data<T>(target), weights.at, logits.size(0), logits.size(1)} {
    check_tensor(op, "logits", logits, kDtype<T>, rows.count * rows.classes, logits);
    check_tensor(op, "target_logits", target, kDtype<T>, rows.count * rows.classes, logits);
  }
};

}  // namespace

Tensor weighted_kl(Tensor logits, Tensor target_logits, Optional weight) {
  const char* op = "weighted_kl";
  const Launch launch(op, logits);
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target_logits, weight);
    const Tensor loss = new_tensor(logits, kDtype<C>, batch.rows.count);
    launch(forward<T>, blocks_for(batch.rows.count, kRows), kThreads, mutable_data<C>(loss), batch.rows);
    return loss;
  });
}

std::tuple<Tensor, Tensor> weighted_kl_backward(Tensor grad, Tensor logits, Tensor target_logits, Optional weight) {
  const char* op = "weighted_kl_backward";
  const Launch launch(op, logits);
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target_logits, weight);
    const int64_t count = batch.rows.count, classes = batch.rows.classes;
    check_tensor(op, "grad", grad, kDtype<C>, count, logits);
    const Tensor d_logits = new_tensor(logits, kDtype<T>, count, classes);
    const Tensor d_target = new_tensor(logits, kDtype<T>, count, classes);
    launch(
        backward<T>, blocks_for(count, kRows), kThreads, mutable_data<T>(d_logits), mutable_data<T>(d_target), data<C>(grad),
        batch.rows);
    return std::make_tuple(d_logits, d_target);
  });
}

}  // namespace ro_fast::cuda
