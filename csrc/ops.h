// The operators' slots in the namespace ro_fast_native; ro_fast/ops/<stem>.py holds their schemas and reference maths.
// Images arrive in a memory order in which each sample is one block of memory (contiguous or channels_last): they are
// read as [N, D] by pointer, never by stride. Everything else arrives contiguous.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <torch/csrc/stable/tensor.h>

namespace ro_fast {

using torch::stable::Tensor;

void affine_relu(
    Tensor out,                      // [N, C, ...] written; may be x itself
    Tensor bits,                     // uint8 [ceil(size / 8)] written
    Tensor x,                        // [N, C, ...]
    std::optional<Tensor> scale,     // [C] in the compute dtype
    std::optional<Tensor> shift);    // [C] in the compute dtype

void affine_relu_backward(
    Tensor out,                      // [N, C, ...] written; may be grad itself
    Tensor grad,                     // [N, C, ...]
    Tensor bits,                     // uint8 [ceil(size / 8)]
    std::optional<Tensor> scale,     // [C] in the compute dtype
    std::optional<Tensor> add);      // [N, C, ...]

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

Tensor pgd_mlp(                      // [N, D] in the dtype of x
    Tensor x,                        // [N, D]
    Tensor y,                        // int64 [N]
    std::vector<Tensor> weights,     // L of [out, in], D first, C last
    std::vector<Tensor> biases,      // L of [out]
    std::optional<Tensor> noise,     // [N, D]; none starts at x
    double eps,
    double alpha,
    std::optional<Tensor> eps_n,     // [N] in the compute dtype; replaces eps
    std::optional<Tensor> alpha_n,   // [N] in the compute dtype; replaces alpha
    int64_t steps,
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

// The three losses on single logits have one form: [N] = w·ℓ in the compute dtype, and grad·w·∇ℓ [N, C] in the dtype of logits.
Tensor boosted_cross_entropy(
    Tensor logits,                        // [N, C]
    Tensor target,                        // int64 [N]
    std::optional<Tensor> target_class,   // int64 [N]
    std::optional<Tensor> weight);        // [N]
Tensor boosted_cross_entropy_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight);
Tensor margin_loss(
    Tensor logits,                        // [N, C]
    Tensor target,                        // int64 [N]
    std::optional<Tensor> target_class,   // int64 [N]
    std::optional<Tensor> weight);        // [N]
Tensor margin_loss_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight);
Tensor dlr_loss(
    Tensor logits,                        // [N, C]
    Tensor target,                        // int64 [N]
    std::optional<Tensor> target_class,   // int64 [N]
    std::optional<Tensor> weight);        // [N]
Tensor dlr_loss_backward(
    Tensor grad, Tensor logits, Tensor target, std::optional<Tensor> target_class, std::optional<Tensor> weight);

Tensor weighted_kl(                  // [N] in the compute dtype
    Tensor logits,                   // [N, C]
    Tensor target_logits,            // [N, C]
    std::optional<Tensor> weight);   // [N]

std::tuple<Tensor, Tensor> weighted_kl_backward(  // gradients of both logits [N, C]
    Tensor grad,                                  // [N] in the compute dtype
    Tensor logits,
    Tensor target_logits,
    std::optional<Tensor> weight);

void winograd_conv(
    Tensor out,                      // [N, O, H, W] written, channels last
    Tensor x,                        // [N, C, H, W], channels last
    Tensor weights,                  // [16, C, O], or [16, O, C] if transposed; in the compute dtype
    std::optional<Tensor> bias,      // [O] in the compute dtype
    bool relu,
    bool transposed);

void class_moments(                  // adds samples to the given moments
    Tensor count,                    // int64 [C]
    Tensor mean,                     // float64 [C, D]
    std::optional<Tensor> scatter,   // float64 [C, D, D]
    Tensor features,                 // [N, D]
    Tensor labels);                  // int64 [N]

}  // namespace ro_fast
