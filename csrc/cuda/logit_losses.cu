// Losses that depend on a few classes per row, and their gradients; csrc/cpu/logit_losses.cpp has the formulas.
//
// One warp per row. It finds the relevant classes one after another, each by a pass over the row, the first from memory and the
// others from the cache. A label outside [0, C) makes its loss and gradient NaN, as does NaN in the row: an error would have to
// synchronise.
// I/O: forward read logits, target, weight; write loss. Backward read grad too; write grad_logits.
#include "ops.cuh"
#include "rows.cuh"

namespace ro_fast::cuda {
namespace {

template <class T>
struct Rows {
  const T* logits;                       // [N, C]
  const int64_t *target, *target_class;  // [N], the second or null
  const Compute<T>* weights;             // [N] or null for ones
  int64_t count, classes;
};

// A class and its logit; the class is −1 if there is none.
template <class C>
struct Place {
  int64_t c = -1;
  C z = 0;

  // Whether this precedes another by decreasing logit; the first in case of ties.
  __device__ bool precedes(const Place& other) const {
    return c >= 0 && (other.c < 0 || z > other.z || (z == other.z && c < other.c));
  }
};

// One row, identical in every lane.
template <class T>
struct Row {
  using C = Compute<T>;
  const T* z;
  int64_t classes, y, t;  // t is −1 if no target class was given
  int lane;
  bool valid;

  __device__ Row(const Rows<T>& rows, const Here& here)
      : z(rows.logits + here.n * rows.classes), classes(rows.classes), y(rows.target[here.n]),
        t(rows.target_class ? rows.target_class[here.n] : -1), lane(here.lane) {
    bool wrong = y < 0 || y >= classes || (rows.target_class && (t < 0 || t >= classes));
    for (int64_t c = lane; c < classes; c += kWarp) {
      const C v = load(z[c]);
      wrong = wrong || v != v;
    }
    valid = !__any_sync(0xffffffffu, wrong);
  }

  __device__ C at(int64_t c) const { return load(z[c]); }

  // The class after `last` by decreasing logit, or the first if there is no last; one class is left out.
  __device__ Place<C> next(Place<C> last, int64_t without = -1) const {
    Place<C> best;
    for (int64_t c = lane; c < classes; c += kWarp) {
      const Place<C> here{c, at(c)};
      if (c != without && (last.c < 0 || last.precedes(here)) && here.precedes(best)) best = here;
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const Place<C> other{__shfl_xor_sync(0xffffffffu, best.c, offset), __shfl_xor_sync(0xffffffffu, best.z, offset)};
      if (other.precedes(best)) best = other;
    }
    return best;
  }
  __device__ Place<C> rival() const { return next({}, y); }
};

// Each loss gives the value ℓ of its row, and ∂ℓ/∂z_c.

template <class T>
struct Boosted {
  using C = Compute<T>;
  int64_t y, rival;
  Softmax<T> all, rest;

  __device__ explicit Boosted(const Row<T>& row)
      : y(row.y), rival(row.rival().c), all(row.z, row.classes, row.lane), rest(row.z, row.classes, row.lane, rival) {}
  __device__ C value() const { return ((all.top - rest.top) + (all.log_sum - rest.log_sum)) - all.log_p(y); }
  __device__ C gradient(int64_t c) const {
    return 2 * all.p(c) - (c == rival ? C(0) : rest.p(c)) - (c == y ? C(1) : C(0));
  }
};

template <class T>
struct Margin {
  using C = Compute<T>;
  int64_t y;
  C of_y;
  Place<C> rival;

  __device__ explicit Margin(const Row<T>& row) : y(row.y), of_y(row.at(row.y)), rival(row.rival()) {}
  __device__ C value() const { return rival.z - of_y; }
  __device__ C gradient(int64_t c) const { return (c == rival.c ? C(1) : C(0)) - (c == y ? C(1) : C(0)); }
};

// In float64, for a few values per row: a difference of equal values is then not lost beside 1e-12.
template <class T>
struct Ratio {
  using C = Compute<T>;
  int64_t y;
  bool targeted;
  Place<C> upper, first, third, fourth;
  double above, below;

