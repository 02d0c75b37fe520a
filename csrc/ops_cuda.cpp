// The module ro_fast._C_cuda: importing it registers the CUDA kernels for the slots of ro_fast_native. No maths here.
#include <Python.h>

#include <torch/csrc/stable/library.h>

#include "cuda/ops.cuh"

STABLE_TORCH_LIBRARY_IMPL(ro_fast_native, CUDA, m) {
  m.impl("affine_relu", TORCH_BOX(&ro_fast::cuda::affine_relu));
  m.impl("affine_relu_backward", TORCH_BOX(&ro_fast::cuda::affine_relu_backward));
  m.impl("pgd_step", TORCH_BOX(&ro_fast::cuda::pgd_step));
  m.impl("pgd_init", TORCH_BOX(&ro_fast::cuda::pgd_init));
  m.impl("weighted_cross_entropy", TORCH_BOX(&ro_fast::cuda::weighted_cross_entropy));
  m.impl("weighted_cross_entropy_backward", TORCH_BOX(&ro_fast::cuda::weighted_cross_entropy_backward));
  m.impl("boosted_cross_entropy", TORCH_BOX(&ro_fast::cuda::boosted_cross_entropy));
  m.impl("boosted_cross_entropy_backward", TORCH_BOX(&ro_fast::cuda::boosted_cross_entropy_backward));
  m.impl("margin_loss", TORCH_BOX(&ro_fast::cuda::margin_loss));
  m.impl("margin_loss_backward", TORCH_BOX(&ro_fast::cuda::margin_loss_backward));
  m.impl("dlr_loss", TORCH_BOX(&ro_fast::cuda::dlr_loss));
  m.impl("dlr_loss_backward", TORCH_BOX(&ro_fast::cuda::dlr_loss_backward));
  m.impl("weighted_kl", TORCH_BOX(&ro_fast::cuda::weighted_kl));
  m.impl("weighted_kl_backward", TORCH_BOX(&ro_fast::cuda::weighted_kl_backward));
  m.impl("class_moments", TORCH_BOX(&ro_fast::cuda::class_moments));
}

PyMODINIT_FUNC PyInit__C_cuda() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
