// The arguments of PGD's start and step, in the form that the CPU and GPU kernels take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common.h"

namespace ro_fast {

template <class C>
struct Budget {
  C eps, alpha;
  const C *eps_n, *alpha_n;  // [N] or null
  const bool* active;        // [N] or null
  C lo, hi;

  bool by_sample() const { return eps_n || alpha_n || active; }
};

template <class T>
struct Step {
  using C = Compute<T>;
  T* out;                     // [N, D]
  const T *x_adv, *x, *grad;  // [N, D]
  int64_t size, rows, width;
  bool l2;
  Budget<C> budget;

  Step(
      const char* op, const Tensor& to, const Tensor& from, const Tensor& centre, const Tensor& g, double eps, double alpha,
      const std::optional<Tensor>& eps_n, const std::optional<Tensor>& alpha_n, const std::string& norm, double lo, double hi,
      const std::optional<Tensor>& active)
      : out(mutable_data<T>(to)), x_adv(data<T>(from)), x(data<T>(centre)), grad(data<T>(g)), size(centre.numel()),
        rows(centre.size(0)), width(rows ? size / rows : 0), l2(is_l2(op, norm)),
        budget{C(eps), C(alpha), nullptr, nullptr, nullptr, C(lo), C(hi)} {
    check_tensor(op, "out", to, kDtype<T>, size, centre);
    check_tensor(op, "x_adv", from, kDtype<T>, size, centre);
    check_tensor(op, "x", centre, kDtype<T>, size, centre);
    check_tensor(op, "grad", g, kDtype<T>, size, centre);
    if (eps_n) check_tensor(op, "eps", *eps_n, kDtype<C>, rows, centre);
    if (alpha_n) check_tensor(op, "alpha", *alpha_n, kDtype<C>, rows, centre);
    if (active) check_tensor(op, "active", *active, ScalarType::Bool, rows, centre);
    if (eps_n) budget.eps_n = data<C>(*eps_n);
    if (alpha_n) budget.alpha_n = data<C>(*alpha_n);
    if (active) budget.active = data<bool>(*active);
  }
};

template <class T>
struct Start {
  using C = Compute<T>;
  T* out;                // [N, D]
  const T *x, *noise;    // [N, D]
  int64_t size, rows, width;
  bool l2;
  C eps, lo, hi;
  const C* eps_n = nullptr;  // [N] or null

  Start(
      const char* op, const Tensor& to, const Tensor& centre, const Tensor& u, double eps_all, const std::optional<Tensor>& by_sample,
      const std::string& norm, double lowest, double highest)
      : out(mutable_data<T>(to)), x(data<T>(centre)), noise(data<T>(u)), size(centre.numel()), rows(centre.size(0)),
        width(rows ? size / rows : 0), l2(is_l2(op, norm)), eps(C(eps_all)), lo(C(lowest)), hi(C(highest)) {
    check_tensor(op, "out", to, kDtype<T>, size, centre);
    check_tensor(op, "x", centre, kDtype<T>, size, centre);
    check_tensor(op, "noise", u, kDtype<T>, size, centre);
    if (by_sample) check_tensor(op, "eps", *by_sample, kDtype<C>, rows, centre);
    if (by_sample) eps_n = data<C>(*by_sample);
  }
};

}  // namespace ro_fast
