// The operators' slots on a GPU; csrc/ops.h describes the arguments, which here are on one CUDA device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include <torch/csrc/stable/tensor.h>

namespace ro_fast::cuda {

using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

void affine_relu(Tensor out, Tensor bits, Tensor x, Optional scale, Optional shift);
void affine_relu_backward(Tensor out, Tensor grad, Tensor bits, Optional scale, Optional add);
void pgd_init(Tensor out, Tensor x, Tensor noise, double eps, Optional eps_n, std::string norm, double lo, double hi);
void pgd_step(
    Tensor out, Tensor x_adv, Tensor x, Tensor grad, double eps, double alpha, Optional eps_n, Optional alpha_n,
    std::string norm, double lo, double hi, Optional active);
Tensor weighted_cross_entropy(Tensor logits, Tensor target, Optional weight, double label_smoothing, std::string reduction);
Tensor weighted_cross_entropy_backward(
    Tensor grad, Tensor logits, Tensor target, Optional weight, double label_smoothing, std::string reduction);
Tensor boosted_cross_entropy(Tensor logits, Tensor target, Optional target_class, Optional weight);
Tensor boosted_cross_entropy_backward(Tensor grad, Tensor logits, Tensor target, Optional target_class, Optional weight);
Tensor margin_loss(Tensor logits, Tensor target, Optional target_class, Optional weight);
Tensor margin_loss_backward(Tensor grad, Tensor logits, Tensor target, Optional target_class, Optional weight);
Tensor dlr_loss(Tensor logits, Tensor target, Optional target_class, Optional weight);
Tensor dlr_loss_backward(Tensor grad, Tensor logits, Tensor target, Optional target_class, Optional weight);
Tensor weighted_kl(Tensor logits, Tensor target_logits, Optional weight);
std::tuple<Tensor, Tensor> weighted_kl_backward(Tensor grad, Tensor logits, Tensor target_logits, Optional weight);
void class_moments(Tensor count, Tensor mean, Optional scatter, Tensor features, Tensor labels);

}  // namespace ro_fast::cuda