  __device__ explicit Ratio(const Row<T>& row) : y(row.y), targeted(row.t >= 0) {
    upper = targeted ? Place<C>{row.t, row.at(row.t)} : row.rival();
    first = row.next({});
    third = row.next(row.next(first));
    if (targeted) fourth = row.next(third);
    above = double(upper.z) - row.at(y);
    below = double(first.z) - (targeted ? (double(third.z) + fourth.z) / 2 : double(third.z)) + 1e-12;
  }
  __device__ C value() const { return C(above / below); }
  __device__ C gradient(int64_t c) const {
    const double whole = 1 / below, part = -above / below / below;
    double sum = c == upper.c ? whole : 0;
    sum -= c == y ? whole : 0;
    sum += c == first.c ? part : 0;
    sum -= c == third.c ? (targeted ? part / 2 : part) : 0;
    sum -= targeted && c == fourth.c ? part / 2 : 0;
    return C(sum);
  }
};

template <template <class> class Loss, class T>
__global__ void forward(Compute<T>* loss, Rows<T> rows) {
  using C = Compute<T>;
  const Here here;
  if (here.n >= rows.count) return;
  const Row<T> row(rows, here);
  const C w = weight_of(rows.weights, here.n), value = row.valid ? Loss<T>(row).value() : C(NAN);
  if (here.lane == 0) loss[here.n] = w == 0 ? C(0) : w * value;
}

template <template <class> class Loss, class T>
__global__ void backward(T* out, const Compute<T>* grad, Rows<T> rows) {
  using C = Compute<T>;
  const Here here;
  if (here.n >= rows.count) return;
  const C scale = grad[here.n] * weight_of(rows.weights, here.n);
  T* of_row = out + here.n * rows.classes;
  const Row<T> row(rows, here);
  if (scale == 0 || !row.valid) {
    for (int64_t c = here.lane; c < rows.classes; c += kWarp) store(of_row[c], scale == 0 ? C(0) : C(NAN));
    return;
  }
  const Loss<T> loss(row);
  for (int64_t c = here.lane; c < rows.classes; c += kWarp) store(of_row[c], scale * loss.gradient(c));
}

// Arguments in the form the kernels take.
template <class T>
struct Batch {
  Weights<Compute<T>> weights;
  Rows<T> rows;

  Batch(const char* op, const Tensor& logits, const Tensor& target, const Optional& target_class, const Optional& weight)
      : weights(op, weight, logits.size(0), logits),
        rows{data<T>(logits), data<int64_t>(target), target_class ? data<int64_t>(*target_class) : nullptr, weights.at,
             logits.size(0), logits.size(1)} {
    check_tensor(op, "logits", logits, kDtype<T>, rows.count * rows.classes, logits);
    check_tensor(op, "target", target, ScalarType::Long, rows.count, logits);
    if (target_class) check_tensor(op, "target_class", *target_class, ScalarType::Long, rows.count, logits);
  }
};

template <template <class> class Loss>
Tensor losses(const char* op, const Tensor& logits, const Tensor& target, const Optional& target_class, const Optional& weight) {
  const Launch launch(op, logits);
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, target_class, weight);
    const Tensor result = new_tensor(logits, kDtype<C>, batch.rows.count);
    launch(forward<Loss, T>, blocks_for(batch.rows.count, kRows), kThreads, mutable_data<C>(result), batch.rows);
    return result;
  });
}

template <template <class> class Loss>
Tensor gradients(
    const char* op, const Tensor& grad, const Tensor& logits, const Tensor& target, const Optional& target_class,
    const Optional& weight) {
  const Launch launch(op, logits);
  return dispatch<BFloat16>(op, logits, [&](auto element) {
    using T = decltype(element);
    using C = Compute<T>;
    const Batch<T> batch(op, logits, target, target_class, weight);
    check_tensor(op, "grad", grad, kDtype<C>, batch.rows.count, logits);
    const Tensor result = new_tensor(logits, kDtype<T>, batch.rows.count, batch.rows.classes);
    launch(
        backward<Loss, T>, blocks_for(batch.rows.count, kRows), kThreads, mutable_data<T>(result), data<C>(grad), batch.rows);
    return result;
  });
}

}  // namespace

Tensor boosted_cross_entropy(Tensor logits, Tensor target, Optional target_class, Optional weight) {
  return losses<Boosted>("boosted_cross_entropy", logits, target, target_class, weight);
}
Tensor boosted_cross_entropy_backward(Tensor grad, Tensor logits, Tensor target, Optional target_class, Optional weight) {
  return gradients<Boosted>("boosted_cross_entropy_backward", grad, logits, target, target_class, weight);
}
Tensor margin_loss(Tensor logits, Tensor target, Optional target_class, Optional weight) {
  return losses<Margin>("margin_loss", logits, target, target_class, weight);
}
Tensor margin_loss_backward(Tensor grad, Tensor logits, Tensor target, Optional target_class, Optional weight) {
  return gradients<Margin>("margin_loss_backward", grad, logits, target, target_class, weight);
}
Tensor dlr_loss(Tensor logits, Tensor target, Optional target_class, Optional weight) {
  return losses<Ratio>("dlr_loss", logits, target, target_class, weight);
}
Tensor dlr_loss_backward(Tensor grad, Tensor logits, Tensor target, Optional target_class, Optional weight) {
  return gradients<Ratio>("dlr_loss_backward", grad, logits, target, target_class, weight);
}

}  // namespace ro_fast::cuda
