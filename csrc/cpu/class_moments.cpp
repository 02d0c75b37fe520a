// Count, mean and scatter of N features f of D values in C classes, in float64.
//
//   count_c = |{n: y_n = c}|,  mean_c = Σ_{n: y_n = c} f_n / count_c,  scatter_c = Σ_{n: y_n = c} d_n·d_nᵀ,  d_n = f_n − mean_c
//
// The scatter is symmetric: tiles on and above its diagonal are summed, then mirrored. Each value is summed by one
// thread in the order of the rows, so that the result does not depend on the number of threads.
// I/O: mean: read features, labels; write mean. Scatter: read features again; write scatter; N·D²/2 multiply-adds.
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kPanel = 8;   // columns of a panel
constexpr int64_t kDepth = 128;  // rows packed at once: two panels of them lie in L1
typedef double Lane __attribute__((vector_size(kPanel * sizeof(double))));

// Sums columns [from, to) by class.
template <class T>
RO_FAST_CLONES void add_columns(
    const T* features, const int64_t* labels, int64_t rows, int64_t width, int64_t from, int64_t to, double* total) {
  for (int64_t n = 0; n < rows; ++n) {
    const T* f = features + n * width;
    double* t = total + labels[n] * width;
#pragma omp simd
    for (int64_t d = from; d < to; ++d) t[d] += load(f[d]);
  }
}

// Centres one panel of the listed rows and packs it: panel[k][j] = f[rows[k]][from + j] − mean[from + j], 0 beyond D.
template <class T>
RO_FAST_CLONES void pack(
    const T* features, const double* mean, const int64_t* rows, int64_t depth, int64_t width, int64_t from, double* panel) {
  const int64_t columns = std::min(kPanel, width - from);
  for (int64_t k = 0; k < depth; ++k) {
    const T* f = features + rows[k] * width + from;
    for (int64_t j = 0; j < kPanel; ++j) panel[k * kPanel + j] = j < columns ? load(f[j]) - mean[from + j] : 0;
  }
}

// tile[i][j] = Σ_k a[k][i]·b[k][j]; half the rows at a time, so that the sums stay in registers with AVX2 too.
RO_FAST_CLONES void multiply(const double* a, const double* b, int64_t depth, double* tile) {
  constexpr int64_t half = kPanel / 2;
  for (int64_t top = 0; top < kPanel; top += half) {
    Lane s0{}, s1{}, s2{}, s3{};
    for (int64_t k = 0; k < depth; ++k) {
      Lane row;
      std::memcpy(&row, b + k * kPanel, sizeof row);
      const double* left = a + k * kPanel + top;
      s0 += left[0] * row;
      s1 += left[1] * row;
      s2 += left[2] * row;
      s3 += left[3] * row;
    }
    const Lane sums[half] = {s0, s1, s2, s3};
    std::memcpy(tile + top * kPanel, sums, sizeof sums);
  }
}

template <class T>
void class_means(
    const T* features, const int64_t* labels, int64_t rows, int64_t width, int64_t classes, const int64_t* count,
    double* mean) {
  torch::stable::parallel_for(0, width, std::max<int64_t>(64, kGrain / std::max<int64_t>(1, rows)), [&](int64_t from, int64_t to) {
    add_columns(features, labels, rows, width, from, to, mean);
  });
  for (int64_t c = 0; c < classes; ++c) {
    for (int64_t d = 0; d < width; ++d) mean[c * width + d] /= double(std::max<int64_t>(1, count[c]));
  }
}

// The scatter of one class, whose rows are listed.
template <class T>
void class_scatter(
    const T* features, const double* mean, const std::vector<int64_t>& members, int64_t width, double* packed, double* scatter) {
  const int64_t panels = (width + kPanel - 1) / kPanel, size = int64_t(members.size());
  for (int64_t from = 0; from < size; from += kDepth) {
    const int64_t depth = std::min(kDepth, size - from), panel_size = depth * kPanel;
    parallel_rows(panels, panel_size, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        pack(features, mean, members.data() + from, depth, width, p * kPanel, packed + p * panel_size);
      }
    });
    // Panel i meets panels i … P−1; with its mirror P−1−i each piece of work is alike.
    parallel_rows((panels + 1) / 2, panel_size * panels, [&](int64_t begin, int64_t end) {
      double tile[kPanel * kPanel];
      const auto add_row = [&](int64_t i) {
        for (int64_t j = i; j < panels; ++j) {
          multiply(packed + i * panel_size, packed + j * panel_size, depth, tile);
          const int64_t columns = std::min(kPanel, width - j * kPanel);
          for (int64_t r = i * kPanel; r < std::min((i + 1) * kPanel, width); ++r) {
            const double* sums = tile + (r - i * kPanel) * kPanel;
            double* to = scatter + r * width + j * kPanel;
            for (int64_t d = 0; d < columns; ++d) to[d] += sums[d];
          }
        }
      };
      for (int64_t i = begin; i < end; ++i) {
        add_row(i);
        if (i != panels - 1 - i) add_row(panels - 1 - i);
      }
    });
  }
  parallel_rows(panels, width * kPanel, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin * kPanel; r < std::min(end * kPanel, width); ++r) {
      for (int64_t d = 0; d < r; ++d) scatter[r * width + d] = scatter[d * width + r];
    }
  });
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> class_moments(Tensor features, Tensor labels, int64_t num_classes, bool covariance) {
  const char* op = "class_moments";
  const int64_t rows = features.size(0), width = features.size(1);
  check_tensor(op, "labels", labels, ScalarType::Long, rows);
  const int64_t* y = data<int64_t>(labels);
  check_labels(op, y, rows, num_classes);

  const Tensor count = torch::stable::new_zeros(labels, {num_classes});
  int64_t* counts = mutable_data<int64_t>(count);
  for (int64_t n = 0; n < rows; ++n) ++counts[y[n]];

  const auto zeros = [&](torch::headeronly::IntHeaderOnlyArrayRef shape) {
    return torch::stable::new_zeros(features, shape, ScalarType::Double);
  };
  const Tensor mean = zeros({num_classes, width});
  const Tensor scatter = covariance ? zeros({num_classes, width, width}) : zeros({0});
  dispatch(op, features, [&](auto element) {
    using T = decltype(element);
    check_tensor(op, "features", features, kDtype<T>, rows * width);
    const T* f = data<T>(features);
    double* means = mutable_data<double>(mean);
    class_means(f, y, rows, width, num_classes, counts, means);
    if (!covariance) return;
    std::vector<std::vector<int64_t>> members(num_classes);
    for (int64_t n = 0; n < rows; ++n) members[y[n]].push_back(n);
    std::vector<double> packed(kDepth * (width + kPanel));
    double* scatters = mutable_data<double>(scatter);
    for (int64_t c = 0; c < num_classes; ++c) {
      class_scatter(f, means + c * width, members[c], width, packed.data(), scatters + c * width * width);
    }
  });
  return {count, mean, scatter};
}

}  // namespace ro_fast
