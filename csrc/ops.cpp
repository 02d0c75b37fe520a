// The module ro_fast._C: importing it registers the CPU kernels for the slots of ro_fast_native. No maths here.
#include <Python.h>

#include <torch/csrc/stable/library.h>

#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(ro_fast_native, CPU, m) {
  m.impl("affine_relu", TORCH_BOX(&ro_fast::affine_relu));
  m.impl("affine_relu_backward", TORCH_BOX(&ro_fast::affine_relu_backward));
  m.impl("pgd_step", TORCH_BOX(&ro_fast::pgd_step));
  m.impl("pgd_init", TORCH_BOX(&ro_fast::pgd_init));
  m.impl("pgd_mlp", TORCH_BOX(&ro_fast::pgd_mlp));
  m.impl("weighted_cross_entropy", TORCH_BOX(&ro_fast::weighted_cross_entropy));
  m.impl("weighted_cross_entropy_backward", TORCH_BOX(&ro_fast::weighted_cross_entropy_backward));
  m.impl("boosted_cross_entropy", TORCH_BOX(&ro_fast::boosted_cross_entropy));
  m.impl("boosted_cross_entropy_backward", TORCH_BOX(&ro_fast::boosted_cross_entropy_backward));
  m.impl("margin_loss", TORCH_BOX(&ro_fast::margin_loss));
  m.impl("margin_loss_backward", TORCH_BOX(&ro_fast::margin_loss_backward));
  m.impl("dlr_loss", TORCH_BOX(&ro_fast::dlr_loss));
  m.impl("dlr_loss_backward", TORCH_BOX(&ro_fast::dlr_loss_backward));
  m.impl("weighted_kl", TORCH_BOX(&ro_fast::weighted_kl));
  m.impl("weighted_kl_backward", TORCH_BOX(&ro_fast::weighted_kl_backward));
  m.impl("class_moments", TORCH_BOX(&ro_fast::class_moments));
  m.impl("winograd_conv", TORCH_BOX(&ro_fast::winograd_conv));
}

PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
