// Adds N features f of D values to the count, mean and scatter of C classes, in float64.
//
//   n' = n + n_b,  mean' = mean + (n_b/n')·δ,  scatter' = scatter + Σ_k d_k·d_kᵀ + (n·n_b/n')·δ·δᵀ
//
// with n_b and m_b the count and mean of the class in these rows, d_k = f_k − m_b, δ = m_b − mean. The last term is one
// more row, √(n·n_b/n')·δ, of the same product. The scatter is symmetric: tiles on and above its diagonal are summed and
// then mirrored. Each value is summed by one thread in row order, so the result does not depend on the number of
// threads.
// I/O: mean: read features, labels, mean; write mean. Scatter: read features again; read half, write all of it for each
// class that has rows; N·D²/2 multiply-adds.
#include <vector>

#include "../ops.h"
#include "simd.h"

namespace ro_fast {
namespace {

constexpr int64_t kPanel = 8;    // columns per panel
constexpr int64_t kDepth = 128;  // rows packed at once: three such panels fit in L1
typedef double Lane __attribute__((vector_size(kPanel * sizeof(double))));

// Sums the columns [from, to) per class.
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
  if (columns < kPanel) {
    for (int64_t k = 0; k < depth; ++k) {
      const T* f = features + rows[k] * width + from;
      for (int64_t j = 0; j < kPanel; ++j) panel[k * kPanel + j] = j < columns ? load(f[j]) - mean[from + j] : 0;
    }
    return;
  }
  Lane centre;
  std::memcpy(&centre, mean + from, sizeof centre);
  for (int64_t k = 0; k < depth; ++k) {
    const T* f = features + rows[k] * width + from;
    Lane value;
    for (int64_t j = 0; j < kPanel; ++j) value[j] = load(f[j]);
    value -= centre;
    std::memcpy(panel + k * kPanel, &value, sizeof value);
  }
}

// tile[l][i][j] = Σ_k a[k][i]·b_l[k][j] for kPanels consecutive panels b, kRows rows of the tile at a time:
// as many sums as there are registers.
template <int64_t kRows, int64_t kPanels>
RO_FAST_CLONES void multiply(const double* a, const double* b, int64_t depth, double* tile) {
  for (int64_t top = 0; top < kPanel; top += kRows) {
    Lane sums[kPanels][kRows] = {};
    for (int64_t k = 0; k < depth; ++k) {
      Lane right[kPanels];
      for (int64_t l = 0; l < kPanels; ++l) std::memcpy(&right[l], b + (l * depth + k) * kPanel, sizeof(Lane));
#pragma GCC unroll 8
      for (int64_t i = 0; i < kRows; ++i) {
        const double left = a[k * kPanel + top + i];
        for (int64_t l = 0; l < kPanels; ++l) sums[l][i] += left * right[l];
      }
    }
    for (int64_t l = 0; l < kPanels; ++l) std::memcpy(tile + (l * kPanel + top) * kPanel, sums[l], sizeof sums[l]);
  }
}

// Adds a tile to its place in the scatter and, if given, writes the sum to the place across the diagonal.
RO_FAST_CLONES void add_tile(const double* tile, int64_t rows, int64_t columns, int64_t width, double* to, double* across) {
  for (int64_t i = 0; i < rows; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) to[i * width + j] += tile[i * kPanel + j];
  }
  if (!across) return;
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) across[j * width + i] = to[i * width + j];
  }
}

// Adds the products of one block of packed rows, panel `i` with panels i … P−1; the `last` block of a class also mirrors.
void add_panel(const double* packed, int64_t i, int64_t depth, int64_t width, bool last, double* scatter) {
  static const bool wide = has_avx512();
  const int64_t panels = (width + kPanel - 1) / kPanel, size = depth * kPanel, top = i * kPanel;
  double tiles[2][kPanel * kPanel];
  for (int64_t j = i; j < panels;) {
    const int64_t count = wide && j + 1 < panels ? 2 : 1;
    const auto run = count == 2 ? multiply<kPanel, 2> : wide ? multiply<kPanel, 1> : multiply<kPanel / 2, 1>;
    run(packed + i * size, packed + j * size, depth, tiles[0]);
    for (const int64_t end = j + count, first = j; j < end; ++j) {
      const int64_t left = j * kPanel;
      add_tile(
          tiles[j - first], std::min(kPanel, width - top), std::min(kPanel, width - left), width,
          scatter + top * width + left, last ? scatter + left * width + top : nullptr);
    }
  }
}

