// The operators' slots in the namespace ro_fast_native; ro_fast/ops/<stem>.py holds their schemas and reference maths.
// Images arrive in one memory order in which a sample is one run of memory (contiguous or channels_last): they are
// read as [N, D] by pointer, never by stride. Everything else arrives contiguous.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include <torch/csrc/stable/tensor.h>

namespace ro_fast {

using torch::stable::Tensor;

void pgd_step(
    Tensor out,                      // [N, ...] written; may be x_adv itself
    Tensor x_adv,                    // [N, ...]
    Tensor x,                        // [N, ...]
    Tensor grad,                     // [N, ...]
    double eps,                      // radius in input units
    double alpha,                    // step length in input units
    std::optional<Tensor> eps_n,     // [N] in the compute dtype; replaces eps
    std::optional<Tensor> alpha_n,   // [N] in the compute dtype; replaces alpha
    std::string norm,                // linf | l2
    double lo,
    double hi,
    std::optional<Tensor> active);   // bool [N]

void pgd_init(
    Tensor out,                      // [N, ...] written
    Tensor x,                        // [N, ...]
    Tensor noise,                    // [N, ...]
    double eps,
    std::optional<Tensor> eps_n,     // [N] in the compute dtype; replaces eps
    std::string norm,                // linf | l2
    double lo,
    double hi);

Tensor weighted_cross_entropy(       // [N] for "none", else a scalar; in the compute dtype
    Tensor logits,                   // [N, C]
    Tensor target,                   // int64 [N] or probabilities [N, C]
    std::optional<Tensor> weight,    // [N]
    double label_smoothing,
    std::string reduction);          // none | sum | mean | weighted_mean

Tensor weighted_cross_entropy_backward(  // [N, C] in the dtype of logits
    Tensor grad,                         // [N] for "none", else a scalar; in the compute dtype
    Tensor logits,
    Tensor target,
    std::optional<Tensor> weight,
    double label_smoothing,
    std::string reduction);

void class_moments(                  // adds samples to what is there
    Tensor count,                    // int64 [C]
    Tensor mean,                     // float64 [C, D]
    std::optional<Tensor> scatter,   // float64 [C, D, D]
    Tensor features,                 // [N, D]
    Tensor labels);                  // int64 [N]

std::tuple<Tensor, Tensor> small_loss(  // bool [N], int64 [bins]
    Tensor loss,                        // [N]
    double threshold,
    std::optional<Tensor> threshold_t,  // float64 scalar; replaces threshold
    int64_t bins,
    double lo,
    double hi);

}  // namespace ro_fast
