// The module ro_fast._C: importing it gives the slots of ro_fast_native their CPU kernels. No maths here.
#include <Python.h>

#include <torch/csrc/stable/library.h>

#include "ops.h"

STABLE_TORCH_LIBRARY_IMPL(ro_fast_native, CPU, m) {
  m.impl("pgd_step", TORCH_BOX(&ro_fast::pgd_step));
  m.impl("pgd_init", TORCH_BOX(&ro_fast::pgd_init));
  m.impl("weighted_cross_entropy", TORCH_BOX(&ro_fast::weighted_cross_entropy));
  m.impl("weighted_cross_entropy_backward", TORCH_BOX(&ro_fast::weighted_cross_entropy_backward));
  m.impl("class_moments", TORCH_BOX(&ro_fast::class_moments));
  m.impl("small_loss", TORCH_BOX(&ro_fast::small_loss));
}

PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