// Adds the scatter of one class: its listed rows, centred on their mean, and then the row `shift` unchanged.
template <class T>
void add_scatter(
    const T* features, const double* mean, const std::vector<int64_t>& members, const double* shift, int64_t width,
    double* packed, double* scatter) {
  const int64_t panels = (width + kPanel - 1) / kPanel, size = int64_t(members.size());
  for (int64_t from = 0; from < size; from += kDepth) {
    const int64_t rows = std::min(kDepth, size - from);
    const bool last = from + rows == size;
    const int64_t depth = rows + last;
    parallel_rows(panels, depth * kPanel, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        double* panel = packed + p * depth * kPanel;
        pack(features, mean, members.data() + from, rows, width, p * kPanel, panel);
        if (!last) continue;
        for (int64_t j = 0; j < kPanel; ++j) panel[rows * kPanel + j] = p * kPanel + j < width ? shift[p * kPanel + j] : 0;
      }
    });
    // Panel i is paired with panels i … P−1; together with its mirror P−1−i, all pieces of work are equal.
    parallel_rows((panels + 1) / 2, depth * kPanel * panels, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        add_panel(packed, i, depth, width, last, scatter);
        if (i != panels - 1 - i) add_panel(packed, panels - 1 - i, depth, width, last, scatter);
      }
    });
  }
}

}  // namespace

void class_moments(Tensor count, Tensor mean, std::optional<Tensor> scatter, Tensor features, Tensor labels) {
  const char* op = "class_moments";
  const int64_t rows = features.size(0), width = features.size(1), classes = count.numel();
  check_tensor(op, "count", count, ScalarType::Long, classes, features);
  check_tensor(op, "mean", mean, ScalarType::Double, classes * width, features);
  if (scatter) check_tensor(op, "scatter", *scatter, ScalarType::Double, classes * width * width, features);
  check_tensor(op, "labels", labels, ScalarType::Long, rows, features);
  const int64_t* y = data<int64_t>(labels);
  check_labels(op, y, rows, classes);

  std::vector<std::vector<int64_t>> members(classes);
  for (int64_t n = 0; n < rows; ++n) members[y[n]].push_back(n);
  int64_t* counts = mutable_data<int64_t>(count);
  double* means = mutable_data<double>(mean);
  double* scatters = scatter ? mutable_data<double>(*scatter) : nullptr;
  dispatch<BFloat16>(op, features, [&](auto element) {
    using T = decltype(element);
    check_tensor(op, "features", features, kDtype<T>, rows * width, features);
    const T* f = data<T>(features);
    std::vector<double> own(classes * width), shift(width);  // means of these rows; √(n·n_b/n')·δ of a class
    torch::stable::parallel_for(0, width, std::max<int64_t>(64, kGrain / std::max<int64_t>(1, rows)), [&](int64_t from, int64_t to) {
      add_columns(f, y, rows, width, from, to, own.data());
    });
    std::vector<double> packed(scatters ? (kDepth + 1) * (width + kPanel) : 0);
    for (int64_t c = 0; c < classes; ++c) {
      const double before = double(counts[c]), added = double(members[c].size()), after = before + added;
      if (added == 0) continue;
      double *m = means + c * width, *m_own = own.data() + c * width;
      for (int64_t d = 0; d < width; ++d) {
        m_own[d] /= added;
        const double delta = m_own[d] - m[d];
        shift[d] = std::sqrt(before * added / after) * delta;
        m[d] += added / after * delta;
      }
      counts[c] += int64_t(added);
      if (scatters) add_scatter(f, m_own, members[c], shift.data(), width, packed.data(), scatters + c * width * width);
    }
  });
}

}  // namespace ro_fast
